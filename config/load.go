package config

import (
	"errors"
	"io"
	"io/fs"
	"os"

	"rollcall/failure"
)

// maxFile bounds what is read: a configuration is a few kilobytes.
const maxFile = 1 << 20

// Load reads, decodes, overrides and checks a configuration. It touches nothing
// but the one file. An error is a *failure.Error of kind Configuration; if the
// file could be read, it holds Errors with every mistake that was found.
//
// An empty path means no file: everything comes from the overrides.
func Load(path string, overrides ...Overrides) (*Config, error) {
	c := New()
	if path != "" {
		data, err := read(path)
		if err != nil {
			return nil, err
		}
		c = parse(path, data)
	}
	for _, o := range overrides {
		c.Apply(o)
	}
	if err := c.Check(); err != nil {
		return nil, err
	}
	return c, nil
}

func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, failure.Wrap(failure.Configuration, err,
			"the configuration file %s doesn't exist: name another with -c, or make one with `rollcall configure -o %s`", path, path)
	case errors.Is(err, fs.ErrPermission):
		return nil, failure.Wrap(failure.Configuration, err,
			"the configuration file %s can't be read by this user: run as its owner, or let this user's group read it", path)
	case err != nil:
		return nil, failure.Wrap(failure.Configuration, err, "the configuration file %s can't be opened: %v", path, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, failure.Wrap(failure.Configuration, err, "the configuration file %s can't be read: %v", path, err)
	}
	if len(data) > maxFile {
		return nil, failure.New(failure.Configuration, "the configuration file %s is larger than 1 MiB: is it the right file?", path)
	}
	return data, nil
}
