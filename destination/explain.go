package destination

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/gravitational/trace"
	"golang.org/x/sys/unix"

	"rollcall/acl"
	"rollcall/failure"
)

// explain turns what the system says into a sentence that names the path and
// says what to do. An error that is explained already, or that needs no
// explanation, comes back as it is.
func explain(err error, path string) error {
	var told *failure.Error
	if err == nil || errors.As(err, &told) {
		return trace.Wrap(err)
	}
	var at *fs.PathError
	if errors.As(err, &at) {
		path = at.Path
	}
	full := errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
	if at != nil && at.Op == "set permissions of" && !full {
		return failure.Wrap(failure.Configuration, err, "the permissions of %s can't be set: %s", path, whyNot(err))
	}
	switch {
	case full:
		return failure.Wrap(failure.Transient, err,
			"there's no space (or quota) left to write %s: free some; what was published before stays in place", path)
	case errors.Is(err, unix.EXDEV):
		return failure.Wrap(failure.Configuration, err,
			"%s is a mount point, and nothing that is mounted is removed: unmount it first", path)
	case errors.Is(err, unix.EROFS):
		return failure.Wrap(failure.Configuration, err,
			"%s is on a read-only file system: mount it writable, or, in a systemd unit with ProtectSystem, add ReadWritePaths=%s", path, filepath.Dir(path))
	case errors.Is(err, fs.ErrPermission):
		return failure.Wrap(failure.Configuration, err,
			"rollcall (user id %d) isn't allowed to write %s: give it the directory with chown, or run it as the directory's owner", os.Geteuid(), path)
	case errors.Is(err, errIrregular), errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENOTDIR):
		return failure.Wrap(failure.Configuration, err,
			"%s isn't a file of rollcall's (a planted link?): nothing was written through it; find out who made it, and remove it", path)
	}
	return trace.Wrap(err)
}

// planted is the refusal of something at a name that only this package uses,
// or of a link that it didn't make.
func planted(path, what string) error {
	return failure.New(failure.Configuration,
		"%s %s, which rollcall didn't make: nothing was written through it; find out who did, and remove it", path, what)
}

// notOurs is the refusal to write into a file that others may see.
func notOurs(path string) error {
	return planted(path, "belongs to another user or has a second name")
}

// noSymlinks explains a file system without symbolic links.
func noSymlinks(err error, path string) error {
	var at *fs.PathError
	if !errors.As(err, &at) || at.Op != "symlink" || !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EOPNOTSUPP) {
		return explain(err, path)
	}
	return failure.Wrap(failure.Configuration, err,
		"the file system of %s has no symbolic links, which `update: %s` needs: use `update: %s`", path, UpdateSet, UpdateFile)
}

// whyNot says why an ACL, or a mode, can't be set, and what to do.
func whyNot(err error) string {
	switch {
	case errors.Is(err, acl.ErrUnsupported), errors.Is(err, errNotKept):
		return fmt.Sprintf("%v; use a file system with ACLs (ext4, xfs, btrfs, tmpfs), or `acls: %s`, and the files are readable by their owner alone", errors.Unwrap(err), ACLTry)
	case errors.Is(err, unix.EINVAL):
		return "one of the readers' ids doesn't exist in this user namespace: in a systemd unit, leave PrivateUsers out; in a container, map the id"
	case errors.Is(err, unix.EPERM):
		return "only its owner and root may: give it to the user that rollcall runs as, or run `rollcall init` as root"
	}
	return err.Error()
}
