package destination

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// writeFiles replaces plain files one by one: all are written beside their
// names first and then renamed in a row, so that the time in which a program can
// see files of two sets is as short as it can be. In place, an existing file is
// overwritten instead.
//
// A manifest lists the names that are ours. It gets new names before their files
// appear and loses stale ones after they went, so that no crash leaves a file
// that nobody knows.
func (w *writing) writeFiles(inPlace bool) error {
	if err := w.checkFolders(sorted(w.set)); err != nil {
		return err
	}
	if err := w.repairPlain(inPlace); err != nil {
		return err
	}
	w.files = diff(w.visible, w.set)
	if w.plainUpToDate() {
		return nil
	}
	w.changed = true
	if err := w.saveManifest(w.known()); err != nil {
		return err
	}
	if err := w.placeFolders(); err != nil {
		return err
	}
	if err := w.placeFiles(inPlace); err != nil {
		return err
	}
	links, plain := w.stale()
	for _, name := range links {
		if err := w.dir.Remove(name); err != nil {
			return err
		}
	}
	if err := w.removePlain(plain); err != nil {
		return err
	}
	if err := w.dir.Remove(dataName); err != nil {
		return err
	}
	w.sweepVersions()
	return w.saveManifest(sorted(w.set))
}

// plainUpToDate says that plain files hold this very set, and nothing else of
// ours is there.
func (w *writing) plainUpToDate() bool {
	links, plain := w.stale()
	if len(w.files)+len(links)+len(plain)+len(w.replace) > 0 || w.found.current != "" || len(w.found.versions) > 0 {
		return false
	}
	return slices.Equal(w.found.manifest, sorted(w.set))
}

// placeFolders makes the directories that aren't there as plain ones, each with
// all its files at once.
func (w *writing) placeFolders() error {
	for top, below := range tops(sorted(w.set)) {
		if below[0] == "" || w.found.entries[top] == folder {
			continue
		}
		content := make(Set, len(below))
		for _, name := range below {
			content[name] = w.set[top+"/"+name]
		}
		temp := tempName()
		if err := makeTree(w.dir, temp, content); err != nil {
			return err
		}
		if err := w.dir.place(temp, top); err != nil {
			w.discard(temp)
			return err
		}
	}
	return w.dir.Sync()
}

// placeFiles replaces the files that differ, or that aren't plain yet.
func (w *writing) placeFiles(inPlace bool) (err error) {
	b := &batch{folders: map[string]*Dir{"": w.dir}, ownOnly: w.ownOnly}
	defer func() { err = errors.Join(err, b.close()) }()
	for _, name := range inOrder(w.set) {
		top, rest := split(name)
		k := w.found.entries[top]
		if rest != "" && k != folder {
			continue // placeFolders wrote it
		}
		old, exists := w.visible[name]
		plain := exists && (k == regular || k == folder && rest != "")
		switch {
		case plain && bytes.Equal(old, w.set[name]) && !slices.Contains(w.replace, name):
			continue
		case plain && inPlace:
			err = b.overwrite(name, w.set[name])
		default:
			err = b.prepare(name, w.set[name])
		}
		if err != nil {
			return err
		}
	}
	return b.commit()
}

// removePlain removes managed plain files, and directories that are empty then.
func (w *writing) removePlain(names []string) error {
	for _, name := range names {
		top, rest := split(name)
		if rest == "" {
			if err := w.dir.Remove(top); err != nil {
				return err
			}
			continue
		}
		sub, err := w.dir.sub(top)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
			continue // went with its directory, or was replaced
		}
		if err != nil {
			return err
		}
		if err := errors.Join(sub.Remove(rest), sub.Close()); err != nil {
			return err
		}
		if err := w.dir.rmdir(top); err != nil && !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EEXIST) {
			return err
		}
	}
	return nil
}

// saveManifest writes the manifest if it lists other names.
func (w *writing) saveManifest(names []string) error {
	if slices.Equal(w.found.manifest, names) {
		return w.dir.Sync()
	}
	w.found.manifest = names
	private := *w.dir // the same descriptor
	private.perms = ownerOnly{}
	return private.WriteFile(manifestName, []byte(strings.Join(names, "\n")+"\n"))
}

