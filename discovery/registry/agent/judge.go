package agent

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/docker/docker/api/types/container"

	"rollcall/discovery/resource"
)

// LabelState is on a listed application that needs our hand; its value says why.
// It's never registered: its being there is a difference to whatever is wanted,
// and so an update (or a deletion) follows.
const LabelState = resource.LabelPrefix + "agent-state"

// The values of LabelState.
const (
	troubleFiles    = "incomplete"   // the container lacks our files
	troubleUnused   = "not started"  // made and never started
	troubleJoin     = "didn't join"  // not registered in time
	troubleStopped  = "stopped"      // the container has ended
	troubleAway     = "away"         // it was registered, and isn't any more
	troubleSettings = "old settings" // another image, network, CA …
	troubleToken    = "open token"   // registered, and its token is still valid
	troubleExtra    = "left over"    // more than one container
	troubleStale    = "stale record" // a record without a container
)

const (
	// startGrace is for how long a container that isn't started may be somebody's
	// work in progress.
	startGrace = 30 * time.Second
	// awayPatience is how long an agent that was registered may be away: it comes
	// back by itself after an outage, and its record outlives ten minutes.
	awayPatience = 15 * time.Minute
)

// seen is one of our containers.
type seen struct {
	id, node, app string
	settings      string
	// marks are the labels that say whose the application is.
	marks   map[string]string
	state   string
	created time.Time
	// record is what it was started for; readable says that it could be read.
	record   resource.Resource
	readable bool
	// spent says that its token isn't valid any more.
	spent bool
	// joining says that this process waits for it to register.
	joining bool
	// failed says that it didn't register in time.
	failed bool
	// awaySince is when it was first missed; zero: it's registered.
	awaySince time.Time
}

// served is one app_server record.
type served struct {
	hostID, node string
	resource     resource.Resource
}

// group is everything about one application.
type group struct {
	name string
	// agents are our containers, the newest first.
	agents []*seen
	// stale are records of ours without a container.
	stale []served
	// foreign are others' records, and those of containers that aren't proven to
	// be ours.
	foreign []served
	// present says which agents (by node) have a record.
	present map[string]bool
}

// assemble groups containers and records by application, sorted by name.
// strangers are the names of containers that bear our labels and aren't ours:
// what they serve is left alone.
func assemble(owner string, agents []*seen, strangers map[string]bool, records []served) []*group {
	groups := map[string]*group{}
	of := func(name string) *group {
		if groups[name] == nil {
			groups[name] = &group{name: name, present: map[string]bool{}}
		}
		return groups[name]
	}
	nodes := map[string]string{} // the application of each
	for _, agent := range agents {
		nodes[agent.node] = agent.app
		g := of(agent.app)
		g.agents = append(g.agents, agent)
	}
	for _, record := range records {
		g := of(record.resource.Name)
		app, known := nodes[record.node]
		switch {
		case record.resource.Owner() != owner:
			g.foreign = append(g.foreign, record)
		case strangers[record.node] && !known:
			record.resource = disowned(record.resource)
			g.foreign = append(g.foreign, record)
		case known && app == record.resource.Name:
			g.present[record.node] = true
		default:
			g.stale = append(g.stale, record)
		}
	}
	sorted := make([]*group, 0, len(groups))
	for _, g := range groups {
		slices.SortFunc(g.agents, func(a, b *seen) int {
			return cmp.Or(b.created.Compare(a.created), cmp.Compare(a.id, b.id))
		})
		sorted = append(sorted, g)
	}
	slices.SortFunc(sorted, func(a, b *group) int { return cmp.Compare(a.name, b.name) })
	return sorted
}

// disowned is a resource without the label that says it's ours.
func disowned(r resource.Resource) resource.Resource {
	r = r.Clone()
	delete(r.Labels, resource.LabelOwner)
	return r
}

// ours says whether any of the group is.
func (g *group) ours() bool { return len(g.agents) > 0 || len(g.stale) > 0 }

// unserved says whether we have an agent for it, and none has a record.
func (g *group) unserved() bool { return len(g.agents) > 0 && len(g.present) == 0 }

// unjoined says whether the newest agent has no record, whatever others serve.
func (g *group) unjoined() bool { return len(g.agents) > 0 && !g.present[g.agents[0].node] }

// left says whether the agent has registered before.
func (g *group) left() bool { return g.agents[0].spent && !g.agents[0].failed }

// shown is the group as one resource, with what is wrong with it.
func (g *group) shown(o *Options, settings string, now time.Time) (r resource.Resource, trouble string) {
	trouble = g.trouble(o, settings, now)
	switch {
	case len(g.agents) > 0 && g.agents[0].readable:
		r = g.agents[0].record.Clone()
	case len(g.agents) > 0:
		r = resource.Resource{
			Kind: resource.KindApp, Name: g.name, Spec: resource.AppSpec{},
			Labels: maps.Clone(g.agents[0].marks),
		}
	case len(g.stale) > 0:
		r = g.stale[0].resource.Clone()
	default:
		return g.foreign[0].resource, ""
	}
	if trouble != "" {
		if r.Labels == nil {
			r.Labels = map[string]string{}
		}
		r.Labels[LabelState] = trouble
	}
	return r, trouble
}

// trouble says what is wrong with our part of the group; empty: nothing, or
// nothing yet.
func (g *group) trouble(o *Options, settings string, now time.Time) string {
	if len(g.agents) == 0 {
		if len(g.stale) > 0 {
			return troubleStale
		}
		return ""
	}
	agent := g.agents[0]
	switch {
	case agent.failed:
		return troubleJoin
	case agent.joining:
		return "" // whoever waits for it clears up after it
	case agent.state == container.StateCreated:
		if now.Sub(agent.created) < startGrace {
			return ""
		}
		return troubleUnused
	case !agent.readable:
		return troubleFiles
	case agent.state == container.StateExited, agent.state == container.StateDead, agent.state == container.StateRemoving:
		return troubleStopped
	case agent.settings != settings:
		return troubleSettings
	case !g.present[agent.node] && agent.spent:
		if agent.awaySince.IsZero() || now.Sub(agent.awaySince) < awayPatience {
			return ""
		}
		return troubleAway
	case !g.present[agent.node]:
		if now.Sub(agent.created) < o.JoinTimeout {
			return ""
		}
		return troubleJoin
	case !agent.spent:
		return troubleToken
	case len(g.agents) > 1:
		return troubleExtra
	case len(g.stale) > 0:
		return troubleStale
	default:
		return ""
	}
}

// usable says whether the newest agent serves, or soon will, what is wanted, so
// that no other one has to be started for it.
func (g *group) usable(trouble string, wanted resource.Resource) bool {
	if len(g.agents) == 0 || !g.agents[0].readable || !resource.Equal(g.agents[0].record, wanted) {
		return false
	}
	switch trouble {
	case "", troubleToken, troubleExtra, troubleStale:
		return true
	default:
		return false
	}
}
