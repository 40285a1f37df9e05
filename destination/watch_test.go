package destination

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestNobodyElseDuringFiveHundredWrites: a third user tries to open every file
// the moment it appears, and the reader reads pairs without end.
func TestNobodyElseDuringFiveHundredWrites(t *testing.T) {
	needRoot(t, "to try as other users")
	const writes = 500
	for _, mode := range []UpdateMode{UpdateSet, UpdateFile} {
		t.Run(string(mode), func(t *testing.T) {
			path := filepath.Join(reachable(t), "out")
			d := directory(t, path, update(mode), theReader(), acls(ACLRequired))
			write(t, d, setOf("start", "key", "tlscert"))

			third, reader := watchAs(t, thirdID, path), watchAs(t, readerID, path)
			reading := readAs(t, readerID, path, mode)
			for i := range writes {
				write(t, d, setOf(fmt.Sprint(i), "key", "tlscert"))
			}
			read := reading()
			stranger, known := third.stop(), reader.stop()
			t.Logf("%d writes: the third user opened %d of %d; the reader's watcher %d of %d; the reader: %d pairs as documented (%d begun again), %d failures, %d torn; by plain names: %d pairs, %d torn, %d missed",
				writes, stranger.opened, stranger.tried, known.opened, known.tried,
				read.pairs, read.retried, read.failed, read.torn, read.plain, read.plainTorn, read.plainMissed)
			require.Greater(t, stranger.tried, 2*writes)
			require.Zero(t, stranger.opened, stranger.examples)
			require.Positive(t, known.opened, "the watcher sees files in time")
			require.Zero(t, read.failed)
			require.Positive(t, read.pairs)
			if mode == UpdateSet {
				require.Zero(t, read.torn)
			}
		})
	}
}

// TestTheWatcherSees a file that anybody could read, so that its zero above means
// something.
func TestTheWatcherSees(t *testing.T) {
	needRoot(t, "to try as other users")
	path := filepath.Join(reachable(t), "out")
	require.NoError(t, os.Mkdir(path, 0o755))
	require.NoError(t, os.Chmod(path, 0o755))
	third := watchAs(t, thirdID, path)
	name := filepath.Join(path, "careless")
	require.NoError(t, os.WriteFile(name, []byte("secret"), 0o600))
	require.NoError(t, os.Chmod(name, 0o644))
	require.Eventually(t, third.success.Load, 30*time.Second, time.Millisecond)
	require.NoError(t, os.Remove(name))
	require.Contains(t, third.stop().examples, name)
}

// attempts is what a watcher did.
type attempts struct {
	tried, opened int
	examples      []string
}

// watchAs tries to open every regular file below a directory, as another user,
// whenever inotify tells of its name or anything happens to it: by its path and
// through a descriptor of its directory. The watches are root's, so that no
// right to list a directory is needed. It runs until its stop is called.
func watchAs(t *testing.T, id int, path string) *watcher {
	t.Helper()
	w := &watcher{t: t, id: id, dirs: make(map[int]watched), done: make(chan struct{})}
	var err error
	w.fd, err = unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	require.NoError(t, err)
	w.add(path)
	go func() {
		defer close(w.done)
		runtime.LockOSThread() // its groups are its own
		w.run()
	}()
	return w
}

// stop ends the watcher once it has seen to all that happened so far.
func (w *watcher) stop() attempts {
	w.t.Helper()
	w.stopped.Store(true)
	<-w.done
	require.NoError(w.t, unix.Close(w.fd))
	return w.attempts
}

type watched struct {
	path string
	fd   int
}

type watcher struct {
	t    *testing.T
	id   int
	fd   int
	dirs map[int]watched
	attempts

	success, stopped atomic.Bool
	done             chan struct{}
}

func (w *watcher) run() {
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, 0, 0, 0); errno != 0 {
		w.t.Errorf("setgroups: %v", errno)
		return
	}
	buf := make([]byte, 64<<10)
	for {
		n, err := unix.Read(w.fd, buf)
		if n > 0 {
			w.events(buf[:n])
			continue
		}
		if w.stopped.Load() {
			break
		}
		if errors.Is(err, unix.EAGAIN) {
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(w.fd), Events: unix.POLLIN}}, 20)
		}
	}
	for _, dir := range w.dirs {
		_ = unix.Close(dir.fd)
	}
}

