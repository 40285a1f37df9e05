package cluster

import (
	"context"
	"testing"
	"time"
	"unsafe"

	"github.com/gravitational/trace"
	"github.com/stretchr/testify/require"

	"rollcall/failure"
)

// suspended returns a time whose wall clock went on while the monotonic one stood
// still. A time's first word has the wall clock's seconds from bit 30 on.
func suspended(at time.Time, seconds int64) time.Time {
	*(*uint64)(unsafe.Pointer(&at)) += uint64(seconds) << 30
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

// semaphoreStage is an Auth Service with a semaphore, and one who holds it.
func semaphoreStage(t *testing.T) (*issuingStage, *Semaphore) {
	t.Helper()
	s, access := newAccess(t)
	semaphore := access.Semaphore("shared", "test")
	_, err := semaphore.Acquire(t.Context(), leaseTTL)
	require.NoError(t, err)
	return s, semaphore
}

const leaseTTL = 15 * time.Second

// shift changes what was learned of the server's clock.
func (s *issuingStage) shift(change func(c *serverClock)) {
	s.issuer.mu.Lock()
	defer s.issuer.mu.Unlock()
	for _, imp := range s.issuer.impersonators {
		change(&imp.clock)
	}
}

// The monotonic clock stands still while a host is suspended, and the server's
// doesn't. However short that was: a lease must never end for the server while we
// take it to be ours.
func TestALeaseAfterASuspension(t *testing.T) {
	for _, away := range []time.Duration{3 * time.Second, 10 * time.Second, time.Hour} {
		t.Run(away.String(), func(t *testing.T) {
			s, semaphore := semaphoreStage(t)
			s.shift(func(c *serverClock) {
				c.shown = c.shown.Add(-away)
				c.asked = suspended(c.asked, -int64(away/time.Second))
			})
			for what, ask := range map[string]func(context.Context, time.Duration) (time.Duration, error){
				"acquiring": semaphore.Acquire, "extending": semaphore.Extend,
			} {
				certain, err := ask(t.Context(), leaseTTL)
				require.NoError(t, err, what)
				require.WithinDuration(t, time.Now().Add(certain), s.fake.leaseEnd(), clockUncertainty+time.Second, what)
				require.False(t, s.fake.leaseEnd().Before(time.Now().Add(certain)), "%s: it's over for the server before it's over for us", what)
			}
			require.Equal(t, 2, s.fake.called("GenerateUserCerts"), "learned anew once")
			require.NoError(t, semaphore.Release(t.Context()))
		})
	}
}

// A virtual machine that is paused has no clock that goes on. That the server
// takes what is asked for to be over is the only sign.
func TestALeaseAfterAPauseThatNoClockShows(t *testing.T) {
	s, semaphore := semaphoreStage(t)
	pause := func(c *serverClock) {
		c.shown, c.asked = c.shown.Add(-time.Hour), c.asked.Add(-freshClock)
	}
	s.shift(pause)
	_, err := semaphore.Acquire(t.Context(), leaseTTL)
	require.NoError(t, err)
	s.shift(pause)
	_, err = semaphore.Extend(t.Context(), leaseTTL)
	require.NoError(t, err)
	s.shift(pause)
	require.NoError(t, semaphore.Release(t.Context()))
	require.Equal(t, 4, s.fake.called("GenerateUserCerts"))
}

// A shorter pause has each lease end early for the server. That it's over there
// while it's held here is the sign; else it would be lost again and again.
func TestALeaseThatEndsBeforeItsTime(t *testing.T) {
	s, semaphore := semaphoreStage(t)
	s.shift(func(c *serverClock) {
		c.shown, c.asked = c.shown.Add(-leaseTTL+5*time.Second), c.asked.Add(-freshClock)
	})
	_, err := semaphore.Acquire(t.Context(), leaseTTL)
	require.NoError(t, err)
	s.fake.endLease()
	_, err = semaphore.Extend(t.Context(), leaseTTL)
	require.Equal(t, failure.NotFound, failure.KindOf(err), "%v", err)

	certain, err := semaphore.Acquire(t.Context(), leaseTTL)
	require.NoError(t, err)
	require.False(t, s.fake.leaseEnd().Before(time.Now().Add(certain)), "it's over for the server before it's over for us")
	require.Equal(t, 2, s.fake.called("GenerateUserCerts"))
}

// A server that finds fault with something else isn't asked for identity after
// identity.
func TestTheClockIsNotDoubtedTwice(t *testing.T) {
	s, semaphore := semaphoreStage(t)
	s.shift(func(c *serverClock) { c.asked = c.asked.Add(-freshClock) })
	s.fail("AcquireSemaphore", trace.BadParameter("missing something"))
	for range 5 {
		_, err := semaphore.Acquire(t.Context(), leaseTTL)
		require.ErrorContains(t, err, "missing something")
	}
	require.Equal(t, 2, s.fake.called("GenerateUserCerts"))
}
