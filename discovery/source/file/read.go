package file

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"rollcall/failure"
)

// Bounds of what is read.
const (
	maxFile  = 16 << 20
	maxAll   = 64 << 20
	maxFiles = 1000
	// maxTries is how often files that change while they're read are read
	// again.
	maxTries = 5
)

// stamp is what changes when a file is written or replaced.
type stamp struct {
	size     int64
	modified time.Time
	device   uint64
	inode    uint64
}

// stamps are those of all files, by path.
type stamps map[string]stamp

// refresh brings entries up to date, if the files have changed.
func (s *Source) refresh(ctx context.Context) error {
	for range maxTries {
		before, err := s.look()
		if err != nil {
			return err
		}
		if s.last != nil && maps.Equal(before, s.last) {
			return nil
		}
		// Whoever writes a file in place cuts it short first. What stays as it
		// is for a moment, before and after the reading, is whole.
		if err := wait(ctx, s.settle); err != nil {
			return err
		}
		contents, err := readAll(before)
		if err != nil {
			return err
		}
		after, err := s.look()
		if err != nil {
			return err
		}
		if !maps.Equal(before, after) {
			continue
		}
		entries, err := s.decodeAll(contents)
		if err != nil {
			return err
		}
		s.last, s.entries = before, entries
		return nil
	}
	return failure.New(failure.Transient, "%s keeps changing while it's read; replace files by renaming them into place", s.path)
}

func wait(ctx context.Context, pause time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(pause):
		return nil
	}
}

// look returns the files that there are.
func (s *Source) look() (stamps, error) {
	info, err := os.Stat(s.path)
	if err != nil {
		return nil, unreadable(s.path, err)
	}
	if err := guarded(s.path, info); err != nil {
		return nil, err
	}
	if !info.IsDir() {
		one, err := stampOf(s.path, info)
		return stamps{s.path: one}, err
	}
	names, err := os.ReadDir(s.path)
	if err != nil {
		return nil, unreadable(s.path, err)
	}
	all := stamps{}
	for _, name := range names {
		if !wanted(name.Name()) {
			continue
		}
		path := filepath.Join(s.path, name.Name())
		info, err := os.Stat(path)
		if err != nil {
			return nil, unreadable(path, err)
		}
		if info.IsDir() {
			continue
		}
		if all[path], err = stampOf(path, info); err != nil {
			return nil, err
		}
	}
	switch {
	case len(all) == 0:
		return nil, failure.New(failure.Configuration, "the directory %s holds no .yaml, .yml or .json file; if nothing is to be registered, put a file with `resources: []` into it", s.path)
	case len(all) > maxFiles:
		return nil, failure.New(failure.Configuration, "the directory %s holds more than %d files", s.path, maxFiles)
	}
	return all, nil
}

// guarded is an error for a directory in which everybody may put files, be it
// the source itself or the one that a single file is in.
func guarded(path string, info fs.FileInfo) error {
	if !info.IsDir() {
		path = filepath.Dir(path)
		var err error
		if info, err = os.Stat(path); err != nil {
			return unreadable(path, err)
		}
	}
	if info.Mode().Perm()&0o002 != 0 {
		return failure.New(failure.Configuration, "everybody may write to the directory %s, and could have anything registered; use another, or chmod o-w it", path)
	}
	return nil
}

// wanted says if a file's name in a directory is one of ours. Editors and
// Kubernetes have their own files there, which begin with a dot.
func wanted(name string) bool {
	return !strings.HasPrefix(name, ".") && slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(name))
}

func stampOf(path string, info fs.FileInfo) (stamp, error) {
	switch {
	case !info.Mode().IsRegular():
		return stamp{}, failure.New(failure.Configuration, "%s is no plain file", path)
	case info.Mode().Perm()&0o002 != 0:
		return stamp{}, failure.New(failure.Configuration, "everybody may write %s, and could have anything registered; chmod o-w it", path)
	case info.Size() > maxFile:
		return stamp{}, failure.New(failure.Configuration, "%s is larger than %d MiB", path, maxFile>>20)
	}
	out := stamp{size: info.Size(), modified: info.ModTime()}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		out.device, out.inode = sys.Dev, sys.Ino
	}
	return out, nil
}

func unreadable(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return failure.Wrap(failure.NotFound, err, "%s doesn't exist", path)
	case errors.Is(err, fs.ErrPermission):
		return failure.Wrap(failure.Configuration, err, "%s can't be read by this user", path)
	default:
		return failure.Wrap(failure.Transient, err, "%s can't be read: %v", path, err)
	}
}

// readAll returns the files' contents.
func readAll(files stamps) (map[string][]byte, error) {
	contents := map[string][]byte{}
	total := 0
	for path := range files {
		data, err := read(path)
		if err != nil {
			return nil, err
		}
		if total += len(data); total > maxAll {
			return nil, failure.New(failure.Configuration, "%s and the files beside it are larger than %d MiB together", path, maxAll>>20)
		}
		contents[path] = data
	}
	return contents, nil
}

func read(path string) ([]byte, error) {
	// Without O_NONBLOCK, opening a named pipe would wait for its writer.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, unreadable(path, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	switch {
	case err != nil:
		return nil, unreadable(path, err)
	case len(data) > maxFile:
		return nil, failure.New(failure.Configuration, "%s is larger than %d MiB", path, maxFile>>20)
	case len(strings.TrimSpace(string(data))) == 0:
		return nil, failure.New(failure.Transient, "%s is empty; if nothing is to be registered, write `resources: []`", path)
	}
	return data, nil
}

// decodeAll decodes the files, in the order of their names.
func (s *Source) decodeAll(contents map[string][]byte) ([]entry, error) {
	var all []entry
	var errs []error
	for _, path := range slices.Sorted(maps.Keys(contents)) {
		entries, err := s.decodeOne(path, contents[path])
		if err != nil {
			errs = append(errs, err)
			continue
		}
		all = append(all, entries...)
	}
	if len(errs) > 0 {
		var lines []string
		for _, err := range errs {
			lines = append(lines, err.Error())
		}
		return nil, failure.Wrap(failure.Configuration, errors.Join(errs...), "%s", strings.Join(lines, "; "))
	}
	return all, nil
}

func (s *Source) decodeOne(path string, data []byte) ([]entry, error) {
	doc, place, err := s.decode(path, data)
	if err != nil {
		return nil, err
	}
	if doc.Resources == nil {
		return nil, failure.New(failure.Configuration, "%s has no `resources`; if nothing is to be registered, write `resources: []`", path)
	}
	var all []entry
	for i, one := range doc.Resources {
		at := indexed(i)
		e := entry{Entry: one, dir: filepath.Dir(path), at: place(at), place: func(field string) string { return place(at + "." + field) }}
		if err := e.check(); err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	return all, nil
}

func indexed(i int) string { return "resources[" + strconv.Itoa(i) + "]" }
