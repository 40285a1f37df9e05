package e2e

import (
	"testing"
	"time"

	"github.com/gravitational/teleport/api/types"
	"github.com/gravitational/trace"
	"github.com/stretchr/testify/require"

	"rollcall/e2e/harness"
)

// TestDiscoveryHearsOfOthersChanges has an administrator delete and change what
// the service has registered, and free a name that it wants: it's mended long
// before the next full comparison, which is an hour away.
func TestDiscoveryHearsOfOthersChanges(t *testing.T) {
	t.Parallel()
	r := newRegistrar(t, suite.Cluster(t))
	a := r.agent(t, r.everyKind("interval: 1h"))
	a.employ(t, r.name, nil)
	r.writeEveryKind(t, "one")
	agent := a.run(t)
	r.awaitEveryKind(t, agent, "one")
	admin := r.cluster.Client(t)

	for _, k := range kinds() {
		t.Run(k.name, func(t *testing.T) {
			if k.name == types.KindWindowsDesktop {
				require.NoError(t, k.remove(t.Context(), admin, k.find(t, r.cluster, k.of(r))))
			} else {
				r.cluster.Tctl(t, "rm", k.name+"/"+k.of(r))
			}
			began := time.Now()
			// The cluster's own cache may still show what is gone already.
			agent.WaitFor(t, patience, "the resource to be made anew", func() error {
				if lines(r.log(agent), "op=create", "kind="+k.name, "outcome=ok") < 2 {
					return trace.NotFound("not yet")
				}
				return nil
			})
			t.Logf("back after %v", time.Since(began).Round(time.Millisecond))
			harness.Eventually(t, patience, "the resource", func() error {
				if k.find(t, r.cluster, k.of(r)) == nil {
					return trace.NotFound("it isn't there")
				}
				return nil
			})

			changed := k.find(t, r.cluster, k.of(r))
			labels := changed.GetStaticLabels()
			labels["team"] = "another"
			changed.SetStaticLabels(labels)
			require.NoError(t, k.update(t.Context(), admin, changed))
			agent.WaitFor(t, patience, "the label to be mended", func() error {
				if lines(r.log(agent), "op=update", "kind="+k.name, "outcome=ok") < 1 {
					return trace.NotFound("not yet")
				}
				return nil
			})
			harness.Eventually(t, patience, "the label as it was", func() error {
				switch mended := k.find(t, r.cluster, k.of(r)); {
				case mended == nil:
					return trace.NotFound("it isn't there")
				case mended.GetStaticLabels()["team"] != r.name:
					return trace.BadParameter("it's %q", mended.GetStaticLabels()["team"])
				}
				return nil
			})
		})
	}
	stop(t, agent)
}

// TestDiscoveryTakesAFreedName has a name taken by somebody else, whom the
// service may not see.
func TestDiscoveryTakesAFreedName(t *testing.T) {
	t.Parallel()
	r := newRegistrar(t, suite.Cluster(t))
	name := r.name + "-one"
	r.foreign(t, name, map[string]string{"theirs": "true"})
	a := r.agent(t, r.service(r.fromFile(), "interval: 1h"))
	a.employ(t, r.name, nil)
	r.write(t, r.app(name, "http://127.0.0.1:1"))
	agent := a.run(t)
	a.state(t, agent, "in conflict", func(s state) bool { return s.Message != "" && s.Ready })
	// A name that is taken is tried twice more by itself. From then on it's
	// nothing but what is heard that has it tried.
	agent.WaitFor(t, patience, "the last attempt", func() error {
		if lines(r.log(agent), "op=create", "outcome=conflict") < 3 {
			return trace.NotFound("not yet")
		}
		return nil
	})
	require.Empty(t, r.registered(t))

	r.cluster.Tctl(t, "rm", "app/"+name)

	r.await(t, agent, name)
	stop(t, agent)
}
