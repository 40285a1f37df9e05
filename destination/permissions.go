package destination

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"rollcall/acl"
)

const (
	fileMode = 0o600
	dirMode  = 0o700
)

// permissions are put on a new file or directory, through its descriptor,
// after its content is written and before anything can be seen under a name
// that programs know.
type permissions interface {
	// apply makes them so, and proves it.
	apply(fd int, dir bool) error
	// hold says if they're exactly so.
	hold(fd int, dir bool) (bool, error)
}

// ownerOnly lets nobody but the owner in: 0600 and 0700.
type ownerOnly struct{}

// apply leaves a right mode alone, since not every file system can set one.
// Files are created with the mode already: this repairs what an unusual umask
// took away, and proves that the file system keeps modes.
func (o ownerOnly) apply(fd int, dir bool) error {
	if right, err := o.hold(fd, dir); right || err != nil {
		return err
	}
	want := uint32(fileMode)
	if dir {
		want = dirMode
	}
	// The mode first: without its ACL a file's group would have the mask.
	if err := unix.Fchmod(fd, want); err != nil {
		return os.NewSyscallError("fchmod", err)
	}
	return acl.Remove(fd, acl.Access)
}

// hold needs no look at an ACL: the mode's middle bits are its mask, and with
// none of them no entry gives anything.
func (ownerOnly) hold(fd int, dir bool) (bool, error) {
	want := uint32(fileMode)
	if dir {
		want = dirMode
	}
	st, err := fstat(fd)
	return st.Mode&0o777 == want, err
}

// errNotKept says that a file system took an ACL and has another one.
var errNotKept = errors.New("the file system doesn't keep ACLs as they were set")

// grants let readers in, too: r on files, r-x on directories. Everything else is
// taken away: an ACL that was inherited, and what a directory would pass on.
type grants struct {
	// readers are named entries; their Perm is Read|Execute.
	readers []acl.Entry
	// otherwise is called with what went wrong if it may go wrong: the owner
	// alone is let in then. Nil: it may not.
	otherwise func(error)
}

// wanted is the exact list.
func (g grants) wanted(dir bool) acl.ACL {
	if dir {
		return acl.New(acl.Read|acl.Write|acl.Execute, g.readers...)
	}
	named := make([]acl.Entry, len(g.readers))
	for i, r := range g.readers {
		r.Perm = acl.Read
		named[i] = r
	}
	return acl.New(acl.Read|acl.Write, named...)
}

func (g grants) apply(fd int, dir bool) error {
	err := g.set(fd, dir)
	if err == nil || g.otherwise == nil || passing(err) {
		return err
	}
	g.otherwise(err)
	return ownerOnly{}.apply(fd, dir)
}

// passing says that an error says nothing of ACLs. Readers who could read would
// be locked out until the next write: it fails instead, and is tried again.
func passing(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EIO) || errors.Is(err, unix.ENOMEM)
}

func (g grants) set(fd int, dir bool) error {
	if err := setExactly(fd, g.wanted(dir)); err != nil || !dir {
		return err
	}
	return acl.Remove(fd, acl.Default)
}

func (g grants) hold(fd int, dir bool) (bool, error) {
	has, err := accessOf(fd)
	if err != nil || !has.Equal(g.wanted(dir)) {
		return false, err
	}
	if !dir {
		return true, nil
	}
	passed, err := acl.Get(fd, acl.Default)
	return passed == nil, err
}

// setExactly sets a list and reads it back: the mask is part of it, and decides
// whether a reader gets anything.
func setExactly(fd int, want acl.ACL) error {
	if err := acl.Set(fd, acl.Access, want); err != nil {
		return err
	}
	has, err := accessOf(fd)
	if err == nil && !has.Equal(want) {
		err = errNotKept
	}
	return err
}

// accessOf returns the list that decides, made of the mode if there's none.
func accessOf(fd int) (acl.ACL, error) {
	list, err := acl.Get(fd, acl.Access)
	if list != nil || err != nil {
		return list, err
	}
	st, err := fstat(fd)
	return acl.FromMode(st.Mode), err
}

func fstat(fd int) (unix.Stat_t, error) {
	var st unix.Stat_t
	return st, os.NewSyscallError("fstat", unix.Fstat(fd, &st))
}