func (w *watcher) events(buf []byte) {
	for len(buf) >= unix.SizeofInotifyEvent {
		event := (*unix.InotifyEvent)(unsafe.Pointer(&buf[0]))
		end := unix.SizeofInotifyEvent + int(event.Len)
		name := strings.TrimRight(string(buf[unix.SizeofInotifyEvent:end]), "\x00")
		buf = buf[end:]
		dir, known := w.dirs[int(event.Wd)]
		switch {
		case event.Mask&unix.IN_Q_OVERFLOW != 0:
			w.t.Error("the watcher was too slow")
		case event.Mask&unix.IN_IGNORED != 0 && known:
			_ = unix.Close(dir.fd)
			delete(w.dirs, int(event.Wd))
		case !known || name == "":
		case event.Mask&unix.IN_ISDIR != 0 && event.Mask&(unix.IN_CREATE|unix.IN_MOVED_TO) != 0:
			w.add(filepath.Join(dir.path, name))
		case event.Mask&unix.IN_ISDIR == 0:
			w.try(dir, name)
		}
	}
}

// add watches a directory, and tries what is in it already.
func (w *watcher) add(path string) {
	wd, err := unix.InotifyAddWatch(w.fd, path, unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_ATTRIB|unix.IN_MODIFY|unix.IN_CLOSE_WRITE|unix.IN_ONLYDIR)
	if err != nil {
		return // gone already
	}
	fd, err := unix.Open(path, dirFlags, 0)
	if err != nil {
		return
	}
	if old, there := w.dirs[wd]; there {
		_ = unix.Close(old.fd)
	}
	dir := watched{path, fd}
	w.dirs[wd] = dir
	entries, _ := os.ReadDir(path)
	for _, e := range entries {
		if e.IsDir() {
			w.add(filepath.Join(path, e.Name()))
		} else {
			w.try(dir, e.Name())
		}
	}
}

// try opens a file as the other user: the file system's ids are the thread's
// own, and with them go the capabilities that concern files.
func (w *watcher) try(dir watched, name string) {
	w.fsid(w.id)
	defer w.fsid(0)
	for _, at := range []watched{{path: filepath.Join(dir.path, name), fd: unix.AT_FDCWD}, {path: name, fd: dir.fd}} {
		w.tried++
		fd, err := unix.Openat(at.fd, at.path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			continue
		}
		_ = unix.Close(fd)
		w.opened++
		w.success.Store(true)
		if len(w.examples) < 10 {
			w.examples = append(w.examples, filepath.Join(dir.path, name))
		}
	}
}

func (w *watcher) fsid(id int) {
	unix.RawSyscall(unix.SYS_SETFSGID, uintptr(id), 0, 0)
	unix.RawSyscall(unix.SYS_SETFSUID, uintptr(id), 0, 0)
	if now, _, _ := unix.RawSyscall(unix.SYS_SETFSUID, ^uintptr(0), 0, 0); int(now) != id {
		w.t.Errorf("the thread's user is %d, not %d", now, id)
	}
}

// reads is what a reader got.
type reads struct {
	pairs, retried, failed, torn int
	plain, plainTorn             int
	plainMissed                  int
}

// readAs reads pairs as another user until the returned function is called: as
// the package comment says, and by two plain names.
func readAs(t *testing.T, id int, path string, mode UpdateMode) func() reads {
	var stop atomic.Bool
	done := make(chan reads)
	go func() {
		var n reads
		defer func() { done <- n }()
		runtime.LockOSThread()
		become(t, id)
		for !stop.Load() {
			if mode == UpdateSet {
				n.documented(readPair(path))
			}
			key, err1 := os.ReadFile(filepath.Join(path, "key"))
			cert, err2 := os.ReadFile(filepath.Join(path, "tlscert"))
			n.plain++
			switch set := (Set{"key": key, "tlscert": cert}); {
			case mode == UpdateSet && errors.Is(errors.Join(err1, err2), fs.ErrNotExist):
				n.plainMissed++ // two swaps came between the link and the file
			case err1 != nil || err2 != nil:
				t.Errorf("by name: %v %v", err1, err2)
				n.failed++
			case len(marks(set)) != 1:
				n.plainTorn++
			}
			if mode != UpdateSet {
				n.pairs++
			}
		}
	}()
	return func() reads {
		stop.Store(true)
		return <-done
	}
}

func (n *reads) documented(set Set, err error) {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		n.retried++ // held over two swaps
		return
	case err != nil:
		n.failed++
	case len(marks(set)) != 1:
		n.torn++
	}
	n.pairs++
}
