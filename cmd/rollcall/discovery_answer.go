package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/gravitational/trace"

	"rollcall/discovery"
	"rollcall/discovery/plan"
	"rollcall/discovery/resource"
	"rollcall/failure"
)

// answer asks one service, which nobody else uses at the moment.
func (s *discoveryService) answer(ctx context.Context, q question) (*reply, error) {
	switch q.Verb {
	case verbPlan:
		return s.plan(ctx, q)
	case verbApply:
		return s.apply(ctx, q)
	case verbExplain:
		return s.explain(ctx, q)
	case verbAdopt:
		return s.adopt(ctx, q)
	case verbPurge:
		return s.purge(ctx, q)
	default:
		return nil, failure.New(failure.Configuration, "this version of rollcall has no answer to %q: the command and the running agent should be of one version", q.Verb)
	}
}

func (s *discoveryService) plan(ctx context.Context, q question) (*reply, error) {
	p, err := s.Plan(ctx)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	p.Actions = s.tried(p.Actions)
	return newReply(p, p.ExitCode(), func(w *page) { w.plan(p) }, q)
}

// tried adds to what is planned what the running service knows from having tried
// it: that a name is taken by what its role can't see shows in nothing else.
func (s *discoveryService) tried(actions []plan.Action) []plan.Action {
	if s.running == nil {
		return actions
	}
	failed := map[resource.Key]error{}
	for _, f := range s.running.Failing() {
		failed[f.Key] = f.Err
	}
	var done, conflicts []plan.Action
	for _, a := range actions {
		err, known := failed[a.Key]
		switch {
		case !known || a.Op != plan.OpCreate && a.Op != plan.OpUpdate && a.Op != plan.OpDelete:
		case failure.KindOf(err) == failure.Conflict:
			a.Op, a.Reason = plan.OpConflict, err.Error()
			conflicts = append(conflicts, a)
			continue
		default:
			a.Reason += "; the last attempt failed: " + err.Error()
		}
		done = append(done, a)
	}
	// Their place in the order is behind what can be done.
	at := slices.IndexFunc(done, func(a plan.Action) bool {
		return a.Op != plan.OpCreate && a.Op != plan.OpUpdate && a.Op != plan.OpDelete
	})
	if at < 0 {
		at = len(done)
	}
	return slices.Insert(done, at, conflicts...)
}

// applied is the JSON of apply and purge.
type applied struct {
	Created int `json:"created"`
	Updated int `json:"updated"`
	Deleted int `json:"deleted"`
	// Skipped counts what a purge left, because it was changed just then.
	Skipped int `json:"skipped,omitempty"`
	// Failures are the writes that failed.
	Failures []appliedFailure `json:"failures"`
	// Left is what is still to be done, or stands in the way.
	Left plan.Plan `json:"left"`
}

type appliedFailure struct {
	Op    plan.Op      `json:"op"`
	Key   resource.Key `json:"key"`
	Error string       `json:"error"`
}

// failuresOf writes failures for the answer; never nil.
func failuresOf(failures []discovery.Failure) []appliedFailure {
	written := make([]appliedFailure, 0, len(failures))
	for _, f := range failures {
		written = append(written, appliedFailure{f.Op, f.Key, f.Err.Error()})
	}
	return written
}

// apply works while no agent does.
func (s *discoveryService) apply(ctx context.Context, q question) (*reply, error) {
	if q.Acknowledge != "" {
		if err := s.mean(ctx, q.Acknowledge); err != nil {
			return nil, err
		}
		s.Approve(q.Acknowledge)
	}
	before, result, err, unsettled := s.finish(ctx)
	if err != nil && result.Fatal == nil && len(before.Actions) == 0 && len(result.Failures) == 0 {
		return nil, trace.Wrap(err) // it didn't come to a plan
	}
	if unsettled != nil {
		return nil, unsettled
	}
	return s.appliedReply(ctx, result, q)
}

// mean refuses a hash that isn't that of the deletions which wait now: whoever
// acknowledges has to have seen them.
func (s *discoveryService) mean(ctx context.Context, hash string) error {
	p, err := s.Plan(ctx)
	if err != nil {
		return trace.Wrap(err)
	}
	switch {
	case p.DeletionHash == "":
		return failure.New(failure.Configuration, "there are no deletions to acknowledge")
	case p.DeletionHash != hash:
		return failure.New(failure.Configuration, "the deletions that wait now are %s, not %s: look at them with `rollcall discovery plan`, and acknowledge that", p.DeletionHash, hash)
	}
	return nil
}

// appliedReply tells what was done and what is left.
func (s *discoveryService) appliedReply(ctx context.Context, result discovery.Result, q question) (*reply, error) {
	if result.Fatal != nil {
		return nil, trace.Wrap(result.Fatal)
	}
	done := applied{Created: result.Created, Updated: result.Updated, Deleted: result.Deleted, Failures: failuresOf(result.Failures)}
	left, err := s.settled(ctx, result)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	done.Left = left
	return newReply(done, max(left.ExitCode(), failuresCode(result.Failures)), func(w *page) { w.applied(done) }, q)
}

// cacheLag is how long the cluster's caches may take to show what was written.
const cacheLag = 5 * time.Second

