package destination

import (
	"errors"
	"io/fs"
	"slices"
)

// writeSet publishes the set as a version. The order makes every moment one at
// which a program finds a whole set: version, its durability, swap, new names,
// and only then the removal of stale names and old versions.
func (w *writing) writeSet() error {
	if err := w.checkFolders(sorted(tops(w.known()))); err != nil {
		return err
	}
	w.repairVersion()
	before := w.visible
	adopted, err := w.adopt()
	if err != nil {
		return err
	}
	w.files = diff(before, w.set)
	if w.upToDate() {
		w.changed = adopted
		return nil
	}
	w.changed = true
	previous := w.found.current
	version, err := w.publish(w.set)
	if err != nil {
		return err
	}
	if err := w.showNames(); err != nil {
		return err
	}
	// Not synced: what comes back after a power cut is removed at the next
	// write.
	w.sweepVersions(version, previous)
	return nil
}

// showNames makes the visible names those of the set. It mostly finds them so.
func (w *writing) showNames() error {
	names := sorted(tops(sorted(w.set)))
	links, plain := w.stale()
	missing := slices.ContainsFunc(names, func(name string) bool { return w.found.entries[name] != ours })
	if !missing && len(links)+len(plain) == 0 && w.found.manifest == nil {
		return nil
	}
	if err := w.linkNames(names); err != nil {
		return err
	}
	if err := w.removeStale(links, plain); err != nil {
		return err
	}
	return w.dir.Sync()
}

// upToDate says that the current version holds this very set, is ours, and is
// what all the names show.
func (w *writing) upToDate() bool {
	links, plain := w.stale()
	return w.found.current != "" && !w.strange && len(w.files) == 0 && len(links)+len(plain) == 0 &&
		w.found.manifest == nil && len(diff(w.version, w.set)) == 0
}

// publish writes a version and swaps ..data to it, durably.
func (w *writing) publish(set Set) (string, error) {
	newest := ""
	if n := len(w.found.versions); n > 0 {
		newest = w.found.versions[n-1]
	}
	version, err := w.makeVersion(newest, set)
	if err != nil {
		return "", err
	}
	// The version's name is durable before the link to it can be.
	if err := w.dir.Sync(); err != nil {
		return "", err
	}
	if err := w.dir.link(version, dataName); err != nil {
		w.discard(version)
		return "", noSymlinks(err, w.dir.path)
	}
	return version, w.dir.Sync()
}

// makeVersion tries the next name if a name is taken, which only a file, a link
// or a sudden second writer can do.
func (w *writing) makeVersion(newest string, set Set) (string, error) {
	for range 100 {
		version := versionName(w.now(), newest)
		err := makeTree(w.dir, version, set)
		if !errors.Is(err, fs.ErrExist) {
			return version, err
		}
		newest = version
	}
	return "", planted(w.dir.path, "has all names of versions taken")
}

// linkNames makes the visible names lead to the current version.
func (w *writing) linkNames(names []string) error {
	for _, name := range names {
		if w.found.entries[name] == ours {
			continue
		}
		if err := w.dir.link(dataName+"/"+name, name); err != nil {
			return err
		}
	}
	return nil
}

// adopt converts plain files that are in the set, or that an earlier write in
// another mode left, without a change of what programs see: they're copied into
// a version, which is published, and their names replaced one by one. It reports
// whether there were any.
func (w *writing) adopt() (bool, error) {
	var plain []string
	for top := range tops(sorted(w.visible)) {
		if k := w.found.entries[top]; k == regular || k == folder {
			plain = append(plain, top)
		}
	}
	if len(plain) == 0 {
		return false, nil
	}
	if len(w.access.readers) == 0 {
		w.warnReaders(plain)
	}
	if _, err := w.publish(w.visible); err != nil {
		return false, err
	}
	slices.Sort(plain)
	if err := w.linkNames(plain); err != nil {
		return false, err
	}
	if err := w.dir.Sync(); err != nil {
		return false, err
	}
	w.log.Info("Converted a directory of plain files into versions, one link swap each.", "names", plain)
	return true, w.look()
}

// warnReaders says that somebody who could read a plain file can't any more.
func (w *writing) warnReaders(plain []string) {
	for _, name := range plain {
		if w.found.entries[name] != regular {
			continue
		}
		if _, st, err := w.dir.read(name); err == nil && st.Mode&0o077 != 0 {
			w.warn("Files that a group, others or an ACL could read are now readable by their owner alone. Name those who may read them as `readers` of the destination, or with `rollcall init`.", "name", name)
		}
	}
}

// removeStale removes names whose files aren't in the set, and the manifest of
// another mode.
func (w *writing) removeStale(links, plain []string) error {
	for _, name := range links {
		if err := w.dir.Remove(name); err != nil {
			return err
		}
	}
	if err := w.removePlain(plain); err != nil {
		return err
	}
	if w.found.manifest == nil {
		return nil
	}
	return w.dir.Remove(manifestName)
}
