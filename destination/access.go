package destination

import (
	"errors"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"rollcall/acl"
	"rollcall/failure"
)

// access is who may read a directory's files beside its owner, as the
// configuration says, or the directory itself if the configuration names nobody.
type access struct {
	// perms are for all that a set consists of.
	perms permissions
	// readers have Perm Read|Execute.
	readers []acl.Entry
	// configured says that the readers are the configuration's.
	configured bool
}

// directory returns the exact list of the destination directory itself, nil if
// its rights are the user's affair.
func (a access) directory() acl.ACL {
	if len(a.readers) == 0 {
		return nil
	}
	return grants{readers: a.readers}.wanted(true)
}

// accessTo decides what the files of a directory get.
func (d *Directory) accessTo(dir *Dir) (access, error) {
	private := access{perms: ownerOnly{}}
	if d.opts.ACLs == ACLOff {
		return private, nil
	}
	passed, err := acl.Get(dir.fd, acl.Default)
	switch {
	case errors.Is(err, acl.ErrUnsupported) && d.opts.ACLs == ACLRequired:
		return private, failure.Wrap(failure.Configuration, err,
			"the file system of %s has no ACLs, which `acls: %s` asks for: use one that has (ext4, xfs, btrfs, tmpfs; not mounted with noacl), or `acls: %s`, and the files are readable by their owner alone",
			dir.path, ACLRequired, ACLTry)
	case errors.Is(err, acl.ErrUnsupported):
		if len(d.opts.Readers) > 0 {
			d.warn("The file system has no ACLs: the readers get nothing, and the files are readable by their owner alone.", "readers", d.opts.Readers)
		}
		return private, nil
	case err != nil:
		return private, dir.fail("read the default ACL of", "", err)
	}
	a := access{configured: len(d.opts.Readers) > 0}
	if !a.configured {
		if a.readers, err = d.chosen(dir, passed); err != nil {
			return private, err
		}
	} else {
		if a.readers, err = ResolveReaders(d.opts.Readers); err != nil {
			return private, failure.Wrap(failure.Configuration, err, "the destination %s has a reader that can't be: %v", d.opts.Path, err)
		}
	}
	if len(a.readers) == 0 && d.opts.ACLs == ACLTry {
		return private, nil
	}
	g := grants{readers: a.readers}
	if d.opts.ACLs == ACLTry {
		g.otherwise = d.fallBack
	}
	a.perms = g
	return a, nil
}

// chosen returns the readers that a directory's default ACL names. Whoever owns
// the directory can set it, and would choose who reads the keys: it counts only
// if that's root or this process's user.
func (d *Directory) chosen(dir *Dir, list acl.ACL) ([]acl.Entry, error) {
	readers := passedOn(list)
	if len(readers) == 0 {
		return nil, nil
	}
	st, err := fstat(dir.fd)
	if err != nil {
		return nil, dir.fail("stat", "", err)
	}
	if trusted(st) {
		return readers, nil
	}
	d.warn("The directory belongs to another user, so the readers that its default ACL names get nothing. Name them as `readers` of the destination.", "owner", acl.UserName(st.Uid))
	return nil, nil
}

// trusted says that what st describes belongs to root or to this process's user.
func trusted(st unix.Stat_t) bool { return st.Uid == 0 || int(st.Uid) == os.Geteuid() }

func (d *Directory) fallBack(err error) {
	d.warn("The ACL for the readers can't be set: the files are readable by their owner alone.", "error", err)
}

// ResolveReaders turns readers into ACL entries with the rights r-x, sorted. It
// looks names up on this host.
func ResolveReaders(readers []Reader) ([]acl.Entry, error) {
	var entries []acl.Entry
	for _, r := range readers {
		e := acl.Entry{Tag: acl.User, Perm: acl.Read | acl.Execute}
		var err error
		if r.Group != "" {
			e.Tag = acl.Group
			e.ID, err = acl.LookupGroup(r.Group)
		} else {
			e.ID, err = acl.LookupUser(r.User)
		}
		if err != nil {
			return nil, err
		}
		if !slices.Contains(entries, e) {
			entries = append(entries, e)
		}
	}
	return entries, nil
}

// passedOn returns the readers that a directory's default ACL names: those who
// would get r there. Whatever else it gives them, and what it gives the group
// and everybody else, isn't passed on: a default ACL that setfacl completed from
// the mode 0755 would make private keys readable by all. The user that rollcall
// runs as needs no entry.
func passedOn(list acl.ACL) []acl.Entry {
	var readers []acl.Entry
	for _, e := range list.Named() {
		self := e.Tag == acl.User && int(e.ID) == os.Geteuid()
		if e.Perm&list.Limit()&acl.Read != 0 && !self {
			e.Perm = acl.Read | acl.Execute
			readers = append(readers, e)
		}
	}
	return readers
}

