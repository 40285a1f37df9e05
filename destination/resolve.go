package destination

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"rollcall/acl"
	"rollcall/failure"
)

// OpenDir opens an existing directory. With SymlinksSecure a symbolic link
// anywhere in the path is refused; SymlinksTrySecure does the same, also on a
// kernel (before 5.6) that has no openat2; SymlinksInsecure follows links in the
// path, but never at a name inside the directory.
func OpenDir(path string, mode SymlinkMode) (*Dir, error) {
	r := resolver{openat2: unix.Openat2}
	return r.dir(path, mode, r.open)
}

// MakeDir is OpenDir, and makes the directory and its parents with mode 0700 if
// they're missing.
func MakeDir(path string, mode SymlinkMode) (*Dir, error) {
	r := resolver{openat2: unix.Openat2}
	return r.dir(path, mode, r.make)
}

// resolver turns paths into descriptors.
type resolver struct {
	openat2 func(dirfd int, path string, how *unix.OpenHow) (int, error)
}

func (r resolver) dir(path string, mode SymlinkMode, open func(string, SymlinkMode) (int, error)) (*Dir, error) {
	fd, err := open(filepath.Clean(path), mode)
	if err != nil {
		return nil, unresolved(path, mode, err)
	}
	return &Dir{fd: fd, path: filepath.Clean(path), perms: ownerOnly{}}, nil
}

// open resolves an existing path.
func (r resolver) open(path string, mode SymlinkMode) (int, error) {
	if mode == SymlinksInsecure {
		return openat(unix.AT_FDCWD, path, dirFlags, 0)
	}
	how := &unix.OpenHow{Flags: dirFlags, Resolve: unix.RESOLVE_NO_SYMLINKS}
	for {
		fd, err := r.openat2(unix.AT_FDCWD, path, how)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
			continue // EAGAIN: something was renamed during the walk
		case errors.Is(err, unix.ENOSYS) && mode != SymlinksSecure:
			return walk(path)
		}
		return fd, err
	}
}

// walk opens a clean path part by part and follows no link: what openat2 does at
// once.
func walk(path string) (int, error) {
	at, rest := ".", path
	if filepath.IsAbs(path) {
		at, rest = "/", strings.TrimPrefix(path, "/")
	}
	fd, err := openat(unix.AT_FDCWD, at, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	for part := range strings.SplitSeq(rest, "/") {
		if part == "" {
			continue
		}
		// O_PATH, since a parent may be passed through without being read.
		next, err := openat(fd, part, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		_ = unix.Close(fd)
		if err != nil {
			return -1, err
		}
		fd = next
	}
	defer unix.Close(fd)
	return openat(fd, ".", dirFlags, 0)
}

// make resolves a path and makes what is missing of it.
func (r resolver) make(path string, mode SymlinkMode) (int, error) {
	fd, err := r.open(path, mode)
	parent, base := filepath.Dir(path), filepath.Base(path)
	if !errors.Is(err, fs.ErrNotExist) || parent == path {
		return fd, err
	}
	up, err := r.make(parent, mode)
	if err != nil {
		return -1, err
	}
	defer unix.Close(up)
	made := unix.Mkdirat(up, base, dirMode)
	if made != nil && !errors.Is(made, fs.ErrExist) {
		return -1, &fs.PathError{Op: "mkdir", Path: path, Err: made}
	}
	// Best effort: what is missing after a power cut is made again.
	_ = unix.Fsync(up)
	fd, err = openat(up, base, dirFlags|unix.O_NOFOLLOW, 0)
	if err != nil || made != nil {
		return fd, err
	}
	if err := disinherit(fd); err != nil {
		_ = unix.Close(fd)
		return -1, &fs.PathError{Op: "set permissions of", Path: path, Err: err}
	}
	return fd, nil
}

// disinherit takes from a new directory what its parent's default ACL passed on:
// those who share the parent would be taken for readers that `rollcall init` was
// given.
func disinherit(fd int) error {
	return errors.Join(acl.Remove(fd, acl.Access), acl.Remove(fd, acl.Default))
}

// unresolved explains why a directory can't be opened.
func unresolved(path string, mode SymlinkMode, err error) error {
	switch {
	case errors.Is(err, unix.ENOSYS):
		return failure.Wrap(failure.Configuration, err,
			"the directory %s can't be opened with `symlinks: %s`: this kernel has no openat2 (Linux 5.6); use `symlinks: %s`", path, mode, SymlinksTrySecure)
	case mode == SymlinksInsecure && errors.Is(err, unix.ELOOP):
		return failure.Wrap(failure.Configuration, err,
			"the directory %s is a symbolic link that leads nowhere, or in a circle: make the directory that it leads to", path)
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENOTDIR) && firstLink(path) != "":
		return failure.Wrap(failure.Configuration, err,
			"the directory %s is refused: %s is a symbolic link, and `symlinks: %s` follows none; give the real path, or use `symlinks: %s`",
			path, firstLink(path), mode, SymlinksInsecure)
	case errors.Is(err, unix.ENOTDIR):
		return failure.Wrap(failure.Configuration, err,
			"the path %s isn't a directory, or goes through a file: give a directory", path)
	case errors.Is(err, fs.ErrNotExist):
		return failure.Wrap(failure.Configuration, err, "the directory %s doesn't exist", path)
	}
	return explain(err, path)
}

// firstLink returns the first part of a path that is a symbolic link, for a
// message; nothing is decided by it.
func firstLink(path string) string {
	path = filepath.Clean(path)
	var found string
	for {
		if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeSymlink != 0 {
			found = path
		}
		parent := filepath.Dir(path)
		if parent == path {
			return found
		}
		path = parent
	}
}
