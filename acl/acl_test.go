package acl

import (
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestGolden reads what setfacl stored, and prints it as getfacl does.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.hex")
	require.NoError(t, err)
	require.Len(t, files, 6)
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".hex")
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			data, err := hex.DecodeString(strings.TrimSpace(string(text)))
			require.NoError(t, err)
			want, err := os.ReadFile(filepath.Join("testdata", name+".getfacl"))
			require.NoError(t, err)

			a, err := Decode(data)
			require.NoError(t, err)
			require.Equal(t, strings.TrimSpace(string(want)), strings.ReplaceAll(a.String(), ",", "\n"))
			require.Equal(t, data, a.Encode())
		})
	}
}

func TestNew(t *testing.T) {
	require.Equal(t, "user::rw-,group::---,other::---", New(Read|Write).String())
	a := New(Read|Write|Execute,
		Entry{Group, Read | Execute, 7}, Entry{User, Read, 998}, Entry{User, Read | Execute, 3}, Entry{User, Read, 998})
	require.Equal(t, "user::rwx,user:3:r-x,user:998:r--,group::---,group:7:r-x,mask::r-x,other::---", a.String())
	require.NoError(t, a.check())
	require.Equal(t, uint32(0o750), a.Mode())
	require.Equal(t, uint32(0o640), New(Read|Write, Entry{User, Read, 1}).Mode())
	require.Len(t, a.Named(), 3)
	require.Equal(t, Read|Execute, a.Limit())
	require.Equal(t, Read|Write|Execute, New(Read).Limit())
	require.Equal(t, uint32(0o751), FromMode(0o751).Mode())
	require.True(t, New(Read|Write).Equal(FromMode(0o600)))
	require.Equal(t, "user::r--,user:root:r--,group::---,group:root:r--,mask::r--,other::---",
		New(Read, Entry{User, Read, 0}, Entry{Group, Read, 0}).Names())
}

func TestDecodeRefuses(t *testing.T) {
	good := New(Read, Entry{User, Read, 1})
	change := func(f func(ACL) ACL) []byte { return f(append(ACL{}, good...)).Encode() }
	tests := map[string][]byte{
		"nothing":          nil,
		"half an entry":    good.Encode()[:10],
		"another version":  append([]byte{3, 0, 0, 0}, good.Encode()[4:]...),
		"no entries":       good.Encode()[:4],
		"an unknown tag":   change(func(a ACL) ACL { a[1].Tag = 0x40; return a }),
		"an unknown right": change(func(a ACL) ACL { a[1].Perm = 8; return a }),
		"no mask":          change(func(a ACL) ACL { return append(a[:3], a[4:]...) }),
		"no owner":         change(func(a ACL) ACL { return a[1:] }),
		"an entry twice":   change(func(a ACL) ACL { return append(a, a[1]) }),
	}
	for name, data := range tests {
		_, err := Decode(data)
		require.ErrorIs(t, err, ErrMalformed, name)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(New(Read, Entry{User, Read, 1}, Entry{Group, Write, 2}).Encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := Decode(data)
		if err != nil {
			return
		}
		again, err := Decode(a.Encode())
		require.NoError(t, err)
		require.True(t, a.Equal(again))
	})
}

