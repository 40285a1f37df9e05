package pulse

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPulse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p Pulse
		require.NoError(t, p.Alive(), "a loop that hasn't begun rests")

		p.Work("renewing", time.Minute)
		time.Sleep(time.Minute)
		require.NoError(t, p.Alive(), "at its limit")
		time.Sleep(time.Second)
		require.EqualError(t, p.Alive(), "stuck for 1m1s while renewing")

		p.Work("telling", time.Minute)
		require.NoError(t, p.Alive(), "it went on")

		p.Rest()
		time.Sleep(24 * time.Hour)
		require.NoError(t, p.Alive(), "rest may take any time")
	})
}