// checkDirectory proves that the readers can get into the directory: its ACL is
// right, or can be set.
func (d *Directory) checkDirectory(dir *Dir, a access) error {
	want := a.directory()
	if want == nil || !a.configured {
		return nil
	}
	st, err := fstat(dir.fd)
	if err != nil {
		return dir.fail("stat", "", err)
	}
	if mayGrant(st) {
		return nil
	}
	has, err := accessOf(dir.fd)
	if err != nil {
		return dir.fail("read the ACL of", "", err)
	}
	if letsIn(has, a.readers) {
		return nil
	}
	if d.opts.ACLs == ACLRequired {
		return failure.New(failure.Configuration,
			"the directory %s belongs to %s, and only its owner can let the readers in: run `rollcall init` as root, or give the directory to %s (user id %d) with chown",
			dir.path, acl.UserName(st.Uid), acl.UserName(uint32(os.Geteuid())), os.Geteuid())
	}
	d.warn("The directory belongs to another user, who alone can let the readers in: they may not get to their files. Run `rollcall init` as root.", "owner", acl.UserName(st.Uid))
	return nil
}

// mayGrant says that this process can set the ACL of what belongs to st.Uid.
func mayGrant(st unix.Stat_t) bool {
	return int(st.Uid) == os.Geteuid() || os.Geteuid() == 0
}

// letsIn says that a list gives each of the readers all that they need.
func letsIn(list acl.ACL, readers []acl.Entry) bool {
	named := list.Named()
	for _, r := range readers {
		ok := slices.ContainsFunc(named, func(e acl.Entry) bool {
			return e.Tag == r.Tag && e.ID == r.ID && e.Perm&list.Limit()&r.Perm == r.Perm
		})
		if !ok {
			return false
		}
	}
	return true
}

// secureDirectory makes the destination directory's own ACL exact, if it's ours
// to set. Readers come in before there's anything to read; whoever isn't one any
// more is out before the next set.
func (w *writing) secureDirectory() error {
	want := w.access.directory()
	if want == nil {
		return w.takeAway()
	}
	st, err := fstat(w.dir.fd)
	if err != nil {
		return w.dir.fail("stat", "", err)
	}
	if !mayGrant(st) {
		return w.checkDirectory(w.dir, w.access)
	}
	has, err := accessOf(w.dir.fd)
	if err != nil {
		return w.dir.fail("read the ACL of", "", err)
	}
	if has.Equal(want) {
		return nil
	}
	w.dir.step("set the ACL of the directory")
	switch err := setExactly(w.dir.fd, want); {
	case err != nil && w.opts.ACLs == ACLRequired:
		return w.dir.fail("set permissions of", "", err)
	case err != nil:
		w.fallBack(err)
	case w.found.current != "" || w.found.manifest != nil:
		w.repaired = append(w.repaired, ".") // it isn't the first write
	}
	return nil
}

// takeAway shuts the directory to earlier readers once there are none any more.
// Its rights are the user's affair then: only a list that this package wrote, as
// far as that can be told, is taken away. The files are exact then in any case,
// but in place, where a user may have given somebody both: only those who are
// known to have been readers are shut out there.
func (w *writing) takeAway() error {
	if w.found.current == "" && w.found.manifest == nil {
		return nil // nothing was written here yet
	}
	st, err := fstat(w.dir.fd)
	if err != nil {
		return w.dir.fail("stat", "", err)
	}
	has, err := acl.Get(w.dir.fd, acl.Access)
	if err != nil || !trusted(st) || !mayGrant(st) || !madeForReaders(has, true) ||
		w.opts.Update == UpdateInPlace && !w.knows(has.Named()) {
		return nil //nolint:nilerr // no ACLs: nobody is in one
	}
	w.dir.step("take the readers' ACL from the directory")
	if err := (ownerOnly{}).apply(w.dir.fd, true); err != nil {
		return w.dir.fail("set permissions of", "", err)
	}
	w.repaired = append(w.repaired, ".")
	return nil
}

// madeForReaders says that a directory's or a file's list is one that this
// package sets.
func madeForReaders(list acl.ACL, dir bool) bool {
	named := list.Named()
	for i := range named {
		named[i].Perm = acl.Read | acl.Execute
	}
	return len(named) > 0 && list.Equal(grants{readers: named}.wanted(dir))
}
