package agent

import (
	"context"
	"maps"
	"time"
)

// Tell has f called whenever an agent has registered its application, or has
// failed to: one that was started, or one that a List found on its way. It's
// called before the first List; f doesn't block.
func (g *Registry) Tell(f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.tell = f
}

// Pending returns the applications that no agent has registered, as of the last
// List and what was done since: not yet, or, if false, not any more; see
// discovery.Delayed.
func (g *Registry) Pending() map[string]bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return maps.Clone(g.unserved)
}

// noteUnserved notes which of all our applications have an agent and no record.
func (g *Registry) noteUnserved(groups []*group) {
	g.mu.Lock()
	defer g.mu.Unlock()
	clear(g.unserved)
	for _, one := range groups {
		if one.unserved() {
			g.unserved[one.name] = !one.left()
		}
	}
}

// expect has whoever listens told when one of the agents that a List found without
// a record has one, or is in trouble by now. Of those that a join waits for it's
// told by that; the others were on their way before we began (the first of their
// application, or to replace one that serves), or are away.
func (g *Registry) expect(groups []*group, settings string) {
	now := time.Now()
	expected := map[string]*group{}
	for _, one := range groups {
		if one.unjoined() && !one.agents[0].joining && one.trouble(&g.opts, settings, now) == "" {
			expected[one.name] = one
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.expecting != nil {
		g.expecting()
		g.expecting = nil
	}
	if len(expected) == 0 || g.tell == nil || g.closed {
		return
	}
	ctx, cancel := context.WithCancel(g.ctx)
	g.expecting = cancel
	g.looks.Go(func() {
		defer cancel()
		if g.awaitAny(ctx, expected, settings) {
			g.hint()
		}
	})
}

// awaitAny waits until any of the applications isn't as it was; false: ctx ended.
// Each look is one list, however many there are.
func (g *Registry) awaitAny(ctx context.Context, expected map[string]*group, settings string) bool {
	for wait := g.poll; ; wait = min(wait*3/2, expectGrowth*g.poll) {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(wait):
		}
		now := time.Now()
		for _, one := range expected {
			if one.trouble(&g.opts, settings, now) != "" {
				return true
			}
		}
		if g.anyServed(ctx, expected) {
			return true
		}
	}
}

// anyServed says whether any of the applications has an agent's record that it
// hadn't.
func (g *Registry) anyServed(ctx context.Context, expected map[string]*group) bool {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	servers, err := g.access.AppServers(ctx, "")
	if err != nil {
		g.log.DebugContext(ctx, "Agents' records can't be looked for just now.", "err", err)
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, record := range g.records(servers) {
		one := expected[record.resource.Name]
		if one == nil || record.resource.Owner() != g.owner {
			continue
		}
		for _, agent := range one.agents {
			if agent.node == record.node && !one.present[agent.node] {
				return true
			}
		}
	}
	return false
}
