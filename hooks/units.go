package hooks

import (
	"context"
	"sync"
	"time"
)

// settle is how long the first request for a unit waits for others: after a
// rotation all outputs change within moments.
const settle = time.Second

// Units has systemd reload and restart units for all outputs of an agent.
// Requests for the same that come within a second become one job, and those
// that come while it runs become one more; what comes of a job is told to
// everybody who asked for it. It's safe for concurrent use, and runs nothing
// when nobody waits.
type Units struct {
	jobs   jobs
	settle time.Duration

	// mu protects the following, and the batches' fields that say so.
	mu sync.Mutex
	// gathering are the batches that others can still join, and running those
	// that systemd works on.
	gathering, running map[request]*batch
}

// request is what is asked for.
type request struct {
	verb verb
	unit string
}

// batch is one job and those who wait for it.
type batch struct {
	// begin ends the gathering, at the time at; mu protects at and waiting.
	begin   *time.Timer
	at      time.Time
	waiting int
	// cancel ends the job when nobody waits any more.
	cancel context.CancelCauseFunc
	// done is closed when err is set.
	done chan struct{}
	err  error
}

// NewUnits returns what the runners of all outputs share.
func NewUnits() *Units { return newUnits(manager{}) }

func newUnits(jobs jobs) *Units {
	return &Units{jobs: jobs, settle: settle, gathering: map[request]*batch{}, running: map[request]*batch{}}
}

// job asks for a job, and waits for what comes of it or for the end of ctx. The
// last one to go away ends the job, and waits for that.
func (u *Units) job(ctx context.Context, v verb, unit string) error {
	key := request{v, unit}
	b := u.join(ctx, key)
	select {
	case <-b.done:
		return b.err
	case <-ctx.Done():
	}
	if u.leave(ctx, key, b) {
		<-b.done
		return b.err
	}
	return timedOut(ctx, "systemd wasn't done with it")
}

// join finds the batch that gathers, or begins one.
func (u *Units) join(ctx context.Context, key request) *batch {
	u.mu.Lock()
	defer u.mu.Unlock()
	wait := u.wait(ctx)
	at := time.Now().Add(wait)
	b := u.gathering[key]
	if b == nil {
		work, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
		b = &batch{begin: time.NewTimer(wait), at: at, cancel: cancel, done: make(chan struct{})}
		u.gathering[key] = b
		go u.run(work, key, b)
	}
	if at.Before(b.at) {
		b.at = at
		b.begin.Reset(wait)
	}
	b.waiting++
	return b
}

// wait is how long a request may wait for others: a short timeout is meant for
// systemd's work.
func (u *Units) wait(ctx context.Context) time.Duration {
	if deadline, limited := ctx.Deadline(); limited {
		return max(0, min(u.settle, time.Until(deadline)/4))
	}
	return u.settle
}

// leave says whether ctx's was the last one who waited for the batch, which is
// then on its way to its end.
func (u *Units) leave(ctx context.Context, key request, b *batch) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	b.waiting--
	if b.waiting > 0 {
		return false
	}
	if u.gathering[key] == b {
		delete(u.gathering, key)
	}
	b.cancel(context.Cause(ctx))
	return true
}

// run is a batch's goroutine. The last of those who wait for it is its owner.
func (u *Units) run(ctx context.Context, key request, b *batch) {
	defer close(b.done)
	defer b.cancel(nil)
	defer b.begin.Stop()
	select {
	case <-b.begin.C:
	case <-ctx.Done():
	}
	if err := u.takeTurn(ctx, key, b); err != nil {
		b.err = err
		return
	}
	b.err = u.jobs.job(ctx, key.verb, key.unit)
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.running, key)
}

// takeTurn waits until nothing runs for the same unit, and then closes the
// batch for those who come later.
func (u *Units) takeTurn(ctx context.Context, key request, b *batch) error {
	for ctx.Err() == nil {
		u.mu.Lock()
		before := u.running[key]
		if before == nil {
			// Under the lock: whoever has left may have ended ctx meanwhile.
			if ctx.Err() == nil {
				delete(u.gathering, key)
				u.running[key] = b
				u.mu.Unlock()
				return nil
			}
			u.mu.Unlock()
			break
		}
		u.mu.Unlock()
		select {
		case <-before.done:
		case <-ctx.Done():
		}
	}
	return timedOut(ctx, "systemd was still busy with an earlier request")
}
