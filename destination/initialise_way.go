package destination

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"rollcall/acl"
	"rollcall/failure"
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

// checkWay refuses a directory that the bot or a reader can't get to, and names
// the parent that is in the way.
func (p *InitPlan) checkWay(readers []acl.Entry) error {
	travellers := []traveller{asUser("the bot", p.opts.Bot.UID)}
	for _, e := range readers {
		if e.Tag == acl.Group {
			travellers = append(travellers, traveller{
				who: "the readers' group " + acl.GroupName(e.ID), grant: "g:" + acl.GroupName(e.ID),
				Subject: acl.Subject{UID: nobodyInParticular, GIDs: []uint32{e.ID}},
			})
			continue
		}
		travellers = append(travellers, asUser("the reader", e.ID))
	}
	fd, err := unix.FcntlInt(uintptr(p.dir.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return p.dir.fail("dup", "", err)
	}
	at := &Dir{fd: fd, path: p.realPath()}
	defer func() { _ = at.Close() }()
	// The directory itself gets its rights; what is there of its parents must
	// have them.
	for skip := len(p.missing) == 0; ; skip = false {
		if !skip {
			if err := p.checkParent(at, travellers); err != nil {
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

func asUser(role string, uid uint32) traveller {
	name := acl.UserName(uid)
	return traveller{who: role + " " + name, grant: "u:" + name, Subject: acl.Subject{UID: uid, GIDs: acl.Groups(uid)}}
}

// realPath is the path without links, for messages.
func (p *InitPlan) realPath() string {
	if path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", p.dir.fd)); err == nil {
		return path
	}
	return p.dir.path
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

// checkParent looks if everybody may pass through a directory.
func (p *InitPlan) checkParent(at *Dir, travellers []traveller) error {
	st, err := fstat(at.fd)
	if err != nil {
		return at.fail("stat", "", err)
	}
	list, err := accessOf(at.fd)
	if err != nil {
		list = acl.FromMode(st.Mode) // no ACLs there, or no right to read them
	}
	for _, t := range travellers {
		if t.UID == 0 || list.Permits(t.Subject, st.Uid, st.Gid, acl.Execute) {
			continue
		}
		return failure.New(failure.Configuration,
			"%s can't get to %s: %s (mode %04o, owner %s) doesn't let him through; run `setfacl -m %s:x %s`, or choose another directory",
			t.who, p.Path, at.path, st.Mode&0o777, acl.UserName(st.Uid), t.grant, at.path)
	}
	return nil
}
