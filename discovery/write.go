package discovery

import (
	"context"
	"time"

	"github.com/gravitational/trace"

	"rollcall/discovery/plan"
	"rollcall/discovery/resource"
	"rollcall/failure"
)

const (
	// writeTimeout bounds one call, unless the registry knows better.
	writeTimeout = 15 * time.Second
	// leaseMargin is what a write keeps clear of the lease's end, for the way to
	// the cluster and what happens there after we've given up.
	leaseMargin = 500 * time.Millisecond
)

// What came of a write, as the audit and the metrics have it.
const (
	wordOK          = "ok"
	wordAlready     = "already"     // somebody, or an earlier attempt, did it
	wordChanged     = "changed"     // it isn't what the plan was made from
	wordSkipped     = "skipped"     // not tried
	wordConflict    = "conflict"    // the name is taken
	wordRefused     = "refused"     // the cluster won't let us
	wordUnreachable = "unreachable" // nobody answered
	wordLeaseLost   = "lease_lost"  // we may not write any more
	wordFailed      = "failed"      // anything else
)

func words() []string {
	return []string{wordOK, wordAlready, wordChanged, wordConflict, wordRefused, wordUnreachable, wordLeaseLost, wordFailed}
}

// outcome is what came of one write.
type outcome struct {
	word string
	err  error
	// tried says that the write itself was sent.
	tried bool
	// unsure says that what is registered isn't known any more.
	unsure bool
	detail string
}

// writeOne does one action, and has it audited and counted.
func (a *applying) writeOne(ctx context.Context, action *plan.Action) outcome {
	if err := a.limiter.Wait(ctx); err != nil {
		return outcome{word: wordSkipped}
	}
	// However many writes there are: each is progress.
	a.pulse.Work("reconciling", a.opts.StuckAfter)
	began := time.Now()
	o := a.attempt(ctx, action)
	if o.word == wordSkipped {
		return o
	}
	a.opts.Metrics.wrote(a.opts.Name, action.Op, o.word)
	a.opts.Auditor.Audit(ctx, Entry{
		Service: a.opts.Name, Op: action.Op, Key: action.Key, Owner: a.opts.Owner, Workload: action.Workload,
		Reason: action.Reason, Changes: action.Changes, Outcome: o.word, Detail: o.detail, Err: o.err, Took: time.Since(began),
	})
	return o
}

func (a *applying) attempt(ctx context.Context, action *plan.Action) outcome {
	registry := a.opts.Registries[action.Key.Kind]
	if action.Op == plan.OpCreate {
		return a.create(ctx, registry, action)
	}
	if o, done := a.reread(ctx, registry, action); done {
		return o
	}
	call := registry.Delete
	after := action.Before
	if action.Op == plan.OpUpdate {
		call, after = registry.Update, action.After
	}
	err := a.call(ctx, registry, func(ctx context.Context) error { return call(ctx, *after) })
	if action.Op == plan.OpDelete && failure.KindOf(err) == failure.NotFound {
		return outcome{word: wordAlready, tried: true}
	}
	return classify(err)
}

// create makes a resource. Whoever has the name already keeps it, unless what
// is there is what we wanted: an earlier attempt of ours whose answer was lost.
func (a *applying) create(ctx context.Context, registry Registry, action *plan.Action) outcome {
	err := a.call(ctx, registry, func(ctx context.Context) error { return registry.Create(ctx, *action.After) })
	if failure.KindOf(err) != failure.Conflict {
		return classify(err)
	}
	there, getErr := a.get(ctx, registry, action.Key.Name)
	switch kind := failure.KindOf(getErr); {
	case kind == failure.Refused:
		return outcome{
			word: wordConflict, tried: true,
			err: failure.Wrap(failure.Conflict, err, "%s exists already, and belongs to somebody else, or the role's labels don't match this service's own any more: %s", action.Key, getErr),
		}
	case kind == failure.NotFound:
		// Or we made it ourselves, just before a restart, and the answer is older
		// than that: a few more attempts tell.
		return outcome{
			word: wordConflict, tried: true,
			err: failure.Wrap(failure.Conflict, err, "%s exists already, and we may not see it: it belongs to somebody else, or the role's labels don't match this service's own (%s: %s)", action.Key, resource.LabelOwner, a.opts.Owner),
		}
	case getErr != nil:
		return classify(failure.Wrap(kind, getErr, "%s exists already, and whose it is can't be read: %s", action.Key, getErr))
	case resource.Equal(there, *action.After):
		// Its end may be another one; the next look compares that.
		return outcome{word: wordAlready, tried: true, unsure: true}
	}
	return outcome{
		word: wordConflict, tried: true, unsure: true,
		err: failure.Wrap(failure.Conflict, err, "%s exists already: it was made since we last looked", action.Key),
	}
}

// reread is the last gate. It returns true if there's nothing left to do.
func (a *applying) reread(ctx context.Context, registry Registry, action *plan.Action) (outcome, bool) {
	now, err := a.get(ctx, registry, action.Key.Name)
	there := &now
	switch {
	case failure.KindOf(err) == failure.NotFound:
		there = nil
	case err != nil:
		o := classify(err)
		o.tried, o.unsure = false, true
		return o, true
	}
	there = a.seen.current(action.Key, there, time.Now())
	source := a.opts.SourceName
	if a.purge {
		source = action.Before.Labels[resource.LabelSource]
	}
	passed, why := plan.Reread(a.opts.Owner, source, action.Before, there)
	switch {
	case passed:
		return outcome{}, false
	case there == nil && action.Op == plan.OpDelete:
		return outcome{word: wordAlready, detail: why}, true
	}
	a.opts.Metrics.reread(a.opts.Name)
	return outcome{word: wordChanged, unsure: true, detail: why}, true
}

func (a *applying) get(ctx context.Context, registry Registry, name string) (resource.Resource, error) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	r, err := registry.Get(ctx, name)
	return r, trace.Wrap(err)
}

// call sends one write. It's only begun while the lease is ours, and never
// outlives it; the time is read here, as late as can be, because the process may
// have been stopped since anybody last looked.
func (a *applying) call(ctx context.Context, registry Registry, write func(context.Context) error) error {
	now := time.Now()
	timeout := writeTimeout
	if slow, ok := registry.(Slow); ok {
		timeout = slow.WriteTimeout()
	}
	end := now.Add(timeout)
	if until := a.until(); !until.IsZero() {
		until = until.Add(-leaseMargin)
		if expired(now, until) {
			return errLost
		}
		if until.Before(end) {
			end = until
		}
	}
	ctx, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	return trace.Wrap(write(ctx))
}

// classify turns the error of a write into what came of it.
func classify(err error) outcome {
	switch {
	case err == nil:
		return outcome{word: wordOK, tried: true}
	case failure.KindOf(err) == failure.Conflict:
		return outcome{word: wordConflict, err: err, tried: true, unsure: true}
	case failure.KindOf(err) == failure.Refused:
		return outcome{word: wordRefused, err: err, tried: true}
	case failure.KindOf(err) == failure.Unreachable:
		return outcome{word: wordUnreachable, err: err, tried: true, unsure: true}
	case isLost(err):
		return outcome{word: wordLeaseLost, err: err}
	}
	// What can't be asked for as it is, such as an image that isn't there, has
	// changed nothing.
	return outcome{word: wordFailed, err: err, tried: true, unsure: failure.KindOf(err) != failure.Configuration}
}
