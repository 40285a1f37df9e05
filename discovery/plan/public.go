package plan

import (
	"fmt"
	"strings"

	"rollcall/discovery/resource"
)

// A public address leads users to an application as its name does. If two have
// one, Teleport sends them to one or the other, and whoever takes the public
// address of another's application gets its users and what they send. So it's
// claimed as a name is. Only what is written down is compared: the address that an
// application has by default (NAME.PROXY) isn't in the resource.

// publicAddr returns an application's public address in one spelling; empty:
// Teleport's default.
func publicAddr(r *resource.Resource) string {
	spec, ok := r.Spec.(resource.AppSpec)
	if !ok || spec.PublicAddr == "" {
		return ""
	}
	return strings.ToLower(strings.TrimSuffix(spec.PublicAddr, "."))
}

// publicUse is who has a public address, and who asks for it.
type publicUse struct {
	// wishes are by index in Desired, and registered in Actual.
	wishes, registered []int
	// outgoing is what is served with it still, and is to give it up.
	outgoing []*resource.Resource
}

// indexPublic notes who uses which public address. It's called when the claims are
// known.
func (m *maker) indexPublic() {
	for i := range m.in.Desired {
		d := &m.in.Desired[i]
		if m.outcomes[i] != undecided {
			continue
		}
		if addr := publicAddr(&d.Resource); addr != "" {
			if m.public == nil {
				m.public = map[string]*publicUse{}
			}
			if m.public[addr] == nil {
				m.public[addr] = &publicUse{}
			}
			m.public[addr].wishes = append(m.public[addr].wishes, i)
		}
	}
	if m.public == nil {
		return
	}
	for i := range m.in.Actual {
		if use := m.public[publicAddr(&m.in.Actual[i])]; use != nil {
			use.registered = append(use.registered, i)
		}
	}
	for i := range m.in.Outgoing {
		if use := m.public[publicAddr(&m.in.Outgoing[i])]; use != nil {
			use.outgoing = append(use.outgoing, &m.in.Outgoing[i])
		}
	}
}

// contestedPublic settles a wish for a public address that several have. It returns
// false for a workload that has it already, or may have it as far as is known yet.
func (m *maker) contestedPublic(i int) bool {
	d := &m.in.Desired[i]
	use := m.public[publicAddr(&d.Resource)]
	if use == nil || len(use.wishes)+len(use.registered) < 2 {
		return false
	}
	why, has := m.publicRival(i, use)
	if why == "" {
		return false
	}
	if m.hasPublic(i, use) {
		m.hold(i, why, has)
		return false
	}
	m.conflict(i, why)
	return true
}

// hasPublic says whether a workload is registered with the public address that it
// asks for, under whatever name.
func (m *maker) hasPublic(i int, use *publicUse) bool { return m.ownPublic(i, use) != nil }

// ownPublic is what a workload has registered with the public address that it asks
// for; nil: nothing. It may have another name than it asks for now.
func (m *maker) ownPublic(i int, use *publicUse) (own *resource.Resource) {
	for _, at := range use.registered {
		r := &m.in.Actual[at]
		if m.mine[at] && r.Workload() == m.in.Desired[i].Workload && (own == nil || r.Key() == m.in.Desired[i].Resource.Key()) {
			own = r
		}
	}
	return own
}

