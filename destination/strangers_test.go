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

// TestPreviousVersionIsShut: a reader who isn't one any more may still list the
// directory, whose rights are its user's affair without readers.
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
	bot := Account{UID: botID, GID: botID}
	p, err := PlanInit(InitOptions{Directory: DirectoryOptions{Path: path}, Bot: bot, Owner: bot, Clean: true})
	require.NoError(t, err)
	defer p.Close()
	require.ErrorContains(t, p.Apply(), "is a mount point")
	require.FileExists(t, filepath.Join(volume, "precious"))
}

func TestPassingErrorsLockNobodyOut(t *testing.T) {
	require.True(t, passing(os.NewSyscallError("fsetxattr", unix.ENOSPC)))
	require.False(t, passing(acl.ErrUnsupported))
	require.False(t, passing(os.NewSyscallError("fsetxattr", unix.EPERM)))
}
