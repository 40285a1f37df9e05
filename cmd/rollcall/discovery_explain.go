package main

import (
	"context"
	"strings"

	"github.com/gravitational/trace"

	"rollcall/discovery"
	"rollcall/discovery/plan"
	"rollcall/discovery/resource"
	"rollcall/failure"
)

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
