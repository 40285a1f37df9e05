package acl

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Kind is one of the two lists that a directory can have; a file has the first.
type Kind string

const (
	// Access decides who may do what.
	Access Kind = "system.posix_acl_access"
	// Default is what is made in a directory starts with. It's limited by the
	// mode that the maker asks for: a file made 0600 has the mask ---.
	Default Kind = "system.posix_acl_default"
)

// ErrUnsupported says that the file system keeps no ACLs.
var ErrUnsupported = errors.New("the file system has no ACLs")

// maxSize bounds what is read, in bytes; the kernel's own limit.
const maxSize = 64 << 10

// Get returns a list of an open file or directory; nil if it has none, and its
// mode says everything. The descriptor needs no more than O_PATH.
func Get(fd int, kind Kind) (ACL, error) {
	buf := make([]byte, 512)
	for {
		n, err := read(fd, string(kind), buf)
		switch {
		case err == nil:
			return Decode(buf[:n])
		case errors.Is(err, unix.ENODATA):
			return nil, keeps(fd)
		case errors.Is(err, unix.EOPNOTSUPP):
			return nil, ErrUnsupported
		case errors.Is(err, unix.ERANGE) && len(buf) < maxSize:
			buf = make([]byte, maxSize)
		case errors.Is(err, unix.EINTR):
		default:
			return nil, os.NewSyscallError("fgetxattr", err)
		}
	}
}

// read reads an extended attribute. A descriptor of O_PATH is no open file; the
// kernel's own link to it leads to the same thing, wherever its name is by now.
func read(fd int, name string, buf []byte) (int, error) {
	n, err := unix.Fgetxattr(fd, name, buf)
	if errors.Is(err, unix.EBADF) {
		n, err = unix.Getxattr(fmt.Sprintf("/proc/self/fd/%d", fd), name, buf)
	}
	return n, err
}

// keeps returns ErrUnsupported for a file system in user space that has no
// extended attributes at all, and so no ACLs: Linux says there (seen with 6.18)
// that there is no list, and refuses only to set one.
func keeps(fd int) error {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil || fs.Type != unix.FUSE_SUPER_MAGIC {
		return nil //nolint:nilerr // whatever it is, it isn't that
	}
	if _, err := read(fd, "user.rollcall", nil); errors.Is(err, unix.EOPNOTSUPP) {
		return ErrUnsupported
	}
	return nil
}

// Set replaces a list at once, mask and mode bits included. Only the owner, or
// root, may. A list that says no more than a mode is kept as the mode alone.
func Set(fd int, kind Kind, a ACL) error {
	err := unix.Fsetxattr(fd, string(kind), a.Encode(), 0)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return ErrUnsupported
	}
	return os.NewSyscallError("fsetxattr", err)
}

// Remove removes a list; one that isn't there is no error. The mode bits stay as
// the list left them, so that the group then has what the mask was: set a mode
// or another list, if that isn't meant.
func Remove(fd int, kind Kind) error {
	err := unix.Fremovexattr(fd, string(kind))
	if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	return os.NewSyscallError("fremovexattr", err)
}
