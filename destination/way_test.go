package destination

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rollcall/acl"
	"rollcall/failure"
)

// TestTheAgentTellsOfClosedParents: the agent makes missing parents with mode
// 0700, which stop the readers; it says so once for each.
func TestTheAgentTellsOfClosedParents(t *testing.T) {
	needRoot(t, "to read as another user")
	top := reachable(t)
	path := filepath.Join(top, "a", "b", "out")
	d := directory(t, path, readers(Reader{User: "61001"}, Reader{Group: "61003"}))
	log := captureLog(d)

	for i := range 3 {
		require.NoError(t, d.Prepare(t.Context()))
		write(t, d, setOf(string(rune('0'+i)), "key"))
	}

	text := log.String()
	require.Equal(t, 4, strings.Count(text, "A reader can't get to the files"), text)
	for _, parent := range []string{"a", "a/b"} {
		require.Contains(t, text, `parent=`+top+"/"+parent+` run="setfacl -m u:61001:x `+top+"/"+parent+`"`)
		require.Contains(t, text, `run="setfacl -m g:61003:x `+top+"/"+parent+`"`)
		require.NoError(t, os.Chmod(filepath.Join(top, parent), 0o711))
	}
	as(t, readerID, func() { require.Equal(t, setOf("2", "key"), visible(t, path)) })
	d = directory(t, path, readers(Reader{User: "61001"}, Reader{Group: "61003"}))
	log = captureLog(d)
	require.NoError(t, d.Prepare(t.Context()))
	require.Empty(t, log.String())
}

// TestAParentThatCanNotBeRead is passed through by an entry of its ACL alone,
// which the agent must see although it may not list the directory.
func TestAParentThatCanNotBeRead(t *testing.T) {
	needRoot(t, "to work as another user")
	top := reachable(t)
	through := []acl.Entry{{Tag: acl.User, Perm: acl.Execute, ID: botID}, {Tag: acl.User, Perm: acl.Execute, ID: readerID}}
	closed := filepath.Join(top, "closed")
	path := filepath.Join(closed, "out")
	require.NoError(t, os.MkdirAll(path, 0o700))
	require.NoError(t, os.Chown(path, botID, botID))
	setList(t, closed, acl.Access, acl.New(7, through...))
	as(t, botID, func() {
		d := directory(t, path, theReader())
		log := captureLog(d)
		require.NoError(t, d.Prepare(t.Context()))
		require.Empty(t, log.String())
		write(t, d, setOf("1", "key"))
	})
	as(t, readerID, func() { require.Equal(t, setOf("1", "key"), visible(t, path)) })
}

