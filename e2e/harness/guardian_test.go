package harness

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestGuardian removes a directory that another makes anew, as a process does
// that hasn't quite died.
func TestGuardian(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "suite")
	within := filepath.Join(dir, "a", "b")
	require.NoError(t, os.MkdirAll(within, 0o700))
	release, err := guard(dir)
	require.NoError(t, err)
	released := make(chan struct{})
	go func() {
		defer close(released)
		release()
	}()

	for range 3 {
		require.NoError(t, Poll(t.Context(), waitTimeout, func() error { return gone(dir) }))
		require.NoError(t, os.MkdirAll(within, 0o700))
	}
	<-released

	require.NoDirExists(t, dir)
	release() // is nothing any more
}

// gone returns an error while there is something at path.
func gone(path string) error {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is there (%v)", path, err)
	}
	return nil
}

// TestGuardianWithNothingToDo lets a guardian go whose directory is gone.
func TestGuardianWithNothingToDo(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "suite")
	release, err := guard(dir)
	require.NoError(t, err)

	release()

	require.NoDirExists(t, dir)
}
