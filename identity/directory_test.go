package identity

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rollcall/destination"
	"rollcall/failure"
)

// killed is what the hook of a crash test panics with.
type killed struct{}

// stopAt runs work, and ends it as a kill would before its step number n. It
// returns the steps that were reached; done is true if work came to its end.
func stopAt(d *Directory, n int, work func() error) (steps []string, done bool, err error) {
	d.hook = func(step string) {
		steps = append(steps, step)
		if len(steps) == n {
			panic(killed{})
		}
	}
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(killed); !ok {
				panic(r)
			}
		}
	}()
	err = work()
	return steps, true, err
}

// eachStep runs work in fresh directories, killed at each of its steps in turn,
// and hands over the directory as the next process finds it.
func eachStep(t *testing.T, prepare func(path string), work func(d *Directory) error, check func(t *testing.T, steps []string, path string)) {
	for n := 1; ; n++ {
		path := filepath.Join(t.TempDir(), "storage")
		prepare(path)
		d := open(t, path)
		steps, done, err := stopAt(d, n, func() error { return work(d) })
		require.NoError(t, err)
		crash(d)
		if done {
			require.Greater(t, n, 5, "the work has hardly any steps: %v", steps)
			return
		}
		t.Run(fmt.Sprintf("%02d before %s", n, steps[n-1]), func(t *testing.T) { check(t, steps, path) })
	}
}

func reached(steps []string, step string) bool {
	for _, s := range steps[:len(steps)-1] { // the last one wasn't taken
		if s == step {
			return true
		}
	}
	return false
}

func TestRenewalKilledAtEachStep(t *testing.T) {
	ca := newAuthority(t)
	first, second := ca.stored(1), ca.stored(2)
	asked := false
	eachStep(t,
		func(path string) {
			asked = false
			d := open(t, path)
			require.NoError(t, d.Save(first))
			require.NoError(t, d.Close())
		},
		func(d *Directory) error {
			if err := d.Begin(Intent{Generation: 1, Since: time.Now()}); err != nil {
				return err
			}
			asked = true
			return d.Save(second)
		},
		func(t *testing.T, steps []string, path string) {
			d := open(t, path)
			got, intent, err := d.Load()
			require.NoError(t, err)
			want := uint64(1)
			if asked && reached(steps, "write") {
				want = 2 // the first thing that Save does loses nothing from then on
			}
			require.Equal(t, want, got.Credentials.Generation())
			if asked && want == 1 {
				require.NotNil(t, intent, "the cluster may have moved on, and nobody knows")
				require.EqualValues(t, 1, intent.Generation)
			}
			if want == 2 {
				require.Nil(t, intent)
			}
			// And it goes on from there.
			third := ca.stored(3)
			require.NoError(t, d.Begin(Intent{Generation: want, Since: time.Now()}))
			require.NoError(t, d.Save(third))
			got, intent, err = d.Load()
			require.NoError(t, err)
			require.Nil(t, intent)
			require.EqualValues(t, 3, got.Credentials.Generation())
			requirePrivate(t, path)
		})
}

func TestFirstJoinKilledAtEachStep(t *testing.T) {
	first := newAuthority(t).stored(1)
	asked := false
	eachStep(t,
		func(string) { asked = false },
		func(d *Directory) error {
			if err := d.Begin(Intent{TokenHash: first.TokenHash, Since: time.Now()}); err != nil {
				return err
			}
			asked = true
			return d.Save(first)
		},
		func(t *testing.T, steps []string, path string) {
			d := open(t, path)
			got, intent, err := d.Load()
			if asked && reached(steps, "write") {
				require.NoError(t, err)
				require.EqualValues(t, 1, got.Credentials.Generation())
				require.Nil(t, intent)
				return
			}
			require.ErrorIs(t, err, ErrEmpty)
			if asked {
				require.NotNil(t, intent, "the token may be spent, and nobody knows")
			}
			require.NoError(t, d.Save(first))
			_, _, err = d.Load()
			require.NoError(t, err)
		})
}

