package destination

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"rollcall/acl"
)

// grantedName lists the readers that plain files let in, so that they can be shut
// out once they're readers no more: files written in place keep what their user
// gave them, and an ACL doesn't say who set it. Files that are replaced are exact
// without it, but the next configuration may write into them. It gets a reader's
// name before he's let in, and loses it after he's shut out.
const grantedName = "..readers"

// changeReaders is called before anything is written in place. It notes who is
// about to be let in, beside those who were; if nobody is, it shuts out those who
// were. While there are readers, the write makes every ACL exact anyway.
func (w *writing) changeReaders() error {
	if w.opts.Update == UpdateSet {
		return nil
	}
	if len(w.access.readers) > 0 {
		return w.saveGranted(slices.Concat(w.found.granted, w.access.readers))
	}
	if len(w.found.granted) == 0 || w.opts.Update != UpdateInPlace {
		return nil
	}
	for _, name := range w.known() {
		if err := w.shut(name); err != nil {
			return err
		}
	}
	return nil
}

// forgetReaders is called after a write, when nobody is let in but the readers
// and those who couldn't be shut out. With sets there's nothing to be remembered.
func (w *writing) forgetReaders() error {
	if w.opts.Update == UpdateSet {
		return w.saveGranted(nil)
	}
	return w.saveGranted(slices.Concat(w.access.readers, w.stay))
}

// shut takes the readers that were let in from the ACL of a plain file, and of the
// directory that it's in; whoever else is there stays. A file that went meanwhile
// needs nothing. One whose ACL isn't ours to change is told of, and its readers
// stay remembered.
func (w *writing) shut(name string) error {
	if top, rest := split(name); rest != "" {
		if err := w.shut(top); err != nil {
			return err
		}
	}
	err := w.dir.visit(name, func(d *Dir, base string, fd int, st unix.Stat_t) error {
		dir := st.Mode&unix.S_IFMT == unix.S_IFDIR
		if !dir && st.Mode&unix.S_IFMT != unix.S_IFREG {
			return nil
		}
		list, err := acl.Get(fd, acl.Access)
		out := w.grantedIn(list)
		if err != nil || len(out) == 0 {
			return nil //nolint:nilerr // no ACLs: nobody is in one
		}
		if !mayGrant(st) {
			w.warnOf(name, "A file still lets in somebody who isn't a reader any more: it belongs to another user now.", "file", name)
			w.stay = append(w.stay, out...)
			return nil
		}
		d.step("shut " + base)
		if len(out) == len(list.Named()) && madeForReaders(list, dir) {
			err = (ownerOnly{}).apply(fd, dir)
		} else {
			err = setExactly(fd, without(list, out))
		}
		if err != nil {
			return d.fail("set permissions of", base, err)
		}
		w.repaired = append(w.repaired, name)
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	return err
}

// grantedIn returns the entries of those who were let in by this package.
func (w *writing) grantedIn(list acl.ACL) []acl.Entry {
	return slices.DeleteFunc(list.Named(), func(e acl.Entry) bool { return !holds(w.found.granted, e) })
}

// knows says that all of these were let in by this package; false for nobody.
func (w *writing) knows(named []acl.Entry) bool {
	for _, e := range named {
		if !holds(w.found.granted, e) {
			return false
		}
	}
	return len(named) > 0
}

// holds says that the list names the same user or group, whatever it gives.
func holds(list []acl.Entry, e acl.Entry) bool {
	return slices.ContainsFunc(list, func(g acl.Entry) bool { return g.Tag == e.Tag && g.ID == e.ID })
}

// without returns the list without some of its named entries. Nobody gets more by
// it: where no named entry is left, the mask goes, and the group keeps what it let
// through.
func without(list acl.ACL, out []acl.Entry) acl.ACL {
	limit := list.Limit()
	left := slices.DeleteFunc(slices.Clone(list), func(e acl.Entry) bool { return holds(out, e) })
	if len(left.Named()) > 0 {
		return left
	}
	left = slices.DeleteFunc(left, func(e acl.Entry) bool { return e.Tag == acl.Mask })
	for i := range left {
		if left[i].Tag == acl.OwnerGroup {
			left[i].Perm &= limit
		}
	}
	return left
}

// saveGranted writes the list if it's another than the one that is there.
func (w *writing) saveGranted(readers []acl.Entry) error {
	lines := make([]string, 0, len(readers))
	for _, e := range readers {
		kind := "user"
		if e.Tag == acl.Group {
			kind = "group"
		}
		lines = append(lines, fmt.Sprintf("%s:%d\n", kind, e.ID))
	}
	lines = union(lines)
	text := strings.Join(lines, "")
	granted := parseGranted(text)
	if slices.Equal(granted, w.found.granted) {
		return nil
	}
	w.found.granted = granted
	if len(granted) == 0 {
		return errors.Join(w.dir.Remove(grantedName), w.dir.Sync())
	}
	private := *w.dir // the same descriptor
	private.perms = ownerOnly{}
	return private.WriteFile(grantedName, []byte(text))
}

// readGranted returns the list. It only ever leads to the loss of an ACL.
func readGranted(d *Dir) ([]acl.Entry, error) {
	data, err := d.ReadFile(grantedName)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case errors.Is(err, unix.ELOOP) || errors.Is(err, errIrregular):
		return nil, planted(d.join(grantedName), "isn't a regular file")
	case err != nil:
		return nil, err
	}
	return parseGranted(string(data)), nil
}

// parseGranted ignores lines that name nobody.
func parseGranted(text string) []acl.Entry {
	var readers []acl.Entry
	for line := range strings.Lines(text) {
		kind, number, _ := strings.Cut(strings.TrimSpace(line), ":")
		tag, known := map[string]acl.Tag{"user": acl.User, "group": acl.Group}[kind]
		id, err := strconv.ParseUint(number, 10, 32)
		if known && err == nil {
			readers = append(readers, acl.Entry{Tag: tag, Perm: acl.Read | acl.Execute, ID: uint32(id)})
		}
	}
	return readers
}
