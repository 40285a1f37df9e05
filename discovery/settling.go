package discovery

import (
	"context"
	"time"

	"rollcall/diagnostics"
	"rollcall/failure"
)

const (
	// tooLong is how many times as long as it should take something may wait for
	// the source to settle before a person has to see to it, and leastTooLong the
	// least time.
	tooLong      = 5
	leastTooLong = 10 * time.Minute
)

// settling says whether something waits for the source to settle, and until when;
// zero: for as long as its events are lost.
type settling struct {
	waits bool
	until time.Time
}

// unsettled is since when something has waited for the source to settle; zero:
// nothing does. told says that it was told that this takes too long.
type unsettled struct {
	since time.Time
	told  bool
}

// waits notes whether something waits.
func (u *unsettled) waits(settling bool, now time.Time) {
	switch {
	case !settling:
		*u = unsettled{}
	case u.since.IsZero():
		u.since = now
	}
}

// alarms says whether that takes too long, and if it doesn't yet, when it will;
// zero: never.
func (u *unsettled) alarms(settle time.Duration, now time.Time) (alarms bool, next time.Time) {
	if u.since.IsZero() {
		return false, time.Time{}
	}
	if at := u.since.Add(max(leastTooLong, tooLong*settle)); at.After(now) {
		return false, at
	}
	return true, time.Time{}
}

// neverSettles returns a failure if something has waited for the source to settle
// for many times as long as that takes. Its events are lost again and again then,
// and nothing else would say so.
func (r *Reconciler) neverSettles(ctx context.Context) error {
	u := &r.said.unsettled
	if alarms, _ := u.alarms(r.opts.Guard.Settle, time.Now()); !alarms {
		return nil
	}
	_, lost := r.settlesFrom()
	what := "it's lost again and again, and waited for anew each time"
	if lost {
		what = "its events are lost, and can't be followed again"
	}
	err := failure.New(failure.Transient, "deletions have waited since %s for the source to settle (guard.settle, %s): %s; a proxy in front of it must let through events and networks; where there's no network bridge (Podman, or Docker without it), each stream of events must stay open for much longer than guard.settle",
		u.since.UTC().Format(time.RFC3339), r.opts.Guard.Settle, what)
	if !u.told {
		u.told = true
		r.log.WarnContext(ctx, "Nothing is deregistered, since the source doesn't settle.", diagnostics.KeyErr, err)
	}
	return err
}
