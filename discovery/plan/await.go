package plan

import (
	"fmt"

	"rollcall/discovery/resource"
)

// A public address is only given away when nobody is registered with it any more:
// the write that gives it up may fail, or the budget may keep it from being done.
// Until then whoever asks for it waits, or, in a ring of those who wait for each
// other, is registered without it.

// await is a wish that waits for its public address, or is granted without it, and
// the action that says so.
type await struct{ wish, action int }

// await tells of a wish that waits until who has its public address has given it up.
func (m *maker) await(i int, own *resource.Resource) {
	r := m.publicHolders(i)[0]
	m.awaitFor(i, own, fmt.Sprintf("the public_addr %s is still that of %s (%q), which gives it up first", publicAddr(r), r.Key(), r.Workload()))
}

func (m *maker) awaitFor(i int, own *resource.Resource, why string) {
	d := &m.in.Desired[i]
	m.awaits = append(m.awaits, await{i, len(m.plan.Actions)})
	m.refusals[i], m.passing[i] = why, true
	m.add(Action{
		Op: OpBlocked, Key: d.Resource.Key(), Workload: d.Workload, Before: own, After: m.in.labelled(d, own),
		BlockedBy: GateAddress, Reason: why, Waiting: true,
	})
}

// stall looks which of those that wait for a public address do so because the
// budget keeps what has it.
func (m *maker) stall() {
	if len(m.awaits) == 0 {
		return
	}
	kept := map[resource.Key]*Action{}
	for i := range m.plan.Actions {
		if a := &m.plan.Actions[i]; a.BlockedBy == GateBudget {
			kept[a.Key] = a
		}
	}
	for _, w := range m.awaits {
		for _, r := range m.publicHolders(w.wish) {
			holder, keeps := kept[r.Key()]
			if !keeps {
				continue
			}
			a := &m.plan.Actions[w.action]
			a.BlockedBy, a.Waiting = GateBudget, holder.Waiting
			a.Reason += ": " + holder.Reason
			kept[a.Key] = a // whoever waits for this one
			break
		}
	}
}

// granted is a workload's wish as far as it's granted.
func (m *maker) granted(i int) *Desired {
	d := &m.in.Desired[i]
	if !m.bare[i] {
		return d
	}
	without := *d
	spec, _ := d.Resource.Spec.(resource.AppSpec)
	spec.PublicAddr = ""
	without.Resource.Spec = spec
	return &without
}

// without ends the reason of what is granted without its public address.
func (m *maker) without(i int) string {
	if !m.bare[i] {
		return ""
	}
	return fmt.Sprintf("; without its public_addr %s until who has that has given it up", publicAddr(&m.in.Desired[i].Resource))
}
