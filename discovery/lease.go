package discovery

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/gravitational/trace"

	"rollcall/failure"
)

// Lease says whether we are the one that may write.
type Lease interface {
	// Hold takes the lease and keeps it until ctx ends, and then returns nil.
	// While it's held, work runs; its context ends when the lease is lost, and
	// it runs again each time that the lease was got anew. until tells up to
	// when the lease is held for certain (zero: for ever); no write may be
	// under way after that. If work returns by itself, Hold returns what it
	// returned.
	Hold(ctx context.Context, work func(ctx context.Context, until func() time.Time) error) error
}

// NoLease is for an owner that nobody shares: it's always held.
type NoLease struct{}

// Hold calls work.
func (NoLease) Hold(ctx context.Context, work func(ctx context.Context, until func() time.Time) error) error {
	return work(ctx, func() time.Time { return time.Time{} })
}

// Semaphore is what a SemaphoreLease is made of: something in the cluster that
// only one can hold.
type Semaphore interface {
	// Acquire takes it for ttl, and returns for how long it's held for certain,
	// counted from before the request was sent: ttl, less what the cluster's
	// clock is ahead of ours, if that's known. failure.Conflict: another holds
	// it.
	Acquire(ctx context.Context, ttl time.Duration) (time.Duration, error)
	// Extend is Acquire for the one who holds it. failure.NotFound and
	// failure.Conflict: it's lost.
	Extend(ctx context.Context, ttl time.Duration) (time.Duration, error)
	// Release gives it back early.
	Release(ctx context.Context) error
}

// SemaphoreLease is a Lease on a semaphore.
type SemaphoreLease struct {
	semaphore Semaphore
	ttl       time.Duration
	log       *slog.Logger
	random    func() float64
	// tell is told of errors while nobody holds the lease for certain.
	tell func(err error)
}

// Tell has f told why the lease can't be had, where that isn't because another
// holds it: once for each new error. It's called before Hold.
func (l *SemaphoreLease) Tell(f func(err error)) { l.tell = f }

// NewSemaphoreLease returns a lease that is taken for ttl and extended at a
// third of that. random is in [0,1).
func NewSemaphoreLease(s Semaphore, ttl time.Duration, log *slog.Logger, random func() float64) *SemaphoreLease {
	return &SemaphoreLease{semaphore: s, ttl: ttl, log: log, random: random}
}

// errLost is the cause of the end of work's context.
var errLost = errors.New("the lease was lost")

// Hold waits for the semaphore and calls work while it's held.
func (l *SemaphoreLease) Hold(ctx context.Context, work func(ctx context.Context, until func() time.Time) error) error {
	said, failures := "", 0
	for ctx.Err() == nil {
		until, err := l.take(ctx, l.semaphore.Acquire)
		if err != nil {
			said = l.waiting(ctx, err, said)
			if passing(err) {
				failures = 0
			} else {
				failures++
			}
			pause(ctx, l.retryIn(failures))
			continue
		}
		said, failures = "", 0
		l.log.InfoContext(ctx, "The lease is ours.", "ttl", l.ttl)
		if finished, err := l.held(ctx, until, work); finished {
			return trace.Wrap(err)
		}
	}
	return nil
}

// passing says whether an error ends by itself: another holds the lease, or
// nobody answers.
func passing(err error) bool {
	switch failure.KindOf(err) {
	case failure.Conflict, failure.Unreachable, failure.Transient:
		return true
	}
	return false
}

// retryIn returns the wait before the semaphore is asked for again. Whoever waits
// for another asks often enough to take over within a ttl; what the cluster has
// refused so many times in a row (a role that is too narrow) is asked for less
// and less often.
func (l *SemaphoreLease) retryIn(refusals int) time.Duration {
	wait := jittered(l.ttl/4, l.random())
	if refusals > 0 {
		wait = max(wait, retryDelay(refusals, l.random()))
	}
	return wait
}

