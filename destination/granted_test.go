package destination

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"rollcall/acl"
)

// TestReadersThatWentInPlace: files that exist keep what their user gave them,
// but whoever was a reader is shut out when nobody is one any more.
func TestReadersThatWentInPlace(t *testing.T) {
	for name, change := range map[string]func(*DirectoryOptions){
		"nobody is a reader": readers(),
		"acls off":           acls(ACLOff),
	} {
		t.Run(name, func(t *testing.T) {
			path := quick(t)
			put(t, path, setOf("0", "users"))
			granted := acl.New(6, acl.Entry{Tag: acl.User, Perm: acl.Read, ID: 61002})
			set := setOf("1", "key", "a/b", "users")
			write(t, directory(t, path, update(UpdateInPlace), theReader()), set)
			requireExact(t, path)
			require.Equal(t, "user:61001\n", string(mustRead(t, filepath.Join(path, grantedName))))
			require.Equal(t, os.FileMode(0o600), stat(t, filepath.Join(path, grantedName)).Mode().Perm())
			// What a user gives to others is his affair, then as before.
			setList(t, filepath.Join(path, "users"), acl.Access, granted)

			d := directory(t, path, update(UpdateInPlace), change)
			result := write(t, d, set)

			require.False(t, result.Changed)
			require.ElementsMatch(t, []string{".", "a", "a/b", "key"}, result.Repaired)
			for _, name := range []string{"key", "a/b", "a", "."} {
				require.Empty(t, listOf(t, filepath.Join(path, name), acl.Access), name)
			}
			require.Equal(t, os.FileMode(0o700), stat(t, path).Mode().Perm())
			require.Equal(t, granted.String(), listOf(t, filepath.Join(path, "users"), acl.Access))
			require.NoFileExists(t, filepath.Join(path, grantedName))
			// Nobody is known to have been a reader now: the same list is a user's.
			setList(t, filepath.Join(path, "key"), acl.Access, acl.New(6, acl.Entry{Tag: acl.User, Perm: acl.Read, ID: 61001}))
			require.Empty(t, write(t, d, set).Repaired)
			require.Equal(t, readerFile, listOf(t, filepath.Join(path, "key"), acl.Access))
		})
	}
}

// TestAReaderIsShutOutBeforeTheNextContent: the new key is never in a file that
// an earlier reader may open.
func TestAReaderIsShutOutBeforeTheNextContent(t *testing.T) {
	path := quick(t)
	write(t, directory(t, path, update(UpdateInPlace), theReader()), setOf("1", "key"))
	d := directory(t, path, update(UpdateInPlace))
	overwritten := false
	d.hook = func(step string) {
		if step == "overwrite key" {
			overwritten = true
			require.Empty(t, listOf(t, filepath.Join(path, "key"), acl.Access))
		}
	}
	write(t, d, setOf("2", "key"))
	require.True(t, overwritten)
}

// TestAnotherReaderInPlace: both are remembered until the first is shut out.
func TestAnotherReaderInPlace(t *testing.T) {
	path := quick(t)
	write(t, directory(t, path, update(UpdateInPlace), theReader()), setOf("1", "key"))
	d := directory(t, path, update(UpdateInPlace), readers(Reader{Group: "61003"}))
	remembered := ""
	d.hook = func(step string) {
		if step == "repair key" {
			remembered = string(mustRead(t, filepath.Join(path, grantedName)))
		}
	}
	write(t, d, setOf("1", "key"))
	require.Equal(t, "group:61003\nuser:61001\n", remembered)
	require.Equal(t, "group:61003\n", string(mustRead(t, filepath.Join(path, grantedName))))
	require.Equal(t, "user::rw-,group::---,group:61003:r--,mask::r--,other::---", listOf(t, filepath.Join(path, "key"), acl.Access))
	before := state(t, path)
	write(t, d, setOf("1", "key"))
	require.Equal(t, before[filepath.Join(path, grantedName)], state(t, path)[filepath.Join(path, grantedName)], "it isn't written in vain")
}

// TestSetsForgetReaders: their ACLs are exact without a memory, and so are those of
// replaced files.
func TestSetsForgetReaders(t *testing.T) {
	for _, mode := range []UpdateMode{UpdateSet, UpdateFile} {
		path := quick(t)
		write(t, directory(t, path, update(UpdateInPlace), theReader()), setOf("1", "key"))
		write(t, directory(t, path, update(mode)), setOf("2", "key"))
		require.NoFileExists(t, filepath.Join(path, grantedName))
		require.Empty(t, listOf(t, filepath.Join(path, "key"), acl.Access))
	}
}

