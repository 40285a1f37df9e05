package e2e

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rollcall/e2e/harness"
)

// pairOfAgents are two agents with one source and one owner. Their bots differ,
// so that the cluster's audit log says whose a write was.
type pairOfAgents struct {
	*registrar
	agents    [2]*registrarAgent
	processes [2]*harness.Process
	entries   []entry
}

// leaseTime is long enough for a leader on a busy machine to extend it in time:
// what the tests judge is what a lost leader does.
const leaseTime = 15 * time.Second

func newPairOfAgents(t *testing.T) *pairOfAgents {
	t.Helper()
	p := &pairOfAgents{registrar: newRegistrar(t, suite.Cluster(t))}
	p.write(t)
	for i := range p.agents {
		p.agents[i] = p.agent(t, p.service(p.fromFile(), "owner: shared/"+p.name, fmt.Sprintf("ha_ttl: %s", leaseTime),
			"guard: {absent_for: 100ms, absent_reads: 1, max_delete: 100%}"))
		p.agents[i].employ(t, fmt.Sprintf("%s-%d", p.name, i), nil)
	}
	p.processes[0] = p.agents[0].run(t)
	p.add(t)
	p.awaitAll(t, 0)
	// The first has shown that it leads before the second begins.
	p.processes[1] = p.agents[1].run(t)
	p.agents[1].state(t, p.processes[1], "standing by", func(s state) bool { return strings.Contains(s.Message, "standing by") })
	return p
}

// add has one application more wanted.
func (p *pairOfAgents) add(t *testing.T) {
	t.Helper()
	p.entries = append(p.entries, p.app(fmt.Sprintf("%s-%03d", p.name, len(p.entries)), "http://127.0.0.1:1"))
	p.write(t, p.entries...)
}

// awaitAll waits until all that is wanted is registered.
func (p *pairOfAgents) awaitAll(t *testing.T, agent int) {
	t.Helper()
	var names []string
	for _, e := range p.entries {
		names = append(names, e.Name)
	}
	p.await(t, p.processes[agent], names...)
}

// user is the name that the audit log has for an agent.
func (p *pairOfAgents) user(agent int) string { return p.agents[agent].bot.User }

// noDoubleWrites fails the test if anything was created twice, or if the first
// agent wrote after the second had.
func (p *pairOfAgents) noDoubleWrites(t *testing.T) {
	t.Helper()
	created := map[string]int{}
	var handover time.Time
	all := p.writes(t)
	for _, w := range all {
		if w.What == "create" {
			created[w.App]++
		}
		if w.User == p.user(1) && handover.IsZero() {
			handover = w.At
		}
	}
	require.False(t, handover.IsZero(), "the second agent wrote nothing: %v", all)
	for _, e := range p.entries {
		require.Equal(t, 1, created[e.Name], "%s was created", e.Name)
	}
	late := slices.DeleteFunc(all, func(w written) bool { return w.User != p.user(0) || !w.At.After(handover) })
	require.Empty(t, late, "the first agent wrote after the second had taken over")
}

// TestDiscoveryTakeover kills the leader while work comes in all the time.
func TestDiscoveryTakeover(t *testing.T) {
	t.Parallel()
	p := newPairOfAgents(t)
	for range 5 {
		p.add(t)
	}
	killed := time.Now()
	p.processes[0].Kill()
	for range 5 {
		p.add(t)
	}

	p.awaitAll(t, 1)

	took := time.Since(killed)
	t.Logf("killed to everything registered by the other: %s (ha_ttl %s)", took.Round(time.Millisecond), leaseTime)
	p.noDoubleWrites(t)
	stop(t, p.processes[1])
	require.Len(t, p.registered(t), len(p.entries), "a takeover and a stop deregister nothing")
}

// TestDiscoveryStoppedLeader stops the leader's process, as a host does that is
// suspended or starved, and lets it go on after another has taken over.
func TestDiscoveryStoppedLeader(t *testing.T) {
	t.Parallel()
	p := newPairOfAgents(t)
	p.processes[0].Signal(t, syscall.SIGSTOP)
	p.add(t)
	p.awaitAll(t, 1)
	// The work that the leader will find when it wakes up.
	p.add(t)
	p.awaitAll(t, 1)

	p.processes[0].Signal(t, syscall.SIGCONT)

	p.agents[0].state(t, p.processes[0], "standing by", func(s state) bool { return strings.Contains(s.Message, "standing by") })
	p.add(t)
	p.awaitAll(t, 1)
	p.noDoubleWrites(t)

	// And back: a leader that stops gives the lease back at once.
	began := time.Now()
	stop(t, p.processes[1])
	p.add(t)
	p.awaitAll(t, 0)
	t.Logf("orderly handover: %s", time.Since(began).Round(time.Millisecond))
}
