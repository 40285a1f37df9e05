package destination

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rollcall/failure"
)

func timeOf(version string) (func() time.Time, error) {
	at, err := time.Parse(versionLayout, version)
	return func() time.Time { return at }, err
}

// mountSmall mounts a file system of one MiB.
func mountSmall(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount a small file system")
	}
	path := t.TempDir()
	if err := unix.Mount("rollcall-test", path, "tmpfs", 0, "size=1m,mode=0700"); errors.Is(err, unix.EPERM) {
		t.Skip("needs root with the right to mount (a container's root hasn't)")
	} else {
		require.NoError(t, err)
	}
	t.Cleanup(func() { require.NoError(t, unix.Unmount(path, unix.MNT_DETACH)) })
	return path
}

func TestNoSpaceLeft(t *testing.T) {
	for _, mode := range updateModes {
		t.Run(string(mode), func(t *testing.T) {
			path := mountSmall(t)
			d := directory(t, filepath.Join(path, "out"), update(mode))
			require.NoError(t, d.Prepare(t.Context()))
			old := setOf("1", "key", "sub/key")
			write(t, d, old)

			filler := bytes.Repeat([]byte{1}, 1<<20)
			_ = os.WriteFile(filepath.Join(path, "filler"), filler, 0o600)
			err := d.Prepare(t.Context())
			require.ErrorContains(t, err, "there's no space")
			require.ErrorContains(t, err, d.opts.Path)
			require.Equal(t, failure.Transient, failure.KindOf(err))

			big := Set{"key": filler[:32<<10], "sub/key": filler[:32<<10], "tlscert": filler[:32<<10]}
			_, err = d.Write(t.Context(), big)
			require.ErrorContains(t, err, "there's no space")
			require.NotContains(t, err.Error(), "\x01")
			if mode != UpdateInPlace {
				require.Equal(t, old, visible(t, d.opts.Path), "the old set stays")
				requireTidy(t, d.opts.Path, mode)
			}

			require.NoError(t, os.Remove(filepath.Join(path, "filler")))
			write(t, d, big)
			require.Equal(t, big, visible(t, d.opts.Path))
		})
	}
}

func TestReadOnlyFileSystem(t *testing.T) {
	path := mountSmall(t)
	d := directory(t, filepath.Join(path, "out"))
	set := setOf("1", "key")
	write(t, d, set)
	require.NoError(t, unix.Mount("", path, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	err := d.Prepare(t.Context())
	require.ErrorContains(t, err, "read-only file system")
	require.ErrorContains(t, err, "ReadWritePaths="+d.opts.Path)
	require.Equal(t, failure.Configuration, failure.KindOf(err))
	require.Equal(t, set, readAll(t, d, "key"), "reading goes on")
}

func TestADirectoryOfAnotherUser(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may write everywhere")
	}
	path := t.TempDir()
	require.NoError(t, os.Chmod(path, 0o500))
	err := directory(t, path).Prepare(t.Context())
	require.ErrorContains(t, err, "isn't allowed to write "+path)
	require.Equal(t, failure.Configuration, failure.KindOf(err))
}

func TestAFileInTheWay(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	put(t, filepath.Dir(path), Set{"file": nil})
	for _, at := range []string{path, filepath.Join(path, "below")} {
		err := directory(t, at).Prepare(t.Context())
		require.ErrorContains(t, err, "the path "+at+" isn't a directory")
		require.Equal(t, failure.Configuration, failure.KindOf(err))
	}
}

func TestPrepareLeavesNothing(t *testing.T) {
	for _, mode := range updateModes {
		path := filepath.Join(t.TempDir(), "a", "b")
		d := directory(t, path, update(mode))
		require.NoError(t, d.Prepare(t.Context()))
		require.Empty(t, hidden(t, path))
		require.Equal(t, os.FileMode(0o700), stat(t, path).Mode().Perm())
		require.Equal(t, os.FileMode(0o700), stat(t, filepath.Dir(path)).Mode().Perm())
	}
}

func TestSentences(t *testing.T) {
	at := func(op string, errno unix.Errno) error {
		return &os.PathError{Op: op, Path: "/d/x", Err: errno}
	}
	tests := map[string]struct {
		err  error
		kind failure.Kind
		says string
	}{
		"no symlinks":        {noSymlinks(at("symlink", unix.EPERM), "/d"), failure.Configuration, "use `update: file`"},
		"no symlinks, other": {noSymlinks(at("symlink", unix.EOPNOTSUPP), "/d"), failure.Configuration, "use `update: file`"},
		"sticky, not links":  {noSymlinks(at("rename", unix.EPERM), "/d"), failure.Configuration, "isn't allowed to write /d/x"},
		"quota":              {explain(at("write", unix.EDQUOT), "/d"), failure.Transient, "no space (or quota) left to write /d/x"},
		"read-only":          {explain(at("mkdir", unix.EROFS), "/d"), failure.Configuration, "/d/x is on a read-only file system"},
		"anything else":      {explain(at("write", unix.EIO), "/d"), failure.Other, "write /d/x: input/output error"},
	}
	for name, test := range tests {
		require.ErrorContains(t, test.err, test.says, name)
		require.Equal(t, test.kind, failure.KindOf(test.err), name)
	}
	require.NoError(t, explain(nil, "/d"))
}

func TestTheLockCanBeWaitedForNoLongerThanTheContext(t *testing.T) {
	path := t.TempDir()
	dir, err := OpenDir(path, SymlinksSecure)
	require.NoError(t, err)
	defer dir.Close()
	lock, err := dir.lock(t.Context())
	require.NoError(t, err)
	defer lock.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	_, err = directory(t, path).Write(ctx, setOf("1", "key"))
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestDir(t *testing.T) {
	path := filepath.Join(t.TempDir(), "made", "below")
	_, err := OpenDir(path, SymlinksTrySecure)
	require.ErrorIs(t, err, os.ErrNotExist)
	d, err := MakeDir(path, SymlinksTrySecure)
	require.NoError(t, err)
	require.Equal(t, path, d.Path())
	require.NoError(t, d.WriteFile("key", []byte("1")))
	require.NoError(t, d.WriteFile("key", []byte("2")))
	require.NoError(t, d.Rename("key", "other"))
	require.NoError(t, d.Sync())
	data, err := d.ReadFile("other")
	require.NoError(t, err)
	require.Equal(t, "2", string(data))
	names, err := d.Names()
	require.NoError(t, err)
	require.Equal(t, []string{"other"}, names)
	requirePrivate(t, path)

	// A link at the name is replaced, and never read through.
	victim := filepath.Join(t.TempDir(), "victim")
	require.NoError(t, os.WriteFile(victim, []byte("untouched"), 0o600))
	require.NoError(t, os.Symlink(victim, filepath.Join(path, "link")))
	_, err = d.ReadFile("link")
	require.ErrorIs(t, err, unix.ELOOP)
	require.NoError(t, d.WriteFile("link", []byte("new")))
	require.Equal(t, "untouched", string(mustRead(t, victim)))

	require.NoError(t, d.Remove("link"))
	require.NoError(t, d.Remove("link"), "gone already")
	for _, name := range []string{"", ".", "..", "a/b", "../x"} {
		require.ErrorIs(t, d.WriteFile(name, nil), os.ErrInvalid, name)
	}
	require.NoError(t, d.Close())
}
