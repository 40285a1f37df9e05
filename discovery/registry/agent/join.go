package agent

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/gravitational/teleport/api/types"
	"github.com/gravitational/trace"

	"rollcall/failure"
)

const (
	// joinPoll is the wait before a new agent's record is looked for. It grows,
	// by half each time, to joinPollGrowth times that: few agents register at
	// once, and many that can't shouldn't cost much.
	joinPoll       = 500 * time.Millisecond
	joinPollGrowth = 10
	// expectGrowth is the same for agents that nobody waits for: they're looked for
	// for longer.
	expectGrowth = 60
	// lookTimeout bounds one look.
	lookTimeout = 20 * time.Second
)

// join is the waiting for one agent.
type join struct {
	cancel context.CancelFunc
	done   chan struct{}
}

// await waits, in a goroutine of its own, until an agent has registered.
func (g *Registry) await(agent *seen, secret string, replaced []*seen) {
	ctx, cancel := context.WithCancel(g.ctx)
	j := &join{cancel: cancel, done: make(chan struct{})}
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		cancel()
		return
	}
	if k := g.known[agent.id]; k != nil {
		k.join = j
	}
	g.joins.Add(1)
	g.mu.Unlock()
	go func() {
		defer g.joins.Done()
		defer close(j.done)
		defer cancel()
		err := g.finish(ctx, agent, secret, replaced)
		g.ended(agent, j, err)
		if ctx.Err() == nil {
			g.hint()
		}
	}()
}

// ended notes how a join ended.
func (g *Registry) ended(agent *seen, j *join, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if k := g.known[agent.id]; k != nil && k.join == j {
		k.join = nil
	}
	g.failures.note(agent.app, err, time.Now())
}

// hint tells whoever wants to know that something may look different now.
func (g *Registry) hint() {
	g.mu.Lock()
	tell := g.tell
	g.mu.Unlock()
	if tell != nil {
		tell()
	}
}

// finish waits for an agent's record, takes its token away, and ends the agents
// that it replaces; or it ends the agent that didn't register.
func (g *Registry) finish(ctx context.Context, agent *seen, secret string, replaced []*seen) error {
	joined := g.awaitRecord(ctx, agent)
	if ctx.Err() != nil {
		return nil // whoever comes next finds it
	}
	// From here on it's brought to an end, also when we're told to stop.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	err := g.deleteToken(ctx, secret)
	if err == nil {
		err = g.spend(ctx, agent.id)
	}
	if err != nil {
		g.log.WarnContext(ctx, "An agent's token couldn't be deleted; it ends by itself within five minutes.", "app", agent.app, "err", err)
	}
	if !joined {
		return g.giveUp(ctx, agent, secret)
	}
	g.mu.Lock()
	delete(g.unserved, agent.app)
	g.mu.Unlock()
	g.log.InfoContext(ctx, "An agent has registered its application.", "app", agent.app, "container", agent.node)
	for _, old := range replaced {
		if err := g.removeAgent(ctx, old); err != nil {
			return trace.Wrap(err, "ending the agent that served app/%s before", agent.app)
		}
	}
	return nil
}

// awaitRecord waits until the agent's record is there, or for JoinTimeout. It looks
// once more when that's over.
func (g *Registry) awaitRecord(ctx context.Context, agent *seen) bool {
	over := time.Now().Add(g.opts.JoinTimeout)
	for wait := g.poll; ; wait = min(wait*3/2, joinPollGrowth*g.poll) {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(min(wait, time.Until(over))):
		}
		last := !time.Now().Before(over)
		if g.hasRecord(ctx, agent) {
			return true
		}
		if last {
			return false
		}
	}
}

// hasRecord says whether an agent's record is seen.
func (g *Registry) hasRecord(ctx context.Context, agent *seen) bool {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	servers, err := g.access.AppServers(ctx, agent.app)
	if err != nil {
		g.log.DebugContext(ctx, "The new agent's record can't be looked for just now.", "app", agent.app, "err", err)
	}
	return slices.ContainsFunc(servers, func(s types.AppServer) bool { return s.GetHostname() == agent.node })
}

// giveUp stops an agent that didn't register. Its container stays for whoever
// wants to look, until the next update replaces it.
func (g *Registry) giveUp(ctx context.Context, agent *seen, secret string) error {
	words := tail(strings.ReplaceAll(g.engine.lastWords(ctx, agent.id), secret, "[token]"))
	g.mu.Lock()
	if k := g.known[agent.id]; k != nil {
		k.failed = true
	}
	g.mu.Unlock()
	err := failure.New(failure.Transient, "the agent of app/%s (container %s) didn't register within %s: %s",
		agent.app, agent.node, g.opts.JoinTimeout, words)
	g.log.ErrorContext(ctx, "An agent didn't register its application; it's stopped.", "app", agent.app, "container", agent.node, "err", err)
	if stopErr := g.engine.stop(ctx, agent.id); stopErr != nil {
		return trace.NewAggregate(err, stopErr)
	}
	return err
}

// endJoin ends the waiting for an agent that is to be removed. It may be busy
// with an Engine that doesn't answer: the caller's time counts.
func (g *Registry) endJoin(ctx context.Context, id string) error {
	g.mu.Lock()
	var j *join
	if k := g.known[id]; k != nil {
		j = k.join
	}
	g.mu.Unlock()
	if j == nil {
		return nil
	}
	j.cancel()
	select {
	case <-j.done:
		return nil
	case <-ctx.Done():
		return failure.Wrap(failure.Transient, ctx.Err(), "the container %s: the waiting for its agent didn't end in time", short(id))
	}
}

// open says whether anything may be started still.
func (g *Registry) open() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.closed
}

func (g *Registry) remember(id string, k *known) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.known[id] = k
}

func (g *Registry) drop(id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.known, id)
	delete(g.outgoing, id)
}

// forget drops what was known of containers that aren't there any more.
func (g *Registry) forget(there []container.Summary) {
	ids := make(map[string]bool, len(there))
	for _, c := range there {
		ids[c.ID] = true
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for id, k := range g.known {
		if !ids[id] && k.join == nil {
			delete(g.known, id)
		}
	}
	for id := range g.strangers {
		if !ids[id] {
			delete(g.strangers, id)
		}
	}
	for host, at := range g.removed {
		if time.Since(at) > time.Minute {
			delete(g.removed, host)
		}
	}
}
