package hooks

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"rollcall/failure"
)

// programsIn returns the programs of a directory in the order of their names.
// What isn't executable is passed over, as are names that begin with a dot or
// end with a tilde, which editors leave. A program or a directory on the way to
// it that somebody else could change is refused, each by itself.
func programsIn(dir string) ([]task, error) {
	dir = filepath.Clean(dir)
	mode, err := walk(dir, false)
	if err != nil {
		return nil, err
	}
	if isLink(mode) {
		return nil, linkRefused(dir)
	}
	entries, err := os.ReadDir(dir) // sorted by name
	if err != nil {
		return nil, unreadable(dir, err)
	}
	var tasks []task
	for _, entry := range entries {
		name := entry.Name()
		path := filepath.Join(dir, name)
		info, err := os.Stat(path)
		if strings.HasPrefix(name, ".") || strings.HasSuffix(name, "~") ||
			err == nil && (!info.Mode().IsRegular() || info.Mode()&0o111 == 0) {
			continue
		}
		options := Options{Exec: []string{path}}
		options.SetDefaults()
		tasks = append(tasks, task{label: "hooks_dir " + path, options: options, guarded: true})
	}
	return tasks, nil
}

// maxLinks is how many links a program's name may lead through.
const maxLinks = 8

// trusted returns the path of a program, if nobody but root and this process's
// user can change what it leads to. The program's own name may be a link: it's
// in a directory that was looked at, and what it leads to is looked at as well.
func trusted(path string) (string, error) {
	for range maxLinks {
		path = filepath.Clean(path)
		mode, err := walk(path, false)
		if err != nil || !isLink(mode) {
			return path, err
		}
		target, err := os.Readlink(path)
		if err != nil {
			return "", unreadable(path, err)
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(path), target)
		}
		path = target
	}
	return "", failure.New(failure.Configuration, "%s is behind too many links", path)
}

// walk looks at each name of a clean path as it's written, from the root on,
// and returns the mode of the last one. It refuses links on the way.
func walk(path string, onTheWay bool) (mode uint32, err error) {
	if above := filepath.Dir(path); above != path {
		mode, err := walk(above, true)
		if err == nil && isLink(mode) {
			err = linkRefused(above)
		}
		if err != nil {
			return 0, err
		}
	}
	return own(path, onTheWay)
}

func isLink(mode uint32) bool { return mode&unix.S_IFMT == unix.S_IFLNK }

func linkRefused(path string) error {
	return failure.New(failure.Configuration, "%s is a symbolic link; give the path of hooks without links on the way", path)
}

// own refuses what somebody else can change, and returns its mode. In a
// directory on the way with the sticky bit, such as /tmp, others can't replace
// what isn't theirs.
func own(path string, onTheWay bool) (mode uint32, err error) {
	var stat unix.Stat_t
	if err := unix.Lstat(path, &stat); err != nil {
		return 0, unreadable(path, err)
	}
	if stat.Uid != 0 && int(stat.Uid) != os.Geteuid() {
		return 0, failure.New(failure.Configuration, "%s belongs to user %d; hooks, and the directories on the way to them, must belong to root or to the agent's user", path, stat.Uid)
	}
	// Every link has mode 0777, which means nothing.
	if !isLink(stat.Mode) && stat.Mode&0o022 != 0 && (!onTheWay || stat.Mode&unix.S_ISVTX == 0) {
		return 0, failure.New(failure.Configuration, "%s can be written by others than its owner, so it isn't run; chmod go-w %s", path, path)
	}
	return stat.Mode, nil
}

func unreadable(path string, err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return failure.Wrap(failure.Configuration, err, "%s doesn't exist", path)
	}
	return failure.Wrap(failure.Configuration, err, "%s can't be read: %s", path, reason(err))
}