// TestInitLooksWhoMayWriteToAParent: whoever can replace the directory decides
// what the readers read.
func TestInitLooksWhoMayWriteToAParent(t *testing.T) {
	needRoot(t, "to give directories away")
	for _, test := range []struct {
		name  string
		make  func(t *testing.T, parent string)
		note  string
		error string
	}{
		{name: "root's", make: func(*testing.T, string) {}},
		{name: "the bot's", make: func(t *testing.T, p string) { require.NoError(t, os.Chown(p, botID, botID)) }},
		{name: "everybody's", make: func(t *testing.T, p string) { require.NoError(t, os.Chmod(p, 0o777)) },
			error: "everybody can write to PARENT, and so put something else in the place of PATH: run `chmod o-w PARENT`"},
		{name: "everybody's, and a group's", make: func(t *testing.T, p string) {
			require.NoError(t, os.Chown(p, 0, thirdID))
			require.NoError(t, os.Chmod(p, 0o777))
		}, error: "everybody can write to PARENT"},
		{name: "everybody's, and a stranger's", make: func(t *testing.T, p string) {
			require.NoError(t, os.Chown(p, thirdID, 0))
			require.NoError(t, os.Chmod(p, 0o777))
		}, error: "everybody can write to PARENT"},
		{name: "everybody's, and somebody's by ACL", make: func(t *testing.T, p string) {
			list := acl.New(7, acl.Entry{Tag: acl.User, Perm: 7, ID: thirdID})
			list[len(list)-1].Perm = 7 // others
			setList(t, p, acl.Access, list)
		}, error: "everybody can write to PARENT"},
		{name: "everybody's, with the sticky bit", make: func(t *testing.T, p string) {
			require.NoError(t, os.Chmod(p, 0o777|os.ModeSticky))
		}},
		{name: "a stranger's", make: func(t *testing.T, p string) { require.NoError(t, os.Chown(p, thirdID, 0)) },
			note: "PARENT can be written by its owner 61002, who can put something else in the place of PATH"},
		{name: "a stranger's, with the sticky bit", make: func(t *testing.T, p string) {
			require.NoError(t, os.Chown(p, thirdID, 0))
			require.NoError(t, os.Chmod(p, 0o755|os.ModeSticky))
		}, note: "PARENT can be written by its owner 61002"},
		{name: "a group's", make: func(t *testing.T, p string) {
			require.NoError(t, os.Chown(p, 0, thirdID))
			require.NoError(t, os.Chmod(p, 0o775))
		}, note: "PARENT can be written by its group 61002"},
		{name: "root's group's", make: func(t *testing.T, p string) { require.NoError(t, os.Chmod(p, 0o775)) }},
		{name: "somebody's by ACL", make: func(t *testing.T, p string) {
			list := acl.New(7, acl.Entry{Tag: acl.User, Perm: 7, ID: thirdID}, acl.Entry{Tag: acl.User, Perm: 1, ID: botID}, acl.Entry{Tag: acl.User, Perm: 1, ID: readerID})
			setList(t, p, acl.Access, list)
		}, note: "PARENT can be written by the user 61002"},
		{name: "somebody's by an ACL that its mask takes back", make: func(t *testing.T, p string) {
			setList(t, p, acl.Access, acl.New(7, acl.Entry{Tag: acl.User, Perm: 7, ID: thirdID}))
			require.NoError(t, os.Chmod(p, 0o711))
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, exists := range []bool{false, true} {
				parent := filepath.Join(reachable(t), "parent")
				path := filepath.Join(parent, "out")
				require.NoError(t, os.Mkdir(parent, 0o755))
				require.NoError(t, os.Chmod(parent, 0o755))
				test.make(t, parent)
				if exists {
					require.NoError(t, os.Mkdir(path, 0o700))
				}
				fill := strings.NewReplacer("PARENT", parent, "PATH", path).Replace

				plan, err := PlanInit(initOptions(path))

				if test.error != "" {
					require.ErrorContains(t, err, fill(test.error))
					require.Equal(t, failure.Configuration, failure.KindOf(err))
					continue
				}
				require.NoError(t, err)
				defer plan.Close()
				if test.note == "" {
					require.Empty(t, plan.Notes)
				} else {
					require.Len(t, plan.Notes, 1)
					require.Contains(t, plan.Notes[0], fill(test.note))
				}
			}
		})
	}
}

// TestInitWaitsForAWriter: an agent may be writing to the directory.
func TestInitWaitsForAWriter(t *testing.T) {
	needRoot(t, "to give directories away")
	path := filepath.Join(reachable(t), "out")
	d := directory(t, path)
	write(t, d, setOf("1", "key"))
	put(t, path, setOf("1", "stranger"))
	clean := func(o *InitOptions) { o.Clean = true }
	dir, err := OpenDir(path, SymlinksSecure)
	require.NoError(t, err)
	defer dir.Close()
	lock, err := dir.lock(t.Context())
	require.NoError(t, err)
	before := state(t, path)

	// It gives up when its caller does, and has changed nothing.
	plan, err := PlanInit(initOptions(path, clean))
	require.NoError(t, err)
	defer plan.Close()
	require.NotEmpty(t, plan.Changes)
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	require.ErrorIs(t, plan.Apply(ctx), context.Canceled)
	require.Equal(t, before, state(t, path))

	// What the writer did meanwhile makes the plan one of yesterday.
	done := make(chan error)
	go func() { done <- plan.Apply(t.Context()) }()
	put(t, path, setOf("1", "another"))
	require.NoError(t, lock.Close())
	require.ErrorContains(t, <-done, path+" was written to while init looked at it: nothing was changed there; run it again")
	require.FileExists(t, filepath.Join(path, "stranger"))

	// The lock is free again, and a new plan works.
	initialise(t, initOptions(path, clean))
	require.NoFileExists(t, filepath.Join(path, "stranger"))
	as(t, botID, func() { write(t, directory(t, path), setOf("2", "key")) })
}

// TestInitWithoutOwners: root of a file system that has no owners can't give
// anything away.
func TestInitWithoutOwners(t *testing.T) {
	needRoot(t, "to see what root is told")
	p := &InitPlan{Path: "/media/stick/out", dir: &Dir{path: "/media/stick/out"}, opts: InitOptions{Owner: theBot()}}
	for _, err := range []error{unix.EPERM, unix.ENOSYS, unix.EOPNOTSUPP} {
		told := p.ownerless(unix.Stat_t{}, err)
		require.ErrorContains(t, told, "the file system of /media/stick/out keeps no owners")
		require.ErrorContains(t, told, "all that is there belongs to root")
		require.Equal(t, failure.Configuration, failure.KindOf(told))
	}
	require.NotContains(t, p.ownerless(unix.Stat_t{}, unix.EIO).Error(), "owners")
}
