package destination

import (
	"fmt"
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

func theBot() Account { return Account{UID: botID, GID: botID} }

// initOptions are those of a directory that belongs to the bot and has a reader.
func initOptions(path string, change ...func(*InitOptions)) InitOptions {
	o := InitOptions{
		Directory: DirectoryOptions{Path: path},
		Bot:       theBot(), Owner: theBot(),
		Readers: []Reader{{User: "61001"}},
		Known:   []string{"key", "tlscert"},
	}
	for _, c := range change {
		c(&o)
	}
	return o
}

// initialise plans, applies, and checks that a second plan is empty.
func initialise(t *testing.T, o InitOptions) *InitPlan {
	t.Helper()
	path := o.Directory.Path
	_, err := os.Lstat(path)
	exists := err == nil
	before := make(map[string]string)
	if exists {
		before = state(t, path)
	}
	plan, err := PlanInit(o)
	require.NoError(t, err)
	defer plan.Close()
	if exists {
		require.Equal(t, before, state(t, path), "a plan changes nothing")
	} else {
		require.NoDirExists(t, path)
	}
	require.NoError(t, plan.Apply(t.Context()))

	made := state(t, o.Directory.Path)
	again, err := PlanInit(o)
	require.NoError(t, err)
	defer again.Close()
	require.Empty(t, again.Changes, "the second time there's nothing to do")
	require.NoError(t, again.Apply(t.Context()))
	require.Equal(t, made, state(t, o.Directory.Path))
	return plan
}

// state is all that stat tells of a directory and of what is in it; a change of
// anything changes the time.
func state(t *testing.T, path string) map[string]string {
	t.Helper()
	found := make(map[string]string)
	err := filepath.WalkDir(path, func(at string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(at, &st); err != nil {
			return err
		}
		found[at] = fmt.Sprintf("%o %d:%d %d", st.Mode, st.Uid, st.Gid, st.Ctim.Nano())
		return nil
	})
	require.NoError(t, err)
	return found
}

// TestInitAndTheAgent: root makes the directory ready, the bot writes as an
// ordinary user, the reader reads, also after renewals.
func TestInitAndTheAgent(t *testing.T) {
	needRoot(t, "to give directories away")
	defer unix.Umask(unix.Umask(0o077))
	for _, mode := range updateModes {
		t.Run(string(mode), func(t *testing.T) {
			top := reachable(t)
			path := filepath.Join(top, "opt", "machine-id")
			plan := initialise(t, initOptions(path, func(o *InitOptions) { o.Directory.Update = mode }))
			require.Equal(t, []string{
				"create " + top + "/opt with mode 0755",
				"create " + path + " with mode 0700",
				"set the ACL of " + path + " to " + readerDir,
				"set the default ACL of " + path + " to " + readerDir,
				"give " + path + " to 61000:61000",
			}, plan.Changes)
			require.Equal(t, []string{"user 61001"}, plan.Readers)
			require.Empty(t, plan.Notes)

			for i := range 3 {
				set := setOf(fmt.Sprint(i), "key", "tlscert", "a/b")
				as(t, botID, func() {
					d := directory(t, path, update(mode))
					log := captureLog(d)
					require.NoError(t, d.Prepare(t.Context()))
					require.Empty(t, write(t, d, set).Repaired)
					require.Empty(t, log.String())
				})
				as(t, readerID, func() { require.Equal(t, set, visible(t, path)) })
				as(t, thirdID, func() {
					_, err := os.ReadFile(filepath.Join(path, "key"))
					require.ErrorIs(t, err, fs.ErrPermission)
				})
			}
			again, err := PlanInit(initOptions(path, func(o *InitOptions) { o.Directory.Update = mode; o.Known = append(o.Known, "a/b") }))
			require.NoError(t, err)
			defer again.Close()
			require.Empty(t, again.Changes)
			require.Empty(t, again.Notes)
		})
	}
}

func TestInitOfReaders(t *testing.T) {
	me := Account{UID: uint32(os.Geteuid()), GID: KeepGroup}
	mine := func(o *InitOptions) { o.Bot, o.Owner = me, me }
	path := filepath.Join(reachable(t), "out")
	defaults := func() string { return listOf(t, path, acl.Default) }

	initialise(t, initOptions(path, mine))
	require.Equal(t, readerDir, defaults())
	// Without a flag, whoever reads goes on reading.
	require.Empty(t, initialise(t, initOptions(path, mine, func(o *InitOptions) { o.Readers = nil })).Changes)
	// With one, nobody else does.
	plan := initialise(t, initOptions(path, mine, func(o *InitOptions) { o.Readers = []Reader{{Group: "61007"}} }))
	const group = "user::rwx,group::---,group:61007:r-x,mask::r-x,other::---"
	require.Equal(t, []string{
		"set the ACL of " + path + " to " + group + " (was " + readerDir + ")",
		"set the default ACL of " + path + " to " + group + " (was " + readerDir + ")",
	}, plan.Changes)
	require.Equal(t, group, defaults())

	// The configuration's readers need no default ACL.
	configured := func(o *InitOptions) { o.Directory.Readers = []Reader{{User: "61001"}} }
	initialise(t, initOptions(path, mine, configured))
	require.Equal(t, readerDir, listOf(t, path, acl.Access))
	require.Empty(t, defaults())
	_, err := PlanInit(initOptions(path, mine, configured, func(o *InitOptions) { o.Readers = []Reader{{User: "61009"}} }))
	require.ErrorContains(t, err, "user 61009 can't become a reader of "+path+" by a flag: the output's own `readers` decide")
}

func TestInitOfTheStorage(t *testing.T) {
	needRoot(t, "to give directories away")
	path := filepath.Join(reachable(t), "storage")
	storage := func(o *InitOptions) { o.Storage, o.Readers, o.Known = true, nil, nil }
	require.NoError(t, os.Mkdir(path, 0o755))
	require.NoError(t, os.Chmod(path, 0o755))
	setList(t, path, acl.Default, acl.New(7, acl.Entry{Tag: acl.User, Perm: 5, ID: readerID}))
	put(t, path, Set{"identity.json": []byte("secret")})
	plan := initialise(t, initOptions(path, storage))
	require.Len(t, plan.Changes, 3)
	require.Equal(t, os.FileMode(0o700), stat(t, path).Mode().Perm())
	require.Empty(t, listOf(t, path, acl.Access)+listOf(t, path, acl.Default))
	require.Len(t, plan.Notes, 1)
	require.Contains(t, plan.Notes[0], path+"/identity.json belongs to root, so that the bot (61000) can't use it")
	require.Equal(t, uint32(0), ownerOf(t, path+"/identity.json"), "whose key it is isn't guessed")
}

func ownerOf(t *testing.T, path string) uint32 {
	t.Helper()
	var st unix.Stat_t
	require.NoError(t, unix.Lstat(path, &st))
	return st.Uid
}

// TestInitHandsOver what root's agent wrote to the bot, and nothing else.
func TestInitHandsOver(t *testing.T) {
	needRoot(t, "to give directories away")
	for _, mode := range updateModes {
		t.Run(string(mode), func(t *testing.T) {
			path := filepath.Join(reachable(t), "out")
			opts := initOptions(path, func(o *InitOptions) { o.Directory.Update = mode })
			write(t, directory(t, path, update(mode)), setOf("root", "key", "tlscert", "a/b"))
			put(t, path, Set{"notes.txt": []byte("root's own")})
			outside := filepath.Join(filepath.Dir(path), "victim")
			put(t, filepath.Dir(path), Set{"victim": []byte("root's own")})
			require.NoError(t, os.Link(outside, filepath.Join(path, "..2026_11_21T06_30_00.123456789x")))

			opts.Known = append(opts.Known, "a/b")
			plan := initialise(t, opts)
			require.Contains(t, strings.Join(plan.Notes, "\n"), path+"/notes.txt isn't rollcall's; it's left alone")
			require.Zero(t, ownerOf(t, path+"/notes.txt"))
			require.Zero(t, ownerOf(t, outside))

			as(t, botID, func() {
				d := directory(t, path, update(mode))
				log := captureLog(d)
				require.NoError(t, d.Prepare(t.Context()))
				write(t, d, setOf("bot", "key", "tlscert", "a/b"))
				write(t, d, setOf("bot again", "key", "tlscert", "a/b"))
				require.NotContains(t, log.String(), "can't be removed")
			})
			as(t, readerID, func() { require.Equal(t, "key of bot again\n", string(mustRead(t, path+"/key"))) })
		})
	}
}

// TestInitDoesNotGiveTheBotWhatItPutThere: whoever may write to the directory can
// move another's file to a name of ours.
func TestInitDoesNotGiveTheBotWhatItPutThere(t *testing.T) {
	needRoot(t, "to give directories away")
	path := filepath.Join(reachable(t), "out")
	initialise(t, initOptions(path))
	put(t, path, Set{"key": []byte("root's secret")})
	plan := initialise(t, initOptions(path))
	require.Empty(t, plan.Changes)
	require.Contains(t, strings.Join(plan.Notes, "\n"), path+"/key belongs to root, and not to the bot")
	require.Zero(t, ownerOf(t, path+"/key"))

	// Nor what belonged to somebody who didn't own the directory.
	roots := filepath.Join(reachable(t), "out")
	put(t, roots, Set{"key": []byte("a third user's")})
	require.NoError(t, os.Chown(roots+"/key", thirdID, thirdID))
	plan = initialise(t, initOptions(roots))
	require.Contains(t, strings.Join(plan.Notes, "\n"), roots+"/key belongs to 61002, and not to the bot")
	require.Equal(t, uint32(thirdID), ownerOf(t, roots+"/key"))

	// Nor a file with a second name elsewhere.
	other := filepath.Join(reachable(t), "out")
	require.NoError(t, os.Mkdir(other, 0o700))
	outside := filepath.Join(filepath.Dir(other), "shadow")
	put(t, filepath.Dir(other), Set{"shadow": []byte("x")})
	require.NoError(t, os.Link(outside, other+"/key"))
	first, err := PlanInit(initOptions(other))
	require.NoError(t, err)
	defer first.Close()
	require.NoError(t, first.Apply(t.Context()))
	require.Zero(t, ownerOf(t, outside))
}

func TestInitCleans(t *testing.T) {
	needRoot(t, "to give directories away")
	path := filepath.Join(reachable(t), "out")
	outside := t.TempDir()
	put(t, outside, Set{"victim": []byte("untouched")})
	initialise(t, initOptions(path))
	as(t, botID, func() { write(t, directory(t, path), setOf("1", "key")) })
	put(t, path, Set{"notes.txt": nil, "dir/notes.txt": nil})
	require.NoError(t, os.Symlink(outside, filepath.Join(path, "link")))
	require.NoError(t, os.Symlink(outside+"/victim", filepath.Join(path, "tlscert")))

	_, err := PlanInit(initOptions(path))
	require.ErrorContains(t, err, path+"/tlscert is in the way")
	require.Equal(t, failure.Configuration, failure.KindOf(err))
	require.NoError(t, os.Rename(path+"/tlscert", path+"/link2"))
	require.Len(t, initialise(t, initOptions(path)).Notes, 4)

	plan := initialise(t, initOptions(path, func(o *InitOptions) { o.Clean = true }))
	require.Len(t, plan.Changes, 4)
	require.Contains(t, plan.Changes[0], "remove "+path+"/dir, which isn't rollcall's")
	require.Equal(t, setOf("1", "key"), visible(t, path))
	require.Equal(t, "untouched", string(mustRead(t, outside+"/victim")))
}

// TestCleanRefusesWhatIsNotAnOutputs directory: a wrong path costs nothing.
func TestCleanRefusesWhatIsNotAnOutputs(t *testing.T) {
	me := Account{UID: uint32(os.Geteuid()), GID: KeepGroup}
	clean := func(o *InitOptions) { o.Bot, o.Owner, o.Clean = me, me, true }
	plan := func(path string) error {
		p, err := PlanInit(initOptions(path, clean))
		if err == nil {
			p.Close()
		}
		return err
	}
	storage := filepath.Join(reachable(t), "storage")
	write(t, directory(t, storage), setOf("1", "key"))
	put(t, storage, Set{"identity.json": nil})
	require.ErrorContains(t, plan(storage), storage+" holds a bot's identity (identity.json)")

	others := filepath.Join(reachable(t), "others")
	put(t, others, Set{"precious": nil, "dir/precious": nil})
	before := state(t, others)
	require.ErrorContains(t, plan(others), others+" isn't empty, and rollcall never wrote there")
	for _, link := range []string{dataName, manifestName} {
		require.NoError(t, os.Symlink("dir", filepath.Join(others, link)))
		require.ErrorContains(t, plan(others), "rollcall never wrote there", "a planted "+link)
		require.NoError(t, os.Remove(filepath.Join(others, link)))
	}
	require.Equal(t, before[others+"/precious"], state(t, others)[others+"/precious"])

	empty := filepath.Join(reachable(t), "empty")
	require.NoError(t, os.Mkdir(empty, 0o700))
	require.NoError(t, plan(empty))
	require.NoError(t, directory(t, empty).Prepare(t.Context())) // leaves a lock
	require.NoError(t, plan(empty))
	for _, mode := range updateModes {
		path := filepath.Join(reachable(t), "out")
		write(t, directory(t, path, update(mode)), setOf("1", "key"))
		put(t, path, Set{"notes.txt": nil})
		require.NoError(t, plan(path))
	}
}

func TestInitNamesTheParentInTheWay(t *testing.T) {
	needRoot(t, "to give directories away")
	top := reachable(t)
	wall := filepath.Join(top, "wall")
	require.NoError(t, os.MkdirAll(filepath.Join(wall, "inside"), 0o755))
	require.NoError(t, os.Chmod(filepath.Join(wall, "inside"), 0o755))
	path := filepath.Join(wall, "inside", "a", "b")
	deny := func(list acl.ACL, want ...string) {
		t.Helper()
		setList(t, wall, acl.Access, list)
		before := state(t, top)
		_, err := PlanInit(initOptions(path, func(o *InitOptions) { o.Readers = append(o.Readers, Reader{Group: "61003"}) }))
		require.Equal(t, before, state(t, top))
		if len(want) == 0 {
			require.NoError(t, err)
			return
		}
		require.Equal(t, failure.Configuration, failure.KindOf(err))
		for _, text := range want {
			require.ErrorContains(t, err, text)
		}
	}
	let := func(tag acl.Tag, id uint32) acl.Entry { return acl.Entry{Tag: tag, Perm: acl.Execute, ID: id} }
	deny(acl.FromMode(0o700), "the bot 61000 can't get to "+path+": "+wall+" (mode 0700, owner root)", "`setfacl -m u:61000:x "+wall+"`")
	deny(acl.New(7, let(acl.User, botID)), "the reader 61001 can't get to "+path, "`setfacl -m u:61001:x "+wall+"`")
	deny(acl.New(7, let(acl.User, botID), let(acl.User, readerID)), "the readers' group 61003 can't get to", "`setfacl -m g:61003:x "+wall+"`")
	masked := acl.New(7, let(acl.User, botID), let(acl.User, readerID), let(acl.Group, 61003))
	deny(masked)
	for i := range masked {
		if masked[i].Tag == acl.Mask {
			masked[i].Perm = 0
		}
	}
	deny(masked, "the bot 61000 can't get to")
}

func TestInitRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	link := filepath.Join(t.TempDir(), "link")
	require.NoError(t, os.Symlink(t.TempDir(), link))
	home := t.TempDir()
	t.Setenv("HOME", home)
	other := Account{UID: thirdID, GID: thirdID}
	tests := map[string]struct {
		change func(*InitOptions)
		says   []string
	}{
		"another owner, set": {
			func(o *InitOptions) { o.Owner = other },
			[]string{"the owner 61002 of " + path + " isn't the bot (61000)", "with `update: set` the bot makes and removes directories there", "use `update: file`"},
		},
		"another owner, file, readers by flag": {
			func(o *InitOptions) { o.Owner, o.Directory.Update = other, UpdateFile },
			[]string{"the owner 61002 of " + path + " could choose who reads the files there", "name the `readers` of that output"},
		},
		"another owner, storage": {
			func(o *InitOptions) { o.Owner, o.Storage = other, true }, []string{"belongs to the bot and to nobody else"},
		},
		"readers with ACLs off": {
			func(o *InitOptions) { o.Directory.ACLs = ACLOff }, []string{path + " has `acls: off`", "leave out readers"},
		},
		"an unknown reader": {
			func(o *InitOptions) { o.Readers = []Reader{{User: "no-such-user"}} }, []string{`there's no user "no-such-user" on this host`},
		},
		"a link at the directory": {
			func(o *InitOptions) { o.Directory.Path = link }, []string{link + " is a symbolic link, and init follows none"},
		},
		"a link, with symlinks: insecure": {
			func(o *InitOptions) { o.Directory.Path, o.Directory.Symlinks = link, SymlinksInsecure },
			[]string{link + " is a symbolic link, and init follows none, whatever `symlinks` says"},
		},
		"a link in a parent": {
			func(o *InitOptions) { o.Directory.Path = link + "/a/b" }, []string{link + " is a symbolic link"},
		},
		"the root":        {func(o *InitOptions) { o.Directory.Path = "/" }, []string{"/ is a directory of the whole system"}},
		"/opt":            {func(o *InitOptions) { o.Directory.Path = "/opt/" }, []string{"/opt is a directory of the whole system"}},
		"/etc by detours": {func(o *InitOptions) { o.Directory.Path = "/opt/x/../../etc/." }, []string{"/etc is a directory of the whole system"}},
		"a home":          {func(o *InitOptions) { o.Directory.Path = "/home/alice" }, []string{"/home/alice is a user's home"}},
		"one's home":      {func(o *InitOptions) { o.Directory.Path = home }, []string{home + " is a user's home"}},
		"the kernel's":    {func(o *InitOptions) { o.Directory.Path = "/proc/self/x" }, []string{"is the kernel's"}},
		"no path": {
			func(o *InitOptions) { o.Directory.Path = "" }, []string{"path: is required"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := PlanInit(initOptions(path, test.change))
			require.Equal(t, failure.Configuration, failure.KindOf(err))
			for _, text := range test.says {
				require.ErrorContains(t, err, text)
			}
			require.NoDirExists(t, path)
		})
	}
}

