package destination

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/gravitational/trace"
)

const versionLayout = "..2006_01_02T15_04_05.000000000"

// versionName names a version. Versions sort by age even if the clock was set
// back: what sorts behind the current one was never published.
func versionName(now time.Time, newest string) string {
	now = now.UTC()
	if last, err := time.Parse(versionLayout, newest); err == nil && !now.After(last) {
		now = last.Add(time.Nanosecond)
	}
	return now.Format(versionLayout)
}

// makeTree makes a directory with a set of files in it, everything durable
// except its own name. What was made is removed again if it fails.
func makeTree(d *Dir, name string, set Set) error {
	err := fillTree(d, name, set)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		_ = d.removeTree(name) // the error above is the one that counts
	}
	return err
}

func fillTree(d *Dir, name string, set Set) (err error) {
	root, err := d.mkdir(name)
	if err != nil {
		return err
	}
	t := &tree{folders: map[string]*Dir{"": root}}
	defer func() { err = trace.NewAggregate(err, t.close()) }()
	for _, file := range inOrder(set) {
		if err := t.add(file, set[file]); err != nil {
			return err
		}
	}
	return t.finish()
}

// tree is a directory being filled. Files stay open until all are written, so
// that the disk gets the work at once.
type tree struct {
	folders map[string]*Dir
	files   []*os.File
}

func (t *tree) add(name string, data []byte) error {
	top, rest := split(name)
	if rest == "" {
		top, rest = "", top
	}
	folder, ok := t.folders[top]
	if !ok {
		var err error
		if folder, err = t.folders[""].mkdir(top); err != nil {
			return err
		}
		t.folders[top] = folder
	}
	f, err := folder.create(rest, data)
	if err != nil {
		return err
	}
	t.files = append(t.files, f)
	return nil
}

// finish syncs the files, then lets readers in, the root last.
func (t *tree) finish() error {
	for _, f := range t.files {
		t.folders[""].step("sync " + f.Name())
		if err := f.Sync(); err != nil {
			return err
		}
	}
	names := sorted(t.folders)
	for i := len(names) - 1; i >= 0; i-- {
		folder := t.folders[names[i]]
		if err := folder.perms.apply(folder.fd, true); err != nil {
			return folder.fail("set permissions of", "", err)
		}
		if err := folder.Sync(); err != nil {
			return err
		}
	}
	return nil
}

func (t *tree) close() error {
	var errs []error
	for _, f := range t.files {
		errs = append(errs, f.Close())
	}
	for _, folder := range t.folders {
		errs = append(errs, folder.Close())
	}
	return errors.Join(errs...)
}

// condition is what was noticed of a tree, beside its content.
type condition struct {
	// strange says that something in it, or the directory, belongs to another
	// user.
	strange bool
	// drifted are the names whose owner, mode or ACL isn't what makeTree would
	// give them; ..data is the directory itself.
	drifted []string
}

// readTree reads a directory that makeTree made.
func readTree(d *Dir, name string) (Set, condition, error) {
	var c condition
	root, err := d.sub(name)
	if err != nil {
		return nil, c, err
	}
	defer root.Close()
	set := make(Set)
	if err := c.note(root, dataName, root.fd, true); err != nil {
		return nil, c, err
	}
	err = c.readInto(set, root, "")
	return set, c, err
}

// readInto reads a directory's files into a set, and those of its directories.
func (c *condition) readInto(set Set, d *Dir, prefix string) error {
	names, err := d.Names()
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		k, err := d.kind(name)
		if err != nil {
			return err
		}
		if k == folder && prefix == "" {
			if err := c.readFolder(set, d, name); err != nil {
				return err
			}
			continue
		}
		f, err := d.open(name, readFlags, 0)
		if err != nil {
			return err
		}
		data, _, err := d.readOpen(f, name)
		if err := errors.Join(err, c.note(d, prefix+name, int(f.Fd()), false), f.Close()); err != nil {
			return err
		}
		set[prefix+name] = data
	}
	return nil
}

func (c *condition) readFolder(set Set, d *Dir, name string) error {
	sub, err := d.sub(name)
	if err != nil {
		return err
	}
	defer sub.Close()
	if err := c.note(sub, name, sub.fd, true); err != nil {
		return err
	}
	return c.readInto(set, sub, name+"/")
}

// note looks at owner and permissions.
func (c *condition) note(d *Dir, name string, fd int, dir bool) error {
	st, err := fstat(fd)
	if err != nil {
		return d.fail("stat", name, err)
	}
	right, err := d.perms.hold(fd, dir)
	if err != nil {
		return d.fail("read the ACL of", name, err)
	}
	foreign := int(st.Uid) != os.Geteuid()
	c.strange = c.strange || foreign
	if foreign || !right {
		c.drifted = append(c.drifted, name)
	}
	return nil
}

func quote(text string) string { return strconv.Quote(text) }
