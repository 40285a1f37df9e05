package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gravitational/teleport/api/client/proto"
	"github.com/gravitational/teleport/api/types"
	"github.com/stretchr/testify/require"

	"rollcall/e2e/harness"
)

// The ten faults of the example in Teleport's guide, each a test that fails on
// what the example does. Those that need a cluster and an Engine are here; 2, 3,
// 4, 6, 9 and 10 are in discovery/faults_test.go.

// TestFaultsOfAgents has one Application Service container, which is enough for
// three of the faults.
func TestFaultsOfAgents(t *testing.T) {
	t.Parallel()
	r := newRegistrar(t, suite.Cluster(t))
	d := suite.Docker(t)
	b := &rabbits{registrar: r, docker: d, image: d.WebImage("rabbit")}
	rabbit := b.start(r.name + "-rabbit")
	a := r.agent(t, r.service(b.fromDocker(engine), b.resource(), "register: agent",
		fmt.Sprintf("agent: {image: '%s', network: host, ca_file: %s}", d.TeleportImage(), r.cluster.Info().ProxyCA)))
	a.employ(t, r.name, nil)
	d.RemoveLabelled("rollcall/owner=" + a.owner(t))
	// More records of application servers than one page of the example has.
	var others []string
	for i := range 25 {
		others = append(others, fmt.Sprintf("%s-other-%02d", r.name, i))
	}
	r.cluster.CreateApps(t, others, "http://127.0.0.1:1", nil)

	var before []string
	tokens, err := r.cluster.Client(t).GetTokens(t.Context())
	require.NoError(t, err)
	for _, token := range tokens {
		before = append(before, token.GetName())
	}

	agent := a.run(t)
	b.awaitServed(t, agent, rabbit.Name)
	agent.WaitForLog(t, patience, "An agent has registered its application.")

	t.Run("Fault01BeyondOnePage", func(t *testing.T) {
		// The example asks for the first page for ever.
		var p struct {
			Foreign, Unchanged int
		}
		require.NoError(t, json.Unmarshal([]byte(a.must(t, "plan", "--format", "json")), &p))
		require.GreaterOrEqual(t, p.Foreign, len(others))
		require.Equal(t, 1, p.Unchanged)
	})
	t.Run("Fault05TheTokenIsNowhere", func(t *testing.T) {
		// The example has it in the arguments, and leaves it valid.
		harness.Eventually(t, patience, "the token's end", func() error {
			tokens, err := r.cluster.Client(t).GetTokens(t.Context())
			if err != nil {
				return err
			}
			for _, token := range tokens {
				// Of other tests' agents, too, which are gone soon.
				if token.GetRoles().Equals(types.SystemRoles{types.RoleApp}) && !slices.Contains(before, token.GetName()) {
					return errors.New("there's a token still")
				}
			}
			return nil
		})
		for _, id := range b.agentIDs(t, a) {
			shown := d.Run("inspect", "--format", "{{json .Config.Env}} {{json .Args}} {{json .Config.Labels}}", id)
			require.NotContains(t, strings.ToLower(shown), "token=")
			require.NotContains(t, shown, "--token")
		}
	})
	t.Run("Fault08TheAgentGoesBeforeItsRecord", func(t *testing.T) {
		// The example deletes the record first, and the agent, which still
		// runs, writes it again.
		rabbit.Stop()
		b.awaitServed(t, agent)
		harness.Eventually(t, patience, "the end of the stopped container", func() error {
			if n := b.agents(t, a); n > 0 {
				return fmt.Errorf("there are %d", n)
			}
			return nil
		})
		// A heartbeat comes every few seconds; nobody is left to send one.
		for end := time.Now().Add(8 * time.Second); time.Now().Before(end); time.Sleep(time.Second) {
			found, err := r.cluster.Client(t).ListResources(t.Context(), proto.ListResourcesRequest{
				ResourceType: types.KindAppServer, Limit: 10, PredicateExpression: fmt.Sprintf("name == %q", rabbit.Name)})
			require.NoError(t, err)
			require.Empty(t, found.Resources)
		}
	})
	require.Len(t, dynamicNames(t, r, r.name+"-other-"), len(others), "what isn't ours was touched")
}

// dynamicNames are the dynamic applications whose names begin so.
func dynamicNames(t *testing.T, r *registrar, prefix string) []string {
	t.Helper()
	apps, err := r.cluster.Client(t).GetApps(t.Context())
	require.NoError(t, err)
	var names []string
	for _, app := range apps {
		if strings.HasPrefix(app.GetName(), prefix) {
			names = append(names, app.GetName())
		}
	}
	return names
}

// TestFault07TheIdentityIsRenewed outlives the identity that it began with: the
// example loads its identity once.
func TestFault07TheIdentityIsRenewed(t *testing.T) {
	t.Parallel()
	r := newRegistrar(t, suite.Cluster(t))
	a := r.agent(t, r.service(r.fromFile()))
	text, err := os.ReadFile(a.config)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(a.config, append([]byte("credential_ttl: 1m\nrenewal_interval: 15s\nsession_ttl: 1m\n"), text...), 0o600))
	a.employ(t, r.name, nil)
	r.write(t, r.app(r.name+"-before", "http://127.0.0.1:1"))
	agent := a.run(t)
	r.await(t, agent, r.name+"-before")
	began := time.Now()

	agent.WaitFor(t, 3*patience, "the end of the first identity, and of what was made with it", func() error {
		if age := time.Since(began); age < 70*time.Second {
			return fmt.Errorf("it's %s old", age.Round(time.Second))
		}
		return nil
	})
	r.write(t, r.app(r.name+"-before", "http://127.0.0.1:1"), r.app(r.name+"-after", "http://127.0.0.1:2"))

	r.await(t, agent, r.name+"-before", r.name+"-after")
	require.Greater(t, r.cluster.Generation(t, a.bot), uint64(2))
	stop(t, agent)
}
