package cluster

import (
	"context"
	"sync"
	"time"

	"github.com/gravitational/teleport/api/types"
	"github.com/gravitational/trace"

	"rollcall/failure"
)

// semaphoreKind groups rollcall's semaphores in the cluster's backend.
const semaphoreKind = "rollcall"

// Semaphore is one that only one holder at a time can have, cluster-wide. It
// lives in the cluster's own backend. A holder that vanishes loses it when its
// time is over. Safe for concurrent use.
//
// The server ends a lease by its own clock. So it's asked for by that clock: the
// age of the identity's certificate tells what the server's clock shows, however
// wrong this host's is. It's learned anew after this host was suspended, after its
// clock was set, and when the server takes what is asked for, or what is held, to
// be over already. A pause that neither clock shows and that is too short for
// these signs makes leases end earlier for the server, by its length.
type Semaphore struct {
	access       *Access
	name, holder string

	mu    sync.Mutex // protects the following
	lease *types.SemaphoreLease
}

// Semaphore returns the semaphore of a name. The holder is for people. Nothing
// is asked of the cluster yet.
func (a *Access) Semaphore(name, holder string) *Semaphore {
	return &Semaphore{access: a, name: name, holder: holder}
}

// Acquire takes the semaphore for ttl, and returns for how long it's held for
// certain, counted from before the call. Conflict: another holds it.
func (s *Semaphore) Acquire(ctx context.Context, ttl time.Duration) (time.Duration, error) {
	var got *types.SemaphoreLease
	err := s.do(ctx, "acquiring", func(ctx context.Context, conn *lent) (err error) {
		got, err = conn.AcquireSemaphore(ctx, types.AcquireSemaphoreRequest{
			SemaphoreKind: semaphoreKind,
			SemaphoreName: s.name,
			MaxLeases:     1,
			Expires:       conn.clock.time(time.Now()).Add(ttl),
			Holder:        s.holder,
		})
		return err
	})
	if trace.IsLimitExceeded(err) {
		return 0, failure.Wrap(failure.Conflict, err, "another agent holds the semaphore %s/%s", semaphoreKind, s.name)
	}
	if err != nil {
		return 0, err
	}
	s.mu.Lock()
	s.lease = got
	s.mu.Unlock()
	return certain(ttl), nil
}

// Extend holds the semaphore for ttl from now on. NotFound: it's lost.
func (s *Semaphore) Extend(ctx context.Context, ttl time.Duration) (time.Duration, error) {
	lease, err := s.held()
	if err != nil {
		return 0, err
	}
	err = s.do(ctx, "keeping", func(ctx context.Context, conn *lent) error {
		lease.Expires = conn.clock.time(time.Now()).Add(ttl)
		err := conn.KeepAliveSemaphoreLease(ctx, lease)
		// It's asked for while it's ours for certain. So it may have been asked for
		// by a clock that is behind, and the next mustn't be.
		if trace.IsNotFound(err) && conn.clock.doubtful(time.Now()) {
			conn.doubt()
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	return certain(ttl), nil
}

// Release gives the semaphore back. One that isn't held is no error.
func (s *Semaphore) Release(ctx context.Context) error {
	lease, err := s.held()
	if err != nil {
		return nil //nolint:nilerr // nothing to give back
	}
	s.mu.Lock()
	s.lease = nil
	s.mu.Unlock()
	err = s.do(ctx, "releasing", func(ctx context.Context, conn *lent) error {
		lease.Expires = conn.clock.time(time.Now()).Add(time.Minute) // it's only checked to be in the future
		return conn.CancelSemaphoreLease(ctx, lease)
	})
	if failure.KindOf(err) == failure.NotFound {
		return nil
	}
	return err
}

func (s *Semaphore) held() (types.SemaphoreLease, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lease == nil {
		return types.SemaphoreLease{}, failure.New(failure.NotFound, "the semaphore %s/%s isn't held", semaphoreKind, s.name)
	}
	return *s.lease, nil
}

// do makes one call by the server's clock. If that turns out not to be known, it's
// learned anew and the call is made once more.
func (s *Semaphore) do(ctx context.Context, op string, call func(ctx context.Context, conn *lent) error) error {
	what := intent{op: op + " semaphore/" + semaphoreKind + "/" + s.name, kind: types.KindSemaphore}
	doubted := false
	timed := func(ctx context.Context, conn *lent) error {
		if doubted {
			return call(ctx, conn)
		}
		if doubted = conn.clock.moved(time.Now()); doubted {
			// Asked for by this clock, a lease could end long before we take it to.
			conn.doubt()
			return nil
		}
		err := call(ctx, conn)
		// Nothing else of what we ask can be wrong: it's the time.
		if doubted = trace.IsBadParameter(err) && conn.clock.doubtful(time.Now()); doubted {
			conn.doubt()
			return nil
		}
		return err
	}
	err := s.access.do(ctx, what, timed)
	if err == nil && doubted {
		s.access.log.InfoContext(ctx, "This host was suspended, or a clock was set: the cluster's time is asked for anew.")
		err = s.access.do(ctx, what, timed)
	}
	return err
}

// clockUncertainty is how much the server's clock can be ahead of what we take
// it for: certificates tell whole seconds, and a cluster's Auth Services agree
// no better.
const clockUncertainty = 2 * time.Second

// certain is what is sure of a lease of ttl.
func certain(ttl time.Duration) time.Duration { return ttl - min(clockUncertainty, ttl/4) }