// TestInitWithAnotherOwner: for files that are replaced one by one, the bot gets
// rwx by a named entry.
func TestInitWithAnotherOwner(t *testing.T) {
	needRoot(t, "to give directories away")
	for _, mode := range []UpdateMode{UpdateFile, UpdateInPlace} {
		t.Run(string(mode), func(t *testing.T) {
			path := filepath.Join(reachable(t), "out")
			initialise(t, initOptions(path, func(o *InitOptions) {
				o.Directory.Update = mode
				o.Owner = Account{UID: thirdID, GID: thirdID}
				o.Directory.Readers = o.Readers
			}))
			require.Equal(t, "user::rwx,user:61000:rwx,user:61001:r-x,group::---,mask::rwx,other::---", listOf(t, path, acl.Access))
			require.Empty(t, listOf(t, path, acl.Default))
			as(t, botID, func() {
				d := directory(t, path, update(mode), theReader())
				require.NoError(t, d.Prepare(t.Context()))
				write(t, d, setOf("1", "key", "a/b"))
				write(t, d, setOf("2", "key", "a/b"))
			})
			as(t, readerID, func() { require.Equal(t, setOf("2", "key", "a/b"), visible(t, path)) })
		})
	}
}

func TestInitWithACLsOff(t *testing.T) {
	needRoot(t, "to give directories away")
	path := filepath.Join(reachable(t), "out")
	off := func(o *InitOptions) { o.Directory.ACLs, o.Readers = ACLOff, nil }
	require.NoError(t, os.Mkdir(path, 0o755))
	require.NoError(t, os.Chmod(path, 0o755))
	plan := initialise(t, initOptions(path, off))
	require.Equal(t, []string{"set the mode of " + path + " to 0700 (was 0755)", "give " + path + " to 61000:61000 (was root:root)"}, plan.Changes)
	as(t, botID, func() { write(t, directory(t, path, acls(ACLOff)), setOf("1", "key")) })
}

