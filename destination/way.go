package destination

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"rollcall/acl"
)

// traveller is somebody who has to get to a directory.
type traveller struct {
	who string
	// grant is what setfacl needs to let him through.
	grant string
	acl.Subject
}

// nobodyInParticular is the user id of "a member of this group", which matches no
// entry of a user.
const nobodyInParticular = 0xfffffffe

// travellers are those who have to get to a directory to read there.
func travellers(readers []acl.Entry) []traveller {
	var all []traveller
	for _, e := range readers {
		if e.Tag == acl.Group {
			all = append(all, traveller{
				who: "the readers' group " + acl.GroupName(e.ID), grant: "g:" + acl.GroupName(e.ID),
				Subject: acl.Subject{UID: nobodyInParticular, GIDs: []uint32{e.ID}},
			})
			continue
		}
		all = append(all, asUser("the reader", e.ID))
	}
	return all
}

func asUser(role string, uid uint32) traveller {
	name := acl.UserName(uid)
	return traveller{who: role + " " + name, grant: "u:" + name, Subject: acl.Subject{UID: uid, GIDs: acl.Groups(uid)}}
}

// stopped says whether somebody can't pass through a directory.
func (at *parent) stopped(t traveller) bool {
	return t.UID != 0 && !at.list.Permits(t.Subject, at.st.Uid, at.st.Gid, acl.Execute)
}

// parent is a directory on the way to another.
type parent struct {
	path string
	st   unix.Stat_t
	// list is its ACL, or what its mode says.
	list acl.ACL
}

// parents calls look with each directory above this one, and with itself first
// if it's asked for, up to the root or to the first error.
func (d *Dir) parents(self bool, look func(*parent) error) error {
	fd, err := unix.FcntlInt(uintptr(d.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return d.fail("dup", "", err)
	}
	at := &Dir{fd: fd, path: d.realPath()}
	defer func() { _ = at.Close() }()
	for ; ; self = true {
		if self {
			p, err := at.asParent()
			if err == nil {
				err = look(p)
			}
			if err != nil {
				return err
			}
		}
		up, err := at.parent()
		if err != nil || up == nil {
			return err
		}
		_ = at.Close()
		at = up
	}
}

func (d *Dir) asParent() (*parent, error) {
	st, err := fstat(d.fd)
	if err != nil {
		return nil, d.fail("stat", "", err)
	}
	list, err := accessOf(d.fd)
	if err != nil {
		list = acl.FromMode(st.Mode) // no ACLs there
	}
	return &parent{path: d.path, st: st, list: list}, nil
}

// realPath is the path without links, for messages.
func (d *Dir) realPath() string {
	if path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", d.fd)); err == nil {
		return path
	}
	return d.path
}

// parent opens the directory above; nil above the root.
func (d *Dir) parent() (*Dir, error) {
	fd, err := openat(d.fd, "..", dirFlags, 0)
	if errors.Is(err, fs.ErrPermission) {
		fd, err = openat(d.fd, "..", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return nil, d.fail("open", "..", err)
	}
	up := &Dir{fd: fd, path: filepath.Dir(d.path)}
	below, err1 := fstat(d.fd)
	above, err2 := fstat(fd)
	if err := errors.Join(err1, err2); err != nil || below.Dev == above.Dev && below.Ino == above.Ino {
		_ = up.Close()
		return nil, d.fail("stat", "..", err)
	}
	return up, nil
}

// replaceable says who can put another directory in the place of what is in this
// one, and so lead the readers, and the next write, elsewhere; "" if only root
// and the friends, who are users, can. In a directory with the sticky bit
// others can't touch what isn't theirs, but its owner can.
func (at *parent) replaceable(friends ...uint32) exposure {
	friend := func(uid uint32) bool { return uid == 0 || slices.Contains(friends, uid) }
	sticky := at.st.Mode&unix.S_ISVTX != 0
	others := at.list.Permits(acl.Subject{UID: nobodyInParticular}, at.st.Uid, at.st.Gid, acl.Write|acl.Execute)
	switch {
	case others && !sticky:
		return exposedToAll
	case !friend(at.st.Uid):
		return exposure("its owner " + acl.UserName(at.st.Uid))
	case sticky:
		return ""
	}
	for _, e := range at.list {
		perm := e.Perm
		if e.Tag != acl.Other && e.Tag != acl.Owner {
			perm &= at.list.Limit()
		}
		// Without x nothing in it can be reached, and so nothing replaced.
		if perm&(acl.Write|acl.Execute) != acl.Write|acl.Execute {
			continue
		}
		switch {
		case e.Tag == acl.OwnerGroup && at.st.Gid != 0:
			return exposure("its group " + acl.GroupName(at.st.Gid))
		case e.Tag == acl.Group && e.ID != 0:
			return exposure("the group " + acl.GroupName(e.ID))
		case e.Tag == acl.User && !friend(e.ID):
			return exposure("the user " + acl.UserName(e.ID))
		}
	}
	return ""
}

// checkWay tells of readers who can't get to the directory, each once for each
// parent that stops them. It refuses nothing: they may see the files elsewhere,
// by a bind mount.
func (d *Directory) checkWay(dir *Dir, a access) {
	if len(a.readers) == 0 {
		return
	}
	who := travellers(a.readers)
	err := dir.parents(false, func(at *parent) error {
		for _, t := range who {
			if at.stopped(t) {
				d.warnOf(t.who+" "+at.path, "A reader can't get to the files: a directory on the way doesn't let them through. Run the command, unless they see the files elsewhere, by a bind mount.",
					"reader", t.who, "parent", at.path, "run", "setfacl -m "+t.grant+":x "+at.path)
			}
		}
		return nil
	})
	if err != nil {
		d.log.Debug("Whether the readers get to the files couldn't be found out.", "err", err)
	}
}
