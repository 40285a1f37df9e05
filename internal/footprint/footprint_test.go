package footprint

import (
	"context"
	"runtime"
	"runtime/debug"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTuneLeavesTheUsersChoice(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(77))
	Tune(func(string) string { return "200" })
	require.Equal(t, 77, debug.SetGCPercent(77))
	Tune(func(string) string { return "" })
	require.Equal(t, gcPercent, debug.SetGCPercent(77))
}

func TestReleaseGivesMemoryBackOnce(t *testing.T) {
	released := func() uint64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapReleased
	}
	waste := make([]byte, 32<<20)
	for i := range waste {
		waste[i] = 1
	}
	runtime.KeepAlive(waste)
	waste = nil
	before := released()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		Release(t.Context())
		require.Equal(t, firstRelease, time.Since(began))
	})
	require.Greater(t, released(), before)
}

func TestReleaseEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	Release(ctx) // returns
}
