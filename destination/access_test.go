package destination

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rollcall/acl"
	"rollcall/failure"
)

// Ids without accounts.
const (
	botID    = 61000
	readerID = 61001
	thirdID  = 61002
)

func readers(list ...Reader) func(*DirectoryOptions) {
	return func(o *DirectoryOptions) { o.Readers = list }
}

func acls(mode ACLMode) func(*DirectoryOptions) {
	return func(o *DirectoryOptions) { o.ACLs = mode }
}

func theReader() func(*DirectoryOptions) { return readers(Reader{User: "61001"}) }

// listOf returns the ACL of a file or directory; links are followed.
func listOf(t testing.TB, path string, kind acl.Kind) string {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	list, err := acl.Get(int(f.Fd()), kind)
	require.NoError(t, err)
	return list.String()
}

func setList(t testing.TB, path string, kind acl.Kind, list acl.ACL) {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, acl.Set(int(f.Fd()), kind, list))
}

const (
	readerFile = "user::rw-,user:61001:r--,group::---,mask::r--,other::---"
	readerDir  = "user::rwx,user:61001:r-x,group::---,mask::r-x,other::---"
)

// requireExact checks the directory, and all that programs see in it.
func requireExact(t testing.TB, path string) {
	t.Helper()
	require.Equal(t, readerDir, listOf(t, path, acl.Access))
	for name := range visible(t, path) {
		require.Equal(t, readerFile, listOf(t, filepath.Join(path, name), acl.Access), name)
		if top, rest := split(name); rest != "" {
			require.Equal(t, readerDir, listOf(t, filepath.Join(path, top), acl.Access), top)
			require.Empty(t, listOf(t, filepath.Join(path, top), acl.Default), top)
		}
	}
	if _, err := os.Lstat(filepath.Join(path, dataName)); err == nil {
		require.Equal(t, readerDir, listOf(t, filepath.Join(path, dataName), acl.Access))
		require.Empty(t, listOf(t, filepath.Join(path, dataName), acl.Default))
	}
}

func TestReadersReadAndNobodyElse(t *testing.T) {
	needRoot(t, "to try as other users")
	for _, mode := range updateModes {
		for name, who := range map[string]Reader{"user": {User: "61001"}, "group": {Group: "61001"}} {
			t.Run(string(mode)+", "+name, func(t *testing.T) {
				path := filepath.Join(reachable(t), "made")
				d := directory(t, path, update(mode), readers(who), acls(ACLRequired))
				require.NoError(t, d.Prepare(t.Context()))
				set := setOf("1", "key", "cockroach/node.key")
				require.Empty(t, write(t, d, set).Repaired, "the first write repairs nothing")
				require.Empty(t, write(t, d, setOf("2", "key", "cockroach/node.key")).Repaired)

				as(t, readerID, func() {
					require.Equal(t, setOf("2", "key", "cockroach/node.key"), visible(t, path))
					for _, name := range []string{lockName, manifestName} {
						_, err := os.ReadFile(filepath.Join(path, name))
						require.Error(t, err, name)
					}
					for _, name := range []string{"key", "cockroach/node.key"} {
						_, err := os.OpenFile(filepath.Join(path, name), os.O_WRONLY, 0)
						require.ErrorIs(t, err, fs.ErrPermission)
					}
					require.ErrorIs(t, os.WriteFile(filepath.Join(path, "new"), nil, 0o600), fs.ErrPermission)
				})
				as(t, thirdID, func() {
					_, err := os.ReadDir(path)
					require.ErrorIs(t, err, fs.ErrPermission)
					_, err = os.ReadFile(filepath.Join(path, "key"))
					require.ErrorIs(t, err, fs.ErrPermission)
				})
			})
		}
	}
}

