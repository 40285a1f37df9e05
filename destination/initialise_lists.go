package destination

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"rollcall/acl"
	"rollcall/failure"
)

// wantedLists are a directory's two ACLs. Without ACLs the mode 0700 stands for
// the first.
type wantedLists struct {
	readers          []acl.Entry
	access, passedOn acl.ACL
	// modeOnly says that there are to be no ACLs, or can't be any.
	modeOnly bool
}

// restore sets what isn't as it should be.
func (w wantedLists) restore(fd int) error {
	if w.modeOnly {
		return setMode(fd, dirMode)
	}
	has, err := accessOf(fd)
	if err == nil && !has.Equal(w.access) {
		err = setExactly(fd, w.access)
	}
	if err != nil {
		return err
	}
	passed, err := acl.Get(fd, acl.Default)
	switch {
	case err != nil || passed.Equal(w.passedOn):
		return err
	case w.passedOn == nil:
		return acl.Remove(fd, acl.Default)
	}
	return acl.Set(fd, acl.Default, w.passedOn)
}

// setMode leaves a right mode alone, since not every file system can set one.
func setMode(fd int, mode uint32) error {
	st, err := fstat(fd)
	if err != nil || st.Mode&0o777 == mode {
		return err
	}
	return os.NewSyscallError("fchmod", unix.Fchmod(fd, mode))
}

// wanted decides who gets in.
func (p *InitPlan) wanted() (wantedLists, error) {
	const all = acl.Read | acl.Write | acl.Execute
	private := wantedLists{access: acl.New(all), modeOnly: true}
	o := p.opts
	if o.Directory.ACLs == ACLOff && !o.Storage {
		return private, nil
	}
	current, err := acl.Get(p.dir.fd, acl.Default)
	if errors.Is(err, acl.ErrUnsupported) {
		return private, p.withoutACLs()
	}
	if err != nil {
		return private, p.dir.fail("read the default ACL of", "", err)
	}
	w := wantedLists{access: private.access}
	if o.Storage {
		return w, nil
	}
	if len(p.missing) > 0 {
		current = nil // it's the parent's
	}
	if current, err = p.believed(current); err != nil {
		return w, err
	}
	if err := p.chooseReaders(&w, current); err != nil {
		return w, err
	}
	named := slices.Clone(w.readers)
	if o.Owner.UID != o.Bot.UID {
		bot := acl.Entry{Tag: acl.User, Perm: all, ID: o.Bot.UID}
		named = slices.DeleteFunc(named, func(e acl.Entry) bool { return e.Tag == bot.Tag && e.ID == bot.ID })
		named = append(named, bot)
	}
	w.access = acl.New(all, named...)
	for _, e := range w.readers {
		p.Readers = append(p.Readers, describe(e))
	}
	return w, nil
}

// believed returns a directory's default ACL if its owner may choose readers.
func (p *InitPlan) believed(current acl.ACL) (acl.ACL, error) {
	st, err := fstat(p.dir.fd)
	if err != nil {
		return nil, p.dir.fail("stat", "", err)
	}
	if trusted(st) || st.Uid == p.opts.Bot.UID || len(passedOn(current)) == 0 {
		return current, nil
	}
	if len(p.opts.Readers)+len(p.opts.Directory.Readers) == 0 {
		p.note("the default ACL of %s is its owner's (%s), and makes nobody a reader: name the readers", p.Path, acl.UserName(st.Uid))
	}
	return nil, nil
}

