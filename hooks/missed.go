package hooks

import (
	"context"
	"slices"

	"rollcall/diagnostics"
	"rollcall/failure"
)

// missedReason is what hooks hear that are run for a change of before the start.
const missedReason = "missed before the start"

// unlistedKey stands among pending keys for a directory that couldn't be read.
const unlistedKey = "hooks_dir"

// makeUp asks for a run of the hooks that haven't worked for the set in place,
// since the agent was stopped or killed, or gave them up: those that are pending,
// or all if they were told of an earlier set. A set that is there when hooks are
// configured for the first time is none of theirs.
func (r *Runner) makeUp(ctx context.Context) {
	if r.options.Ledger == nil || r.options.Current == nil {
		return
	}
	r.pulse.Work("looking at the files in place", roundSlack)
	defer r.pulse.Rest()
	last, known := r.options.Ledger.last(r.options.Output)
	current, err := r.options.Current(ctx)
	switch {
	case failure.KindOf(err) == failure.NotFound:
		current = Change{}
	case err != nil:
		r.log.DebugContext(ctx, "Whether hooks have missed a change can't be found out.", diagnostics.KeyErr, err)
		return
	}
	switch {
	case !known:
		r.options.Ledger.note(r.options.Output, entry{Serial: current.Serial})
		return
	case current.Serial == "", current.Serial == last.Serial && len(last.Pending) == 0:
		return
	case current.Serial == last.Serial:
		r.missed = last
	}
	r.log.InfoContext(ctx, "Hooks haven't worked for the files in place, and run now.")
	current.Reason = missedReason
	r.unlessWaiting(current)
}

// unlessWaiting asks for a run, if none is asked for yet: that one is for a set
// that is newer or the same.
func (r *Runner) unlessWaiting(change Change) {
	r.mu.Lock()
	waits := r.waiting != nil
	r.mu.Unlock()
	if !waits {
		r.Changed(change)
	}
}

// pending leaves of all hooks those that are made up for. For another set than
// theirs that's all of them.
func (r *Runner) pending(tasks []task, change Change) []task {
	missed := r.missed
	r.missed = entry{}
	if len(missed.Pending) == 0 || missed.Serial != change.Serial || change.Reason != missedReason {
		return tasks
	}
	return slices.DeleteFunc(slices.Clone(tasks), func(t task) bool {
		unlisted := t.guarded && slices.Contains(missed.Pending, unlistedKey)
		return !unlisted && !slices.Contains(missed.Pending, t.key())
	})
}

// note takes down what has worked for a change, and what hasn't.
func (r *Runner) note(change Change, failed failures) {
	if r.options.Ledger == nil || change.Serial == "" {
		return
	}
	e := entry{Serial: change.Serial}
	for _, t := range failed.tasks {
		e.Pending = append(e.Pending, t.key())
	}
	if failed.unlisted {
		e.Pending = append(e.Pending, unlistedKey)
	}
	r.pulse.Work("noting what hooks came to", roundSlack)
	defer r.pulse.Rest()
	r.options.Ledger.note(r.options.Output, e)
}
