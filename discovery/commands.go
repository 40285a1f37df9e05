package discovery

import (
	"context"
	"slices"
	"time"

	"github.com/gravitational/trace"

	"rollcall/diagnostics"
	"rollcall/discovery/plan"
	"rollcall/discovery/resource"
	"rollcall/failure"
)

// patience is how much longer than the absent gate takes a single run waits for
// what is to be deleted.
const patience = 5 * time.Second

// Plan reads both sides and returns what would be done, without doing it: what
// isn't asked for is planned as if it had been so for long enough, and what is as
// it should be is listed, too. Nothing is written anywhere.
func (r *Reconciler) Plan(ctx context.Context) (plan.Plan, error) {
	in, err := r.preview(ctx)
	if err != nil {
		return plan.Plan{}, trace.Wrap(err)
	}
	in.All = true
	return plan.Make(in), nil
}

// Confirmed says whether what is registered, as Plan read it last, shows all that
// was written before. It's for whoever calls Plan.
func (r *Reconciler) Confirmed() bool { return r.seen.listed }

// preview reads both sides.
func (r *Reconciler) preview(ctx context.Context) (plan.Input, error) {
	if err := r.history.load(time.Now(), false); err != nil {
		r.log.WarnContext(ctx, "What was deleted in the last hour isn't known.", diagnostics.KeyErr, err)
	}
	if err := r.read(ctx); err != nil {
		return plan.Input{}, trace.Wrap(err)
	}
	if err := r.list(ctx); err != nil {
		return plan.Input{}, trace.Wrap(err)
	}
	in := r.input(time.Now())
	in.Settled = true
	return in, nil
}

// Approve has the next plan with that hash pass the deletion budget.
func (r *Reconciler) Approve(hash string) { r.history.approvals = append(r.history.approvals, hash) }

// Once applies everything one time, and returns nil if what is wanted is
// registered afterwards.
func (r *Reconciler) Once(ctx context.Context) error {
	_, _, err := r.Apply(ctx)
	return trace.Wrap(err)
}

// Apply reads, plans and applies until nothing is left to do but what waits for
// a person, waiting as long as the absent gate takes. It returns the last plan,
// the sum of what was done, and an error if not everything wanted is registered.
func (r *Reconciler) Apply(ctx context.Context) (plan.Plan, Result, error) {
	var p plan.Plan
	var sum, last Result
	began := time.Now()
	err := r.opts.Lease.Hold(ctx, func(ctx context.Context, until func() time.Time) error {
		r.begin(ctx, until)
		deadline := r.waitsTill(ctx)
		for {
			r.pulse.Work("reconciling", r.opts.StuckAfter)
			made, result, err := r.reconcile(ctx, until, look{full: true})
			r.pulse.Rest()
			p, last, sum = made, result, sum.add(result)
			if err != nil {
				return trace.Wrap(err)
			}
			if follows(p, result) && time.Now().Before(deadline) {
				continue
			}
			if !waits(p) || p.NextLook.IsZero() || p.NextLook.After(deadline) {
				return nil
			}
			pause(ctx, time.Until(p.NextLook))
			if ctx.Err() != nil {
				return trace.Wrap(context.Cause(ctx))
			}
		}
	})
	if err == nil && ctx.Err() != nil {
		err = failure.Wrap(failure.Transient, context.Cause(ctx), "the time was over before everything was done")
	}
	if err == nil {
		r.opts.Metrics.applied(r.opts.Name, p, last, len(r.pending()), time.Now())
		err = incomplete(p, last)
	}
	r.report(diagnostics.Report{Err: err, Took: time.Since(began), Detail: r.detail(p, last)})
	return p, sum, trace.Wrap(err)
}

// waitsTill is how long a single run waits for what is to be deleted: as long as
// the absent gate takes, if the caller has that much time.
func (r *Reconciler) waitsTill(ctx context.Context) time.Time {
	deadline := time.Now().Add(r.opts.Guard.Settle + max(0, r.opts.Guard.AbsentFor) + time.Duration(r.opts.Guard.AbsentReads)*time.Second + patience)
	if end, ok := ctx.Deadline(); ok && end.Before(deadline.Add(patience)) {
		return end.Add(-patience)
	}
	return deadline
}

// follows says whether more can be done now, because something was done that it
// waited for.
func follows(p plan.Plan, result Result) bool {
	return p.Follows && result.Created+result.Updated+result.Deleted > 0
}

// waits says whether time alone will allow a deletion soon.
func waits(p plan.Plan) bool {
	for i := range p.Actions {
		if p.Actions[i].Waiting {
			return true
		}
	}
	return false
}

// incomplete returns why not everything that is wanted is registered.
func incomplete(p plan.Plan, result Result) error {
	if err := problem(p, result); err != nil {
		return err
	}
	if taken := result.taken(); len(taken) > 0 {
		return failure.Wrap(failure.Conflict, taken[0].Err, "%d workloads can't be registered, since their names are taken; the first: %s", len(taken), taken[0].Err)
	}
	troubles := slices.DeleteFunc(p.Troubles(), func(a plan.Action) bool { return a.Holds })
	for _, a := range p.Actions {
		if a.Waiting && a.After != nil {
			troubles = append(troubles, a)
		}
	}
	if len(troubles) == 0 {
		return nil
	}
	first, kind := troubles[0], failure.Other
	if first.Op == plan.OpConflict {
		kind = failure.Conflict
	}
	return failure.New(kind, "%d workloads can't be registered as they ask; the first, %s: %s", len(troubles), first.Workload, first.Reason)
}

