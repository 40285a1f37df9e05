package destination

import (
	"context"
	"errors"
	"os"

	"github.com/gravitational/trace"
	"golang.org/x/sys/unix"

	"rollcall/acl"
	"rollcall/failure"
)

// probeSize is what Prepare writes, in bytes. It's more than a set takes: an
// output's files are about 30 KiB, with two generations of authorities.
const probeSize = 64 << 10

// Prepare makes the directory (0700, parents too) if it's missing, and proves
// that a set can be written and its readers let in: it makes a file and takes
// the space for it, makes a symbolic link if sets need one, and removes them.
func (d *Directory) Prepare(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return trace.Wrap(err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	dir, err := d.open(d.resolver.make)
	if err != nil {
		return trace.Wrap(err)
	}
	defer dir.Close()
	if err := d.checkExposure(dir); err != nil {
		return explain(err, d.opts.Path)
	}
	access, err := d.accessTo(dir)
	if err == nil {
		err = d.checkDirectory(dir, access)
	}
	if err != nil {
		return explain(err, d.opts.Path)
	}
	d.checkWay(dir, access)
	dir.perms = access.perms
	lock, err := dir.lock(ctx)
	if err != nil {
		return explain(err, d.opts.Path)
	}
	defer lock.Close()
	if err := dir.probe(); err != nil {
		return explain(err, d.opts.Path)
	}
	if d.opts.Update == UpdateSet {
		return trace.Wrap(dir.probeLink())
	}
	return nil
}

// probe makes a file that a reader could open, takes a set's space for it, and
// removes it.
func (d *Dir) probe() error {
	name := tempName()
	f, err := d.create(name, nil)
	if err != nil {
		return err
	}
	return errors.Join(takeSpace(f), f.Close(), d.Remove(name))
}

// takeSpace proves that the file system has room for a set. Taking the blocks
// tells that at once; a write alone tells it only when it's flushed, which costs
// a wait for the disk at each renewal of each output, so that's the fall-back.
func takeSpace(f *os.File) error {
	err := unix.Fallocate(int(f.Fd()), 0, 0, probeSize)
	if err == nil || !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.ENOSYS) {
		return err
	}
	_, err = f.Write(make([]byte, probeSize))
	return errors.Join(err, f.Sync())
}

// probeLink makes a symbolic link and removes it.
func (d *Dir) probeLink() error {
	name := tempName()
	if err := unix.Symlinkat(dataName, d.fd, name); err != nil {
		return noSymlinks(d.fail("symlink", name, err), d.path)
	}
	return d.Remove(name)
}

// exposure says who else can replace names in a directory, "" if nobody can.
type exposure string

const (
	exposedToAll   exposure = "everybody"
	exposedToGroup exposure = "its group"
	exposedByACL   exposure = "somebody whom its ACL names"
	exposedToOwner exposure = "its owner, who is neither root nor the user that rollcall runs as"
)

// exposure looks at the directory's owner and mode. In a directory with the
// sticky bit others can't touch what isn't theirs.
func (d *Dir) exposure() (exposure, error) {
	var st unix.Stat_t
	if err := unix.Fstat(d.fd, &st); err != nil {
		return "", d.fail("stat", "", err)
	}
	sticky := st.Mode&unix.S_ISVTX != 0
	switch {
	case st.Mode&0o002 != 0 && !sticky:
		return exposedToAll, nil
	case st.Uid != 0 && int(st.Uid) != os.Geteuid():
		return exposedToOwner, nil
	case st.Mode&0o020 != 0 && !sticky:
		return d.exposedToSome(), nil
	}
	return "", nil
}

// exposedToSome says who has the right to write that a mode's middle bits show:
// the group, or, if there's an ACL, those whom it gives it.
func (d *Dir) exposedToSome() exposure {
	list, err := acl.Get(d.fd, acl.Access)
	if err != nil || list == nil {
		return exposedToGroup
	}
	for _, e := range list {
		self := e.Tag == acl.User && (e.ID == 0 || int(e.ID) == os.Geteuid())
		switch {
		case e.Perm&list.Limit()&acl.Write == 0 || self:
		case e.Tag == acl.OwnerGroup:
			return exposedToGroup
		case e.Tag == acl.User, e.Tag == acl.Group:
			return exposedByACL
		}
	}
	return ""
}

// checkExposure reports a directory that others can write to.
func (d *Directory) checkExposure(dir *Dir) error {
	who, err := dir.exposure()
	if err != nil || who == "" {
		return err
	}
	if who == exposedToAll && d.opts.Symlinks == SymlinksSecure {
		return failure.New(failure.Configuration,
			"the directory %s can be written by everybody, so everybody can replace what is in it: `symlinks: %s` refuses that; chmod 0700 it", dir.path, SymlinksSecure)
	}
	d.warn("Others can write to the directory, and so replace the files that programs read there (rollcall's own files stay unreadable to them). Consider chmod 0700.", "writable_by", string(who))
	return nil
}
