package plan

import (
	"fmt"

	"rollcall/discovery/resource"
)

// Make compares what is wanted with what is registered.
//
// A resource is its workload's by the label rollcall/workload, whatever its name
// and its address are. For each workload that asks for a resource by a name:
//
//	asks for it     registered under the name              what is done
//	one workload    nothing                                create
//	one workload    another's (no mark, other mark)        conflict
//	one workload    its own, the same                      nothing
//	one workload    its own, different                     update (policy)
//	one workload    that of one that asks for another name  update: it takes the name
//	one workload    that of one that can't be read         blocked
//	one workload    that of one that is gone               update, after the gates of a deletion
//	several         that of one of them                    as above for that one, conflict for the others; all are told
//	several         anything else                          conflict for all; what is there stays
//	can't be read   anything                               blocked; what it has stays
//
// The same holds for the public addresses of applications (see publicAddr), but
// that one is only given to a workload when nobody else is registered with it any
// more: what gives it up comes first, and may fail.
//
// And for each registered resource that is ours and that nobody asks for by its
// name:
//
//	its workload                                   what is done
//	is gone                                        delete, after the gates
//	asks for another name, which is there          delete, after the gates
//	asks for another name, which is to be made     delete, after the gates and after that
//	asks for another name, which it can't have     blocked: it stays
//	can't be read                                  blocked: it stays
//
// Whatever stays although its address is another workload's now is told (see
// usedBy).
//
// Leased resources (TTL) that stay for whatever reason are refreshed when a
// third of their life is over: one that a gate protects mustn't vanish by
// itself.
func Make(in Input) Plan {
	in.Guard = in.Guard.WithDefaults()
	m := maker{in: &in, plan: Plan{Absences: map[resource.Key]Absence{}, Actions: []Action{}}}
	m.index()
	for i := range in.Desired {
		m.decide(i)
	}
	m.takeAll()
	m.sweep()
	m.spend()
	m.stall()
	m.plan.Follows = len(m.awaits)+len(m.bare) > 0
	m.mislead()
	m.share()
	m.refresh()
	sortActions(m.plan.Actions)
	m.plan.DeletionHash = deletionHash(m.plan.Actions, false)
	m.plan.PendingHash = deletionHash(m.plan.Actions, true)
	return m.plan
}

// identity is a workload within a kind.
type identity struct {
	kind     resource.Kind
	workload string
}

// outcome is what a workload's wish came to.
type outcome uint8

const (
	undecided outcome = iota
	// settled: it is registered, or will be by an update.
	settled
	// creating: it will be by a create.
	creating
	// refused: it isn't, and won't be by this plan.
	refused
)

// maker makes one plan.
type maker struct {
	in   *Input
	plan Plan

	// actual is the index of in.Actual by key.
	actual map[resource.Key]int
	// twins are keys that in.Actual has more than once, which no registry should
	// say. Which of them a write would hit isn't known, so none is written.
	twins map[resource.Key]bool
	// claimed is true for what somebody asks for by its name, or that has to
	// stay for that.
	claimed []bool
	// mine is true for what is ours and this source's.
	mine []bool
	// first is the first workload that asks for a key; others has the rest.
	first  map[resource.Key]int
	others map[resource.Key][]int
	// byIdentity is the index of in.Desired by identity.
	byIdentity map[identity]int
	// broken are workloads of which no resource could be made, and why.
	broken map[string]string
	// outcomes are by index in in.Desired, with the reason of a refusal.
	outcomes  []outcome
	refusals  map[int]string
	takeovers []int
	// passing are refusals that time alone, or what is done by this plan, may end.
	passing map[int]bool
	// bare are wishes that are granted without their public address for now, and
	// awaits those that wait for it, or without it.
	bare   map[int]bool
	awaits []await
	// public is who uses which public address; nil: nobody asks for any.
	public map[string]*publicUse
	// acknowledged are deletions that a person approved.
	acknowledged map[resource.Key]bool
	// leftovers passed all gates but the budget; pending counts those for which
	// that isn't known yet.
	leftovers []*leftover
	pending   int
	// addresses are who is where; nil: nobody has asked yet.
	addresses map[string][]string
}