func TestPermits(t *testing.T) {
	const owner, group = 100, 200
	a := ACL{
		{Tag: Owner, Perm: Read | Write},
		{Tag: User, Perm: Read | Write, ID: 1},
		{Tag: User, ID: 2},
		{Tag: OwnerGroup, Perm: Execute},
		{Tag: Group, Perm: Read, ID: 300},
		{Tag: Group, Perm: Execute, ID: 301},
		{Tag: Mask, Perm: Read | Execute},
		{Tag: Other, Perm: Read},
	}
	tests := []struct {
		name string
		who  Subject
		want Perm
		ok   bool
	}{
		{"the owner isn't masked", Subject{UID: owner}, Read | Write, true},
		{"the owner gets no more, whatever his groups", Subject{owner, []uint32{301}}, Execute, false},
		{"a named user", Subject{UID: 1}, Read, true},
		{"the mask limits him", Subject{UID: 1}, Write, false},
		{"a named user with nothing, whatever others get", Subject{2, []uint32{300}}, Read, false},
		{"the file's group", Subject{5, []uint32{group}}, Execute, true},
		{"one group must give all", Subject{5, []uint32{group, 300}}, Read | Execute, false},
		{"any of the groups", Subject{5, []uint32{301, 300}}, Read, true},
		{"a group that matches keeps others' rights away", Subject{5, []uint32{301}}, Read, false},
		{"others", Subject{5, []uint32{9}}, Read, true},
		{"others get no more", Subject{UID: 5}, Execute, false},
	}
	for _, test := range tests {
		require.Equal(t, test.ok, a.Permits(test.who, owner, group, test.want), test.name)
	}
	require.True(t, FromMode(0o751).Permits(Subject{UID: 5}, 1, 2, Execute))
	require.False(t, FromMode(0o750).Permits(Subject{UID: 5}, 1, 2, Execute))
}

func TestFile(t *testing.T) {
	dir := t.TempDir()
	file, err := os.Create(filepath.Join(dir, "file"))
	require.NoError(t, err)
	defer file.Close()
	fd := int(file.Fd())
	require.NoError(t, file.Chmod(0o600))

	a, err := Get(fd, Access)
	require.NoError(t, err)
	require.Nil(t, a)
	want := New(Read|Write, Entry{User, Read, 65533}, Entry{Group, Read, 65532})
	require.NoError(t, Set(fd, Access, want))
	a, err = Get(fd, Access)
	require.NoError(t, err)
	require.True(t, want.Equal(a), a)
	requireGetfacl(t, file.Name(), want)

	// A chmod by hand is the mask's end, which an exact comparison sees.
	require.NoError(t, file.Chmod(0o600))
	a, err = Get(fd, Access)
	require.NoError(t, err)
	require.False(t, want.Equal(a))
	require.Zero(t, a.Limit())

	require.NoError(t, Remove(fd, Access))
	require.NoError(t, Remove(fd, Access))
	a, err = Get(fd, Access)
	require.NoError(t, err)
	require.Nil(t, a)
}

func TestALongList(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	require.NoError(t, err)
	defer file.Close()
	var named []Entry
	for id := range uint32(200) {
		named = append(named, Entry{User, Read, 10000 + id})
	}
	want := New(Read|Write, named...)
	require.NoError(t, Set(int(file.Fd()), Access, want))
	a, err := Get(int(file.Fd()), Access)
	require.NoError(t, err)
	require.True(t, want.Equal(a))
}

func requireGetfacl(t *testing.T, path string, want ACL) {
	t.Helper()
	if _, err := exec.LookPath("getfacl"); err != nil {
		t.Log("getfacl isn't installed (Debian's package acl, which `make test` installs as root): not compared")
		return
	}
	out, err := exec.Command("getfacl", "--numeric", "--absolute-names", "--omit-header", path).Output()
	require.NoError(t, err)
	require.Equal(t, strings.ReplaceAll(want.String(), ",", "\n"), strings.TrimSpace(string(out)))
}

func TestNames(t *testing.T) {
	id, err := LookupUser("root")
	require.NoError(t, err)
	require.Zero(t, id)
	id, err = LookupGroup("4000000000")
	require.NoError(t, err, "a number needs no account")
	require.Equal(t, uint32(4000000000), id)
	for _, name := range []string{"no-such-name", "-1", "4294967295", "4294967296", ""} {
		_, err = LookupUser(name)
		require.ErrorContains(t, err, `there's no user "`+name+`" on this host`)
		_, err = LookupGroup(name)
		require.ErrorContains(t, err, `there's no group "`+name+`" on this host`)
	}
	require.Equal(t, "root", UserName(0))
	require.Equal(t, "4000000000", UserName(4000000000))
	require.Equal(t, "root", GroupName(0))
	require.Equal(t, "4000000000", GroupName(4000000000))
	require.Contains(t, Groups(0), uint32(0))
	require.Empty(t, Groups(4000000000))
}
