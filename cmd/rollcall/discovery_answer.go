package main

import (
	"context"
	"fmt"
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

// apply works while no agent does.
func (s *discoveryService) apply(ctx context.Context, q question) (*reply, error) {
	if q.Acknowledge != "" {
		if err := s.mean(ctx, q.Acknowledge); err != nil {
			return nil, err
		}
		s.Approve(q.Acknowledge)
	}
	before, result, err := s.Apply(ctx)
	if err != nil && result.Fatal == nil && len(before.Actions) == 0 && len(result.Failures) == 0 {
		return nil, trace.Wrap(err) // it didn't come to a plan
	}
	if s.settle != nil {
		if err := s.settle(ctx); err != nil {
			return nil, trace.Wrap(err)
		}
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
	done := applied{Created: result.Created, Updated: result.Updated, Deleted: result.Deleted, Failures: []appliedFailure{}}
	if result.Fatal != nil {
		return nil, trace.Wrap(result.Fatal)
	}
	for _, f := range result.Failures {
		done.Failures = append(done.Failures, appliedFailure{f.Op, f.Key, f.Err.Error()})
	}
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
		if err != nil || !wrote || !left.Changes() || len(result.Failures) > 0 || time.Now().After(deadline) {
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
	if err != nil && len(result.Failures) == 0 {
		return nil, trace.Wrap(err)
	}
	if q.Write {
		done := applied{Deleted: result.Deleted, Failures: []appliedFailure{}}
		code := exitOK
		for _, f := range result.Failures {
			done.Failures = append(done.Failures, appliedFailure{f.Op, f.Key, f.Err.Error()})
			code = discoveryFailed
		}
		return newReply(done, code, func(w *page) { w.applied(done) }, q)
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

// adopt shows, or does, what makes a resource the service's own.
func (s *discoveryService) adopt(ctx context.Context, q question) (*reply, error) {
	key := resource.Key{Kind: q.Kind, Name: q.Name}
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

// explanation is the JSON of explain.
type explanation struct {
	Name       string               `json:"name"`
	Candidates []explainedCandidate `json:"candidates"`
	Actions    []plan.Action        `json:"actions"`
}

type explainedCandidate struct {
	Workload string             `json:"workload"`
	Rules    []discovery.Rule   `json:"rules"`
	Skip     string             `json:"skip,omitempty"`
	Error    string             `json:"error,omitempty"`
	Keep     bool               `json:"keep,omitempty"`
	Resource *resource.Resource `json:"resource,omitempty"`
}

// explainer is a source that can tell of what it doesn't register, too.
type explainer interface {
	Explain(ctx context.Context, name string) ([]discovery.Candidate, error)
}

// explain tells everything about a workload.
func (s *discoveryService) explain(ctx context.Context, q question) (*reply, error) {
	name, err := s.workloadOf(q.Workload)
	if err != nil {
		return nil, err
	}
	found, err := s.candidates(ctx, name)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	told := explanation{Name: q.Workload, Candidates: []explainedCandidate{}, Actions: []plan.Action{}}
	names := []string{name}
	for _, c := range found {
		told.Candidates = append(told.Candidates, explained(c))
		if c.Workload != name && c.Workload != "" {
			names = append(names, c.Workload)
		}
	}
	var unknown error
	for _, name := range names {
		e, err := s.Explain(ctx, name)
		switch {
		case failure.KindOf(err) == failure.NotFound:
			unknown = err
			continue
		case err != nil:
			return nil, trace.Wrap(err)
		}
		if len(found) == 0 {
			for _, c := range e.Candidates {
				told.Candidates = append(told.Candidates, explained(c))
			}
		}
		told.Actions = append(told.Actions, s.tried(e.Actions)...)
	}
	if len(told.Candidates)+len(told.Actions) == 0 {
		return newReply(told, discoveryBlocked, func(w *page) { w.line("%s", printable(unknown.Error())) }, q)
	}
	return newReply(told, told.code(), func(w *page) { w.explanation(told) }, q)
}

// workloadOf takes the source's type off SOURCE/NAME.
func (s *discoveryService) workloadOf(text string) (string, error) {
	kind := s.options.Source.Type
	if name, found := strings.CutPrefix(text, kind+"/"); found && name != "" {
		return name, nil
	}
	return "", failure.New(failure.Configuration, "%q isn't %s/NAME: the service %s has a source of type %s", text, kind, s.options.Name, kind)
}

// candidates asks the source about a name, if it can tell more than it
// registers.
func (s *discoveryService) candidates(ctx context.Context, name string) ([]discovery.Candidate, error) {
	source, ok := s.source.(explainer)
	if !ok {
		return nil, nil
	}
	found, err := source.Explain(ctx, name)
	if failure.KindOf(err) == failure.NotFound {
		return nil, nil
	}
	return found, err
}

func explained(c discovery.Candidate) explainedCandidate {
	e := explainedCandidate{Workload: c.Workload, Rules: c.Rules, Skip: c.Skip, Keep: c.Keep}
	switch {
	case c.Err != nil:
		e.Error = c.Err.Error()
	case c.Skip == "":
		e.Resource = &c.Resource
	}
	return e
}

// code is 0 if everything is registered as it should be, 2 if something will be
// changed, and 3 if something won't be registered.
func (e *explanation) code() int {
	code := exitOK
	for _, c := range e.Candidates {
		if c.Skip != "" || c.Error != "" {
			code = discoveryBlocked
		}
	}
	p := plan.Plan{Actions: e.Actions}
	if len(p.Troubles()) > 0 {
		return discoveryBlocked
	}
	return max(code, p.ExitCode())
}

func (w *page) explanation(e explanation) {
	for i, c := range e.Candidates {
		if i > 0 {
			w.line("")
		}
		w.candidate(c)
	}
	for i := range e.Actions {
		w.line("")
		w.action(&e.Actions[i])
	}
}

func (w *page) candidate(c explainedCandidate) {
	w.line("workload %s", printable(dash(c.Workload)))
	for _, rule := range c.Rules {
		mark := w.painted(colorGreen, "passed")
		if !rule.Passed {
			mark = w.painted(colorRed, "FAILED")
		}
		w.line("  %s  %s: %s", mark, rule.Name, printable(rule.Detail))
	}
	switch {
	case c.Error != "":
		w.line("  %s: %s", w.painted(colorRed, "no resource"), printable(c.Error))
	case c.Skip != "":
		w.line("  %s: %s", w.painted(colorYellow, "not registered"), printable(c.Skip))
	case c.Resource != nil:
		w.line("  becomes %s", c.Resource.Key())
		for _, change := range resource.Diff(nil, c.Resource) {
			w.line("    %s: %s", change.Field, printable(change.After))
		}
	}
}

// action is what is done about one resource, and what each gate says.
func (w *page) action(a *plan.Action) {
	w.line("%s %s: %s", w.painted(colorOf(a), wordOf(a)), nameOf(a.Key), printable(a.Reason))
	for _, gate := range a.Gates {
		mark := w.painted(colorGreen, "passed")
		if !gate.Passed {
			mark = w.painted(colorRed, "STOPPED")
		}
		w.line("  %s  %s: %s", mark, gate.Gate, printable(gate.Detail))
	}
	if a.Before != nil {
		w.changes(a.Changes)
	}
}

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