// index looks at both sides once.
func (m *maker) index() {
	in := m.in
	m.actual = make(map[resource.Key]int, len(in.Actual))
	m.twins = map[resource.Key]bool{}
	m.claimed = make([]bool, len(in.Actual))
	m.mine = make([]bool, len(in.Actual))
	for i := range in.Actual {
		r := &in.Actual[i]
		if _, twice := m.actual[r.Key()]; twice {
			m.twins[r.Key()] = true
		}
		m.actual[r.Key()] = i
		if in.ours(r) {
			m.mine[i] = true
			m.plan.Owned++
			if _, pending := in.Pending[r.Key()]; pending {
				m.plan.Pending++
			}
		} else {
			m.plan.Foreign++
		}
	}
	m.first = make(map[resource.Key]int, len(in.Desired))
	m.others = map[resource.Key][]int{}
	m.byIdentity = make(map[identity]int, len(in.Desired))
	m.broken = map[string]string{}
	m.outcomes = make([]outcome, len(in.Desired))
	m.refusals = map[int]string{}
	m.passing = map[int]bool{}
	m.bare = map[int]bool{}
	for i := range in.Desired {
		m.claim(i)
	}
	m.indexPublic()
}

// twinned is why nothing is done with a key that is registered more than once.
const twinned = "the registry says that it's registered more than once, which can't be: nothing is done with it"

// claim notes which name a workload asks for.
func (m *maker) claim(i int) {
	d := &m.in.Desired[i]
	key := d.Resource.Key()
	switch {
	case d.Err != nil:
		m.unreadable(i, resource.Key{}, d.Err.Error())
		return
	case d.Workload == "":
		m.unreadable(i, key, "the source gave the workload no identity")
		return
	}
	m.plan.Wanted++
	id := identity{d.Resource.Kind, d.Workload}
	if other, twice := m.byIdentity[id]; twice {
		if twin := &m.in.Desired[other]; key == twin.Resource.Key() && d.Keep == twin.Keep && resource.Equal(d.Resource, twin.Resource) {
			m.plan.Wanted--
			m.outcomes[i] = settled
			return
		}
		m.clash(other, i, d.Workload)
		return
	}
	m.byIdentity[id] = i
	if _, taken := m.first[key]; taken {
		m.others[key] = append(m.others[key], i)
		return
	}
	m.first[key] = i
}

// unreadable notes a workload of which no resource can be made.
func (m *maker) unreadable(i int, key resource.Key, why string) {
	d := &m.in.Desired[i]
	m.outcomes[i] = refused
	m.broken[d.Workload] = why
	m.add(Action{
		Op: OpBlocked, Key: key, Workload: d.Workload, BlockedBy: GateWorkload,
		Reason: why + "; what it has registered stays",
	})
}

// clash refuses two different wishes of one identity.
func (m *maker) clash(first, second int, workload string) {
	why := fmt.Sprintf("two workloads have the identity %q, so neither is registered", workload)
	for _, i := range []int{first, second} {
		if m.outcomes[i] == undecided {
			m.conflict(i, why)
		}
	}
}

// conflict refuses a workload's wish.
func (m *maker) conflict(i int, why string) {
	d := &m.in.Desired[i]
	m.outcomes[i] = refused
	m.refusals[i] = why
	key := d.Resource.Key()
	if at, ok := m.actual[key]; ok {
		m.claimed[at] = true // what is there stays while people argue
	}
	m.add(Action{Op: OpConflict, Key: key, Workload: d.Workload, After: m.in.labelled(d, nil), Reason: why})
}