// A reply longer than what was reserved, cut off anywhere: the old identity or
// the new one.
func TestReplyCutOffAnywhere(t *testing.T) {
	ca := newAuthority(t)
	path := t.TempDir()
	d := open(t, path)
	require.NoError(t, os.Chmod(path, 0o700))
	require.NoError(t, d.Save(ca.stored(1)))
	data, err := encode(ca.stored(2))
	require.NoError(t, err)
	for n := 0; n <= len(data); n += 97 {
		cut := append([]byte{}, data[:n]...)
		if n%2 == 0 {
			cut = append(cut, make([]byte, reserved-n)...) // the reserved zeros
		}
		require.NoError(t, os.WriteFile(filepath.Join(path, fileNext), cut, 0o600))
		got, _, err := d.Load()
		require.NoError(t, err)
		require.EqualValues(t, 1, got.Credentials.Generation())
		require.NoFileExists(t, filepath.Join(path, fileNext))
	}
	require.NoError(t, os.WriteFile(filepath.Join(path, fileNext), append(data, make([]byte, 100)...), 0o600))
	got, _, err := d.Load()
	require.NoError(t, err)
	require.EqualValues(t, 2, got.Credentials.Generation())
}

func TestSaveThatFailedIsRepeated(t *testing.T) {
	ca := newAuthority(t)
	second := ca.stored(2)
	start := func(t *testing.T) (*Directory, string) {
		path := filepath.Join(t.TempDir(), "storage")
		d := open(t, path)
		require.NoError(t, d.Begin(Intent{Generation: 1}))
		// A directory in its place can't be replaced by a file.
		require.NoError(t, os.Mkdir(filepath.Join(path, fileIdentity), 0o700))
		require.Error(t, d.Save(second))
		require.Error(t, d.Save(second))
		require.NoError(t, os.Remove(filepath.Join(path, fileIdentity)))
		return d, path
	}
	t.Run("by the same process", func(t *testing.T) {
		d, path := start(t)
		require.NoError(t, d.Save(second))
		requirePrivate(t, path)
	})
	t.Run("by the next start", func(t *testing.T) {
		d, path := start(t)
		crash(d)
		got, intent, err := open(t, path).Load()
		require.NoError(t, err)
		require.Nil(t, intent)
		require.EqualValues(t, 2, got.Credentials.Generation())
	})
}

// A join with a new token counts as newer than a long-lived identity of the old
// one, whatever the generations and the ends say.
func TestRecoveredJoinReplacesLongerLife(t *testing.T) {
	ca := newAuthority(t)
	path := filepath.Join(t.TempDir(), "storage")
	d := open(t, path)
	now := time.Now()
	require.NoError(t, d.Save(Stored{Credentials: ca.issue(57, now.Add(-time.Hour), 24*time.Hour), JoinMethod: "token", TokenHash: HashToken("old")}))
	data, err := encode(Stored{Credentials: ca.issue(1, now, time.Hour), JoinMethod: "token", TokenHash: HashToken("new")})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(path, fileNext), data, 0o600))
	got, _, err := d.Load()
	require.NoError(t, err)
	require.EqualValues(t, 1, got.Credentials.Generation())

	// And one that somebody restored from elsewhere doesn't count.
	older, err := encode(Stored{Credentials: ca.issue(1, now.Add(-2*time.Hour), 24*time.Hour), JoinMethod: "token", TokenHash: HashToken("old")})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(path, fileNext), older, 0o600))
	got, _, err = d.Load()
	require.NoError(t, err)
	require.Equal(t, HashToken("new"), got.TokenHash)
}

