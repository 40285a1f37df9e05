package discovery

import (
	"time"

	"rollcall/discovery/plan"
	"rollcall/discovery/resource"
	"rollcall/failure"
)

// conflictRetries is how often a name that is taken is tried again by itself: it
// may be our own, made just before a restart and not to be seen yet.
const conflictRetries = 2

// item is a write that failed.
type item struct {
	op       plan.Op
	after    *resource.Resource
	failures int
	err      error
	// retry is when it's tried again; zero: when something else is asked for,
	// or with the next full comparison.
	retry time.Time
}

// items remember writes that failed, so that one resource's trouble is neither
// tried in a loop nor stops the others.
type items struct {
	random func() float64
	byKey  map[resource.Key]*item
}

func (s *items) forget() { s.byKey = nil }

func (s *items) any() bool { return len(s.byKey) > 0 }

// forgive lets what was refused be tried again.
func (s *items) forgive() {
	for _, it := range s.byKey {
		if it.retry.IsZero() {
			it.retry = time.Unix(0, 0)
		}
	}
}

// rests says whether an action has failed and isn't to be tried yet.
func (s *items) rests(a *plan.Action, now time.Time) bool {
	it, failed := s.byKey[a.Key]
	if !failed || it.op != a.Op || !same(it.after, a.After) {
		return false
	}
	return it.retry.IsZero() || now.Before(it.retry)
}

func same(a, b *resource.Resource) bool {
	if a == nil || b == nil {
		return a == b
	}
	return resource.Equal(*a, *b)
}

// failed notes a failure and when to try again.
func (s *items) failed(a *plan.Action, err error, now time.Time) {
	if s.byKey == nil {
		s.byKey = map[resource.Key]*item{}
	}
	it := s.byKey[a.Key]
	if it == nil || it.op != a.Op || !same(it.after, a.After) {
		it = &item{}
		s.byKey[a.Key] = it
	}
	it.op, it.after, it.err = a.Op, a.After, err
	s.rest(it, now)
}

// postpone has what failed before and wasn't tried now wait as if it had failed
// again.
func (s *items) postpone(key resource.Key, now time.Time) {
	if it := s.byKey[key]; it != nil {
		s.rest(it, now)
	}
}

// rest sets when an item is tried again: what was refused only when something
// changes, and the rest less and less soon.
func (s *items) rest(it *item, now time.Time) {
	it.failures++
	switch kind := failure.KindOf(it.err); {
	case kind == failure.Conflict && it.failures <= conflictRetries:
		it.retry = now.Add(retryDelay(it.failures, s.random()))
	case kind == failure.Refused || kind == failure.Conflict || kind == failure.Configuration:
		it.retry = time.Time{}
	default:
		it.retry = now.Add(retryDelay(it.failures, s.random()))
	}
}

func (s *items) worked(key resource.Key) { delete(s.byKey, key) }

// prune forgets items that no plan asks for any more.
func (s *items) prune(p *plan.Plan) {
	if len(s.byKey) == 0 {
		return
	}
	asked := map[resource.Key]bool{}
	for i := range p.Actions {
		switch a := &p.Actions[i]; a.Op {
		case plan.OpCreate, plan.OpUpdate, plan.OpDelete:
			asked[a.Key] = true
		}
	}
	for key := range s.byKey {
		if !asked[key] {
			delete(s.byKey, key)
		}
	}
}

// next is when the first of them is tried again, which is never at once; zero:
// none by itself.
func (s *items) next(now time.Time) time.Time {
	var next time.Time
	for _, it := range s.byKey {
		if !it.retry.IsZero() && (next.IsZero() || it.retry.Before(next)) {
			next = it.retry
		}
	}
	if soonest := now.Add(minRetry); !next.IsZero() && next.Before(soonest) {
		return soonest
	}
	return next
}