// block refuses a workload's wish because of a gate.
func (m *maker) block(i int, actual *resource.Resource, gate Gate, why string, waiting, wanted bool, checks []Check) {
	d := &m.in.Desired[i]
	m.outcomes[i] = refused
	m.refusals[i] = why
	m.passing[i] = waiting
	m.add(Action{
		Op: OpBlocked, Key: d.Resource.Key(), Workload: d.Workload, Before: actual, After: m.in.labelled(d, actual),
		BlockedBy: gate, Reason: why, Waiting: waiting, Wanted: wanted, Gates: checks,
	})
}

// decide settles what needs no look at what other workloads came to.
func (m *maker) decide(i int) {
	if m.outcomes[i] != undecided {
		return
	}
	d := &m.in.Desired[i]
	key := d.Resource.Key()
	at, exists := m.actual[key]
	if m.twins[key] {
		m.conflict(i, twinned)
		return
	}
	if len(m.others) > 0 && m.contested(i, key, at, exists) || m.contestedPublic(i) {
		return
	}
	if exists {
		m.claimed[at] = true
		if !m.mine[at] {
			_, why := gateOwner(m.in, &m.in.Actual[at])
			m.conflict(i, fmt.Sprintf("%s exists already: %s; it's never overwritten", key, why))
			return
		}
	}
	if exists && m.in.Actual[at].Workload() != d.Workload || len(m.publicHolders(i)) > 0 {
		m.takeovers = append(m.takeovers, i)
		return
	}
	m.settle(i)
}

// settle grants a wish, as far as the gates and the policy let it be.
func (m *maker) settle(i int) {
	d := m.granted(i)
	key := d.Resource.Key()
	at, exists := m.actual[key]
	if !exists {
		m.outcomes[i] = creating
		after := m.in.labelled(d, nil)
		m.add(Action{Op: OpCreate, Key: key, Workload: d.Workload, After: after, Changes: resource.Diff(nil, after), Reason: "it isn't registered yet" + m.without(i)})
		return
	}
	switch actual := &m.in.Actual[at]; {
	case actual.Workload() != d.Workload:
		m.takeOver(i)
	case m.in.same(d, actual):
		m.outcomes[i] = settled
		if m.bare[i] {
			m.await(i, actual)
			return
		}
		m.unchanged(d.Workload, actual)
	default:
		m.update(i, actual, "it differs from what is wanted")
	}
}

// contested settles a wish for a name that several have. It returns false for
// the workload whose resource already has the name, which keeps it.
func (m *maker) contested(i int, key resource.Key, at int, exists bool) bool {
	others := m.others[key]
	if len(others) == 0 {
		return false
	}
	claimants := append([]int{m.first[key]}, others...)
	has := func(i int) bool {
		return exists && m.mine[at] && m.in.Actual[at].Workload() == m.in.Desired[i].Workload
	}
	rival := -1
	for _, j := range claimants {
		if j != i && (rival < 0 || has(j)) {
			rival = j
		}
	}
	why := fmt.Sprintf("%d workloads ask for the name %s, another is %q%s: rename one of them", len(claimants), key, m.in.Desired[rival].Workload, keeps(has(rival)))
	if has(i) {
		m.hold(i, why, "")
		return false
	}
	m.conflict(i, why)
	return true
}

// update plans a change of what is registered, if the policy allows it.
func (m *maker) update(i int, actual *resource.Resource, reason string) {
	d := m.granted(i)
	if !m.in.Policy.updates() {
		m.block(i, actual, GatePolicy, fmt.Sprintf("it differs from what is wanted, and the policy is %s", m.in.Policy), false, true, nil)
		return
	}
	after := m.in.labelled(d, actual)
	m.outcomes[i] = settled
	m.due(after)
	m.add(Action{
		Op: OpUpdate, Key: d.Resource.Key(), Workload: d.Workload, Before: actual, After: after,
		Changes: resource.Diff(actual, after), Reason: reason + m.without(i),
	})
}