// TestNobodyElseAtAnyStep looks at all lists before each step that changes the
// disk, in a directory whose default ACL would let everybody in.
func TestNobodyElseAtAnyStep(t *testing.T) {
	old := unix.Umask(0)
	defer unix.Umask(old)
	for _, mode := range updateModes {
		t.Run(string(mode), func(t *testing.T) {
			path := t.TempDir()
			wide := acl.ACL{
				{Tag: acl.Owner, Perm: 7}, {Tag: acl.User, Perm: 7, ID: readerID}, {Tag: acl.OwnerGroup, Perm: 7},
				{Tag: acl.Mask, Perm: 7}, {Tag: acl.Other, Perm: 7},
			}
			setList(t, path, acl.Default, wide)
			d := directory(t, path, update(mode))
			steps := 0
			d.hook = func(step string) {
				steps++
				requireOnlyReader(t, path, step)
			}
			require.NoError(t, d.Prepare(t.Context()))
			write(t, d, setOf("1", "key", "cockroach/node.key"))
			write(t, d, setOf("2", "key", "cockroach/node.key", "tlscert"))
			require.Greater(t, steps, 10)
			requireOnlyReader(t, path, "end")
			requireExact(t, path)
			require.Equal(t, wide.String(), listOf(t, path, acl.Default), "it stays for the next write")
		})
	}
}

func requireOnlyReader(t *testing.T, path, step string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(path, func(at string, e fs.DirEntry, err error) error {
		if err != nil || e.Type()&fs.ModeSymlink != 0 || at == path {
			return err
		}
		f, err := os.Open(at)
		if err != nil {
			return err
		}
		defer f.Close()
		list, err := accessOf(int(f.Fd()))
		require.NoError(t, err)
		never := acl.Write
		if !e.IsDir() {
			never = acl.Execute
		}
		const owner = 1
		for _, right := range []acl.Perm{acl.Read, acl.Write, acl.Execute} {
			require.False(t, list.Permits(acl.Subject{UID: thirdID, GIDs: []uint32{0}}, owner, 0, right), "%s at %s: %s", at, step, list)
		}
		for _, right := range []acl.Perm{acl.Write, never} {
			require.False(t, list.Permits(acl.Subject{UID: readerID}, owner, 0, right), "%s at %s: %s", at, step, list)
		}
		if base := filepath.Base(at); base == lockName || base == manifestName {
			require.False(t, list.Permits(acl.Subject{UID: readerID}, owner, 0, acl.Read), "%s at %s", at, step)
		}
		return nil
	}))
}

// TestDefaultACL: readers that only the directory itself names are kept by every
// write, although files are made 0600, which empties their mask.
func TestDefaultACL(t *testing.T) {
	for _, mode := range updateModes {
		t.Run(string(mode), func(t *testing.T) {
			path := t.TempDir()
			passed := acl.New(7, acl.Entry{Tag: acl.User, Perm: 5, ID: readerID}, acl.Entry{Tag: acl.User, Perm: 1, ID: thirdID})
			setList(t, path, acl.Default, passed)
			d := directory(t, path, update(mode))
			write(t, d, setOf("1", "key", "a/b"))
			for range 3 {
				write(t, d, setOf(t.Name(), "key", "a/b"))
				requireExact(t, path)
				write(t, d, setOf("again", "key", "a/b", "tlscert"))
				requireExact(t, path)
			}
			require.Equal(t, passed.String(), listOf(t, path, acl.Default))

			// The configuration's readers replace those of the directory.
			d = directory(t, path, update(mode), readers(Reader{Group: "61005"}))
			result := write(t, d, setOf("again", "key", "a/b", "tlscert"))
			require.False(t, result.Changed)
			require.Contains(t, result.Repaired, "key")
			require.Contains(t, result.Repaired, ".")
			require.Equal(t, "user::rw-,group::---,group:61005:r--,mask::r--,other::---", listOf(t, filepath.Join(path, "key"), acl.Access))
		})
	}
}

