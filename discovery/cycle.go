package discovery

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/gravitational/trace"

	"rollcall/diagnostics"
	"rollcall/discovery/plan"
	"rollcall/discovery/resource"
	"rollcall/failure"
)

// errSource is in the chain of an error of the source's.
var errSource = errors.New("the source can't be read")

// cycle looks once, and notes what came of it and when to look next.
func (r *Reconciler) cycle(ctx context.Context, until func() time.Time, l look) {
	r.pulse.Work("reconciling", r.opts.StuckAfter)
	defer r.pulse.Rest()
	began := time.Now()
	p, result, err := r.reconcile(ctx, until, l)
	if ctx.Err() != nil {
		return // stopping, or the lease is gone: neither is a failure
	}
	now := time.Now()
	if err != nil {
		r.schedule.failed(now, errors.Is(err, errSource))
	} else {
		r.said.unsettled.waits(p.Settling, now)
		_, alarm := r.said.unsettled.alarms(r.opts.Guard.Settle, now)
		part := earliest(earliest(p.NextLook, r.items.next(now)), alarm)
		if follows(p, result) {
			part = now
		}
		r.schedule.worked(now, l.full, part)
		r.schedule.confirm(now, r.seen.listed)
	}
	r.say(ctx, p, result, err, now.Sub(began))
}

// earliest returns the earlier of two times, of which zero is never.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// reconcile reads both sides, plans and applies.
func (r *Reconciler) reconcile(ctx context.Context, until func() time.Time, l look) (plan.Plan, Result, error) {
	readErr := r.read(ctx)
	if readErr != nil && r.opts.TTL <= 0 {
		return plan.Plan{}, Result{}, readErr
	}
	if l.full {
		r.items.forgive()
	}
	fresh := l.full || !r.seen.listed
	if fresh {
		if err := r.list(ctx); err != nil {
			return plan.Plan{}, Result{}, trace.Wrap(err)
		}
	}
	if readErr != nil {
		p := r.refreshes()
		return p, r.applying(until).apply(ctx, p), readErr
	}
	p, err := r.plan(ctx, fresh)
	if err != nil {
		return p, Result{}, trace.Wrap(err)
	}
	result := r.applying(until).apply(ctx, p)
	return p, result, trace.Wrap(result.Fatal)
}

// read reads the source. An error leaves what was read before.
func (r *Reconciler) read(ctx context.Context) error {
	reading, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	candidates, err := r.opts.Source.Read(reading)
	if err != nil {
		r.readable = time.Time{}
		return failure.Wrap(failure.KindOf(err), errors.Join(errSource, err),
			"the source can't be read, so nothing is changed: %s", err)
	}
	r.take(candidates)
	return nil
}

// take turns candidates into what a plan takes.
func (r *Reconciler) take(candidates []Candidate) {
	r.goodReads++
	if r.readable.IsZero() {
		r.readable = time.Now()
	}
	r.desired = r.desired[:0]
	for i := range candidates {
		c := &candidates[i]
		if c.Skip != "" && c.Err == nil {
			continue
		}
		d := plan.Desired{Workload: c.Workload, Resource: c.Resource, Err: c.Err, Keep: c.Keep}
		if _, ok := r.opts.Registries[c.Resource.Kind]; !ok && d.Err == nil {
			d.Err = failure.New(failure.Configuration, "%s: this service doesn't register resources of kind %q", c.Workload, c.Resource.Kind)
		}
		r.desired = append(r.desired, d)
	}
}

// settlesFrom is since when what the source says is without a gap: since it could
// be read again, or since it follows again what happens, whichever is later. lost
// says that it doesn't follow that at the moment.
func (r *Reconciler) settlesFrom() (from time.Time, lost bool) {
	from = r.readable
	if gradual, ok := r.opts.Source.(Gradual); ok {
		var since time.Time
		if since, lost = gradual.Since(); since.After(from) {
			from = since
		}
	}
	return from, lost
}

