package identity

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"rollcall/failure"
)

func TestHostIDStaysTheSame(t *testing.T) {
	path := filepath.Join(t.TempDir(), "storage")
	d := open(t, path)
	first, err := d.HostID()
	require.NoError(t, err)
	require.Len(t, first, 2*hostIDBytes)
	again, err := d.HostID()
	require.NoError(t, err)
	require.Equal(t, first, again)
	require.NoError(t, d.Close())

	d = open(t, path)
	later, err := d.HostID()
	require.NoError(t, err)
	require.Equal(t, first, later)
	info, err := os.Stat(filepath.Join(path, fileHost))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())

	other, err := open(t, filepath.Join(t.TempDir(), "other")).HostID()
	require.NoError(t, err)
	require.NotEqual(t, first, other)
}

// TestHostIDIsOneForAllCallers has several services ask on the first start.
func TestHostIDIsOneForAllCallers(t *testing.T) {
	for range 20 {
		d := open(t, filepath.Join(t.TempDir(), "storage"))
		ids, errs := make([]string, 8), make([]error, 8)
		var group sync.WaitGroup
		for i := range ids {
			group.Go(func() { ids[i], errs[i] = d.HostID() })
		}
		group.Wait()
		kept, err := d.HostID()
		require.NoError(t, err)
		for i := range ids {
			require.NoError(t, errs[i])
			require.Equal(t, kept, ids[i])
		}
	}
}

// TestHostIDSurvivesAKill kills the first call before each of its steps: what a
// caller has been told is what the next process finds.
func TestHostIDSurvivesAKill(t *testing.T) {
	for n := 1; ; n++ {
		path := filepath.Join(t.TempDir(), "storage")
		d := open(t, path)
		var told string
		_, done, _ := stopAt(d, n, func() error {
			id, err := d.HostID()
			told = id
			return err
		})
		crash(d)
		found, err := open(t, path).HostID()
		require.NoError(t, err, "killed before step %d", n)
		if told != "" {
			require.Equal(t, told, found)
		}
		if done {
			require.Greater(t, n, 3)
			return
		}
	}
}

func TestDamagedHostIDIsNeverReplaced(t *testing.T) {
	for _, content := range []string{"", "x", "0123", "0123456789abcdeg", "0123456789abcdef01"} {
		path := filepath.Join(t.TempDir(), "storage")
		d := open(t, path)
		file := filepath.Join(path, fileHost)
		require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
		_, err := d.HostID()
		require.ErrorIs(t, err, ErrUnusable)
		require.Equal(t, failure.Configuration, failure.KindOf(err))
		require.ErrorContains(t, err, file)
		left, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Equal(t, content, string(left))
	}
}
