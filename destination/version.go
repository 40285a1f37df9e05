package destination

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
	"time"

	"github.com/gravitational/trace"
	"golang.org/x/sys/unix"
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
	// strange says that the directory belongs to another user.
	strange bool
	// drifted are the names whose mode or owner isn't what makeTree gave them
	// ("." for the directory).
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
	var st unix.Stat_t
	if err := unix.Fstat(root.fd, &st); err != nil {
		return nil, c, root.fail("stat", "", err)
	}
	c.strange = int(st.Uid) != os.Geteuid()
	if strayed(st, dirMode) {
		c.drifted = append(c.drifted, ".")
	}
	set := make(Set)
	more, err := readInto(set, root, "")
	c.drifted = append(c.drifted, more...)
	return set, c, err
}

// readInto reads a directory's files into a set, and those of its directories.
func readInto(set Set, d *Dir, prefix string) (drifted []string, err error) {
	names, err := d.Names()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		k, err := d.kind(name)
		if err != nil {
			return nil, err
		}
		if k == folder && prefix == "" {
			sub, err := d.sub(name)
			if err != nil {
				return nil, err
			}
			more, err := readInto(set, sub, name+"/")
			if err := errors.Join(err, sub.Close()); err != nil {
				return nil, err
			}
			drifted = append(drifted, more...)
			continue
		}
		data, st, err := d.read(name)
		if err != nil {
			return nil, err
		}
		if strayed(st, fileMode) {
			drifted = append(drifted, prefix+name)
		}
		set[prefix+name] = data
	}
	return drifted, nil
}

func strayed(st unix.Stat_t, mode uint32) bool {
	return st.Mode&0o777 != mode || int(st.Uid) != os.Geteuid()
}

func quote(text string) string { return strconv.Quote(text) }
