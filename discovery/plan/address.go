package plan

import (
	"fmt"

	"rollcall/discovery/resource"
)

// Addresses are given to one workload after the other: the next container gets
// the one that the last had. Whoever uses what is still registered for the last
// then reaches the next. So what has no workload any more, and whose address is
// another's now, goes without the time of the absent gate; and where anything
// else keeps it, or its workload is there and can't be brought up to date, a
// person is told.

// usedBy returns a workload that is at an address now, if that isn't the
// resource's own; empty: there's none. Old knowledge says nothing.
func (m *maker) usedBy(r *resource.Resource) string {
	if m.in.Failed || m.in.GoodReads < 1 {
		return ""
	}
	address := r.Address()
	if address == "" {
		return ""
	}
	if m.addresses == nil {
		m.addresses = make(map[string][]string, len(m.in.Desired))
		for i := range m.in.Desired {
			if d := &m.in.Desired[i]; d.Err == nil {
				at := d.Resource.Address()
				m.addresses[at] = append(m.addresses[at], d.Workload)
			}
		}
	}
	other := ""
	for _, workload := range m.addresses[address] {
		if workload == r.Workload() {
			return "" // they share it
		}
		if other == "" {
			other = workload
		}
	}
	return other
}

// mislead finds what stays registered although its address is another
// workload's.
func (m *maker) mislead() {
	touched := m.touched()
	for i := range m.plan.Actions {
		a := &m.plan.Actions[i]
		at, there := m.actual[a.Key]
		if a.Op != OpBlocked && a.Op != OpConflict || !there || !m.mine[at] || touched[a.Key] {
			continue
		}
		r := &m.in.Actual[at]
		if a.Misleads = m.usedBy(r); a.Misleads != "" {
			touched[a.Key] = true // said once
			a.Reason = fmt.Sprintf("%s; its address %s is that of %q now, so its users reach that: end this, or delete it", a.Reason, r.Address(), a.Misleads)
		}
	}
}

// share finds what stays registered with a public address that another stays
// registered with, too.
func (m *maker) share() {
	var suspects []*Action
	said := map[resource.Key]bool{}
	for i := range m.plan.Actions {
		a := &m.plan.Actions[i]
		at, there := m.actual[a.Key]
		switch {
		case a.Shares != "":
			said[a.Key] = true
		case (a.Op == OpBlocked || a.Op == OpConflict) && there && m.mine[at] && publicAddr(&m.in.Actual[at]) != "":
			suspects = append(suspects, a)
		}
	}
	if len(suspects) == 0 {
		return
	}
	after, users := m.addressesAfter()
	for _, a := range suspects {
		at := m.actual[a.Key]
		r := &m.in.Actual[at]
		if after[at] == "" || said[a.Key] {
			continue
		}
		for _, j := range users[after[at]] {
			other := &m.in.Actual[j]
			if other.Key() == a.Key || m.mine[j] && other.Workload() == r.Workload() {
				continue
			}
			said[a.Key], a.Shares = true, other.Key().String()
			a.Reason += fmt.Sprintf("; its public_addr %s is that of %s, too, so its users reach the one or the other: end this, or delete it", after[at], a.Shares)
			break
		}
	}
}

// addressesAfter returns the public addresses of what is registered, as they are
// once the plan is done, by index in Actual (empty: none), and who has each.
func (m *maker) addressesAfter() (after []string, users map[string][]int) {
	after = make([]string, len(m.in.Actual))
	for i := range m.in.Actual {
		after[i] = publicAddr(&m.in.Actual[i])
	}
	for i := range m.plan.Actions {
		a := &m.plan.Actions[i]
		at, there := m.actual[a.Key]
		switch {
		case !there:
		case a.Op == OpDelete:
			after[at] = ""
		case a.Op == OpUpdate:
			after[at] = publicAddr(a.After)
		}
	}
	users = map[string][]int{}
	for i, addr := range after {
		users[addr] = append(users[addr], i)
	}
	return after, users
}
