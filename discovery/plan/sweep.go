package plan

import (
	"fmt"
	"time"

	"rollcall/discovery/resource"
)

// leftover describes a resource that its workload doesn't ask for any more.
func (m *maker) leftover(r *resource.Resource) *leftover {
	l := &leftover{res: r}
	workload := r.Workload()
	if why, broken := m.broken[workload]; broken {
		l.held = fmt.Sprintf("its workload %q is there, but can't be read: %s", workload, why)
		return l
	}
	i, present := m.byIdentity[identity{r.Kind, workload}]
	if !present {
		return l
	}
	switch key := m.in.Desired[i].Resource.Key(); m.outcomes[i] {
	case refused:
		l.held = fmt.Sprintf("its workload %q asks for %s and can't have it: %s", workload, key, m.refusals[i])
		l.passing = m.passing[i]
	case creating, settled:
		l.needs = key
	}
	return l
}

// absence counts a resource that isn't asked for. While the source settles nothing
// counts, nor does what was counted before.
func (m *maker) absence(key resource.Key) Absence {
	if m.in.settling() > 0 && !m.in.Failed {
		return Absence{Since: m.in.Now}
	}
	a, known := m.in.Absences[key]
	if !known {
		a = Absence{Since: m.in.Now}
	}
	if !m.in.Failed && m.in.GoodReads > 0 {
		a.Reads++
		m.plan.Absences[key] = a
	} else if known {
		m.plan.Absences[key] = a
	}
	return a
}

// sweep looks at every resource of ours that nobody asks for.
func (m *maker) sweep() {
	m.acknowledged = make(map[resource.Key]bool, len(m.in.History.Acknowledged))
	for _, key := range m.in.History.Acknowledged {
		m.acknowledged[key] = true
	}
	for i := range m.in.Actual {
		r := &m.in.Actual[i]
		if m.claimed[i] || m.in.Owner == "" || !m.mine[i] && r.Owner() != m.in.Owner {
			continue
		}
		if m.twins[r.Key()] {
			m.add(Action{Op: OpConflict, Key: r.Key(), Workload: r.Workload(), Before: r, Reason: twinned})
			continue
		}
		l := m.leftover(r)
		if l.held == "" && m.mine[i] {
			l.absence = m.absence(r.Key())
			if _, present := m.byIdentity[identity{r.Kind, r.Workload()}]; !present {
				l.usedBy = m.usedBy(r)
			}
		}
		switch v := m.in.judge(l); {
		case v.stopped != "":
			m.stay(l, v, v.detail())
		case m.acknowledged[r.Key()]:
			m.delete(l, append(v.checks, Check{GateBudget, true, "a person approved this deletion"}))
		default:
			m.leftovers = append(m.leftovers, l)
		}
	}
}

// spend asks the budget for the deletions that all other gates let pass.
func (m *maker) spend() {
	counted := m.in.History.Recent(m.in.Now).counts()
	a := ask{owned: m.plan.Owned, pending: m.pending}
	for i := range m.in.Actual {
		if len(counted) > 0 && m.mine[i] && counted[m.in.Actual[i].Key()] {
			a.returned++
		}
	}
	for _, l := range m.leftovers {
		if counted[l.res.Key()] {
			a.again++
		} else {
			a.deletions++
		}
	}
	b := budget(m.in.Guard, m.in.History, m.in.Now, a)
	m.plan.Budget = b
	detail, free := b.detail(m.in.Guard.MaxDelete), b.Free
	for _, l := range m.leftovers {
		passed := counted[l.res.Key()] && !b.Frozen
		if !passed && free > 0 {
			passed = true
			free--
		}
		v := m.in.judge(l)
		v.checks = append(v.checks, Check{GateBudget, passed, detail})
		if passed {
			m.delete(l, v.checks)
			continue
		}
		v.stopped, v.waiting = GateBudget, !b.Frozen
		m.stay(l, v, detail)
	}
	if !b.More.IsZero() {
		m.wake(b.More)
	}
}

// delete plans a deletion.
func (m *maker) delete(l *leftover, checks []Check) {
	reason := "its workload is gone"
	if _, present := m.byIdentity[identity{l.res.Kind, l.res.Workload()}]; present {
		reason = "its workload has another name now"
	}
	m.add(Action{
		Op: OpDelete, Key: l.res.Key(), Workload: l.res.Workload(), Before: l.res, Reason: reason, Gates: checks, Needs: l.needs,
	})
}

