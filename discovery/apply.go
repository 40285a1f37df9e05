package discovery

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"rollcall/discovery/plan"
	"rollcall/discovery/resource"
	"rollcall/failure"
)

// Result is what applying a plan came to.
type Result struct {
	// Created, Updated and Deleted count what was done.
	Created, Updated, Deleted int
	// Skipped counts what wasn't tried or was found to be different by now; the
	// next look sees to it.
	Skipped int
	// Failures are the writes that failed, now or before and not tried again
	// yet, in the order of the plan.
	Failures []Failure
	// Fatal says why the rest wasn't tried: nobody answers, the lease is lost,
	// nothing can be written down.
	Fatal error
}

// Failure is a write that failed.
type Failure struct {
	Op  plan.Op
	Key resource.Key
	Err error
}

// applying is one plan while it's applied.
type applying struct {
	*Reconciler
	until  func() time.Time
	fatal  atomic.Pointer[error]
	failed map[resource.Key]bool
	result Result
	// written is what was done.
	written map[resource.Key]recentWrite
	// unsure is true after a write of which we don't know what came of it.
	unsure bool
	// purge says that a person asked for the deletions by name: of every
	// source, and without the budget.
	purge bool
}

func (r *Reconciler) applying(until func() time.Time) *applying {
	return &applying{Reconciler: r, until: until, failed: map[resource.Key]bool{}, written: map[resource.Key]recentWrite{}}
}

// apply does what the plan says: creates, then updates, then deletes, so that a
// new name is there before the old one goes. One resource's failure stops no
// other; that nobody answers stops them all.
func (a *applying) apply(ctx context.Context, p plan.Plan) Result {
	for _, op := range []plan.Op{plan.OpCreate, plan.OpUpdate, plan.OpDelete} {
		a.phase(ctx, op, p.Actions)
	}
	if fatal := a.fatal.Load(); fatal != nil {
		a.result.Fatal = *fatal
	}
	a.seen.note(a.written)
	if a.unsure || a.result.Fatal != nil {
		a.seen.listed = false
	}
	return a.result
}

// phase does all actions of one operation, side by side where none needs another.
func (a *applying) phase(ctx context.Context, op plan.Op, actions []plan.Action) {
	todo := a.pick(op, actions)
	if len(todo) == 0 {
		return
	}
	if op == plan.OpDelete && !a.purge {
		if err := a.history.begin(time.Now(), todo); err != nil {
			a.stop(failure.Wrap(failure.KindOf(err), err, "nothing is deleted, because the deletion budget can't be written down: %s", err))
		}
	}
	var untried []plan.Action
	for len(todo) > 0 {
		var wave []plan.Action
		wave, todo = a.wave(todo)
		untried = append(untried, a.write(ctx, wave)...)
	}
	if op == plan.OpDelete && !a.purge {
		if err := a.history.refund(untried); err != nil {
			a.log.WarnContext(ctx, "The state of the deletion budget can't be written.", "err", err)
		}
	}
}

// wave splits off what waits for nothing else of the same operation; and what
// waits for something that failed isn't tried. Where all wait for each other, as
// in a swap of two names, nobody can be first, and all go at once.
func (a *applying) wave(todo []plan.Action) (wave, rest []plan.Action) {
	open := make(map[resource.Key]bool, len(todo))
	for i := range todo {
		open[todo[i].Key] = true
	}
	for _, action := range todo {
		switch {
		case a.failed[action.Needs]:
			a.skip(&action)
		case open[action.Needs] && action.Needs != action.Key:
			rest = append(rest, action)
		default:
			wave = append(wave, action)
		}
	}
	if len(wave) == 0 {
		return rest, nil
	}
	return wave, rest
}

// skip leaves an action for a later look, and with it what needs it.
func (a *applying) skip(action *plan.Action) {
	a.failed[action.Key] = true
	a.items.postpone(action.Key, time.Now())
	a.result.Skipped++
}

// write does actions side by side, and returns those that weren't tried.
func (a *applying) write(ctx context.Context, todo []plan.Action) (untried []plan.Action) {
	outcomes := make([]outcome, len(todo))
	var group errgroup.Group
	group.SetLimit(a.opts.Concurrency)
	for i := range todo {
		group.Go(func() error {
			if a.fatal.Load() != nil || ctx.Err() != nil {
				outcomes[i].word = wordSkipped
				return nil
			}
			outcomes[i] = a.writeOne(ctx, &todo[i])
			if fatal(outcomes[i].err) {
				a.stop(outcomes[i].err)
			}
			return nil
		})
	}
	_ = group.Wait()
	for i := range todo {
		a.took(&todo[i], outcomes[i])
		if !outcomes[i].tried {
			untried = append(untried, todo[i])
		}
	}
	return untried
}

// stop keeps what hasn't begun from beginning.
func (a *applying) stop(err error) { a.fatal.CompareAndSwap(nil, &err) }

// fatal says whether an error concerns more than its resource.
func fatal(err error) bool {
	return err != nil && (errors.Is(err, errLost) || failure.KindOf(err) == failure.Unreachable)
}

// pick returns the actions of one operation that are to be tried now.
func (a *applying) pick(op plan.Op, actions []plan.Action) []plan.Action {
	var todo []plan.Action
	now := time.Now()
	for i := range actions {
		action := &actions[i]
		switch {
		case action.Op != op:
		case a.items.rests(action, now):
			a.failed[action.Key] = true
			a.result.Failures = append(a.result.Failures, Failure{op, action.Key, a.items.byKey[action.Key].err})
		case a.failed[action.Needs]:
			a.skip(action)
		default:
			todo = append(todo, *action)
		}
	}
	return todo
}

// took notes what came of one write.
func (a *applying) took(action *plan.Action, o outcome) {
	a.unsure = a.unsure || o.unsure
	switch o.word {
	case wordOK, wordAlready:
		a.items.worked(action.Key)
		a.written[action.Key] = recentWrite{before: []*resource.Resource{action.Before}, after: action.After, at: time.Now()}
		a.count(action.Op)
	case wordSkipped, wordChanged:
		a.skip(action)
	default:
		a.failed[action.Key] = true
		a.items.failed(action, o.err, time.Now())
		a.result.Failures = append(a.result.Failures, Failure{action.Op, action.Key, o.err})
	}
}

func (a *applying) count(op plan.Op) {
	switch op {
	case plan.OpCreate:
		a.result.Created++
	case plan.OpUpdate:
		a.result.Updated++
	case plan.OpDelete:
		a.result.Deleted++
	}
}
