package discovery

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"rollcall/destination"
	"rollcall/failure"
)

// A key stays what it is, is each service's own, and is nobody else's to read.
func TestServiceKey(t *testing.T) {
	place := t.TempDir()
	open := func(service string) *StateDirectory {
		state, err := OpenStateDirectory(place, destination.SymlinksSecure, service)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, state.Close()) })
		return state
	}
	first, err := open("web").Key()
	require.NoError(t, err)
	require.Len(t, first, 32)

	again, err := open("web").Key()
	require.NoError(t, err)
	require.Equal(t, first, again)
	other, err := open("other").Key()
	require.NoError(t, err)
	require.NotEqual(t, first, other)

	path := filepath.Join(place, "discovery", "web.key")
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())

	for _, damaged := range []string{"", "zz", "abcd\n"} {
		require.NoError(t, os.WriteFile(path, []byte(damaged), 0o600))
		_, err = open("web").Key()
		require.Equal(t, failure.Configuration, failure.KindOf(err), "%q", damaged)
		kept, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, damaged, string(kept), "it's never replaced")
	}
}
