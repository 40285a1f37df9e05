package destination

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// mkdir makes a directory that wasn't there and opens it.
func (d *Dir) mkdir(name string) (*Dir, error) {
	d.step("mkdir " + name)
	if err := unix.Mkdirat(d.fd, name, dirMode); err != nil {
		return nil, d.fail("mkdir", name, err)
	}
	return d.sub(name)
}

// sub opens a directory below this one; a symbolic link isn't followed.
func (d *Dir) sub(name string) (*Dir, error) {
	fd, err := openat(d.fd, name, dirFlags|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, d.fail("open", name, err)
	}
	return &Dir{fd: fd, path: d.join(name), perms: d.perms, hook: d.hook}, nil
}

// link makes a symbolic link in place of whatever has the name, at once.
func (d *Dir) link(text, name string) error {
	temp := tempName()
	d.step("symlink " + temp + " to " + text)
	if err := unix.Symlinkat(text, d.fd, temp); err != nil {
		return d.fail("symlink", name, err)
	}
	if err := d.place(temp, name); err != nil {
		_ = d.removeTree(temp)
		return err
	}
	return nil
}

// place puts an entry in the place of another, of whatever kind either is. Two
// entries of which one is a directory are exchanged, and the old one removed.
func (d *Dir) place(temp, name string) error {
	err := d.Rename(temp, name)
	if !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.ENOTDIR) && !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EEXIST) {
		return err
	}
	d.step("exchange " + temp + " and " + name)
	err = unix.Renameat2(d.fd, temp, d.fd, name, unix.RENAME_EXCHANGE)
	switch {
	case err == nil:
		return d.removeTree(temp)
	case !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EOPNOTSUPP):
		return d.fail("rename", name, err)
	}
	// The file system can't exchange: the name is missing for a moment.
	old := tempName()
	if err := d.Rename(name, old); err != nil {
		return err
	}
	if err := d.Rename(temp, name); err != nil {
		return err
	}
	return d.removeTree(old)
}

// removeTree removes a file, a link, or a directory with what is in it. It
// follows nothing, and removes nothing that is mounted below.
func (d *Dir) removeTree(name string) error {
	err := d.Remove(name)
	if !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM) {
		return err
	}
	sub, err := d.subOnMount(name)
	if err != nil {
		return err
	}
	defer sub.Close()
	names, err := sub.Names()
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := sub.removeTree(n); err != nil {
			return err
		}
	}
	return d.rmdir(name)
}

// subOnMount is sub, and refuses what is mounted there (EXDEV).
func (d *Dir) subOnMount(name string) (*Dir, error) {
	fd, err := d.openatOnMount(name, dirFlags|unix.O_NOFOLLOW)
	if err != nil {
		return nil, d.fail("open", name, err)
	}
	return &Dir{fd: fd, path: d.join(name), perms: d.perms, hook: d.hook}, nil
}

// openOnMount is open, and refuses what is mounted there (EXDEV).
func (d *Dir) openOnMount(name string, flags int) (*os.File, error) {
	fd, err := d.openatOnMount(name, flags)
	if err != nil {
		return nil, d.fail("open", name, err)
	}
	return os.NewFile(uintptr(fd), d.join(name)), nil
}

// openatOnMount can't tell, without openat2, what is mounted from the same file
// system.
func (d *Dir) openatOnMount(name string, flags int) (int, error) {
	how := &unix.OpenHow{Flags: uint64(flags), Resolve: unix.RESOLVE_NO_XDEV}
	for {
		fd, err := unix.Openat2(d.fd, name, how)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
			continue
		case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EPERM):
			return d.openatOnDevice(name, flags)
		}
		return fd, err
	}
}

func (d *Dir) openatOnDevice(name string, flags int) (int, error) {
	fd, err := openat(d.fd, name, flags, 0)
	if err != nil {
		return -1, err
	}
	here, err1 := fstat(d.fd)
	there, err2 := fstat(fd)
	err = errors.Join(err1, err2)
	if err == nil && here.Dev != there.Dev {
		err = unix.EXDEV
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func (d *Dir) rmdir(name string) error {
	d.step("rmdir " + name)
	return d.fail("remove", name, unix.Unlinkat(d.fd, name, unix.AT_REMOVEDIR))
}
