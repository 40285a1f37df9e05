package destination

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rollcall/acl"
)

func everything(id uint32) acl.ACL {
	const all = acl.Read | acl.Write | acl.Execute
	return acl.New(all, acl.Entry{Tag: acl.User, Perm: all, ID: id})
}

func requireShut(t *testing.T, id int, path string) {
	t.Helper()
	as(t, id, func() {
		_, err := os.ReadFile(path)
		require.ErrorIs(t, err, fs.ErrPermission, path)
	})
}

// TestParentsDefaultACL: those who share the parent aren't readers.
func TestParentsDefaultACL(t *testing.T) {
	needRoot(t, "to try as other users")
	parent := reachable(t)
	setList(t, parent, acl.Default, everything(thirdID))
	path := filepath.Join(parent, "made")
	write(t, directory(t, path), setOf("1", "key"))
	require.Empty(t, listOf(t, path, acl.Access))
	require.Empty(t, listOf(t, path, acl.Default))
	requireShut(t, thirdID, filepath.Join(path, "key"))
}

// TestPreviousVersionIsShut to a reader who isn't one any more, even if he can
// still list the directory.
func TestPreviousVersionIsShut(t *testing.T) {
	needRoot(t, "to try as other users")
	path := filepath.Join(reachable(t), "made")
	d := directory(t, path, theReader())
	write(t, d, setOf("1", "key"))
	previous, err := os.Readlink(filepath.Join(path, dataName))
	require.NoError(t, err)
	write(t, d, setOf("2", "key"))
	as(t, readerID, func() {
		_, err := os.ReadFile(filepath.Join(path, previous, "key"))
		require.NoError(t, err)
	})

	write(t, directory(t, path), setOf("2", "key"))
	require.DirExists(t, filepath.Join(path, previous))
	requireShut(t, readerID, filepath.Join(path, "key"))
	require.NoError(t, os.Chmod(path, 0o755))
	requireShut(t, readerID, filepath.Join(path, dataName, "key"))
	requireShut(t, readerID, filepath.Join(path, previous, "key"))
}

// TestWriterByACL: a file of somebody whom the directory's ACL lets write isn't
// written into.
func TestWriterByACL(t *testing.T) {
	needRoot(t, "to try as other users")
	path := filepath.Join(reachable(t), "made")
	require.NoError(t, os.Mkdir(path, 0o700))
	setList(t, path, acl.Access, everything(thirdID))
	d := directory(t, path, update(UpdateInPlace))
	write(t, d, setOf("1", "key"))
	key := filepath.Join(path, "key")
	as(t, thirdID, func() {
		require.NoError(t, os.Remove(key))
		require.NoError(t, os.WriteFile(key, []byte("his"), 0o600))
	})
	_, err := d.Write(t.Context(), setOf("2", "key"))
	require.ErrorContains(t, err, key)
	require.Equal(t, "his", string(mustRead(t, key)))
}

// TestPlantedBeforeTheDirectoryWasTightened: the write that lets readers in shuts
// others out first, and what they left there until then stays untouched.
func TestPlantedBeforeTheDirectoryWasTightened(t *testing.T) {
	needRoot(t, "to give files away")
	plants := map[string]func(t *testing.T, at, outside string){
		"a file of his": func(t *testing.T, at, _ string) {
			require.NoError(t, os.WriteFile(at, []byte("his"), 0o600))
			require.NoError(t, os.Chown(at, thirdID, thirdID))
		},
		"a second name": func(t *testing.T, at, outside string) { require.NoError(t, os.Link(outside, at)) },
	}
	for name, plant := range plants {
		for _, file := range []string{"key", "sub/key"} {
			t.Run(name+", "+file, func(t *testing.T) {
				base := reachable(t)
				path, outside := filepath.Join(base, "out"), filepath.Join(base, "victim")
				put(t, base, Set{"victim": []byte("untouched")})
				at := filepath.Join(path, file)
				require.NoError(t, os.MkdirAll(filepath.Dir(at), 0o700))
				require.NoError(t, os.Chmod(path, 0o777))
				plant(t, at, outside)
				before := state(t, base)
				d := directory(t, path, update(UpdateInPlace), theReader())
				for range 2 { // the second time others can't write any more
					_, err := d.Write(t.Context(), setOf("1", "key", "sub/key"))
					require.ErrorContains(t, err, at+" belongs to another user or has a second name")
				}
				require.Equal(t, before[at], state(t, base)[at])
				require.Equal(t, before[outside], state(t, base)[outside])
				require.Equal(t, "untouched", string(mustRead(t, outside)))

				require.NoError(t, os.Chmod(path, 0o700))
				_, err := d.Write(t.Context(), setOf("1", "key", "sub/key"))
				require.ErrorContains(t, err, at)
				require.Equal(t, before[at], state(t, base)[at])
			})
		}
	}
}

// TestCleanLeavesMounts: what is mounted in a directory isn't what is in it.
func TestCleanLeavesMounts(t *testing.T) {
	needRoot(t, "to mount")
	base := reachable(t)
	path, volume := filepath.Join(base, "ids"), filepath.Join(base, "volume")
	for _, dir := range []string{path, volume, filepath.Join(path, "mounted")} {
		require.NoError(t, os.Mkdir(dir, 0o755))
	}
	require.NoError(t, os.WriteFile(filepath.Join(volume, "precious"), nil, 0o600))
	if err := unix.Mount(volume, filepath.Join(path, "mounted"), "", unix.MS_BIND, ""); err != nil {
		t.Skip("this root can't mount: ", err)
	}
	t.Cleanup(func() { require.NoError(t, unix.Unmount(filepath.Join(path, "mounted"), unix.MNT_DETACH)) })
	write(t, directory(t, path), setOf("1", "key"))
	bot := Account{UID: botID, GID: botID}
	p, err := PlanInit(InitOptions{Directory: DirectoryOptions{Path: path}, Bot: bot, Owner: bot, Clean: true})
	require.NoError(t, err)
	defer p.Close()
	require.ErrorContains(t, p.Apply(t.Context()), "is a mount point")
	require.FileExists(t, filepath.Join(volume, "precious"))
}

func TestPassingErrorsLockNobodyOut(t *testing.T) {
	require.True(t, passing(os.NewSyscallError("fsetxattr", unix.ENOSPC)))
	require.False(t, passing(acl.ErrUnsupported))
	require.False(t, passing(os.NewSyscallError("fsetxattr", unix.EPERM)))
}
