package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// count is what one kind of reader has seen. Safe for concurrent use.
type count struct {
	reads, torn, failed atomic.Int64
	// again are the reads that were begun again, since what they had opened was
	// replaced twice meanwhile.
	again atomic.Int64
	first sync.Once
	// failure is why the first one failed; read it after the readers' end.
	failure error
}

func (c *count) fail(err error) {
	c.failed.Add(1)
	c.first.Do(func() { c.failure = err })
}

// reading keeps the last pair of one reader, so that it parses only what's new.
type reading struct {
	cert, key []byte
	torn      bool
}

// see judges one attempt to read a pair. A pair is torn if the certificate
// isn't the key's, or if either isn't whole.
func (r *reading) see(into *count, cert, key []byte, err error) {
	if errors.Is(err, context.Canceled) {
		return // the readers are ended
	}
	if err != nil {
		into.fail(err)
		return
	}
	into.reads.Add(1)
	if !bytes.Equal(cert, r.cert) || !bytes.Equal(key, r.key) {
		_, err := tls.X509KeyPair(cert, key)
		r.cert, r.key, r.torn = cert, key, err != nil
	}
	if r.torn {
		into.torn.Add(1)
	}
}

// readers are three kinds of programs that read one output's certificate and
// key.
type readers struct {
	inotify, byName, once *count
	// reloads counts the reloads of this directory's inotify reader.
	reloads atomic.Int64
	group   sync.WaitGroup
	fault   error // of the inotify reader; read after group
}

// watch starts the three readers of a directory; they end with ctx.
func (r *readers) watch(ctx context.Context, t *testing.T, dir string) {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	require.NoError(t, err)
	events := os.NewFile(uintptr(fd), "inotify")
	_, err = unix.InotifyAddWatch(fd, dir, unix.IN_CLOSE_WRITE|unix.IN_MOVED_TO|unix.IN_CREATE)
	require.NoError(t, err)
	context.AfterFunc(ctx, func() { events.Close() }) // ends the Read below
	r.group.Go(func() { r.fault = r.reloadOnEvents(ctx, events, dir) })
	r.group.Go(func() { loop(ctx, r.byName, func() (cert, key []byte, err error) { return openByName(dir) }) })
	r.group.Go(func() {
		loop(ctx, r.once, func() (cert, key []byte, err error) { return openOnce(ctx, dir, &r.once.again) })
	})
}

func loop(ctx context.Context, into *count, read func() (cert, key []byte, err error)) {
	var last reading
	for ctx.Err() == nil {
		cert, key, err := read()
		last.see(into, cert, key, err)
	}
}

// reloadOnEvents reads the pair whenever the certificate's name, or that of
// the directory's current version, is reported.
func (r *readers) reloadOnEvents(ctx context.Context, events *os.File, dir string) error {
	var last reading
	buffer := make([]byte, 64<<10)
	for {
		n, err := events.Read(buffer)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		for _, name := range eventNames(buffer[:n]) {
			if name != "tlscert" && name != "..data" {
				continue
			}
			cert, key, err := openByName(dir)
			last.see(r.inotify, cert, key, err)
			r.reloads.Add(1)
		}
	}
}

// eventNames decodes inotify's records: 16 bytes, the last four of which say
// how long the name is that follows.
func eventNames(records []byte) (names []string) {
	for len(records) >= unix.SizeofInotifyEvent {
		size := int(binary.NativeEndian.Uint32(records[12:]))
		end := unix.SizeofInotifyEvent + size
		names = append(names, string(bytes.TrimRight(records[unix.SizeofInotifyEvent:end], "\x00")))
		records = records[end:]
	}
	return names
}

// openByName opens one file after the other by its path.
func openByName(dir string) (cert, key []byte, err error) {
	if cert, err = os.ReadFile(filepath.Join(dir, "tlscert")); err != nil {
		return nil, nil, err
	}
	key, err = os.ReadFile(filepath.Join(dir, "key"))
	return cert, key, err
}