// TestReplacedFilesAreWrittenInPlace: what was replaced for readers is overwritten
// for nobody by the next configuration.
func TestReplacedFilesAreWrittenInPlace(t *testing.T) {
	path := quick(t)
	write(t, directory(t, path, update(UpdateFile), theReader()), setOf("1", "key"))
	require.Equal(t, readerFile, listOf(t, filepath.Join(path, "key"), acl.Access))
	write(t, directory(t, path, update(UpdateInPlace)), setOf("2", "key"))
	require.Empty(t, listOf(t, filepath.Join(path, "key"), acl.Access))
	require.Empty(t, listOf(t, path, acl.Access))
	require.NoFileExists(t, filepath.Join(path, grantedName))
}

// TestAListThatWasChanged loses the earlier reader alone.
func TestAListThatWasChanged(t *testing.T) {
	path := quick(t)
	write(t, directory(t, path, update(UpdateInPlace), theReader()), setOf("1", "key", "other"))
	by := acl.ACL{{Tag: acl.Owner, Perm: 6}, {Tag: acl.User, Perm: acl.Read, ID: 61001}, {Tag: acl.OwnerGroup, Perm: acl.Read}, {Tag: acl.Mask, Perm: acl.Read}, {Tag: acl.Other}}
	setList(t, filepath.Join(path, "key"), acl.Access, by)
	also := acl.New(6, acl.Entry{Tag: acl.User, Perm: acl.Read, ID: 61001}, acl.Entry{Tag: acl.User, Perm: acl.Read, ID: 61002})
	setList(t, filepath.Join(path, "other"), acl.Access, also)

	write(t, directory(t, path, update(UpdateInPlace)), setOf("2", "key", "other"))

	require.Empty(t, listOf(t, filepath.Join(path, "key"), acl.Access))
	require.Equal(t, os.FileMode(0o640), stat(t, filepath.Join(path, "key")).Mode().Perm(), "the group's own right stays")
	require.Equal(t, acl.New(6, acl.Entry{Tag: acl.User, Perm: acl.Read, ID: 61002}).String(), listOf(t, filepath.Join(path, "other"), acl.Access))
	require.NoFileExists(t, filepath.Join(path, grantedName))
}

// TestAFileThatAnEarlierReaderKeeps belongs to somebody else, who alone may change
// its ACL. The reader is remembered for the day on which it's ours again.
func TestAFileThatAnEarlierReaderKeeps(t *testing.T) {
	needRoot(t, "to work as another user")
	path := filepath.Join(reachable(t), "out")
	require.NoError(t, os.Mkdir(path, 0o700))
	require.NoError(t, os.Chown(path, botID, botID))
	key := filepath.Join(path, "key")
	as(t, botID, func() { write(t, directory(t, path, update(UpdateInPlace), theReader()), setOf("1", "key")) })
	require.NoError(t, os.Chown(key, thirdID, thirdID))
	list := acl.New(6, acl.Entry{Tag: acl.User, Perm: 6, ID: botID}, acl.Entry{Tag: acl.User, Perm: acl.Read, ID: readerID})
	setList(t, key, acl.Access, list)

	as(t, botID, func() {
		d := directory(t, path, update(UpdateInPlace))
		log := captureLog(d)
		write(t, d, setOf("1", "key"))
		require.Contains(t, log.String(), "A file still lets in somebody who isn't a reader any more")
	})
	require.Equal(t, list.String(), listOf(t, key, acl.Access))
	require.Equal(t, "user:61001\n", string(mustRead(t, filepath.Join(path, grantedName))))

	require.NoError(t, os.Chown(key, botID, botID))
	as(t, botID, func() { write(t, directory(t, path, update(UpdateInPlace)), setOf("1", "key")) })
	require.NotContains(t, listOf(t, key, acl.Access), "61001")
	require.NoFileExists(t, filepath.Join(path, grantedName))
}

func TestPlantedReaders(t *testing.T) {
	path := quick(t)
	d := directory(t, path, update(UpdateInPlace))
	require.NoError(t, os.Symlink("/etc/passwd", filepath.Join(path, grantedName)))
	_, err := d.Write(t.Context(), setOf("1", "key"))
	require.ErrorContains(t, err, filepath.Join(path, grantedName)+" isn't a regular file, which rollcall didn't make")
	require.NoError(t, os.Remove(filepath.Join(path, grantedName)))
	require.NoError(t, os.WriteFile(filepath.Join(path, grantedName), []byte("rubbish\nuser:x\nuser:-1\nother:1\n\n"), 0o600))
	write(t, d, setOf("1", "key"))
}

func TestGrantedForm(t *testing.T) {
	list := parseGranted("user:1\ngroup:4294967294\nuser:4294967296\nnobody\n:::\n")
	require.Equal(t, []acl.Entry{{Tag: acl.User, Perm: 5, ID: 1}, {Tag: acl.Group, Perm: 5, ID: 4294967294}}, list)
}