// TestDefaultACLOfAnotherUser: the owner of a directory doesn't choose who reads
// the bot's keys.
func TestDefaultACLOfAnotherUser(t *testing.T) {
	needRoot(t, "to give directories away")
	for _, mode := range updateModes {
		t.Run(string(mode), func(t *testing.T) {
			path := filepath.Join(reachable(t), "out")
			require.NoError(t, os.Mkdir(path, 0o700))
			setList(t, path, acl.Default, acl.New(7, acl.Entry{Tag: acl.User, Perm: 5, ID: readerID}))
			require.NoError(t, os.Chown(path, thirdID, thirdID))
			d := directory(t, path, update(mode))
			log := captureLog(d)
			write(t, d, setOf("1", "key"))
			write(t, d, setOf("2", "key"))
			info, err := os.Stat(filepath.Join(path, "key"))
			require.NoError(t, err)
			require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), "whatever entries it has, the mask lets none in")
			require.Equal(t, 1, strings.Count(log.String(), "the readers that its default ACL names get nothing"), log)

			plan := initialise(t, initOptions(path, func(o *InitOptions) { o.Readers = nil }))
			require.Empty(t, plan.Readers)
			require.Contains(t, strings.Join(plan.Notes, "\n"), "makes nobody a reader")
			require.Empty(t, listOf(t, path, acl.Default))
		})
	}
}

func TestDriftIsRepaired(t *testing.T) {
	chmod := func(mode fs.FileMode) func(*testing.T, string) {
		return func(t *testing.T, path string) { require.NoError(t, os.Chmod(path, mode)) }
	}
	setfacl := func(list acl.ACL) func(*testing.T, string) {
		return func(t *testing.T, path string) { setList(t, path, acl.Access, list) }
	}
	reader := acl.Entry{Tag: acl.User, Perm: acl.Read, ID: readerID}
	tests := map[string]struct {
		at, repaired string // "" means the same as at
		do           func(*testing.T, string)
		only         UpdateMode
	}{
		"a chmod, which empties the mask": {at: "key", do: chmod(0o600)},
		"a chmod that opens":              {at: "key", do: chmod(0o644)},
		"one more reader":                 {at: "key", do: setfacl(acl.New(6, reader, acl.Entry{Tag: acl.User, Perm: 4, ID: thirdID}))},
		"a reader who may write":          {at: "key", do: setfacl(acl.New(6, acl.Entry{Tag: acl.User, Perm: 6, ID: readerID}))},
		"the reader gone":                 {at: "key", do: setfacl(acl.New(6))},
		"below":                           {at: "cockroach/node.key", do: chmod(0o600)},
		"a folder":                        {at: "cockroach", do: chmod(0o755)},
		"the directory":                   {at: ".", do: chmod(0o700)},
		"the directory, opened":           {at: ".", do: chmod(0o755)},
		"the version":                     {at: dataName, do: chmod(0o755), only: UpdateSet},
		"the version's default": {at: dataName, only: UpdateSet, do: func(t *testing.T, path string) {
			setList(t, path, acl.Default, acl.New(7, reader))
		}},
	}
	for name, test := range tests {
		for _, mode := range updateModes {
			if test.only != "" && test.only != mode {
				continue
			}
			t.Run(name+", "+string(mode), func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "made")
				d := directory(t, path, update(mode), theReader())
				log := captureLog(d)
				set := setOf("1", "key", "cockroach/node.key")
				write(t, d, set)
				requireExact(t, path)
				require.Empty(t, log.String())
				test.do(t, filepath.Join(path, test.at))

				require.Equal(t, Result{Repaired: []string{test.at}}, write(t, d, set))
				requireExact(t, path)
				require.Equal(t, 1, strings.Count(log.String(), "are right again"), log)
				require.Equal(t, Result{}, write(t, d, set))

				// It's the same when there's something new to write.
				test.do(t, filepath.Join(path, test.at))
				require.Equal(t, Result{Changed: true, Files: []string{"key"}, Repaired: []string{test.at}},
					write(t, d, Set{"key": []byte("2"), "cockroach/node.key": set["cockroach/node.key"]}))
				requireExact(t, path)
			})
		}
	}
}