// publicRival says who else asks for a wish's public address, or is somebody
// else's and has it; empty: nobody. has is what is registered with it.
func (m *maker) publicRival(i int, use *publicUse) (why, has string) {
	d := &m.in.Desired[i]
	key := d.Resource.Key()
	for _, at := range use.registered {
		other := &m.in.Actual[at]
		if m.mine[at] || other.Key() == key { // of its own name it's said elsewhere
			continue
		}
		_, whose := gateOwner(m.in, other)
		return fmt.Sprintf("%s has the public_addr %s, too: %s; users would reach the one or the other: choose another", other.Key(), publicAddr(other), whose), other.Key().String()
	}
	rival := -1
	for _, j := range use.wishes {
		if j != i && (rival < 0 || m.hasPublic(j, use)) {
			rival = j
		}
	}
	if rival < 0 {
		return "", ""
	}
	wished, kept := m.in.Desired[rival].Resource.Key(), keeps(false)
	if own := m.ownPublic(rival, use); own != nil {
		has, kept = own.Key().String(), keeps(true)
		if own.Key() != wished {
			kept = fmt.Sprintf(", which has it for %s and keeps it", own.Key())
		}
	}
	return fmt.Sprintf("%d workloads ask for the public_addr %s, another is %q for %s%s: give one of them another",
		len(use.wishes), publicAddr(&d.Resource), m.in.Desired[rival].Workload, wished, kept), has
}

// keeps ends what is said of a rival.
func keeps(has bool) string {
	if has {
		return ", which has it and keeps it"
	}
	return ""
}

// publicHolders are resources of ours that are registered with the public address
// of a wish for another workload, or are served with it still.
func (m *maker) publicHolders(i int) []*resource.Resource {
	d := &m.in.Desired[i]
	use := m.public[publicAddr(&d.Resource)]
	if use == nil || m.hasPublic(i, use) {
		return nil
	}
	var holders []*resource.Resource
	for _, at := range use.registered {
		if m.mine[at] && m.in.Actual[at].Key() != d.Resource.Key() {
			holders = append(holders, &m.in.Actual[at])
		}
	}
	for _, r := range use.outgoing {
		if r.Key() != d.Resource.Key() && r.Workload() != d.Workload {
			holders = append(holders, r)
		}
	}
	return holders
}

// refusedPublic refuses a wish whose public address a resource of ours has, unless
// that is to give it up by this plan: because the workload that asks for its name
// asks for another address, or because it's to be deleted.
func (m *maker) refusedPublic(i int) bool {
	own := m.registered(i)
	for _, r := range m.publicHolders(i) {
		if j, asked := m.claimant(r); asked {
			why := fmt.Sprintf("%s has the public_addr %s and stays as it is: %s", r.Key(), publicAddr(r), m.refusals[j])
			switch {
			case m.outcomes[j] != refused:
				continue
			case m.passing[j]:
				m.outcomes[i] = refused
				m.awaitFor(i, own, why)
			default:
				m.conflict(i, why)
			}
			return true
		}
		l := m.leftover(r)
		if l.held == "" {
			l.absence = m.absence(r.Key())
		}
		if v := m.in.judge(l); v.stopped != "" {
			m.block(i, own, v.stopped, fmt.Sprintf("the public_addr %s is still that of %s (%q): %s", publicAddr(r), r.Key(), r.Workload(), v.detail()), v.waiting, false, v.checks)
			m.look(v, l)
			return true
		}
	}
	return false
}

// registered is what is registered as ours under the name that a workload asks for.
func (m *maker) registered(i int) *resource.Resource {
	if at, ok := m.actual[m.in.Desired[i].Resource.Key()]; ok && m.mine[at] {
		return &m.in.Actual[at]
	}
	return nil
}

// claimant is the wish by which a registered resource is updated, if there's one.
func (m *maker) claimant(r *resource.Resource) (int, bool) {
	i, asked := m.first[r.Key()]
	for _, j := range m.others[r.Key()] {
		if m.in.Desired[j].Workload == r.Workload() {
			return j, true
		}
	}
	return i, asked
}

// hold tells of a dispute about what a workload has: it keeps it. has is what is
// registered with it, too.
func (m *maker) hold(i int, why, has string) {
	d := &m.in.Desired[i]
	actual := m.registered(i)
	m.add(Action{
		Op: OpConflict, Key: d.Resource.Key(), Workload: d.Workload, Before: actual, After: m.in.labelled(d, actual), Holds: true, Shares: has,
		Reason: why + "; what is registered for this one stays",
	})
}