// chooseReaders takes the readers from the configuration, from the flags, or
// from the directory as it is.
func (p *InitPlan) chooseReaders(w *wantedLists, current acl.ACL) (err error) {
	o := p.opts
	flags, err := ResolveReaders(o.Readers)
	if err != nil {
		return failure.Wrap(failure.Configuration, err, "a reader can't be: %v", err)
	}
	if len(o.Directory.Readers) > 0 {
		w.readers, err = ResolveReaders(o.Directory.Readers)
		if err != nil {
			return failure.Wrap(failure.Configuration, err, "the destination %s has a reader that can't be: %v", p.Path, err)
		}
		for _, e := range flags {
			if !slices.Contains(w.readers, e) {
				return failure.New(failure.Configuration,
					"%s can't become a reader of %s by a flag: the output's own `readers` decide; add it there, or leave `readers` out of the configuration", describe(e), p.Path)
			}
		}
		return nil
	}
	w.readers = flags
	if len(flags) == 0 {
		w.readers = slices.DeleteFunc(passedOn(current), func(e acl.Entry) bool { return e.Tag == acl.User && e.ID == o.Bot.UID })
	}
	if len(w.readers) > 0 {
		w.passedOn = acl.New(acl.Read|acl.Write|acl.Execute, w.readers...)
	}
	return nil
}

// withoutACLs says what it means that the file system has none.
func (p *InitPlan) withoutACLs() error {
	o := p.opts
	switch {
	case o.Storage:
		return nil
	case o.Directory.ACLs == ACLRequired:
		return failure.New(failure.Configuration,
			"the file system of %s has no ACLs, which `acls: %s` asks for: use one that has (ext4, xfs, btrfs, tmpfs; not mounted with noacl)", p.Path, ACLRequired)
	case o.Owner.UID != o.Bot.UID:
		return failure.New(failure.Configuration,
			"the file system of %s has no ACLs, so that the bot can't write what belongs to %s: leave --owner out", p.Path, acl.UserName(o.Owner.UID))
	case len(o.Readers)+len(o.Directory.Readers) > 0:
		p.note("the file system of %s has no ACLs: the readers get nothing, and the files will be readable by the bot alone", p.Path)
	}
	return nil
}

// planLists sets the ACLs, or the mode.
func (p *InitPlan) planLists(want wantedLists, st unix.Stat_t, exists bool) error {
	access, passedOn := acl.FromMode(dirMode), acl.ACL(nil)
	if exists {
		var err error
		access = acl.FromMode(st.Mode)
		if !want.modeOnly {
			access, err = accessOf(p.dir.fd)
			if err == nil {
				passedOn, err = acl.Get(p.dir.fd, acl.Default)
			}
		}
		if err != nil {
			return p.dir.fail("read the ACL of", "", err)
		}
	}
	if exists && !mayGrant(st) && (!access.Equal(want.access) || !passedOn.Equal(want.passedOn)) {
		return failure.New(failure.Configuration,
			"%s belongs to %s, and only its owner and root can set its rights: run `rollcall init` as root (this is user id %d)", p.Path, acl.UserName(st.Uid), os.Geteuid())
	}
	was := func(list acl.ACL) string {
		if !exists {
			return ""
		}
		if list == nil {
			return " (had none)"
		}
		return fmt.Sprintf(" (was %s)", list.Names())
	}
	switch {
	case access.Equal(want.access):
	case want.modeOnly:
		p.add(func() error { return p.dir.fail("chmod", "", unix.Fchmod(p.dir.fd, dirMode)) },
			"set the mode of %s to %04o (was %04o)", p.Path, dirMode, st.Mode&0o777)
	default:
		p.add(func() error { return p.dir.fail("set permissions of", "", setExactly(p.dir.fd, want.access)) },
			"set the ACL of %s to %s%s", p.Path, want.access.Names(), was(access))
	}
	switch {
	case want.modeOnly || passedOn.Equal(want.passedOn):
	case want.passedOn == nil:
		p.add(func() error { return p.dir.fail("set permissions of", "", acl.Remove(p.dir.fd, acl.Default)) },
			"remove the default ACL of %s%s", p.Path, was(passedOn))
	default:
		p.add(func() error {
			return p.dir.fail("set permissions of", "", acl.Set(p.dir.fd, acl.Default, want.passedOn))
		}, "set the default ACL of %s to %s%s", p.Path, want.passedOn.Names(), was(passedOn))
	}
	return nil
}

// describe names a reader: "user app".
func describe(e acl.Entry) string {
	if e.Tag == acl.Group {
		return "group " + acl.GroupName(e.ID)
	}
	return "user " + acl.UserName(e.ID)
}