func TestAFileOfAnotherUserIsReplaced(t *testing.T) {
	needRoot(t, "to give files away")
	for _, mode := range updateModes {
		t.Run(string(mode), func(t *testing.T) {
			path := t.TempDir()
			d := directory(t, path, update(mode), theReader())
			set := setOf("1", "key", "tlscert")
			write(t, d, set)
			require.NoError(t, os.Chown(filepath.Join(path, "key"), thirdID, thirdID))
			if mode == UpdateInPlace {
				before := state(t, path)
				_, err := d.Write(t.Context(), set)
				require.ErrorContains(t, err, filepath.Join(path, "key")+" belongs to another user or has a second name")
				require.Equal(t, before[filepath.Join(path, "key")], state(t, path)[filepath.Join(path, "key")])
				return
			}
			result := write(t, d, set)
			require.True(t, result.Changed)
			require.Equal(t, []string{"key"}, result.Repaired)
			requireExact(t, path)
			require.Equal(t, Result{}, write(t, d, set))
		})
	}
}

func TestInPlaceKeepsTheInodeAndLetsReadersIn(t *testing.T) {
	path := t.TempDir()
	put(t, path, Set{"key": []byte("by hand")})
	require.NoError(t, os.Chmod(filepath.Join(path, "key"), 0o644))
	before := stat(t, filepath.Join(path, "key"))
	d := directory(t, path, update(UpdateInPlace), theReader())
	d.hook = func(step string) {
		if strings.HasPrefix(step, "overwrite") {
			require.Equal(t, readerFile, listOf(t, filepath.Join(path, "key"), acl.Access), "before the content")
		}
	}
	write(t, d, setOf("1", "key"))
	require.True(t, os.SameFile(before, stat(t, filepath.Join(path, "key"))))
	requireExact(t, path)
}

func TestReadersThatAreTakenAway(t *testing.T) {
	for _, mode := range []UpdateMode{UpdateSet, UpdateFile} {
		for _, off := range []ACLMode{ACLTry, ACLRequired, ACLOff} {
			t.Run(string(mode)+", "+string(off), func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "out")
				set := setOf("1", "key")
				write(t, directory(t, path, update(mode), readers(Reader{User: "61001"}, Reader{Group: "61002"})), set)
				result := write(t, directory(t, path, update(mode), acls(off)), set)
				require.Contains(t, result.Repaired, ".")
				require.Equal(t, "user::rwx,group::---,other::---", mustAccess(t, path))
				require.Equal(t, "user::rw-,group::---,other::---", mustAccess(t, filepath.Join(path, "key")))
				require.Equal(t, Result{}, write(t, directory(t, path, update(mode), acls(off)), set))
			})
		}
	}
}

// TestWhatTheUserGaveStays: a list that no write makes isn't taken away.
func TestWhatTheUserGaveStays(t *testing.T) {
	entry := func(perm acl.Perm) acl.Entry { return acl.Entry{Tag: acl.User, Perm: perm, ID: readerID} }
	group := acl.New(7, entry(5))
	for i := range group {
		if group[i].Tag == acl.OwnerGroup {
			group[i].Perm = 5
		}
	}
	for name, list := range map[string]acl.ACL{
		"x only": acl.New(7, entry(1)), "writers": acl.New(7, entry(7)), "the group, too": group,
	} {
		t.Run(name, func(t *testing.T) {
			path := t.TempDir()
			d := directory(t, path)
			write(t, d, setOf("1", "key"))
			setList(t, path, acl.Access, list)
			require.Empty(t, write(t, d, setOf("2", "key")).Repaired)
			require.Equal(t, list.String(), listOf(t, path, acl.Access))
		})
	}
	// Nor where it lets somebody into files that keep their rights.
	inPlace := t.TempDir()
	write(t, directory(t, inPlace, update(UpdateInPlace)), setOf("1", "key"))
	setList(t, inPlace, acl.Access, acl.New(7, entry(5)))
	write(t, directory(t, inPlace, update(UpdateInPlace)), setOf("2", "key"))
	require.Equal(t, readerDir, listOf(t, inPlace, acl.Access))
	// Nor what was there before the first write.
	path := t.TempDir()
	setList(t, path, acl.Access, acl.New(7, entry(5)))
	require.Empty(t, write(t, directory(t, path), setOf("1", "key")).Repaired)
	require.Equal(t, readerDir, listOf(t, path, acl.Access))
}

func mustAccess(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	list, err := accessOf(int(f.Fd()))
	require.NoError(t, err)
	return list.String()
}

