package cluster

import (
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// suspended returns a time whose wall clock went on while the monotonic one stood
// still. A time's first word has the wall clock's seconds from bit 30 on.
func suspended(at time.Time, seconds uint64) time.Time {
	*(*uint64)(unsafe.Pointer(&at)) += seconds << 30
	return at
}

func TestOverAsksBothClocks(t *testing.T) {
	now := time.Now()
	deadline := now.Add(time.Minute)
	require.False(t, over(now, deadline))
	require.True(t, over(deadline, deadline))
	after := suspended(now, 120)
	require.Equal(t, 120*time.Second, after.Round(0).Sub(now.Round(0)))
	require.Zero(t, after.Sub(now), "the monotonic clock hasn't moved")
	require.True(t, over(after, deadline))
}
