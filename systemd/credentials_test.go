package systemd

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rollcall/failure"
)

// directory makes a credentials directory with one of each kind of thing.
func directory(t *testing.T) Credentials {
	dir := filepath.Join(t.TempDir(), "credentials")
	require.NoError(t, os.Mkdir(dir, 0o700))
	write := func(name string, content []byte) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), content, 0o400))
	}
	write("token", []byte("abc\n"))
	write("none", []byte("unset\n"))
	write("largest", bytes.Repeat([]byte("x"), maxCredential))
	write("larger", bytes.Repeat([]byte("x"), maxCredential+1))
	write("../outside", []byte("outside"))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "folder"), 0o700))
	require.NoError(t, os.Symlink("../outside", filepath.Join(dir, "link")))
	require.NoError(t, unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600))
	return NewCredentials(environment{"CREDENTIALS_DIRECTORY": dir}.get)
}

func TestCredential(t *testing.T) {
	credentials := directory(t)
	content, err := credentials.Credential("token")
	require.NoError(t, err)
	require.Equal(t, "abc\n", string(content), "content is given as it is")
	content, err = credentials.Credential("largest")
	require.NoError(t, err)
	require.Len(t, content, 64<<10)
}

func TestCredentialRefusals(t *testing.T) {
	credentials := directory(t)
	for _, test := range []struct {
		name, want string
		absent     bool
	}{
		{name: "missing", want: `there is no systemd credential "missing"; add LoadCredential=missing:`, absent: true},
		{name: "none", want: `there is no systemd credential "none"`, absent: true},
		{name: "larger", want: "is larger than 64 KiB"},
		{name: "folder", want: "isn't a plain file"},
		{name: "link", want: "isn't a plain file"},
		{name: "pipe", want: "isn't a plain file"},
		{name: "", want: "isn't the name of a systemd credential"},
		{name: ".", want: "isn't the name"},
		{name: "..", want: "isn't the name"},
		{name: "../outside", want: "isn't the name"},
		{name: "folder/x", want: "isn't the name"},
		{name: "/etc/passwd", want: "isn't the name"},
		{name: "a\x00b", want: "isn't the name"},
		{name: strings.Repeat("x", 256), want: "isn't the name"},
	} {
		t.Run(test.name, func(t *testing.T) {
			content, err := credentials.Credential(test.name)
			require.Nil(t, content)
			require.ErrorContains(t, err, test.want)
			require.Equal(t, failure.Configuration, failure.KindOf(err))
			if test.absent {
				require.ErrorIs(t, err, fs.ErrNotExist)
			} else {
				require.NotErrorIs(t, err, fs.ErrNotExist)
			}
		})
	}
}

func TestCredentialOutsideSystemd(t *testing.T) {
	_, err := NewCredentials(environment{}.get).Credential("token")
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "CREDENTIALS_DIRECTORY isn't set")
}