func TestDamagedIdentityIsNotAnEmptyStorage(t *testing.T) {
	first := newAuthority(t).stored(1)
	good, err := encode(first)
	require.NoError(t, err)
	flipped := append([]byte{}, good...)
	flipped[len(flipped)/3] ^= 1
	for name, content := range map[string][]byte{
		"empty":           {},
		"one byte":        good[:1],
		"half":            good[:len(good)/2],
		"no checksum":     good[:len(good)-66],
		"half a checksum": good[:len(good)-5],
		"a flipped bit":   flipped,
		"zeros":           make([]byte, reserved),
		"something else":  []byte("{}\nsha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a\n"),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "storage")
			d := open(t, path)
			require.NoError(t, os.WriteFile(filepath.Join(path, fileIdentity), content, 0o600))
			_, _, err := d.Load()
			require.ErrorIs(t, err, ErrUnusable)
			require.NotErrorIs(t, err, ErrEmpty)
			require.Equal(t, failure.Configuration, failure.KindOf(err))
			require.ErrorContains(t, err, filepath.Join(path, fileIdentity))
			require.NotContains(t, err.Error(), "PRIVATE KEY")
			after, err := os.ReadFile(filepath.Join(path, fileIdentity))
			require.NoError(t, err)
			require.Equal(t, content, after, "what can't be read is left for a person to look at")
		})
	}
}

func TestUnreadableIntentIsTakenForACutOffRenewal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "storage")
	d := open(t, path)
	require.NoError(t, d.Save(newAuthority(t).stored(4)))
	require.NoError(t, os.WriteFile(filepath.Join(path, fileIntent), []byte(`{"gener`), 0o600))
	got, intent, err := d.Load()
	require.NoError(t, err)
	require.NotNil(t, got)
	require.NotNil(t, intent)
}

func TestIntentSettledBy(t *testing.T) {
	ca := newAuthority(t)
	four := Stored{Credentials: ca.issue(4, time.Now(), time.Hour), TokenHash: "a"}
	tests := map[string]struct {
		intent Intent
		want   bool
	}{
		"the renewal that was cut off":      {Intent{Generation: 4}, false},
		"the renewal that led here":         {Intent{Generation: 3}, true},
		"the join that led here":            {Intent{TokenHash: "a"}, true},
		"another join":                      {Intent{TokenHash: "b"}, true},
		"another join, in doubt as it was":  {Intent{Generation: 4, TokenHash: "b"}, false},
		"the join that led here from doubt": {Intent{Generation: 4, TokenHash: "a"}, true},
		"unreadable":                        {Intent{unreadable: true}, false},
	}
	for name, test := range tests {
		require.Equal(t, test.want, test.intent.settledBy(&four), name)
	}
}

func TestAbandonLeavesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "storage")
	d := open(t, path)
	require.NoError(t, d.Save(newAuthority(t).stored(1)))
	require.NoError(t, d.Begin(Intent{Generation: 1}))
	require.FileExists(t, filepath.Join(path, fileIntent))
	require.NoError(t, d.Abandon())
	require.Equal(t, []string{fileIdentity, fileLock}, names(t, path))
	_, intent, err := d.Load()
	require.NoError(t, err)
	require.Nil(t, intent)
}

func TestBeginOnAFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount a tiny file system")
	}
	path := filepath.Join(t.TempDir(), "storage")
	require.NoError(t, os.Mkdir(path, 0o700))
	if err := unix.Mount("rollcall-test", path, "tmpfs", 0, "size=96k,mode=0700"); errors.Is(err, unix.EPERM) {
		t.Skip("needs root with the right to mount (a container's root hasn't)")
	} else {
		require.NoError(t, err)
	}
	t.Cleanup(func() { require.NoError(t, unix.Unmount(path, unix.MNT_DETACH)) })
	d := open(t, path)
	ca := newAuthority(t)
	require.NoError(t, d.Save(ca.stored(1)))
	filler := filepath.Join(path, "filler")
	require.NoError(t, os.WriteFile(filler, make([]byte, 40<<10), 0o600))

	err := d.Begin(Intent{Generation: 1})
	require.ErrorIs(t, err, unix.ENOSPC)
	require.ErrorIs(t, err, ErrUnusable)
	require.Equal(t, failure.Transient, failure.KindOf(err))
	require.ErrorContains(t, err, "no space left on device")
	require.ErrorContains(t, err, "the cluster isn't asked")
	require.Equal(t, []string{"filler", fileIdentity, fileLock}, names(t, path), "nothing is left that takes space")

	require.NoError(t, os.Remove(filler))
	require.NoError(t, d.Begin(Intent{Generation: 1}))
	// From now on the disk may be as full as it likes.
	for i := 0; os.WriteFile(filepath.Join(path, fmt.Sprint("filler", i)), make([]byte, 4096), 0o600) == nil; i++ {
	}
	require.NoError(t, d.Save(ca.stored(2)))
	got, _, err := d.Load()
	require.NoError(t, err)
	require.EqualValues(t, 2, got.Credentials.Generation())
}