// waiting says why the lease can't be had, if that's news, and returns what was
// said. That another holds it is as it should be; anything else is a failure.
func (l *SemaphoreLease) waiting(ctx context.Context, err error, said string) string {
	text := err.Error()
	if failure.KindOf(err) == failure.Conflict {
		text = "held"
	}
	switch {
	case text == said || ctx.Err() != nil:
		return said
	case text == "held":
		l.log.InfoContext(ctx, "Another agent holds the lease; waiting for it.", "err", err)
		err = nil
	default:
		l.log.WarnContext(ctx, "The lease can't be had, and nothing is written without it; it's tried again.", "err", err, "kind", failure.KindOf(err).String())
	}
	if l.tell != nil {
		l.tell(err)
	}
	return text
}

// take acquires or extends, and returns until when the lease is ours. The time
// is read before the request is sent, so that its way there costs us and not
// the one who comes next.
func (l *SemaphoreLease) take(ctx context.Context, ask func(context.Context, time.Duration) (time.Duration, error)) (time.Time, error) {
	asked := time.Now()
	ctx, cancel := context.WithTimeout(ctx, l.ttl/3)
	defer cancel()
	life, err := ask(ctx, l.ttl)
	if err != nil {
		return time.Time{}, trace.Wrap(err)
	}
	return asked.Add(life), nil
}

// held runs work until it ends by itself, which is what finished says, or the
// lease does.
func (l *SemaphoreLease) held(ctx context.Context, first time.Time, work func(ctx context.Context, until func() time.Time) error) (finished bool, err error) {
	var until atomic.Pointer[time.Time]
	until.Store(&first)
	working, lose := context.WithCancelCause(ctx)
	defer lose(nil)
	done := make(chan error, 1)
	go func() { done <- work(working, func() time.Time { return *until.Load() }) }()

	timer := time.NewTimer(l.ttl / 3)
	defer timer.Stop()
	for {
		select {
		case err := <-done:
			l.release(ctx)
			return true, trace.Wrap(err)
		case <-timer.C:
		}
		if err = l.extend(working, &until, timer); err == nil {
			continue
		}
		if ctx.Err() == nil {
			l.log.WarnContext(ctx, "The lease was lost; nothing is written until it's ours again.", "err", err)
		}
		lose(errLost)
		err = <-done
		l.release(ctx)
		return ctx.Err() != nil, trace.Wrap(err)
	}
}

// extend keeps the lease and sets when to do that next. An error means that
// it's lost; that nobody answered isn't one until the lease has ended.
func (l *SemaphoreLease) extend(ctx context.Context, until *atomic.Pointer[time.Time], timer *time.Timer) error {
	end := *until.Load()
	bounded, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	next, err := l.take(bounded, l.semaphore.Extend)
	if err == nil {
		until.Store(&next)
		timer.Reset(l.ttl / 3)
		return nil
	}
	if ctx.Err() != nil || gone(err) || expired(time.Now(), end) {
		return trace.Wrap(err)
	}
	timer.Reset(max(0, min(l.ttl/12, time.Until(end))))
	return nil
}

// release gives the semaphore back, so that the next one needn't wait for its
// end. It's best effort: a lease ends by itself.
func (l *SemaphoreLease) release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := l.semaphore.Release(ctx); err != nil {
		l.log.DebugContext(ctx, "The lease couldn't be given back; it ends by itself.", "err", err)
	}
}

// gone says whether an error means that the lease is another's.
func gone(err error) bool {
	kind := failure.KindOf(err)
	return kind == failure.NotFound || kind == failure.Conflict
}

// expired says whether a lease has ended. Both clocks are asked: the monotonic
// one stands still while the host is suspended, and the wall clock can be set
// back.
func expired(now, until time.Time) bool {
	if until.IsZero() {
		return false
	}
	return !now.Before(until) || !now.Round(0).Before(until.Round(0))
}

// jittered moves d by up to a tenth to either side; random is in [0,1).
func jittered(d time.Duration, random float64) time.Duration {
	return time.Duration(float64(d) * (0.9 + 0.2*random))
}

// pause waits for d or for ctx.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