// input is what a plan is made from now.
func (r *Reconciler) input(now time.Time) plan.Input {
	from, lost := r.settlesFrom()
	return plan.Input{
		Owner: r.opts.Owner, Source: r.opts.SourceName,
		Desired: r.desired, Actual: r.seen.all,
		GoodReads: r.goodReads, Readable: from, Lost: lost, Pending: r.pending(), Outgoing: r.outgoing(), Absences: r.absences,
		Policy: r.opts.Policy, Guard: r.opts.Guard, History: r.history.Recent(now),
		TTL: r.opts.TTL, Now: now,
	}
}

// plan plans, and lets what a person approved pass. What is to be deleted is
// decided on a fresh list alone: between full comparisons we needn't have heard
// that a person took or deleted some of it.
func (r *Reconciler) plan(ctx context.Context, fresh bool) (plan.Plan, error) {
	began := time.Now()
	if !r.begun {
		r.begun = true
		r.history.first(r.owned())
	}
	in := r.input(began)
	p := plan.Make(in)
	if !fresh && r.deletes(&p, began) {
		if err := r.list(ctx); err != nil {
			return p, trace.Wrap(err)
		}
		in.Actual = r.seen.all
		p = plan.Make(in)
	}
	r.settle(ctx, p, began)
	approved, err := r.history.approve(p, r.log)
	if err != nil {
		return p, trace.Wrap(err)
	}
	if approved {
		in.History = r.history.History
		p = plan.Make(in)
		r.settle(ctx, p, began)
	}
	r.absences = p.Absences
	r.items.prune(&p)
	r.opts.Metrics.planned(r.opts.Name, p, time.Since(began))
	return p, nil
}

// pending are those of ours that aren't registered; see Delayed.
func (r *Reconciler) pending() map[resource.Key]bool {
	var pending map[resource.Key]bool
	for kind, registry := range r.opts.Registries {
		delayed, ok := registry.(Delayed)
		if !ok {
			continue
		}
		for name, joining := range delayed.Pending() {
			if pending == nil {
				pending = map[resource.Key]bool{}
			}
			pending[resource.Key{Kind: kind, Name: name}] = joining
		}
	}
	return pending
}

// deletes says whether a plan has deletions that would be tried now, or would
// raise or end the alarm.
func (r *Reconciler) deletes(p *plan.Plan, now time.Time) bool {
	if p.Budget.Frozen {
		return !r.history.frozen() || r.history.approved(r.log)
	}
	return slices.ContainsFunc(p.Actions, func(a plan.Action) bool { return a.Op == plan.OpDelete && !r.items.rests(&a, now) })
}

// owned counts what is registered as ours, as of the last list.
func (r *Reconciler) owned() int {
	n := 0
	for i := range r.seen.all {
		if r.seen.all[i].Owner() == r.opts.Owner {
			n++
		}
	}
	return n
}

// settle writes down what the plan says of the alarm. If it can't be written,
// the plan stands all the same: what it freezes is frozen, and it deletes
// nothing that can't be written down.
func (r *Reconciler) settle(ctx context.Context, p plan.Plan, now time.Time) {
	if err := r.history.settle(p, now); err != nil {
		r.log.WarnContext(ctx, "The state of the deletion budget can't be written.", diagnostics.KeyErr, err)
	}
}

// refreshes plans only what keeps leased resources alive while the source can't
// be read: that it doesn't answer is no reason for everything to vanish.
func (r *Reconciler) refreshes() plan.Plan {
	in := r.input(time.Now())
	in.Failed = true
	p := plan.Make(in)
	refreshes := p.Actions[:0]
	for _, a := range p.Actions {
		if a.Refresh {
			refreshes = append(refreshes, a)
		}
	}
	p.Actions = refreshes
	return p
}

func compareKeys(a, b resource.Key) int {
	switch {
	case a == b:
		return 0
	case a.Kind < b.Kind || a.Kind == b.Kind && a.Name < b.Name:
		return -1
	}
	return 1
}