// settled plans once more, when what was written can be read.
func (s *discoveryService) settled(ctx context.Context, result discovery.Result) (plan.Plan, error) {
	deadline := time.Now().Add(cacheLag)
	for {
		left, err := s.Plan(ctx)
		wrote := result.Created+result.Updated+result.Deleted > 0
		shown := s.Confirmed() && !left.Changes()
		if err != nil || !wrote || shown || len(result.Failures) > 0 || time.Now().After(deadline) {
			return left, trace.Wrap(err)
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return left, trace.Wrap(ctx.Err())
		}
	}
}

// failuresCode is 3 for names that are taken, and 6 for all else.
func failuresCode(failures []discovery.Failure) int {
	code := exitOK
	for _, f := range failures {
		if failure.KindOf(f.Err) != failure.Conflict {
			return discoveryFailed
		}
		code = discoveryBlocked
	}
	return code
}

func (w *page) applied(done applied) {
	w.line("%d created, %d updated, %d deleted.", done.Created, done.Updated, done.Deleted)
	for _, f := range done.Failures {
		w.line("%s %s %s: %s", w.painted(colorRed, "failed"), f.Op, f.Key, printable(f.Error))
	}
	if done.Left.ExitCode() != exitOK {
		w.line("\nWhat is left:")
		w.plan(done.Left)
	}
}

// purge shows or deletes what is the service's.
func (s *discoveryService) purge(ctx context.Context, q question) (*reply, error) {
	p, result, err := s.Purge(ctx, q.Write)
	if err != nil && (len(result.Failures) == 0 || result.Fatal != nil || ctx.Err() != nil) {
		return nil, trace.Wrap(err)
	}
	if q.Write {
		return purged(result, q)
	}
	code := exitOK
	if p.Count(plan.OpDelete) > 0 {
		code = discoveryChanges
	}
	return newReply(p, code, func(w *page) {
		w.actions(p.Actions)
		w.line("%d to delete of %d that bear the owner %s; --yes does it.", p.Count(plan.OpDelete), p.Owned, printable(s.owner))
	}, q)
}

// purged tells what a purge has done, and what it hasn't.
func purged(result discovery.Result, q question) (*reply, error) {
	done := applied{Deleted: result.Deleted, Skipped: result.Skipped, Failures: failuresOf(result.Failures)}
	code := exitOK
	if done.Skipped > 0 {
		code = discoveryChanges
	}
	if len(done.Failures) > 0 {
		code = discoveryFailed
	}
	return newReply(done, code, func(w *page) {
		w.applied(done)
		if done.Skipped > 0 {
			w.line("%d are there still: somebody changed them just now. Ask again.", done.Skipped)
		}
	}, q)
}

// adopt shows, or does, what makes a resource the service's own.
func (s *discoveryService) adopt(ctx context.Context, q question) (*reply, error) {
	key := resource.Key{Kind: q.Kind, Name: q.Name}
	sibling, err := s.sibling(q.From)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	if sibling != "" {
		return nil, failure.New(failure.Conflict, "%q is the service %s of this very agent, which would register %s again: have what it's registered for ask for another name, or purge that service and take it out of the file, first", q.From, sibling, key)
	}
	action, err := s.Adopt(ctx, key, q.From, q.Write)
	if failure.KindOf(err) == failure.NotFound && !s.administrator {
		return s.adoptUnseen(ctx, key, q, err)
	}
	if err != nil {
		return nil, trace.Wrap(err)
	}
	code := discoveryChanges
	if q.Write || action.Op == plan.OpNothing {
		code = exitOK
	}
	return newReply(action, code, func(w *page) {
		switch {
		case action.Op == plan.OpNothing:
			w.line("%s is the service's own already.", key)
		case q.Write:
			w.line("%s is the service's own now:", key)
			w.changes(action.Changes)
		default:
			w.line("%s would change so; --yes with --identity does it:", key)
			w.changes(action.Changes)
		}
	}, q)
}

// adoptUnseen tells what an administrator has to do about a resource that the
// service's role hides from it.
func (s *discoveryService) adoptUnseen(ctx context.Context, key resource.Key, q question, why error) (*reply, error) {
	p, err := s.Plan(ctx)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	for i := range p.Actions {
		a := &p.Actions[i]
		if a.Key != key || a.After == nil || a.Op == plan.OpNothing {
			continue
		}
		return newReply(a, discoveryBlocked, func(w *page) { w.adoptRequest(a) }, q)
	}
	return nil, trace.Wrap(why)
}

// adoptRequest is what an administrator is asked for.
func (w *page) adoptRequest(a *plan.Action) {
	w.line("The service's role can't see %s, since it isn't the service's own. Whoever may change it:", a.Key)
	w.line("  rollcall discovery adopt %s --identity FILE --yes", a.Key)
	w.line("or by hand, with `tctl edit %s`, until it has these labels:", a.Key)
	for _, c := range resource.Diff(nil, a.After) {
		if label, ok := strings.CutPrefix(c.Field, "labels."); ok && strings.HasPrefix(label, resource.LabelPrefix) {
			w.line("  %s: %s", label, printable(c.After))
		}
	}
	w.line("The service then makes the rest of it what the workload %s asks for.", printable(a.Workload))
}