const holderEnv = "IDENTITY_TEST_HOLD"

// holdLock is the other process of TestSecondProcessIsRefused.
func holdLock(path string) {
	d, err := OpenDirectory(path, destination.SymlinksTrySecure, discard())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("held")
	_, _ = io.Copy(io.Discard, os.Stdin) // until the test lets go
	_ = d.Close()
}

func TestSecondProcessIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "storage")
	other := exec.Command(os.Args[0])
	other.Env = append(os.Environ(), holderEnv+"="+path)
	stdin, err := other.StdinPipe()
	require.NoError(t, err)
	stdout, err := other.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, other.Start())
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "held\n", line)

	_, err = OpenDirectory(path, destination.SymlinksTrySecure, discard())
	require.ErrorIs(t, err, ErrLocked)
	require.Equal(t, failure.Configuration, failure.KindOf(err))
	require.ErrorContains(t, err, "is in use by another process")

	require.NoError(t, other.Process.Kill())
	_ = other.Wait()
	_ = stdin.Close()
	require.NoError(t, open(t, path).Close())
}

func TestModesUnderAnyUmask(t *testing.T) {
	old := unix.Umask(0)
	t.Cleanup(func() { unix.Umask(old) })
	path := filepath.Join(t.TempDir(), "a", "storage")
	ca := newAuthority(t)
	d := open(t, path)
	require.NoError(t, d.Begin(Intent{}))
	requirePrivate(t, path)
	require.NoError(t, d.Save(ca.stored(1)))
	require.NoError(t, d.Begin(Intent{Generation: 1}))
	requirePrivate(t, path)
}

func TestDirectoryOfOthersIsRefused(t *testing.T) {
	path := t.TempDir()
	require.NoError(t, os.Chmod(path, 0o770))
	_, err := OpenDirectory(path, destination.SymlinksTrySecure, discard())
	require.ErrorIs(t, err, ErrUnusable)
	require.ErrorContains(t, err, "whoever writes there becomes the bot")

	require.NoError(t, os.Chmod(path, 0o755))
	var log logged
	d, err := OpenDirectory(path, destination.SymlinksTrySecure, log.logger())
	require.NoError(t, err)
	require.NoError(t, d.Close())
	require.Contains(t, log.String(), "Consider chmod 0700")
}

func TestPathThatCanNotBeStorage(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	for _, path := range []string{file, filepath.Join(file, "below")} {
		_, err := OpenDirectory(path, destination.SymlinksTrySecure, discard())
		require.ErrorIs(t, err, ErrUnusable)
		require.Equal(t, failure.Configuration, failure.KindOf(err))
		require.ErrorContains(t, err, file)
	}
}

