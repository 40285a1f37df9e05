package destination

import (
	"errors"
	"io/fs"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"rollcall/acl"
	"rollcall/failure"
)

const (
	// dataName is the link to the current version.
	dataName = "..data"
	// manifestName lists the names that are ours where they're plain files.
	manifestName = "..manifest"
	// lockName is locked during a write. It's a file of its own, 0600, so that
	// whoever may only read the directory can't hold it.
	lockName = "..lock"
)

var versionPattern = regexp.MustCompile(`^\.\.\d{4}_\d\d_\d\dT\d\d_\d\d_\d\d\.\d{9}$`)

// kind is what stands at a visible name.
type kind uint8

const (
	absent  kind = iota
	ours         // a symbolic link that is exactly ..data/NAME
	regular      // a plain file
	folder       // a plain directory
	foreign      // any other symbolic link
	special      // a pipe, a socket, a device
)

// layout is what a directory holds.
type layout struct {
	// current is the version that ..data names, or "".
	current string
	// versions are all version directories, oldest first.
	versions []string
	// leftovers are temporary names of a write that was cut off.
	leftovers []string
	// entries are the names that don't start with "..".
	entries map[string]kind
	// manifest are the names that the manifest lists, nil if there's none.
	manifest []string
	// granted are the readers that plain files written in place let in.
	granted []acl.Entry
}

// survey reads a directory. It refuses what others planted at names that this
// package uses itself.
func survey(d *Dir) (*layout, error) {
	names, err := d.Names()
	if err != nil {
		return nil, err
	}
	l := &layout{entries: make(map[string]kind)}
	for _, name := range names {
		k, err := d.kind(name)
		if err != nil {
			return nil, err
		}
		switch {
		case k == absent: // went in the meantime
		case name == dataName:
			l.current, err = d.current()
		case name == manifestName:
			l.manifest, err = readManifest(d)
		case name == grantedName:
			l.granted, err = readGranted(d)
		case strings.HasPrefix(name, tempPrefix):
			l.leftovers = append(l.leftovers, name)
		case versionPattern.MatchString(name) && k == folder:
			l.versions = append(l.versions, name)
		case !strings.HasPrefix(name, ".."):
			l.entries[name] = k
		}
		if err != nil {
			return nil, err
		}
	}
	slices.Sort(l.versions)
	if err := l.checkCurrent(d); err != nil {
		return nil, err
	}
	return l, nil
}

// checkCurrent refuses a link or a file in the place of the current version. A
// version that isn't there at all holds nothing.
func (l *layout) checkCurrent(d *Dir) error {
	if l.current == "" || slices.Contains(l.versions, l.current) {
		return nil
	}
	k, err := d.kind(l.current)
	if err != nil {
		return err
	}
	if k != absent && k != folder {
		return planted(d.join(l.current), "isn't a directory")
	}
	l.current = ""
	return nil
}

// check refuses a set whose names are taken by something that isn't ours.
func (l *layout) check(d *Dir, set Set) error {
	for top, below := range tops(sorted(set)) {
		nested := below[0] != ""
		switch k := l.entries[top]; {
		case k == foreign:
			text, _ := d.readlink(top) // for the message only
			return planted(d.join(top), "is a symbolic link to "+quote(text))
		case k == special:
			return planted(d.join(top), "is a pipe, a socket or a device")
		case k == regular && nested && !slices.Contains(l.manifest, top):
			return failure.New(failure.Configuration, "%s is a file, and a directory is needed there: remove it", d.join(top))
		}
	}
	return nil
}

// checkFolder refuses a directory with anything in it that we don't know, since
// it would be lost when the directory is replaced.
func (l *layout) checkFolder(d *Dir, top string, set Set) error {
	sub, err := d.sub(top)
	if err != nil {
		return err
	}
	defer sub.Close()
	names, err := sub.Names()
	if err != nil {
		return err
	}
	for _, name := range names {
		k, err := sub.kind(name)
		if err != nil {
			return err
		}
		full := top + "/" + name
		_, known := set[full]
		known = known || slices.Contains(l.manifest, full) || strings.HasPrefix(name, tempPrefix)
		switch {
		case k == foreign || k == ours || k == special:
			return planted(sub.join(name), "isn't a regular file")
		case !known || k == folder:
			return failure.New(failure.Configuration,
				"%s isn't a file of rollcall's: move it out of %s, which rollcall keeps", sub.join(name), d.join(top))
		}
	}
	return nil
}

// kind looks at a name without following it.
func (d *Dir) kind(name string) (kind, error) {
	var st unix.Stat_t
	err := unix.Fstatat(d.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, fs.ErrNotExist) {
		return absent, nil
	}
	if err != nil {
		return absent, d.fail("stat", name, err)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return regular, nil
	case unix.S_IFDIR:
		return folder, nil
	case unix.S_IFLNK:
		text, err := d.readlink(name)
		if err != nil {
			return absent, err
		}
		if text == dataName+"/"+name {
			return ours, nil
		}
		return foreign, nil
	}
	return special, nil
}

// current returns the version that ..data names, "" if there's no ..data.
func (d *Dir) current() (string, error) {
	text, err := d.readlink(dataName)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	case errors.Is(err, unix.EINVAL):
		return "", planted(d.join(dataName), "isn't a symbolic link")
	case err != nil:
		return "", err
	case !versionPattern.MatchString(text):
		return "", planted(d.join(dataName), "is a symbolic link to "+quote(text))
	}
	return text, nil
}
