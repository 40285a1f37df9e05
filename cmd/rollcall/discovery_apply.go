package main

import (
	"context"
	"fmt"
	"time"

	"github.com/gravitational/trace"

	"rollcall/discovery"
	"rollcall/discovery/plan"
	"rollcall/discovery/resource"
	"rollcall/failure"
)

const (
	// applyWait is how long the running agent is given beyond the absent gate.
	applyWait = 30 * time.Second
	// longestGate is the longest absent gate that is waited for: nobody sits
	// before a prompt for hours.
	longestGate = time.Minute
	// applyPause is between two looks at what the running agent has done. Each
	// lists everything in Teleport.
	applyPause = time.Second
	// applyAsks is how often the agent is asked for a comparison: a second time
	// for what failed in one that was under way already.
	applyAsks = 2
)

// applying is an apply that the running service does while we look on.
type applying struct {
	runner  *discoveryRunner
	running *discoveryService
	// look is a copy of the service that only looks.
	look *discoveryService
	// hash is the hash of the deletions that a person approves; empty: none.
	hash     string
	deadline time.Time
	// rounds counts the comparisons that were asked for, and compared says that
	// the agent has made one.
	rounds   int
	compared bool
	// approved says that the approval was given.
	approved bool
}

// apply has the running service compare now, and tells what is left when nothing
// changes any more.
func (r *discoveryRunner) apply(ctx context.Context, look *discoveryService, q question) (*reply, error) {
	running, err := r.current()
	if err != nil {
		return nil, err
	}
	if q.Acknowledge != "" {
		if look.approve == nil {
			return nil, failure.New(failure.Configuration, "a storage of type memory keeps no approvals; restart the agent, and deletions are counted anew")
		}
		if err := look.mean(ctx, q.Acknowledge); err != nil {
			return nil, err
		}
	}
	first, err := look.Plan(ctx)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	a := &applying{runner: r, running: running, look: look, hash: q.Acknowledge, deadline: applyDeadline(time.Now(), look.options.Guard.Plan().WithDefaults())}
	left, err := a.settle(ctx)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	failures := running.Failing()
	done := doneBetween(first, left, failures)
	answer, err := newReply(done, max(left.ExitCode(), failuresCode(failures)), func(w *page) { w.applied(done) }, q)
	if err == nil {
		answer.Notes = append(answer.Notes, a.notes()...)
		settling, until := running.Settling()
		answer.Notes = append(answer.Notes, lateDeletions(time.Now(), left, settling, until, look.options.Guard.Plan().WithDefaults())...)
	}
	return answer, err
}

// applyDeadline is how long the agent is looked at.
func applyDeadline(now time.Time, guard plan.Guard) time.Time {
	wait := max(0, guard.AbsentFor)
	if wait > longestGate {
		return now.Add(applyWait)
	}
	if wait+guard.Settle <= longestGate {
		wait += guard.Settle // the agent may have been started just now
	}
	return now.Add(applyWait + wait)
}

// settle asks for comparisons, and looks until nothing is left that the agent
// will do soon. It returns what is left.
func (a *applying) settle(ctx context.Context) (plan.Plan, error) {
	for {
		if a.rounds < applyAsks {
			a.rounds++
			a.compared = a.runner.compareOnce(ctx, a.deadline) || a.compared
		}
		if err := a.approve(); err != nil {
			return plan.Plan{}, trace.Wrap(err)
		}
		left, err := a.look.Plan(ctx)
		if err != nil {
			return plan.Plan{}, trace.Wrap(err)
		}
		failures := a.running.Failing()
		left.Actions = a.look.tried(left.Actions)
		if !a.goesOn(left, failures) || !a.pause(ctx) {
			return left, trace.Wrap(context.Cause(ctx))
		}
	}
}

// approve hands the approval on once the service has stopped at these deletions:
// one from before doesn't count. It's given again as long as they wait.
func (a *applying) approve() error {
	if a.hash == "" || a.running.Frozen() != a.hash {
		return nil
	}
	a.approved = true
	return trace.Wrap(a.look.approve(a.hash))
}