// add sums what was done; of what failed, the last word counts.
func (s Result) add(o Result) Result {
	o.Created += s.Created
	o.Updated += s.Updated
	o.Deleted += s.Deleted
	return o
}

// Explanation is everything that led to what is done for one workload.
type Explanation struct {
	// Candidates are what the source made of the workload, with the rules it
	// passed; usually one.
	Candidates []Candidate
	// Actions are what is planned for them, and for what they have registered,
	// with what each gate says.
	Actions []plan.Action
}

// Explain tells what is done for a workload, by its identity or the name of a
// resource. failure.NotFound: neither side knows it.
func (r *Reconciler) Explain(ctx context.Context, name string) (Explanation, error) {
	candidates, err := r.opts.Source.Read(ctx)
	if err != nil {
		return Explanation{}, trace.Wrap(err)
	}
	if err := r.history.load(time.Now(), false); err != nil {
		r.log.WarnContext(ctx, "What was deleted in the last hour isn't known.", diagnostics.KeyErr, err)
	}
	r.take(candidates)
	if err := r.list(ctx); err != nil {
		return Explanation{}, trace.Wrap(err)
	}
	in := r.input(time.Now())
	in.Settled, in.All = true, true
	var e Explanation
	meant := map[string]bool{name: true}
	for _, c := range candidates {
		if c.Workload == name || c.Resource.Name == name {
			e.Candidates = append(e.Candidates, c)
			meant[c.Workload] = true
		}
	}
	for _, a := range plan.Make(in).Actions {
		if meant[a.Workload] || a.Key.Name == name {
			e.Actions = append(e.Actions, a)
		}
	}
	if len(e.Candidates)+len(e.Actions) == 0 {
		return e, failure.New(failure.NotFound, "the source has no workload %q, and nothing of that name is registered by this service", name)
	}
	return e, nil
}

// Adopt marks a registered resource as ours; see plan.Adopt. Without write it
// only tells what would change. It needs registries of an identity that may
// change what isn't ours yet.
func (r *Reconciler) Adopt(ctx context.Context, key resource.Key, from string, write bool) (plan.Action, error) {
	if _, ok := r.opts.Registries[key.Kind]; !ok {
		return plan.Action{}, failure.New(failure.Configuration, "this service doesn't register resources of kind %q", key.Kind)
	}
	in, err := r.preview(ctx)
	if err != nil {
		return plan.Action{}, trace.Wrap(err)
	}
	action, err := plan.Adopt(in, key, from)
	if err != nil || !write || action.Op != plan.OpUpdate {
		return action, trace.Wrap(err)
	}
	return action, trace.Wrap(r.adopt(ctx, &action))
}

// adopt writes an adoption. The last gate is another one here: the resource
// isn't ours yet, so it only has to be what the person was shown.
func (r *Reconciler) adopt(ctx context.Context, action *plan.Action) error {
	registry := r.opts.Registries[action.Key.Kind]
	now, err := registry.Get(ctx, action.Key.Name)
	if err != nil {
		return trace.Wrap(err)
	}
	if !resource.Equal(now, *action.Before) {
		return failure.New(failure.Conflict, "%s was changed just now: look at it again", action.Key)
	}
	began := time.Now()
	err = registry.Update(ctx, *action.After)
	word := classify(err).word
	r.opts.Metrics.wrote(r.opts.Name, action.Op, word)
	r.opts.Auditor.Audit(ctx, Entry{
		Service: r.opts.Name, Op: action.Op, Key: action.Key, Owner: r.opts.Owner, Workload: action.Workload,
		Reason: action.Reason, Changes: action.Changes, Outcome: word, Err: err, Took: time.Since(began),
	})
	return trace.Wrap(err)
}

// Purge deletes everything that carries our owner's mark, of every source; what
// is marked as one to keep stays. Without write it only tells what would go, and
// needs no lease. An error, or Skipped in the result, says that not all is gone.
func (r *Reconciler) Purge(ctx context.Context, write bool) (plan.Plan, Result, error) {
	var p plan.Plan
	var sum Result
	look := func(ctx context.Context) error {
		err := r.list(ctx)
		p = plan.Purge(r.input(time.Now()))
		return trace.Wrap(err)
	}
	if !write {
		err := look(ctx)
		return p, sum, trace.Wrap(err)
	}
	finished := false
	err := r.opts.Lease.Hold(ctx, func(ctx context.Context, until func() time.Time) error {
		if err := look(ctx); err != nil {
			return trace.Wrap(err)
		}
		a := r.applying(until)
		a.purge = true
		result := a.apply(ctx, p)
		sum = sum.add(result)
		finished = result.Skipped == 0
		if result.Fatal != nil {
			return trace.Wrap(result.Fatal)
		}
		return trace.Wrap(problem(p, result))
	})
	if ctx.Err() != nil && !finished {
		err = failure.Wrap(failure.Transient, context.Cause(ctx), "the time was over before everything was deleted (%d are): no other agent of this owner may hold the lease meanwhile; ask again", sum.Deleted)
	}
	return p, sum, trace.Wrap(err)
}
