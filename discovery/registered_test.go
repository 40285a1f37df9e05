package discovery

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// TestAnAnswerOlderThanOurWrite: Teleport answers reads from a cache. What we
// have just written isn't taken for somebody else's, nor written twice.
func TestAnAnswerOlderThanOurWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, NewFakeSource(), NewFakeTeleport(), func(o *Options) { o.Guard = quickGuard() })
		r.teleport.lag = func() time.Duration { return 20 * time.Second }
		stop := r.start(t)
		after(time.Second)

		r.source.Set(container("a"))
		after(time.Second)
		r.RenewNow("a full comparison reads the old list")
		after(time.Second)
		r.source.Set(moved(container("a"), "http://10.0.0.9:80"))
		after(time.Second)
		r.RenewNow("and so does this")
		after(time.Second)
		r.source.Stop("a")
		after(time.Minute)

		require.Equal(t, []string{"create a", "update a", "delete a"}, r.teleport.Writes())
		require.Equal(t, []string{"create a ok", "update a ok", "delete a ok"}, r.journal.Words())
		stop()
	})
}

// TestSomebodysWriteAfterOurs: what is neither as we left it nor as it was before
// is somebody else's doing, at once; and what was never seen is written again.
func TestSomebodysWriteAfterOurs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, NewFakeSource(), NewFakeTeleport(), nil)
		r.teleport.lag = func() time.Duration { return 20 * time.Second }
		stop := r.start(t)
		r.source.Set(container("a"))
		r.source.Set(container("b"))
		after(time.Second)

		r.teleport.Put(theirs("a"))
		r.teleport.Drop("b")
		r.RenewNow("look")
		after(time.Second)
		require.Contains(t, r.status().Message, "1 in conflict")
		after(time.Minute)

		require.Equal(t, theirs("a"), r.teleport.All()["a"])
		require.Equal(t, []string{"a", "b"}, r.teleport.Names(), "what was deleted behind our back is back")
		stop()
	})
}

// TestOurOwnWriteFromBeforeARestart: a name that is taken, by something that
// can't be read yet, may be our own.
func TestOurOwnWriteFromBeforeARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		teleport := NewFakeTeleport()
		teleport.lag = func() time.Duration { return 3 * time.Second }
		source := NewFakeSource(container("a"))
		first := newRig(t, source, teleport, nil)
		stop := first.start(t)
		after(time.Second)
		stop()
		source.Set(moved(container("a"), "http://10.0.0.9:80"))

		second := newRig(t, source, teleport, nil)
		stop = second.start(t)
		after(30 * time.Second)

		require.Equal(t, []string{"create a", "update a"}, teleport.Writes())
		require.NotContains(t, second.status().Message, "conflict")
		stop()
	})
}
