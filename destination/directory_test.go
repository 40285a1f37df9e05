package destination

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestWriteReplacesTheSet(t *testing.T) {
	for _, mode := range updateModes {
		t.Run(string(mode), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "a", "b")
			d := directory(t, path, update(mode))
			require.NoError(t, d.Prepare(t.Context()))

			one := setOf("1", "key", "tlscert", "gone", "cockroach/node.key", "old/gone")
			require.Equal(t, Result{Changed: true, Files: sorted(one)}, write(t, d, one))
			require.Equal(t, one, visible(t, path))

			two := setOf("1", "key")
			two["tlscert"] = []byte("longer than before, and other\n")
			two["cockroach/node.key"] = []byte("x")
			two["new/file"] = nil
			result := write(t, d, two)
			require.Equal(t, Result{Changed: true, Files: []string{"cockroach/node.key", "gone", "new/file", "old/gone", "tlscert"}}, result)
			require.Len(t, visible(t, path), len(two))
			require.Empty(t, diff(two, visible(t, path)))
			require.Empty(t, diff(two, readAll(t, d, union(sorted(one), sorted(two))...)), "Read sees what programs see")
			requireTidy(t, path, mode)
			require.NoDirExists(t, filepath.Join(path, "old"))
		})
	}
}

func TestReadOfWhatIsNotThere(t *testing.T) {
	d := directory(t, filepath.Join(t.TempDir(), "missing"))
	_, err := d.Read(t.Context(), "key")
	require.ErrorIs(t, err, fs.ErrNotExist)
	write(t, d, setOf("1", "key"))
	_, err = d.Read(t.Context(), "tlscert")
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = d.Read(t.Context(), "../key")
	require.ErrorContains(t, err, `"../key"`)
	require.NoError(t, os.Remove(filepath.Join(d.opts.Path, dataName)))
	_, err = d.Read(t.Context(), "key")
	require.ErrorIs(t, err, fs.ErrNotExist, "a link of ours that dangles")
	write(t, d, setOf("1", "key"))
	require.Equal(t, setOf("1", "key"), visible(t, d.opts.Path))
}

// TestUnchanged compares every inode's change time, so that "no write" means
// just that.
func TestUnchanged(t *testing.T) {
	for _, mode := range updateModes {
		t.Run(string(mode), func(t *testing.T) {
			path := t.TempDir()
			set := setOf("1", "key", "tlscert", "cockroach/node.key")
			write(t, directory(t, path, update(mode)), set)
			before := changeTimes(t, path)
			require.Equal(t, Result{}, write(t, directory(t, path, update(mode)), set))
			require.Equal(t, before, changeTimes(t, path))
		})
	}
}

func changeTimes(t *testing.T, path string) map[string]syscall.Timespec {
	t.Helper()
	times := make(map[string]syscall.Timespec)
	require.NoError(t, filepath.WalkDir(path, func(at string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		times[at] = info.Sys().(*syscall.Stat_t).Ctim
		return err
	}))
	return times
}

func TestAMissingNameIsRepaired(t *testing.T) {
	for _, mode := range updateModes {
		t.Run(string(mode), func(t *testing.T) {
			d := directory(t, t.TempDir(), update(mode))
			set := setOf("1", "key", "tlscert")
			write(t, d, set)
			require.NoError(t, os.Remove(filepath.Join(d.opts.Path, "key")))
			require.Equal(t, Result{Changed: true, Files: []string{"key"}}, write(t, d, set))
			require.Equal(t, set, visible(t, d.opts.Path))
		})
	}
}

func TestThePreviousVersionStaysUntilTheNextSwap(t *testing.T) {
	d := directory(t, t.TempDir())
	write(t, d, setOf("1", "key", "tlscert"))
	held, err := os.OpenRoot(filepath.Join(d.opts.Path, dataName))
	require.NoError(t, err)
	defer held.Close()

	write(t, d, setOf("2", "key", "tlscert"))
	for _, name := range []string{"key", "tlscert"} {
		data, err := held.ReadFile(name)
		require.NoError(t, err)
		require.Equal(t, name+" of 1\n", string(data))
	}
	write(t, d, setOf("2", "key", "tlscert"))
	_, err = held.ReadFile("key")
	require.NoError(t, err, "nothing was swapped")

	write(t, d, setOf("3", "key", "tlscert"))
	_, err = held.ReadFile("tlscert")
	require.ErrorIs(t, err, fs.ErrNotExist)
	requireTidy(t, d.opts.Path, UpdateSet)
}