func TestAnUnknownReader(t *testing.T) {
	for _, who := range []Reader{{User: "no-such-user"}, {Group: "no-such-user"}} {
		d := directory(t, t.TempDir(), readers(who))
		for _, err := range []error{d.Prepare(t.Context()), writeError(t, d)} {
			require.ErrorContains(t, err, `"no-such-user" on this host: create it, or give the numeric id`)
			require.ErrorContains(t, err, d.opts.Path)
			require.Equal(t, failure.Configuration, failure.KindOf(err))
		}
	}
}

func writeError(t *testing.T, d *Directory) error {
	_, err := d.Write(t.Context(), setOf("1", "key"))
	return err
}

func TestFileSystemsWithoutACLs(t *testing.T) {
	for name, mount := range map[string]func(*testing.T) string{"ramfs": mountRAM, "vfat": mountVFAT} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(mount(t), "out")
			mode := UpdateSet
			if name == "vfat" {
				mode = UpdateFile // it has no symbolic links
			}
			d := directory(t, path, update(mode), theReader(), acls(ACLRequired))
			for _, err := range []error{d.Prepare(t.Context()), writeError(t, d)} {
				require.ErrorContains(t, err, "the file system of "+path+" has no ACLs, which `acls: required` asks for")
				require.Equal(t, failure.Configuration, failure.KindOf(err))
			}
			require.Empty(t, visible(t, path))

			d = directory(t, path, update(mode), theReader())
			log := captureLog(d)
			require.NoError(t, d.Prepare(t.Context()))
			write(t, d, setOf("1", "key"))
			require.Equal(t, Result{}, write(t, d, setOf("1", "key")))
			require.Equal(t, 1, strings.Count(log.String(), "has no ACLs"), log)
			requirePrivate(t, path)

			d = directory(t, path, update(mode))
			log = captureLog(d)
			write(t, d, setOf("2", "key"))
			require.Empty(t, log.String(), "nobody misses anything")
		})
	}
}

// TestADirectoryThatIsNotOurs is root's, and lets the bot write by a named
// entry, as the official agent's init does.
func TestADirectoryThatIsNotOurs(t *testing.T) {
	needRoot(t, "to work as another user")
	bot := acl.Entry{Tag: acl.User, Perm: 7, ID: botID}
	for _, mode := range updateModes {
		t.Run(string(mode), func(t *testing.T) {
			path := filepath.Join(reachable(t), "out")
			require.NoError(t, os.Mkdir(path, 0o700))
			setList(t, path, acl.Access, acl.New(7, bot))
			as(t, botID, func() {
				d := directory(t, path, update(mode), theReader(), acls(ACLRequired))
				for _, err := range []error{d.Prepare(t.Context()), writeError(t, d)} {
					require.ErrorContains(t, err, "belongs to root, and only its owner can let the readers in: run `rollcall init` as root")
					require.Equal(t, failure.Configuration, failure.KindOf(err))
				}
				d = directory(t, path, update(mode), theReader())
				log := captureLog(d)
				require.NoError(t, d.Prepare(t.Context()))
				write(t, d, setOf("1", "key"))
				write(t, d, setOf("2", "key"))
				require.Equal(t, 1, strings.Count(log.String(), "belongs to another user, who alone"), log)
			})
			// Once root lets the reader in, all is well.
			setList(t, path, acl.Access, acl.New(7, bot, acl.Entry{Tag: acl.User, Perm: 5, ID: readerID}))
			as(t, botID, func() {
				d := directory(t, path, update(mode), theReader(), acls(ACLRequired))
				require.NoError(t, d.Prepare(t.Context()))
				write(t, d, setOf("3", "key"))
			})
			as(t, readerID, func() { require.Equal(t, setOf("3", "key"), visible(t, path)) })
		})
	}
}

func TestConversionGivesReadersTheirFiles(t *testing.T) {
	path := t.TempDir()
	put(t, path, setOf("tbot", "key", "tlscert"))
	d := directory(t, path, theReader())
	log := captureLog(d)
	write(t, d, setOf("1", "key", "tlscert"))
	requireExact(t, path)
	require.NotContains(t, log.String(), "readable by their owner alone")
}
