package agent

import (
	"cmp"
	"maps"
	"slices"

	"rollcall/discovery/resource"
)

// Outgoing returns what agents serve, or may serve again, that are to go when the
// newest of their application has registered, as of the last List and what was
// done since; see discovery.Delayed. Until then, and for as long as the newest
// can't register, users reach them.
func (g *Registry) Outgoing() []resource.Resource {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.SortedFunc(maps.Values(g.outgoing), func(a, b resource.Resource) int { return cmp.Compare(a.Name, b.Name) })
}

// noteOutgoing notes the agents of all our applications that aren't the newest. One
// that has ended may be started again by whoever likes to, and serve as before.
func (g *Registry) noteOutgoing(groups []*group) {
	g.mu.Lock()
	defer g.mu.Unlock()
	clear(g.outgoing)
	for _, one := range groups {
		if len(one.agents) > 0 {
			g.leave(one.agents[1:])
		}
	}
}

// leave notes agents that go when another has registered. g.mu is held.
func (g *Registry) leave(replaced []*seen) {
	for _, old := range replaced {
		if old.readable {
			g.outgoing[old.id] = old.record
		}
	}
}