// openOnce reads both files through one open directory, as the documentation tells
// programs to: a set stays until it has been replaced twice, and who was slower
// than that begins again.
func openOnce(ctx context.Context, dir string, again *atomic.Int64) (cert, key []byte, err error) {
	for ctx.Err() == nil {
		before, _ := os.Readlink(filepath.Join(dir, "..data")) // there may be none
		version, cert, key, err := openCurrent(dir)
		if !errors.Is(err, fs.ErrNotExist) {
			return cert, key, err
		}
		if version == "" {
			version = before // the kernel's own look at the link was no earlier
		}
		if twice, why := replacedTwice(dir, version); !twice {
			return nil, nil, fmt.Errorf("%w, though %s", err, why)
		}
		again.Add(1)
	}
	return nil, nil, ctx.Err()
}

// replacedTwice says whether at least two versions have been published after that
// one, and if not, why not. Versions' names sort by their age.
func replacedTwice(dir, version string) (twice bool, why string) {
	for {
		current, err := os.Readlink(filepath.Join(dir, "..data"))
		if err != nil {
			return false, err.Error()
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			return false, err.Error()
		}
		if now, _ := os.Readlink(filepath.Join(dir, "..data")); now != current {
			continue // what was listed may be of either time
		}
		newer := 0
		for _, entry := range entries {
			// One that is newer than the current one isn't published yet.
			if name := entry.Name(); entry.IsDir() && strings.HasPrefix(name, "..") && name > version && name <= current {
				newer++
			}
		}
		return version != "" && newer >= 2, fmt.Sprintf("%q was opened, %q is the current one and %d are newer", version, current, newer)
	}
}

// openCurrent opens the current version, or the directory where there are no
// versions, and both files through it. version is the opened one's name, empty if
// none could be opened.
func openCurrent(dir string) (version string, cert, key []byte, err error) {
	link := filepath.Join(dir, "..data")
	fd, err := unix.Open(link, unix.O_DIRECTORY|unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		if _, absent := os.Lstat(link); absent == nil {
			return "", nil, nil, err // it names a version that is gone
		}
		fd, err = unix.Open(dir, unix.O_DIRECTORY|unix.O_RDONLY|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return "", nil, nil, err
	}
	defer unix.Close(fd)
	path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return "", nil, nil, err
	}
	version = filepath.Base(strings.TrimSuffix(path, " (deleted)"))
	if cert, err = readAt(fd, "tlscert"); err != nil {
		return version, nil, nil, err
	}
	key, err = readAt(fd, "key")
	return version, cert, key, err
}

func readAt(dir int, name string) ([]byte, error) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	return io.ReadAll(f)
}

// TestReplacedTwice: the excuse of the reader above doesn't hide a set that was
// removed too early.
func TestReplacedTwice(t *testing.T) {
	const opened = "..2026_01_02T03_04_05.000000001"
	for _, test := range []struct {
		name    string
		there   []string
		current string
		want    bool
	}{
		{"still the current one", nil, opened, false},
		{"the one before", []string{"2"}, "2", false},
		{"the one before, and the next isn't published", []string{"2", "3"}, "2", false},
		{"older ones are no excuse", []string{"0", "2"}, "2", false},
		{"replaced twice", []string{"2", "3"}, "3", true},
		{"replaced many times", []string{"7", "8", "9"}, "8", true},
		{"no versions at all", nil, "", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir, prefix := t.TempDir(), opened[:len(opened)-1]
			for _, digit := range test.there {
				require.NoError(t, os.Mkdir(filepath.Join(dir, prefix+digit), 0o700))
			}
			if current := test.current; current != "" {
				if len(current) == 1 {
					current = prefix + current
				}
				require.NoError(t, os.Symlink(current, filepath.Join(dir, "..data")))
			}

			twice, why := replacedTwice(dir, opened)

			require.Equal(t, test.want, twice, why)
		})
	}
}