// stay plans that a resource that nobody asks for stays.
func (m *maker) stay(l *leftover, v verdict, why string) {
	if v.stopped == GateSource || v.stopped == GateFirstRead || v.waiting {
		m.pending++
	}
	m.plan.blocked(v.stopped)
	m.look(v, l)
	if v.stopped == GateOwner && !m.in.All {
		return // another service's: no news unless somebody asks
	}
	m.add(Action{
		Op: OpBlocked, Key: l.res.Key(), Workload: l.res.Workload(), Before: l.res, BlockedBy: v.stopped,
		Reason: "not deleted: " + why, Waiting: v.waiting, Wanted: v.wanted, Gates: v.checks,
	})
}

// look notes when the absent gate may open.
func (m *maker) look(v verdict, l *leftover) {
	if v.stopped != GateAbsent || !v.waiting || l.held != "" {
		return
	}
	if settling := m.in.settling(); settling > 0 {
		m.plan.Settling = true
		if !m.in.Lost { // else it hints when they're followed again
			m.plan.Settles = m.in.Now.Add(settling)
			m.wake(m.plan.Settles)
		}
		return
	}
	left := max(0, m.in.Guard.AbsentFor-m.in.Now.Sub(l.absence.Since))
	// The reads that are missing are spread over the time that is left.
	if reads := m.in.Guard.AbsentReads - l.absence.Reads; reads > 0 {
		left = max(left/time.Duration(reads), time.Second)
	}
	m.wake(m.in.Now.Add(left))
}

// unchanged plans nothing for a resource that is as it should be.
func (m *maker) unchanged(workload string, actual *resource.Resource) {
	if m.in.stale(actual) {
		return // refresh does it
	}
	if joining, pending := m.in.Pending[actual.Key()]; pending {
		a := Action{
			Op: OpNothing, Key: actual.Key(), Workload: workload, Before: actual, After: actual, Waiting: joining, Away: !joining,
			Reason: "its agent was started, and hasn't registered it yet",
		}
		if a.Away {
			a.Reason = "its agent had registered it, and is away: it comes back by itself, or is replaced"
		}
		if m.in.All {
			m.add(a)
		}
		return
	}
	m.plan.Unchanged++
	if m.in.All {
		m.add(Action{Op: OpNothing, Key: actual.Key(), Workload: workload, Before: actual, After: actual, Reason: "it's as it should be"})
	}
}

// refresh plans a new Expires for every resource of ours that stays and whose
// life is to be prolonged, whatever keeps it: a lease that ran out would be a
// deletion that no gate has seen.
func (m *maker) refresh() {
	var touched map[resource.Key]bool
	for i := range m.in.Actual {
		r := &m.in.Actual[i]
		if !m.mine[i] || m.twins[r.Key()] {
			continue
		}
		if !m.in.stale(r) {
			m.due(r)
			continue
		}
		if touched == nil {
			touched = m.touched()
		}
		if touched[r.Key()] {
			continue
		}
		after := r.Clone()
		after.Expires = m.in.expires(Kept(r))
		m.due(&after)
		m.add(Action{
			Op: OpUpdate, Key: r.Key(), Workload: r.Workload(), Before: r, After: &after, Refresh: true,
			Changes: resource.Diff(r, &after), Reason: "its lease is refreshed",
		})
	}
}

// touched are the resources that are updated or deleted by the plan.
func (m *maker) touched() map[resource.Key]bool {
	touched := map[resource.Key]bool{}
	for i := range m.plan.Actions {
		if a := &m.plan.Actions[i]; a.Op == OpUpdate || a.Op == OpDelete {
			touched[a.Key] = true
		}
	}
	return touched
}

// due notes when a leased resource is to be refreshed.
func (m *maker) due(r *resource.Resource) {
	if m.in.TTL > 0 && !r.Expires.IsZero() {
		m.wake(m.in.refreshAt(r))
	}
}

// wake notes a time at which the plan will be another one.
func (m *maker) wake(at time.Time) {
	if m.plan.NextLook.IsZero() || at.Before(m.plan.NextLook) {
		m.plan.NextLook = at
	}
}

func (m *maker) add(a Action) { m.plan.Actions = append(m.plan.Actions, a) }
