package e2e

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// attempts is what a spy did in one tree.
type attempts struct {
	tried, opened int
	// examples are a few of the paths that were opened.
	examples []string
}

// spy tries to open every file and every directory of some trees, as another
// user, the moment that inotify tells of its name or of anything that happens
// to it. The watches are root's: who may not list a directory may not watch it
// either. Watching and opening is one thread's work, so that no time is lost
// between the two.
type spy struct {
	t     *testing.T
	who   user
	fd    int
	dirs  map[int32]spied
	trees map[string]*attempts
	stop  atomic.Bool
	group sync.WaitGroup
}

// spied is a directory that's watched, and the tree that it's in.
type spied struct {
	path, tree string
	fd         int
}

// spyOn starts a spy on all that's below the trees.
func spyOn(t *testing.T, who user, trees ...string) *spy {
	t.Helper()
	s := &spy{t: t, who: who, dirs: make(map[int32]spied), trees: make(map[string]*attempts)}
	var err error
	s.fd, err = unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	require.NoError(t, err)
	started := make(chan struct{})
	s.group.Go(func() {
		runtime.LockOSThread() // for good: its user and its groups are its own
		s.run(trees, started)
	})
	t.Cleanup(func() { s.end() })
	<-started
	return s
}

// end returns what the spy did in each tree, once it has seen to all that
// happened so far.
func (s *spy) end() map[string]*attempts {
	if !s.stop.Swap(true) {
		s.group.Wait()
		_ = unix.Close(s.fd)
	}
	return s.trees
}

func (s *spy) run(trees []string, started chan<- struct{}) {
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, 0, 0, 0); errno != 0 {
		s.t.Errorf("setgroups: %v", errno)
	}
	for _, tree := range trees {
		s.trees[tree] = &attempts{}
		s.add(tree, tree)
	}
	close(started)
	buffer := make([]byte, 64<<10)
	for {
		n, err := unix.Read(s.fd, buffer)
		if n > 0 {
			s.events(buffer[:n])
			continue
		}
		if s.stop.Load() {
			break
		}
		if errors.Is(err, unix.EAGAIN) {
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}}, 20)
		}
	}
	for _, dir := range s.dirs {
		_ = unix.Close(dir.fd)
	}
}

// events decodes inotify's records: where, what, a cookie, the length of the
// name, and the name.
func (s *spy) events(records []byte) {
	for len(records) >= unix.SizeofInotifyEvent {
		where := int32(binary.NativeEndian.Uint32(records))
		what := binary.NativeEndian.Uint32(records[4:])
		end := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(records[12:]))
		name := strings.TrimRight(string(records[unix.SizeofInotifyEvent:end]), "\x00")
		records = records[end:]
		dir, known := s.dirs[where]
		switch {
		case what&unix.IN_Q_OVERFLOW != 0:
			s.t.Error("the spy was too slow")
		case what&unix.IN_IGNORED != 0 && known:
			_ = unix.Close(dir.fd)
			delete(s.dirs, where)
		case !known || name == "":
		default:
			s.try(dir, name)
			if what&unix.IN_ISDIR != 0 && what&(unix.IN_CREATE|unix.IN_MOVED_TO) != 0 {
				s.add(filepath.Join(dir.path, name), dir.tree)
			}
		}
	}
}

// add watches a directory, and tries what is in it already.
func (s *spy) add(path, tree string) {
	wd, err := unix.InotifyAddWatch(s.fd, path, unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_ATTRIB|unix.IN_MODIFY|unix.IN_CLOSE_WRITE|unix.IN_ONLYDIR)
	if err != nil {
		return // gone already
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	if old, there := s.dirs[int32(wd)]; there {
		_ = unix.Close(old.fd)
	}
	dir := spied{path, tree, fd}
	s.dirs[int32(wd)] = dir
	entries, _ := os.ReadDir(path)
	for _, entry := range entries {
		s.try(dir, entry.Name())
		if entry.IsDir() {
			s.add(filepath.Join(path, entry.Name()), tree)
		}
	}
}

// try opens a name as the other user, by its path and through a descriptor of
// its directory. The ids that count for files are the thread's own, and with
// them go the capabilities that concern files.
func (s *spy) try(dir spied, name string) {
	s.become(s.who.uid, s.who.gid)
	defer s.become(0, 0)
	seen := s.trees[dir.tree]
	full := filepath.Join(dir.path, name)
	for _, way := range []struct {
		fd   int
		path string
	}{{unix.AT_FDCWD, full}, {dir.fd, name}} {
		seen.tried++
		fd, err := unix.Openat(way.fd, way.path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			continue
		}
		_ = unix.Close(fd)
		seen.opened++
		if len(seen.examples) < 10 {
			seen.examples = append(seen.examples, full)
		}
	}
}

func (s *spy) become(uid, gid uint32) {
	unix.RawSyscall(unix.SYS_SETFSGID, uintptr(gid), 0, 0)
	unix.RawSyscall(unix.SYS_SETFSUID, uintptr(uid), 0, 0)
	if now, _, _ := unix.RawSyscall(unix.SYS_SETFSUID, ^uintptr(0), 0, 0); uint32(now) != uid {
		s.t.Errorf("the thread's user is %d, not %d", now, uid)
	}
}