// readManifest returns the listed names. It only ever leads to the removal of
// files in the directory itself; a line that isn't a name is ignored.
func readManifest(d *Dir) ([]string, error) {
	data, err := d.ReadFile(manifestName)
	if errors.Is(err, unix.ELOOP) || errors.Is(err, errIrregular) {
		return nil, planted(d.join(manifestName), "isn't a regular file")
	}
	if err != nil {
		return nil, err
	}
	names := []string{}
	for line := range strings.Lines(string(data)) {
		if name := strings.TrimSuffix(line, "\n"); checkName(name) == nil {
			names = append(names, name)
		}
	}
	return union(names), nil
}

// batch collects files that are written, but not in place yet.
type batch struct {
	folders map[string]*Dir
	ready   []pending
	ownOnly bool // see writing
}

type pending struct {
	dir        *Dir
	file       *os.File
	temp, name string
}

// prepare writes a file beside its name.
func (b *batch) prepare(name string, data []byte) error {
	dir, base, err := b.at(name)
	if err != nil {
		return err
	}
	temp := tempName()
	f, err := dir.create(temp, data)
	if err != nil {
		_ = dir.Remove(temp)
		return err
	}
	b.ready = append(b.ready, pending{dir: dir, file: f, temp: temp, name: base})
	return nil
}

// overwrite writes into an existing file, whose owner, mode and ACL stay.
func (b *batch) overwrite(name string, data []byte) error {
	dir, base, err := b.at(name)
	if err != nil {
		return err
	}
	return dir.overwrite(base, data, b.ownOnly)
}

// commit makes the files durable and renames them into place.
func (b *batch) commit() error {
	for _, p := range b.ready {
		p.dir.step("sync " + p.temp)
		if err := p.file.Sync(); err != nil {
			return err
		}
	}
	for len(b.ready) > 0 {
		p := b.ready[0]
		if err := p.dir.place(p.temp, p.name); err != nil {
			return err
		}
		b.ready = b.ready[1:]
		if err := p.file.Close(); err != nil {
			return err
		}
	}
	for _, dir := range b.folders {
		if err := dir.Sync(); err != nil {
			return err
		}
	}
	return nil
}

func (b *batch) at(name string) (*Dir, string, error) {
	top, rest := split(name)
	if rest == "" {
		return b.folders[""], top, nil
	}
	dir, ok := b.folders[top]
	if !ok {
		var err error
		if dir, err = b.folders[""].sub(top); err != nil {
			return nil, "", err
		}
		b.folders[top] = dir
	}
	return dir, rest, nil
}

// close removes what a failed write left, and closes what it opened.
func (b *batch) close() error {
	var errs []error
	for _, p := range b.ready {
		errs = append(errs, p.file.Close())
		_ = p.dir.Remove(p.temp) // swept later otherwise
	}
	for name, dir := range b.folders {
		if name != "" {
			errs = append(errs, dir.Close())
		}
	}
	return errors.Join(errs...)
}

// overwrite writes into an existing regular file. The old content is cut only
// after the new one is written: a full disk then costs nothing if the size is
// about the same, and the file is never empty.
//
// Where others can write to the directory, a file that they own or have a hard
// link to would give them the content, or lead the write elsewhere: refused, and
// with ownOnly it's refused wherever it is.
func (d *Dir) overwrite(name string, data []byte, ownOnly bool) error {
	f, err := d.open(name, unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return d.fail("stat", name, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return d.fail("open", name, errIrregular)
	}
	who, err := d.exposure()
	if err != nil {
		return err
	}
	if (who != "" || ownOnly) && shared(st) {
		return notOurs(d.join(name))
	}
	d.step("overwrite " + name)
	if _, err := f.WriteAt(data, 0); err != nil {
		return err
	}
	d.step("truncate " + name)
	if err := f.Truncate(int64(len(data))); err != nil {
		return err
	}
	d.step("sync " + name)
	return errors.Join(f.Sync(), f.Close())
}