func TestPlantedLinks(t *testing.T) {
	ca := newAuthority(t)
	elsewhere := filepath.Join(t.TempDir(), "elsewhere")
	content, err := encode(ca.stored(9))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(elsewhere, content, 0o600))
	prepare := func(t *testing.T, name string) (*Directory, string) {
		path := filepath.Join(t.TempDir(), "storage")
		d := open(t, path)
		require.NoError(t, d.Save(ca.stored(1)))
		_ = os.Remove(filepath.Join(path, name))
		require.NoError(t, os.Symlink(elsewhere, filepath.Join(path, name)))
		t.Cleanup(func() {
			now, err := os.ReadFile(elsewhere)
			require.NoError(t, err)
			require.Equal(t, content, now, "the link was followed")
		})
		return d, path
	}
	t.Run("at the identity", func(t *testing.T) {
		d, _ := prepare(t, fileIdentity)
		_, _, err := d.Load()
		require.ErrorIs(t, err, ErrUnusable)
		require.ErrorContains(t, err, "isn't a regular file")
	})
	for _, name := range []string{fileNext, fileIntent + tempSuffix} {
		t.Run("at "+name, func(t *testing.T) {
			d, path := prepare(t, name)
			got, _, err := d.Load()
			require.NoError(t, err)
			require.EqualValues(t, 1, got.Credentials.Generation())
			require.NoError(t, os.RemoveAll(filepath.Join(path, name)))
			require.NoError(t, os.Symlink(elsewhere, filepath.Join(path, name)))
			require.NoError(t, d.Begin(Intent{Generation: 1}))
			require.NoError(t, d.Save(ca.stored(2)))
			requirePrivate(t, path)
		})
	}
	t.Run("at the intent", func(t *testing.T) {
		d, path := prepare(t, fileIntent)
		_, intent, err := d.Load()
		require.NoError(t, err)
		require.NotNil(t, intent)
		require.NoError(t, d.Begin(Intent{Generation: 1}))
		require.NoError(t, d.Save(ca.stored(2)))
		requirePrivate(t, path)
	})
	t.Run("at the lock", func(t *testing.T) {
		for _, target := range []string{elsewhere, fileIdentity} {
			d, path := prepare(t, "unused")
			require.NoError(t, d.Close())
			require.NoError(t, os.Remove(filepath.Join(path, fileLock)))
			require.NoError(t, os.Symlink(target, filepath.Join(path, fileLock)))
			_, err := OpenDirectory(path, destination.SymlinksTrySecure, discard())
			require.ErrorIs(t, err, ErrUnusable)
		}
	})
	t.Run("on the way", func(t *testing.T) {
		real := filepath.Join(t.TempDir(), "real")
		require.NoError(t, os.Mkdir(real, 0o700))
		link := filepath.Join(t.TempDir(), "link")
		require.NoError(t, os.Symlink(real, link))
		for _, path := range []string{link, filepath.Join(link, "storage")} {
			_, err := OpenDirectory(path, destination.SymlinksTrySecure, discard())
			require.ErrorIs(t, err, ErrUnusable)
			require.ErrorContains(t, err, "symbolic link")
			require.Empty(t, names(t, real))
		}
		d, err := OpenDirectory(filepath.Join(link, "storage"), destination.SymlinksInsecure, discard())
		require.NoError(t, err)
		require.NoError(t, d.Close())
	})
}

// names are the entries of a directory, sorted.
func names(t *testing.T, path string) []string {
	t.Helper()
	entries, err := os.ReadDir(path)
	require.NoError(t, err)
	all := []string{}
	for _, entry := range entries {
		all = append(all, entry.Name())
	}
	return all
}

// requirePrivate checks the mode of everything below a directory, itself
// included.
func requirePrivate(t *testing.T, path string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(path, func(name string, entry fs.DirEntry, err error) error {
		require.NoError(t, err)
		info, err := entry.Info()
		require.NoError(t, err)
		switch {
		case entry.IsDir():
			require.Equal(t, fs.FileMode(0o700), info.Mode().Perm(), name)
		case strings.HasPrefix(entry.Name(), "filler"):
		default:
			require.True(t, info.Mode().IsRegular(), name)
			require.Equal(t, fs.FileMode(0o600), info.Mode().Perm(), name)
		}
		return nil
	}))
}

// TestARestartWaitsForTheLock of the agent before it, which was killed and isn't
// quite gone.
func TestARestartWaitsForTheLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "storage")
	require.NoError(t, open(t, path).Close())
	held, err := os.Open(filepath.Join(path, fileLock))
	require.NoError(t, err)
	require.NoError(t, unix.Flock(int(held.Fd()), unix.LOCK_EX))
	time.AfterFunc(lockPatience/4, func() { _ = held.Close() })

	d, err := OpenDirectory(path, destination.SymlinksTrySecure, discard())

	require.NoError(t, err)
	require.NoError(t, d.Close())
}
