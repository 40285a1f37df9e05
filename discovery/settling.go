package discovery

import (
	"context"
	"time"

	"rollcall/diagnostics"
	"rollcall/discovery/plan"
	"rollcall/failure"
)

const (
	// tooLong is how many times as long as it should take something may wait for
	// the source to settle before a person has to see to it, and leastTooLong the
	// least time.
	tooLong      = 5
	leastTooLong = 10 * time.Minute
)

// neverSettles returns a failure if something has waited for the source to settle
// for many times as long as that takes. Its events are lost again and again then,
// and nothing else would say so.
func (r *Reconciler) neverSettles(ctx context.Context, p plan.Plan) error {
	now := time.Now()
	switch {
	case p.Settles.IsZero():
		r.said.settling, r.said.unsettled = time.Time{}, false
		return nil
	case r.said.settling.IsZero():
		r.said.settling = now
	}
	waited := now.Sub(r.said.settling)
	if waited < max(leastTooLong, tooLong*r.opts.Guard.Settle) {
		return nil
	}
	_, lost := r.settlesFrom()
	what := "it's lost again and again, and waited for anew each time"
	if lost {
		what = "its events are lost, and can't be followed again"
	}
	err := failure.New(failure.Transient, "deletions have waited since %s for the source to settle (guard.settle, %s): %s; if there's a proxy in front of it, it must let through events, for longer than that, and networks",
		r.said.settling.UTC().Format(time.RFC3339), r.opts.Guard.Settle, what)
	if !r.said.unsettled {
		r.said.unsettled = true
		r.log.WarnContext(ctx, "Nothing is deregistered, since the source doesn't settle.", diagnostics.KeyErr, err)
	}
	return err
}
