package plan

import (
	"fmt"
	"slices"

	"rollcall/discovery/resource"
)

// Names and public addresses move from one workload to another: because the first
// is gone, because it asks for another one now, or because the two swap theirs.

// takeAll settles the wishes for names and public addresses that are registered
// for other workloads of ours: first those whose holder's own wish is settled, so
// that nobody loses a name without having the next one. What is left then are
// rings (a swap of two names), in which everybody gets the name that he asks for,
// and those who ask for another's address have none until the next plan.
func (m *maker) takeAll() {
	for len(m.takeovers) > 0 {
		var waiting []int
		for _, i := range m.takeovers {
			if _, open := m.waitsFor(i); open {
				waiting = append(waiting, i)
				continue
			}
			m.take(i)
		}
		if len(waiting) == len(m.takeovers) {
			waiting = m.breakRing(waiting)
		}
		m.takeovers = waiting
	}
}

// breakRing settles some of the wishes that all wait for each other. Whoever can't
// have what he asks for, whatever the others come to, isn't in a ring, and those
// who count on him mustn't be either.
func (m *maker) breakRing(waiting []int) []int {
	at := slices.IndexFunc(waiting, func(i int) bool {
		if m.refusedPublic(i) || m.refusedName(i) {
			return true
		}
		if m.registered(i) != nil && !m.in.Policy.updates() {
			m.settle(i)
			return true
		}
		return false
	})
	if at >= 0 {
		return slices.Delete(waiting, at, at+1)
	}
	ring := m.ring(waiting[0])
	for _, i := range ring {
		if len(m.publicHolders(i)) > 0 {
			m.bare[i] = true
		}
	}
	for _, i := range ring {
		m.settle(i)
	}
	return slices.DeleteFunc(waiting, func(i int) bool { return m.outcomes[i] != undecided })
}

// ring follows the wishes that wait for each other, from one of them, and returns
// those that wait for themselves in the end.
func (m *maker) ring(i int) []int {
	var path []int
	for {
		if at := slices.Index(path, i); at >= 0 {
			return path[at:]
		}
		path = append(path, i)
		next, waits := m.waitsFor(i)
		if !waits {
			return path[len(path)-1:] // for nobody: then it's the one to settle
		}
		i = next
	}
}

// waitsFor returns a wish that isn't settled yet and that another depends on: for
// its name, or else for its address.
func (m *maker) waitsFor(i int) (int, bool) {
	d := &m.in.Desired[i]
	open := func(r *resource.Resource) (int, bool) {
		other, present := m.byIdentity[identity{r.Kind, r.Workload()}]
		return other, present && other != i && m.outcomes[other] == undecided
	}
	if own := m.registered(i); own != nil && own.Workload() != d.Workload {
		if other, waits := open(own); waits {
			return other, true
		}
	}
	for _, r := range m.publicHolders(i) {
		if j, asked := m.claimant(r); asked && m.outcomes[j] == undecided {
			return j, true
		}
		if other, waits := open(r); waits {
			return other, true
		}
	}
	return 0, false
}

// take settles a wish for what is registered for another workload of ours.
func (m *maker) take(i int) {
	if m.refusedPublic(i) {
		return
	}
	if len(m.publicHolders(i)) > 0 {
		m.outcomes[i] = refused
		m.await(i, m.registered(i))
		return
	}
	m.settle(i)
}

// takeOver settles a wish for a name that is registered for another workload of
// ours.
func (m *maker) takeOver(i int) {
	actual := m.registered(i)
	l, reason := m.successor(i, actual)
	if m.refusedName(i) {
		return
	}
	m.update(i, actual, reason)
	if last := &m.plan.Actions[len(m.plan.Actions)-1]; last.Op == OpUpdate {
		last.Gates, last.Needs = m.in.judge(l).checks, l.needs
	}
}

// refusedName refuses a wish for a name that is registered for another workload of
// ours, if a gate stands before it.
func (m *maker) refusedName(i int) bool {
	actual := m.registered(i)
	if actual == nil || actual.Workload() == m.in.Desired[i].Workload {
		return false
	}
	l, _ := m.successor(i, actual)
	v := m.in.judge(l)
	if v.stopped == "" {
		return false
	}
	m.block(i, actual, v.stopped, fmt.Sprintf("the name still belongs to %q: %s", actual.Workload(), v.detail()), v.waiting, v.wanted, v.checks)
	m.look(v, l)
	return true
}

// successor describes what is registered for one workload and is asked for by
// another, and says why that may have it.
func (m *maker) successor(i int, actual *resource.Resource) (*leftover, string) {
	holder := actual.Workload()
	l := m.leftover(actual)
	l.successor = m.in.Desired[i].Workload
	reason := fmt.Sprintf("the name was that of %q, which is gone", holder)
	if other, present := m.byIdentity[identity{actual.Kind, holder}]; present && l.held == "" {
		// The holder is there and asks for another name: it gives this one up.
		l.vacated = true
		reason = fmt.Sprintf("the name was that of %q, which is now %s", holder, m.in.Desired[other].Resource.Key())
	} else if l.held == "" {
		l.absence = m.absence(actual.Key())
	}
	return l, reason
}