func TestInitWithoutACLs(t *testing.T) {
	for name, mount := range map[string]func(*testing.T) string{"ramfs": mountRAM, "vfat": mountVFAT} {
		t.Run(name, func(t *testing.T) {
			top := mount(t)
			if name == "ramfs" {
				require.NoError(t, os.Chmod(top, 0o711))
			}
			require.NoError(t, os.Chmod(filepath.Dir(top), 0o711))
			path := filepath.Join(top, "out")
			_, err := PlanInit(initOptions(path, func(o *InitOptions) { o.Directory.ACLs = ACLRequired }))
			require.ErrorContains(t, err, "the file system of "+path+" has no ACLs, which `acls: required` asks for")
			_, err = PlanInit(initOptions(path, func(o *InitOptions) {
				o.Directory.Update, o.Owner = UpdateFile, Account{UID: thirdID, GID: thirdID}
				o.Directory.Readers = o.Readers
			}))
			require.ErrorContains(t, err, "leave --owner out")
			if name == "vfat" {
				// It has no owners either: the bot must be whose all of it is.
				_, err := PlanInit(initOptions(path))
				require.ErrorContains(t, err, "the bot 61000 can't get to "+path)
				root := Account{UID: 0, GID: 0}
				plan := initialise(t, initOptions(path, func(o *InitOptions) { o.Bot, o.Owner, o.Directory.Update = root, root, UpdateFile }))
				require.Contains(t, plan.Notes[0], "has no ACLs: the readers get nothing")
				write(t, directory(t, path, update(UpdateFile)), setOf("1", "key"))
				return
			}
			plan := initialise(t, initOptions(path))
			require.Empty(t, plan.Readers)
			require.Contains(t, plan.Notes[0], "has no ACLs: the readers get nothing")
			require.Equal(t, os.FileMode(0o700), stat(t, path).Mode().Perm())
			as(t, botID, func() { write(t, directory(t, path), setOf("1", "key")) })
		})
	}
}

