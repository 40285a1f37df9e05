package pulse

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m Many
		require.NoError(t, m.Alive(), "nothing has begun")

		first := m.Work("answering", time.Minute)
		time.Sleep(30 * time.Second)
		second := m.Work("answering", time.Minute)
		second()
		time.Sleep(30 * time.Second)
		require.NoError(t, m.Alive(), "at its limit")
		time.Sleep(time.Second)
		require.EqualError(t, m.Alive(), "stuck for 1m1s while answering", "another that ended doesn't hide it")

		first()
		first()
		time.Sleep(time.Hour)
		require.NoError(t, m.Alive())
	})
}
