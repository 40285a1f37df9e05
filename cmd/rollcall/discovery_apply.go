package main

import (
	"context"
	"fmt"
	"time"

	"github.com/gravitational/trace"

	"rollcall/discovery/plan"
	"rollcall/discovery/resource"
	"rollcall/failure"
)

// applyWait is how long the running agent is given beyond the absent gate.
const applyWait = 30 * time.Second

// apply has the running service compare now, and tells what is left when nothing
// changes any more.
func (r *discoveryRunner) apply(ctx context.Context, look *discoveryService, q question) (*reply, error) {
	running, err := r.current()
	if err != nil {
		return nil, err
	}
	if q.Acknowledge != "" {
		if err := look.mean(ctx, q.Acknowledge); err != nil {
			return nil, err
		}
		if running.approve == nil {
			return nil, failure.New(failure.Configuration, "a storage of type memory keeps no approvals; restart the agent, and deletions are counted anew")
		}
		if err := running.approve(q.Acknowledge); err != nil {
			return nil, trace.Wrap(err)
		}
	}
	first, err := look.Plan(ctx)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	guard := look.options.Guard.Plan().WithDefaults()
	deadline := time.Now().Add(applyWait + guard.AbsentFor)
	for {
		compared := r.compareOnce(ctx, deadline)
		left, err := look.Plan(ctx)
		if err != nil {
			return nil, trace.Wrap(err)
		}
		left.Actions = look.tried(left.Actions)
		if q.Acknowledge != "" && left.Budget.Frozen && left.DeletionHash == q.Acknowledge && time.Now().Before(deadline) {
			continue // it looks for approvals every few seconds
		}
		if left.Changes() && time.Now().Before(deadline) && ctx.Err() == nil {
			continue
		}
		done := doneBetween(first, left)
		answer, err := newReply(done, left.ExitCode(), func(w *page) { w.applied(done) }, q)
		if err == nil && !compared {
			answer.Notes = append(answer.Notes, fmt.Sprintf("the agent has made no comparison of its own within %s: with a shared owner it may stand by while another leads", applyWait))
		}
		return answer, err
	}
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

// doneBetween counts what was to be done before and isn't any more.
func doneBetween(before, left plan.Plan) applied {
	still := map[resource.Key]bool{}
	for i := range left.Actions {
		if left.Actions[i].Op != plan.OpNothing {
			still[left.Actions[i].Key] = true
		}
	}
	done := applied{Failures: []appliedFailure{}, Left: left}
	for i := range before.Actions {
		a := &before.Actions[i]
		switch {
		case still[a.Key]:
		case a.Op == plan.OpCreate:
			done.Created++
		case a.Op == plan.OpUpdate:
			done.Updated++
		case a.Op == plan.OpDelete, a.Op == plan.OpBlocked && a.After == nil:
			done.Deleted++
		}
	}
	return done
}
