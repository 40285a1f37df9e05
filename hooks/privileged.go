package hooks

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"rollcall/failure"
)

// maxHops is how many links the way to a program may have.
const maxHops = 40

// privileged returns the real path of a program that is run with rights which
// others lack. It refuses one that somebody but root and the friends, who are
// users, could change, or whose name they could lead elsewhere: each directory
// and each link on the way is looked at. Since all of it is out of others' reach,
// it's the same at the moment when it's run.
func privileged(path string, friends []uint32) (string, error) {
	todo := parts(path)
	at := "/"
	for hops := 0; len(todo) > 0; {
		next := filepath.Join(at, todo[0])
		todo = todo[1:]
		var st unix.Stat_t
		if err := unix.Lstat(next, &st); err != nil {
			return "", unreadable(next, err)
		}
		if err := outOfReach(next, st, len(todo) > 0, friends); err != nil {
			return "", err
		}
		if !isLink(st.Mode) {
			at = next
			continue
		}
		if hops++; hops > maxHops {
			return "", failure.New(failure.Configuration, "%s is behind too many links", path)
		}
		target, err := os.Readlink(next)
		if err != nil {
			return "", unreadable(next, err)
		}
		if filepath.IsAbs(target) {
			at = "/"
		}
		todo = append(parts(target), todo...)
	}
	return at, nil
}

// parts are the names in a path; "..", which a link's text may have, among them.
func parts(path string) []string {
	return slices.DeleteFunc(strings.Split(path, "/"), func(part string) bool { return part == "" || part == "." })
}

// outOfReach refuses what somebody who isn't a friend can change. In a directory
// on the way that has the sticky bit others can't replace what isn't theirs.
func outOfReach(path string, st unix.Stat_t, onTheWay bool, friends []uint32) error {
	if st.Uid != 0 && !slices.Contains(friends, st.Uid) {
		return failure.New(failure.Configuration,
			"%s belongs to user %d, who could have the agent run anything with rights of others: give it to root (chown root %s), or have the hook run as that user (`user: %d`)", path, st.Uid, path, st.Uid)
	}
	if !isLink(st.Mode) && st.Mode&0o022 != 0 && (!onTheWay || st.Mode&unix.S_ISVTX == 0) {
		return failure.New(failure.Configuration,
			"%s can be written by others than its owner, who could have the agent run anything with rights of others; chmod go-w %s", path, path)
	}
	return nil
}

// friendsOf are those who may change a program beside root: whom it runs as, and
// the agent's own user, who may become that one anyway.
func friendsOf(o Options) []uint32 {
	friends := []uint32{uint32(os.Geteuid())}
	if o.User == "" {
		return friends
	}
	who, err := lookUp(o.User)
	if err != nil {
		return friends // the run tells of it
	}
	return append(friends, who.credential.Uid)
}

// checkPrivileged refuses a program that others can change, if it's run with
// rights that they lack: by an agent that is root, or as another user. It returns
// the real path, which is what must be run then, and "" for any other program. One
// that isn't there is an error too: somebody might put another in its place
// between this look and the run.
func checkPrivileged(o Options) (string, error) {
	if len(o.Exec) == 0 || os.Geteuid() != 0 && o.User == "" {
		return "", nil
	}
	return privileged(o.Exec[0], friendsOf(o))
}