func TestInitNotAsRoot(t *testing.T) {
	needRoot(t, "to become somebody else")
	top := reachable(t)
	mine := filepath.Join(top, "mine")
	require.NoError(t, os.Mkdir(mine, 0o700))
	require.NoError(t, os.Chown(mine, botID, botID))
	require.NoError(t, os.Mkdir(filepath.Join(top, "roots"), 0o755))
	require.NoError(t, os.Chmod(filepath.Join(top, "roots"), 0o755))
	as(t, botID, func() {
		// The owner needs nobody.
		initialise(t, initOptions(mine))
		require.Equal(t, readerDir, listOf(t, mine, acl.Access))

		_, err := PlanInit(initOptions(filepath.Join(top, "roots")))
		require.ErrorContains(t, err, "must belong to 61000, and only root can give it away: run `rollcall init` as root (this is user id 61000)")
		_, err = PlanInit(initOptions(mine, func(o *InitOptions) { o.Bot.UID, o.Owner.UID = thirdID, thirdID }))
		require.ErrorContains(t, err, "only root can give it away")

		plan, err := PlanInit(initOptions(filepath.Join(top, "roots", "new")))
		require.NoError(t, err)
		defer plan.Close()
		err = plan.Apply(t.Context())
		require.ErrorContains(t, err, "run `rollcall init` as root")
		require.Equal(t, failure.Configuration, failure.KindOf(err))
	})
	require.NoDirExists(t, filepath.Join(top, "roots", "new"))
}
