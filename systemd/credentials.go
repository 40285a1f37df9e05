package systemd

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"rollcall/failure"
)

// maxCredential is the size up to which a credential is read, in bytes.
const maxCredential = 64 << 10

// unset is the content that means "there is none": a unit can't make
// LoadCredential= optional, so ours gives SetCredential=NAME:unset as the
// fall-back.
const unset = "unset"

// Credentials reads what systemd's LoadCredential=, LoadCredentialEncrypted=
// and SetCredential= hand to a service. It's safe for concurrent use.
type Credentials struct {
	directory string
}

// NewCredentials reads CREDENTIALS_DIRECTORY through getenv.
func NewCredentials(getenv func(string) string) Credentials {
	return Credentials{directory: getenv("CREDENTIALS_DIRECTORY")}
}

// Credential returns a credential's content as it is, up to 64 KiB. The error
// satisfies errors.Is(err, fs.ErrNotExist) if there is none of that name, if
// its content is the word "unset", or if systemd gave no credentials at all. A
// name that could lead out of the directory is refused. Errors never hold the
// content.
func (c Credentials) Credential(name string) ([]byte, error) {
	if !validName(name) {
		return nil, failure.New(failure.Configuration,
			"%q isn't the name of a systemd credential; use letters, digits and . _ - only, as in credential:token", name)
	}
	if c.directory == "" {
		return nil, failure.Wrap(failure.Configuration, fs.ErrNotExist,
			"the systemd credential %q was asked for, but CREDENTIALS_DIRECTORY isn't set; start the agent as a systemd unit with LoadCredential=%s:/path/of/the/file", name, name)
	}
	content, err := read(filepath.Join(c.directory, name))
	switch {
	case err == nil && string(bytes.TrimSpace(content)) == unset, errors.Is(err, fs.ErrNotExist):
		return nil, failure.Wrap(failure.Configuration, fs.ErrNotExist,
			"there is no systemd credential %q; add LoadCredential=%s:/path/of/the/file to the unit", name, name)
	case errors.Is(err, errTooLarge):
		return nil, failure.Wrap(failure.Configuration, err,
			"the systemd credential %q is larger than %d KiB; it must hold the secret alone", name, maxCredential>>10)
	case errors.Is(err, errNotRegular), errors.Is(err, syscall.ELOOP):
		return nil, failure.Wrap(failure.Configuration, err,
			"the systemd credential %q isn't a plain file; load a file with LoadCredential=, not a directory or link", name)
	case err != nil:
		return nil, failure.Wrap(failure.Configuration, err,
			"the systemd credential %q can't be read: %v", name, err)
	}
	return content, nil
}

var (
	errTooLarge   = errors.New("too large")
	errNotRegular = errors.New("not a regular file")
)

// read reads one regular file without following a link and without hanging on
// a pipe.
func read(path string) ([]byte, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errNotRegular
	}
	content, err := io.ReadAll(io.LimitReader(file, maxCredential+1))
	if err != nil {
		return nil, err
	}
	if len(content) > maxCredential {
		return nil, errTooLarge
	}
	return content, nil
}

// validName allows what systemd's own names consist of, and no path.
func validName(name string) bool {
	if name == "" || len(name) > 255 || name[0] == '.' {
		return false
	}
	for _, r := range name {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '_', r == '-':
		default:
			return false
		}
	}
	return true
}