// goesOn says whether the agent is about to change something.
func (a *applying) goesOn(left plan.Plan, failures []discovery.Failure) bool {
	if a.hash != "" && left.Budget.Frozen && left.DeletionHash == a.hash {
		return true
	}
	failed := map[resource.Key]bool{}
	for _, f := range failures {
		failed[f.Key] = true
	}
	for i := range left.Actions {
		switch action := &left.Actions[i]; action.Op {
		case plan.OpCreate, plan.OpUpdate, plan.OpDelete:
			if !failed[action.Key] || a.rounds < applyAsks {
				return true
			}
		}
	}
	return false
}

// pause waits until it's worth looking again; false: the time is over.
func (a *applying) pause(ctx context.Context) bool {
	if !time.Now().Add(applyPause).Before(a.deadline) {
		return false
	}
	select {
	case <-time.After(applyPause):
		return true
	case <-ctx.Done():
		return false
	}
}

// notes say what the answer rests on.
func (a *applying) notes() []string {
	var notes []string
	if !a.compared {
		notes = append(notes, fmt.Sprintf("the agent has made no comparison of its own within %s: with a shared owner it may stand by while another leads", applyWait))
	}
	if a.hash != "" && !a.approved {
		notes = append(notes, fmt.Sprintf("the approval of %s wasn't used: the agent didn't stop at just these deletions in this time; look at them with `rollcall discovery plan`, and acknowledge that", a.hash))
	}
	return notes
}

// lateDeletions say why what is to be deleted is left: the agent waits for longer
// than anybody sits before a prompt. settling says that its source has to settle
// first, and until is when it will have; zero: that isn't known.
func lateDeletions(now time.Time, left plan.Plan, settling bool, until time.Time, guard plan.Guard) []string {
	switch absentFor := max(0, guard.AbsentFor); {
	case left.Count(plan.OpDelete) == 0:
		return nil
	case settling && (until.IsZero() || until.After(now)):
		when := "once its events, which are lost, are followed again"
		if !until.IsZero() {
			when = "until " + until.UTC().Format(time.RFC3339) + " at least"
		}
		return []string{fmt.Sprintf("the agent deletes nothing yet: its source has to settle first (guard.settle, %s), %s, and then nobody must ask for it for %s (guard.absent_for); what is left goes by itself then",
			guard.Settle, when, absentFor)}
	case absentFor > longestGate:
		return []string{fmt.Sprintf("what is to be deleted goes by itself once nobody has asked for it for %s (guard.absent_for), which isn't waited for here", absentFor)}
	}
	return nil
}

// compareOnce asks for a full comparison and waits until there was one.
func (r *discoveryRunner) compareOnce(ctx context.Context, deadline time.Time) bool {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	before, _ := r.agent.board.Status(r.config.Name)
	r.RenewNow("asked for by a command")
	for {
		changed := r.agent.board.Changed()
		if now, _ := r.agent.board.Status(r.config.Name); now.Reports != before.Reports {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// doneBetween counts what was to be done before and is done now, as far as it can
// be seen: what nobody asks for any more wasn't done.
func doneBetween(before, left plan.Plan, failures []discovery.Failure) applied {
	now := map[resource.Key]*plan.Action{}
	for i := range left.Actions {
		if a := &left.Actions[i]; a.Before != nil {
			now[a.Key] = a
		}
	}
	done := applied{Failures: failuresOf(failures), Left: left}
	for i := range before.Actions {
		a := &before.Actions[i]
		there := now[a.Key]
		switch {
		case a.Op == plan.OpCreate && there != nil:
			done.Created++
		case a.Op == plan.OpUpdate && there != nil && there.Op == plan.OpNothing:
			done.Updated++
		case there == nil && (a.Op == plan.OpDelete || a.Op == plan.OpBlocked && a.Before != nil && a.After == nil):
			done.Deleted++
		}
	}
	return done
}
