package destination

import (
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// repairVersion gives the current version its permissions back. A version with
// anything of another user's in it is replaced instead.
func (w *writing) repairVersion() {
	if len(w.drifted) == 0 || w.strange {
		return
	}
	root, err := w.dir.sub(w.found.current)
	if err != nil {
		w.strange = true
		return
	}
	defer root.Close()
	for _, name := range w.drifted {
		at := name
		if name == dataName {
			at = "."
		}
		right, err := root.repair(at, false)
		if err != nil {
			w.warn("Permissions in the current version can't be put right; it's replaced.", "error", err)
			w.strange = true
			return
		}
		if right {
			w.repaired = append(w.repaired, name)
		}
	}
}

// repair sets the permissions of "dir/file", "file", "dir" or "." (the directory
// itself). They aren't right afterwards where less is put up with. With ownOnly,
// a file of another user's, or with a second name, is refused.
func (d *Dir) repair(name string, ownOnly bool) (right bool, err error) {
	err = d.visit(name, func(d *Dir, name string, fd int, st unix.Stat_t) error {
		dir := st.Mode&unix.S_IFMT == unix.S_IFDIR
		if !dir && st.Mode&unix.S_IFMT != unix.S_IFREG {
			return d.fail("open", name, errIrregular)
		}
		if ownOnly && !dir && shared(st) {
			return notOurs(d.join(name))
		}
		d.step("repair " + name)
		if err := d.perms.apply(fd, dir); err != nil {
			return d.fail("set permissions of", name, err)
		}
		var err error
		right, err = d.perms.hold(fd, dir)
		return d.fail("read the ACL of", name, err)
	})
	return right, err
}

// examine looks at the permissions of "dir/file", "file" or "dir".
func (d *Dir) examine(name string) (right bool, st unix.Stat_t, err error) {
	err = d.visit(name, func(d *Dir, name string, fd int, found unix.Stat_t) error {
		st = found
		var err error
		right, err = d.perms.hold(fd, st.Mode&unix.S_IFMT == unix.S_IFDIR)
		return d.fail("read the ACL of", name, err)
	})
	return right, st, err
}

// visit opens something in the directory, or one level below, and hands it over
// with the directory that it's in.
func (d *Dir) visit(name string, see func(d *Dir, name string, fd int, st unix.Stat_t) error) error {
	top, rest := split(name)
	if rest != "" {
		sub, err := d.sub(top)
		if err != nil {
			return err
		}
		defer sub.Close()
		return sub.visit(rest, see)
	}
	f, err := d.open(name, readFlags, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := fstat(int(f.Fd()))
	if err != nil {
		return d.fail("stat", name, err)
	}
	return see(d, name, int(f.Fd()), st)
}

// repairPlain makes the permissions of plain files right before anything is
// written. Files that can't be made right are replaced. In place, files that are
// there already keep what their user gave them, unless readers are named.
func (w *writing) repairPlain(inPlace bool) error {
	if inPlace && len(w.access.readers) == 0 {
		return nil
	}
	folders := make(map[string]bool)
	for _, name := range w.known() {
		top, rest := split(name)
		k := w.found.entries[top]
		if k != regular && k != folder || (k == folder) != (rest != "") {
			continue
		}
		if k == folder && !folders[top] {
			folders[top] = true
			if err := w.repairOne(top, inPlace); err != nil {
				return err
			}
		}
		if _, there := w.visible[name]; !there {
			continue
		}
		if err := w.repairOne(name, inPlace); err != nil {
			return err
		}
	}
	return nil
}

// shared says that a file belongs to another user or has a second name, so that
// what is written into it, or whom it lets in, may be seen elsewhere.
func shared(st unix.Stat_t) bool { return int(st.Uid) != os.Geteuid() || st.Nlink > 1 }

// refuseForeign refuses files that a write in place would let readers into and
// that aren't surely ours, before anything is changed.
func (w *writing) refuseForeign() error {
	if w.opts.Update != UpdateInPlace || len(w.access.readers) == 0 {
		return nil
	}
	for _, name := range w.known() {
		if _, there := w.visible[name]; !there {
			continue
		}
		top, rest := split(name)
		if k := w.found.entries[top]; k != regular && (k != folder || rest == "") {
			continue
		}
		err := w.dir.visit(name, func(d *Dir, name string, _ int, st unix.Stat_t) error {
			if st.Mode&unix.S_IFMT == unix.S_IFREG && shared(st) {
				return notOurs(d.join(name))
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *writing) repairOne(name string, inPlace bool) error {
	right, st, err := w.dir.examine(name)
	if err != nil {
		return err
	}
	if right && (int(st.Uid) == os.Geteuid() || inPlace) {
		return nil
	}
	dir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	switch {
	case !inPlace && !dir && shared(st):
		w.replace = append(w.replace, name) // what has a second name isn't surely ours
	case !mayGrant(st) && w.opts.ACLs != ACLRequired:
		w.warn("A file belongs to another user, who alone can let the readers in.", "name", name)
		return nil
	default:
		if right, err := w.dir.repair(name, inPlace); err != nil || !right {
			return err
		}
	}
	if slices.ContainsFunc(w.found.manifest, func(n string) bool { top, _ := split(n); return n == name || top == name }) {
		w.repaired = append(w.repaired, name)
	}
	return nil
}

// report tells of what was put right.
func (w *writing) report() {
	if w.strange && w.changed {
		w.repaired = append(w.repaired, w.drifted...)
	}
	w.repaired = union(w.repaired)
	if len(w.repaired) > 0 {
		w.log.Warn("Owner, mode or ACL weren't what they should be, and are right again. Somebody changed them, or the readers are others than at the last write.", "files", w.repaired)
	}
}
