package e2e

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rollcall/e2e/harness"
)

// TestDiscoveryOutlivesTheCluster has the cluster away at the start, frozen and
// restarted.
func TestDiscoveryOutlivesTheCluster(t *testing.T) {
	t.Parallel()
	c := suite.NewCluster(t, harness.ClusterOptions{})
	r := newRegistrar(t, c)
	a := r.agent(t, r.service(r.fromFile(), "guard: {absent_for: 100ms, absent_reads: 1, max_delete: 100%}"))
	a.employ(t, r.name, nil)
	one, two := r.name+"-one", r.name+"-two"
	r.write(t, r.app(one, "http://127.0.0.1:1"))
	c.Stop(t)

	agent := a.run(t)
	a.state(t, agent, "waiting", func(s state) bool { return !s.Ready })
	c.Start(t)
	r.await(t, agent, one)

	c.Stop(t)
	r.write(t, r.app(two, "http://127.0.0.1:2"))
	a.state(t, agent, "failing", func(s state) bool { return s.Failures > 0 })
	c.Start(t)
	r.await(t, agent, two)
	a.state(t, agent, "well", func(s state) bool { return s.Failures == 0 })

	c.Pause(t)
	r.write(t, r.app(one, "http://127.0.0.1:1"), r.app(two, "http://127.0.0.1:2"))
	harness.Eventually(t, patience, "the agent to answer although nobody answers it", func() error {
		if code, _ := get(t, diagnostics(t, agent)+"/livez"); code != 200 {
			return fmt.Errorf("%d", code)
		}
		return nil
	})
	c.Resume(t)
	r.await(t, agent, one, two)
	stop(t, agent)
}

// TestDiscoveryKilledAtRandom kills the agent again and again while it works,
// and finds in the end what an undisturbed one would have made, and what isn't
// its own untouched.
func TestDiscoveryKilledAtRandom(t *testing.T) {
	t.Parallel()
	r := newRegistrar(t, suite.Cluster(t))
	unchanged := r.foreign(t, r.name+"-foreign", map[string]string{"rollcall/owner": "somebody/else"})
	a := r.agent(t, r.service(r.fromFile(), "rate: 50", "guard: {absent_for: 100ms, absent_reads: 1, max_delete: 100%}"))
	a.employ(t, r.name, nil)
	random := rand.New(rand.NewPCG(1, uint64(time.Now().UnixNano())))

	// The first join isn't killed: what a lost answer to it does is the identity's
	// tests' matter.
	r.write(t)
	a.discovery(t, "plan")

	var names []string
	for range 12 {
		names = names[:0]
		var entries []entry
		for i := range 20 {
			if random.IntN(2) == 0 {
				name := fmt.Sprintf("%s-%02d", r.name, i)
				names = append(names, name)
				entries = append(entries, r.app(name, fmt.Sprintf("http://127.0.0.1:%d", 1+random.IntN(3))))
			}
		}
		r.write(t, entries...)
		agent := a.run(t)
		agent.WaitForLog(t, patience, "rollcall starts.")
		time.Sleep(time.Duration(random.IntN(500)) * time.Millisecond) // the moment is the test
		agent.Kill()
	}
	agent := a.run(t)
	r.await(t, agent, names...)
	// The names are there before the last addresses are.
	harness.Eventually(t, patience, "an empty plan", func() error {
		if code, out, _ := a.discovery(t, "plan"); code != 0 {
			return fmt.Errorf("%d: %s", code, out)
		}
		return nil
	})
	stop(t, agent)
	require.Empty(t, r.cluster.Locks(t, a.bot))
	unchanged()
	for _, w := range r.writes(t) {
		require.False(t, strings.HasSuffix(w.App, "-foreign") && w.User == a.bot.User, "%+v", w)
	}
}