func TestVersionsSortByAgeWhenTheClockGoesBack(t *testing.T) {
	d := directory(t, t.TempDir())
	d.now = func() time.Time { return time.Date(2026, 11, 21, 6, 30, 0, 123456789, time.UTC) }
	write(t, d, setOf("1", "key"))
	link, err := os.Readlink(filepath.Join(d.opts.Path, dataName))
	require.NoError(t, err)
	require.Equal(t, "..2026_11_21T06_30_00.123456789", link)
	d.now = func() time.Time { return time.Unix(0, 0) }
	write(t, d, setOf("2", "key"))
	link, err = os.Readlink(filepath.Join(d.opts.Path, dataName))
	require.NoError(t, err)
	require.Equal(t, "..2026_11_21T06_30_00.123456790", link)
	require.Equal(t, setOf("2", "key"), visible(t, d.opts.Path))
}

// TestNothingIsReadableByOthers looks at every entry before every step, with a
// umask that takes nothing away.
func TestNothingIsReadableByOthers(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	for _, mode := range updateModes {
		path := filepath.Join(t.TempDir(), "made")
		d := directory(t, path, update(mode))
		steps := 0
		d.hook = func(string) {
			steps++
			requirePrivate(t, path)
		}
		require.NoError(t, d.Prepare(t.Context()))
		write(t, d, setOf("1", "key", "cockroach/node.key"))
		write(t, d, setOf("2", "key", "cockroach/node.key", "tlscert"))
		requirePrivate(t, path)
		require.Greater(t, steps, 10)
	}
}

func requirePrivate(t *testing.T, path string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(path, func(at string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		switch {
		case e.IsDir():
			require.Equal(t, fs.FileMode(0o700), info.Mode().Perm(), at)
		case info.Mode().IsRegular():
			require.Equal(t, fs.FileMode(0o600), info.Mode().Perm(), at)
		}
		return nil
	}))
}

func TestUnknownFilesStay(t *testing.T) {
	for _, mode := range updateModes {
		t.Run(string(mode), func(t *testing.T) {
			path := t.TempDir()
			mine := Set{"notes.txt": []byte("mine"), "dir/notes.txt": []byte("mine, too")}
			put(t, path, mine)
			require.NoError(t, os.Symlink("/etc/hostname", filepath.Join(path, "elsewhere")))
			require.NoError(t, os.Symlink("nowhere", filepath.Join(path, "..elsewhere")))
			d := directory(t, path, update(mode))
			write(t, d, setOf("1", "key"))
			write(t, d, setOf("2", "tlscert"))
			require.Equal(t, "mine", string(mustRead(t, filepath.Join(path, "notes.txt"))))
			require.Equal(t, "mine, too", string(mustRead(t, filepath.Join(path, "dir/notes.txt"))))
			for name, want := range map[string]string{"elsewhere": "/etc/hostname", "..elsewhere": "nowhere"} {
				text, err := os.Readlink(filepath.Join(path, name))
				require.NoError(t, err)
				require.Equal(t, want, text)
			}
		})
	}
}

func TestAFolderWithUnknownFilesIsNotReplaced(t *testing.T) {
	path := t.TempDir()
	put(t, path, Set{"cockroach/node.key": nil, "cockroach/notes.txt": []byte("mine")})
	_, err := directory(t, path).Write(t.Context(), setOf("1", "cockroach/node.key"))
	require.ErrorContains(t, err, filepath.Join(path, "cockroach/notes.txt")+" isn't a file of rollcall's")
	_, err = directory(t, path, update(UpdateFile)).Write(t.Context(), setOf("1", "cockroach"))
	require.ErrorContains(t, err, "isn't a file of rollcall's")
	require.Equal(t, "mine", string(mustRead(t, filepath.Join(path, "cockroach/notes.txt"))))

	// File by file there's no need to replace the directory.
	write(t, directory(t, path, update(UpdateFile)), setOf("1", "cockroach/node.key"))
	require.Equal(t, "mine", string(mustRead(t, filepath.Join(path, "cockroach/notes.txt"))))
	require.Equal(t, "cockroach/node.key of 1\n", string(mustRead(t, filepath.Join(path, "cockroach/node.key"))))
}

