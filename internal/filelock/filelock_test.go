package filelock

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestWait(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	open := func() *os.File {
		file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		require.NoError(t, err)
		t.Cleanup(func() { _ = file.Close() })
		return file
	}
	holder, other := open(), open()
	require.NoError(t, Wait(t.Context(), holder, 0))

	require.ErrorIs(t, Wait(t.Context(), other, pause), unix.EWOULDBLOCK)

	ended, end := context.WithCancel(t.Context())
	end()
	require.ErrorIs(t, Wait(ended, other, time.Hour), context.Canceled)

	time.AfterFunc(3*pause, func() { _ = holder.Close() })
	require.NoError(t, Wait(t.Context(), other, time.Hour))
	require.ErrorIs(t, Wait(t.Context(), open(), 0), unix.EWOULDBLOCK, "it's the other's now")
}
