package identity

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"rollcall/failure"
)

func TestToken(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "token")
	require.NoError(t, os.WriteFile(file, []byte("  from-a-file\n"), 0o600))
	empty := filepath.Join(dir, "empty")
	require.NoError(t, os.WriteFile(empty, []byte("\n"), 0o600))
	credentials := func(name string) ([]byte, error) {
		switch name {
		case "token":
			return []byte("from-systemd\n"), nil
		case "large":
			return nil, failure.New(failure.Configuration, "the credential is too large")
		default:
			return nil, fs.ErrNotExist
		}
	}
	for _, test := range []struct{ value, want, fails string }{
		{"a-literal", "a-literal", ""},
		{file, "from-a-file", ""},
		{"credential:token", "from-systemd", ""},
		{"", "", "set onboarding.token"},
		{empty, "", "is empty"},
		{filepath.Join(dir, "gone"), "", filepath.Join(dir, "gone")},
		{dir, "", "is a directory"},
		{"credential:gone", "", "LoadCredential=gone:"},
		{"credential:large", "", "the credential is too large"},
	} {
		got, err := TokenSource{Options: OnboardingOptions{Token: test.value}, Credential: credentials}.Token()
		if test.fails == "" {
			require.NoError(t, err, test.value)
			require.Equal(t, test.want, got)
			continue
		}
		require.ErrorContains(t, err, test.fails, test.value)
		require.Equal(t, failure.Configuration, failure.KindOf(err), test.value)
		require.True(t, errors.Is(err, fs.ErrNotExist), "absent or unreadable is no reason to join again: %q", test.value)
	}
}
