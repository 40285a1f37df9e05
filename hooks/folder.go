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
	if _, err := trusted(dir); err != nil {
		return nil, err
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

// trusted returns a path without links, if nobody but root and this process's
// user can change what it leads to.
func trusted(path string) (string, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", unreadable(path, err)
	}
	for at := real; ; at = filepath.Dir(at) {
		if err := own(at, at != real); err != nil {
			return "", err
		}
		if at == filepath.Dir(at) {
			return real, nil
		}
	}
}

// own refuses what somebody else can change. In a directory on the way with the
// sticky bit, such as /tmp, others can't replace what isn't theirs.
func own(path string, onTheWay bool) error {
	var stat unix.Stat_t
	if err := unix.Lstat(path, &stat); err != nil {
		return unreadable(path, err)
	}
	if stat.Uid != 0 && int(stat.Uid) != os.Geteuid() {
		return failure.New(failure.Configuration, "%s belongs to user %d; hooks, and the directories on the way to them, must belong to root or to the agent's user", path, stat.Uid)
	}
	if stat.Mode&0o022 != 0 && (!onTheWay || stat.Mode&unix.S_ISVTX == 0) {
		return failure.New(failure.Configuration, "%s can be written by others than its owner, so it isn't run; chmod go-w %s", path, path)
	}
	return nil
}

func unreadable(path string, err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return failure.Wrap(failure.Configuration, err, "%s doesn't exist", path)
	}
	return failure.Wrap(failure.Configuration, err, "%s can't be read: %s", path, reason(err))
}
