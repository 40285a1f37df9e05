package destination

import (
	"errors"
	"io/fs"
	"slices"
	"strings"

	"rollcall/acl"
)

// writing is one Write. The directory's lock is held.
type writing struct {
	*Directory
	dir *Dir
	set Set
	// found is what the directory holds.
	found *layout
	// version is the content of the current version; empty if there's none.
	version Set
	// visible are the contents of all known names as programs see them now.
	visible Set
	// strange says that the current version belongs to another user.
	strange bool
	// access is who may read what is written.
	access access
	// drifted are the names in the current version whose permissions aren't
	// what this write would give them; ..data is the version itself.
	drifted []string
	// ownOnly says that nothing is written into files of others, or with a
	// second name: there are readers, or others could write to the directory
	// when the write began.
	ownOnly bool
	// replace are plain files that are written anew, whatever is in them.
	replace []string
	// stay are former readers whom a file lets in that isn't ours to change.
	stay []acl.Entry

	changed  bool
	files    []string
	repaired []string
}

// begin looks at the directory, refuses what others planted, and removes what a
// write that was cut off left.
func (d *Directory) begin(dir *Dir, set Set) (*writing, error) {
	access, err := d.accessTo(dir)
	if err != nil {
		return nil, err
	}
	dir.perms = access.perms
	who, err := dir.exposure()
	if err != nil {
		return nil, err
	}
	w := &writing{Directory: d, dir: dir, set: set, access: access, ownOnly: who != "" || len(access.readers) > 0}
	if err := w.look(); err != nil {
		return nil, err
	}
	w.sweep()
	return w, nil
}

// look reads the directory's state.
func (w *writing) look() error {
	found, err := survey(w.dir)
	if err != nil {
		return err
	}
	w.found, w.version, w.strange = found, nil, false
	if err := found.check(w.dir, w.set); err != nil {
		return err
	}
	if err := w.lookVersion(); err != nil {
		return err
	}
	return w.lookVisible()
}

func (w *writing) lookVersion() error {
	if w.found.current == "" {
		return nil
	}
	set, seen, err := readTree(w.dir, w.found.current)
	switch {
	case errors.Is(err, fs.ErrPermission):
		// Another user's rollcall wrote it. It's replaced, not read.
		w.warn("The current version can't be read: another user wrote it.", "version", w.found.current)
		w.strange = true
		return nil
	case err != nil:
		return err
	}
	w.version, w.strange, w.drifted = set, seen.strange, seen.drifted
	return nil
}

// known returns all names that are ours, now or after this write.
func (w *writing) known() []string {
	return union(sorted(w.set), sorted(w.version), w.found.manifest)
}

// lookVisible reads what programs see under the known names.
func (w *writing) lookVisible() error {
	w.visible = make(Set)
	for _, name := range w.known() {
		data, err := w.see(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		w.visible[name] = data
	}
	return nil
}

// see reads a name as a program does, except that only our own links are
// followed.
func (w *writing) see(name string) ([]byte, error) {
	top, rest := split(name)
	switch k := w.found.entries[top]; {
	case k == ours:
		if data, ok := w.version[name]; ok {
			return data, nil
		}
	case k == regular && rest == "", k == folder && rest != "":
		return w.dir.readBelow("", name)
	}
	return nil, fs.ErrNotExist
}

// checkFolders refuses directories with anything in them that isn't ours, among
// those that this write replaces.
func (w *writing) checkFolders(names []string) error {
	for _, top := range names {
		if w.found.entries[top] != folder {
			continue
		}
		if err := w.found.checkFolder(w.dir, top, w.set); err != nil {
			return err
		}
	}
	return nil
}

// stale returns our links that lead to nothing in the set, and the managed plain
// files that aren't in it.
func (w *writing) stale() (links, plain []string) {
	inSet := tops(sorted(w.set))
	for _, name := range sorted(w.found.entries) {
		if _, ok := inSet[name]; !ok && w.found.entries[name] == ours {
			links = append(links, name)
		}
	}
	for _, name := range w.found.manifest {
		top, rest := split(name)
		k := w.found.entries[top]
		_, wanted := w.set[name]
		_, replaced := inSet[top] // a file where the set has a directory
		if !wanted && (k == regular && rest == "" && !replaced || k == folder && rest != "") {
			plain = append(plain, name)
		}
	}
	return links, plain
}

// sweep removes what a write that was cut off left: temporary names, and
// versions that were never published, which sort behind the current one. The
// version before the current one stays.
func (w *writing) sweep() {
	for _, name := range w.found.leftovers {
		w.discard(name)
	}
	previous := ""
	for _, version := range w.found.versions {
		if version < w.found.current {
			previous = version
		}
	}
	w.sweepVersions(w.found.current, previous)
	if previous != "" {
		w.closePrevious(previous)
	}
	for name, k := range w.found.entries {
		if k == folder && slices.ContainsFunc(w.known(), func(n string) bool { return strings.HasPrefix(n, name+"/") }) {
			w.sweepFolder(name)
		}
	}
}

// closePrevious shuts those who aren't readers any more out of the version before
// the current one, whose keys are good for a while yet.
func (w *writing) closePrevious(name string) {
	right, st, err := w.dir.examine(name)
	if right || err != nil || !mayGrant(st) {
		return
	}
	if _, err := w.dir.repair(name, false); err != nil {
		w.warn("Permissions of the version before the current one can't be put right; it's removed.", "error", err)
		w.discard(name)
	}
}

// sweepVersions removes all versions but the named ones.
func (w *writing) sweepVersions(keep ...string) {
	for _, version := range w.found.versions {
		if !slices.Contains(keep, version) {
			w.discard(version)
		}
	}
}

func (w *writing) sweepFolder(name string) {
	sub, err := w.dir.sub(name)
	if err != nil {
		return
	}
	defer sub.Close()
	names, err := sub.Names()
	if err != nil {
		return
	}
	for _, n := range names {
		if strings.HasPrefix(n, tempPrefix) {
			_ = sub.removeTree(n) // tried again next time
		}
	}
}

// discard removes something of ours that nobody reads. A failure costs space
// alone, and is tried again at the next write.
func (w *writing) discard(name string) {
	if err := w.dir.removeTree(name); err != nil {
		w.warn("Something old can't be removed from the directory.", "name", name, "error", err)
	}
}