// TestConversion takes a directory from each layout to each other one.
func TestConversion(t *testing.T) {
	before := setOf("1", "key", "tlscert", "cockroach/node.key", "stale", "flips", "flops/x")
	after := setOf("2", "key", "tlscert", "cockroach/node.key", "new", "flips/x", "flops")
	for _, from := range updateModes {
		for _, to := range updateModes {
			t.Run(fmt.Sprintf("%s to %s", from, to), func(t *testing.T) {
				path := t.TempDir()
				write(t, directory(t, path, update(from)), before)
				write(t, directory(t, path, update(to)), after)
				require.Equal(t, after, visible(t, path))
				requireTidy(t, path, to)
			})
		}
	}
}

func TestConversionFromTheOfficialAgent(t *testing.T) {
	for _, mode := range updateModes {
		t.Run(string(mode), func(t *testing.T) {
			path := t.TempDir()
			before := setOf("tbot", "key", "tlscert", "cockroach/node.key", "unknown")
			put(t, path, before)
			d := directory(t, path, update(mode))
			require.Equal(t, before, readAll(t, d, sorted(before)...), "readable before the first write")

			// Even without any news the layout is ours afterwards.
			same := setOf("tbot", "key", "tlscert", "cockroach/node.key")
			require.Equal(t, Result{Changed: true}, write(t, d, same))
			require.Equal(t, before, visible(t, path))
			require.Equal(t, Result{}, write(t, d, same))

			after := setOf("2", "key", "tlscert", "new")
			require.Equal(t, []string{"cockroach/node.key", "key", "new", "tlscert"}, write(t, d, after).Files)
			after["unknown"] = before["unknown"]
			require.Equal(t, after, visible(t, path))
			requireTidy(t, path, mode)
		})
	}
}

func TestInPlaceKeepsTheInode(t *testing.T) {
	path := t.TempDir()
	d := directory(t, path, update(UpdateInPlace))
	write(t, d, setOf("a long mark", "key", "sub/key"))
	require.NoError(t, os.Chmod(filepath.Join(path, "key"), 0o640))
	before := [2]os.FileInfo{stat(t, filepath.Join(path, "key")), stat(t, filepath.Join(path, "sub/key"))}
	write(t, d, setOf("short", "key", "sub/key"))
	require.Equal(t, setOf("short", "key", "sub/key"), visible(t, path))
	require.True(t, os.SameFile(before[0], stat(t, filepath.Join(path, "key"))))
	require.True(t, os.SameFile(before[1], stat(t, filepath.Join(path, "sub/key"))))
	require.Equal(t, fs.FileMode(0o640), stat(t, filepath.Join(path, "key")).Mode().Perm(), "the mode is the user's")
}

func stat(t *testing.T, path string) os.FileInfo {
	t.Helper()
	info, err := os.Lstat(path)
	require.NoError(t, err)
	return info
}

func TestWritesWaitForAnotherProcess(t *testing.T) {
	path := t.TempDir()
	other, err := OpenDir(path, SymlinksSecure)
	require.NoError(t, err)
	defer other.Close()
	lock, err := other.lock(t.Context())
	require.NoError(t, err)

	done := make(chan error)
	go func() {
		_, err := directory(t, path).Write(t.Context(), setOf("1", "key"))
		done <- err
	}()
	select {
	case err := <-done:
		t.Fatalf("written although another process held the lock: %v", err)
	case <-time.After(60 * time.Millisecond):
	}
	require.NoError(t, lock.Close())
	require.NoError(t, <-done)
	require.Equal(t, setOf("1", "key"), visible(t, path))
}

func TestDriftIsReported(t *testing.T) {
	path := filepath.Join(t.TempDir(), "made")
	d := directory(t, path)
	log := captureLog(d)
	set := setOf("1", "key")
	write(t, d, set)
	require.NoError(t, os.Chmod(filepath.Join(path, "key"), 0o644))
	require.Equal(t, Result{Repaired: []string{"key"}}, write(t, d, set), "right again, and nothing is published")
	require.Equal(t, Result{}, write(t, d, set))
	require.Equal(t, 1, strings.Count(log.String(), "files=[key]"), log)
	require.NotContains(t, log.String(), "key of 1")
	require.Equal(t, fs.FileMode(0o600), statThrough(t, filepath.Join(path, "key")).Mode().Perm())
}

func statThrough(t *testing.T, path string) os.FileInfo {
	t.Helper()
	info, err := os.Stat(path)
	require.NoError(t, err)
	return info
}
