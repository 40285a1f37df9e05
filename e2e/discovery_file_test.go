package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gravitational/teleport/api/types"
	"github.com/stretchr/testify/require"

	"rollcall/e2e/harness"
)

// TestDiscoveryFollowsAFile has an inventory change, and the registered
// applications follow: the whole way of docs/discovery.md without Docker.
func TestDiscoveryFollowsAFile(t *testing.T) {
	t.Parallel()
	r := newRegistrar(t, suite.Cluster(t))
	one, two, taken := r.name+"-one", r.name+"-two", r.name+"-taken"
	unchanged := r.foreign(t, taken, map[string]string{"theirs": "true"})
	a := r.agent(t, r.service(r.fromFile(), "guard: {absent_for: 100ms, absent_reads: 1}"))
	a.employ(t, r.name, nil)
	r.write(t, r.app(one, "http://127.0.0.1:1"), r.app(two, "http://127.0.0.1:2"), r.app(taken, "http://127.0.0.1:3"))

	agent := a.run(t)

	r.await(t, agent, one, two)
	s := a.state(t, agent, "in conflict", func(s state) bool { return strings.Contains(s.Message, "conflict") })
	require.True(t, s.Ready, "%+v", s)

	// An update is one write.
	r.write(t, r.app(one, "http://127.0.0.1:11"), r.app(two, "http://127.0.0.1:2"))
	agent.WaitFor(t, patience, "the new address", func() error {
		app, err := r.cluster.Client(t).GetApp(t.Context(), one)
		if err == nil && app.GetURI() != "http://127.0.0.1:11" {
			err = fmt.Errorf("it's %s", app.GetURI())
		}
		return err
	})
	// A broken file is no empty one.
	require.NoError(t, os.WriteFile(r.inventory(), []byte("resources: [oops"), 0o600))
	a.state(t, agent, "degraded", func(s state) bool { return s.LastError != "" && s.Failures > 0 })
	require.Equal(t, []string{one, two}, r.registered(t))
	// A file that is away isn't, either.
	require.NoError(t, os.Remove(r.inventory()))
	a.state(t, agent, "without its file", func(s state) bool { return strings.Contains(s.LastError, filepath.Base(r.inventory())) })
	require.Equal(t, []string{one, two}, r.registered(t))

	r.write(t, r.app(two, "http://127.0.0.1:2"))

	r.await(t, agent, two)
	stop(t, agent)
	require.Equal(t, []string{two}, r.registered(t), "a stop deregisters nothing")
	unchanged()
	var what []string
	for _, w := range r.writes(t) {
		what = append(what, w.What+" "+w.App)
	}
	require.ElementsMatch(t, []string{"create " + taken, "create " + one, "create " + two, "update " + one, "delete " + one}, what)
	require.Contains(t, agent.Stderr.String(), "op=delete")
}

// TestDiscoveryCommands asks with and without a running agent.
func TestDiscoveryCommands(t *testing.T) {
	t.Parallel()
	r := newRegistrar(t, suite.Cluster(t))
	one, two, taken := r.name+"-one", r.name+"-two", r.name+"-taken"
	a := r.agent(t, r.service(r.fromFile(), "guard: {absent_for: 100ms, absent_reads: 1, budget_from: 3}"))
	a.employ(t, r.name, nil)
	r.write(t, r.app(one, "http://127.0.0.1:1"), r.app(two, "http://127.0.0.1:2"))

	t.Run("without an agent", func(t *testing.T) {
		code, out, _ := a.discovery(t, "plan")
		require.Equal(t, 2, code, out)
		require.Contains(t, out, "2 to create, 0 to update, 0 to delete")
		require.Empty(t, r.registered(t), "a plan writes nothing")
		code, out, _ = a.discovery(t, "explain", "file/"+one)
		require.Equal(t, 2, code, out)
		require.Contains(t, out, one)

		out = a.must(t, "apply")

		require.Contains(t, out, "2 created")
		r.awaitCache(t, one, two)
		out = a.must(t, "plan", "--format", "json")
		var p struct {
			Actions   []struct{ Op string }
			Unchanged int
		}
		require.NoError(t, json.Unmarshal([]byte(out), &p), out)
		for _, action := range p.Actions {
			require.Equal(t, "nothing", action.Op)
		}
		require.Equal(t, 2, p.Unchanged)
		code, out, problems := a.discovery(t, "explain", "file/nothing-of-that-name")
		require.Equal(t, 3, code, "%s %s", out, problems)
	})

	generation := r.cluster.Generation(t, a.bot)
	agent := a.run(t)
	a.state(t, agent, "ready", func(s state) bool { return s.Ready })

	t.Run("the agent answers", func(t *testing.T) {
		a.must(t, "plan")
		unchanged := r.foreign(t, taken, nil)
		r.write(t, r.app(one, "http://127.0.0.1:1"), r.app(two, "http://127.0.0.1:2"), r.app(taken, "http://127.0.0.1:3"))
		a.state(t, agent, "in conflict", func(s state) bool { return strings.Contains(s.Message, "conflict") })
		code, out, _ := a.discovery(t, "plan")
		require.Equal(t, 3, code, out)
		require.Contains(t, out, "conflict")
		code, out, _ = a.discovery(t, "explain", "file/"+taken)
		require.Equal(t, 3, code, out)
		code, out, _ = a.discovery(t, "adopt", "app/"+taken)
		require.Equal(t, 3, code, out)
		require.Contains(t, out, "rollcall/owner")
		unchanged()
	})
	t.Run("adopt with an administrator's identity", func(t *testing.T) {
		a.must(t, "adopt", "app/"+taken, "--identity", r.cluster.Info().AdminIdentity, "--yes")
		r.await(t, agent, one, two, taken)
		a.must(t, "plan")
	})
	t.Run("another file than the agent's", func(t *testing.T) {
		before, err := os.ReadFile(a.config)
		require.NoError(t, err)
		a.configure(t, r.service(r.fromFile(), "policy: create-only", "guard: {absent_for: 100ms, absent_reads: 1, budget_from: 3}"))
		code, _, notes := a.discovery(t, "plan")
		require.Zero(t, code)
		require.Contains(t, notes, "another configuration")
		code, _, problems := a.discovery(t, "apply")
		require.Equal(t, 1, code)
		require.Contains(t, problems, "restart it first")
		require.NoError(t, os.WriteFile(a.config, before, 0o600))
	})
	t.Run("a frozen budget", func(t *testing.T) {
		r.write(t)
		a.state(t, agent, "frozen", func(s state) bool { return strings.Contains(s.Message, "frozen") })
		require.Len(t, r.registered(t), 3)
		code, out, _ := a.discovery(t, "plan", "--format", "json")
		require.Equal(t, 3, code, out)
		var p struct {
			Hash string `json:"deletion_hash"`
		}
		require.NoError(t, json.Unmarshal([]byte(out), &p), out)
		code, _, problems := a.discovery(t, "apply", "--acknowledge", "0123456789abcdef0123456789abcdef")
		require.Equal(t, 1, code)
		require.Contains(t, problems, p.Hash)
		require.Len(t, r.registered(t), 3)

		a.must(t, "apply", "--acknowledge", p.Hash)

		r.await(t, agent)
	})
	t.Run("purge", func(t *testing.T) {
		r.write(t, r.app(one, "http://127.0.0.1:1"))
		r.await(t, agent, one)
		code, out, _ := a.discovery(t, "purge")
		require.Equal(t, 2, code, out)
		require.Equal(t, []string{one}, r.registered(t))
		code, _, problems := a.discovery(t, "purge", "--yes")
		require.Equal(t, 1, code)
		require.Contains(t, problems, "stop")
		stop(t, agent)
		a.must(t, "purge", "--yes")
		harness.Eventually(t, patience, "everything deregistered", func() error {
			if left := r.registered(t); len(left) > 0 {
				return fmt.Errorf("%v are left", left)
			}
			return nil
		})
	})
	require.Empty(t, r.cluster.Locks(t, a.bot), "no command disturbed the bot's identity")
	require.LessOrEqual(t, r.cluster.Generation(t, a.bot), generation+1)
}

// TestDiscoveryNamesTheMissingRule narrows the role in one place after the
// other.
func TestDiscoveryNamesTheMissingRule(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		narrow func(*types.RoleV6)
		want   []string
	}{
		{"no rule", func(r *types.RoleV6) { r.Spec.Allow.Rules = nil }, []string{"resources: [app]", "create"}},
		{"no create", func(r *types.RoleV6) { r.Spec.Allow.Rules[0].Verbs = []string{"list", "read", "update", "delete"} }, []string{"resources: [app]", "create"}},
		{"another owner's labels", func(r *types.RoleV6) {
			r.Spec.Allow.AppLabels = types.Labels{"rollcall/owner": []string{"another"}}
		}, []string{"app_labels", "rollcall/owner"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := newRegistrar(t, suite.Cluster(t))
			a := r.agent(t, r.service(r.fromFile()))
			a.employ(t, r.name, test.narrow)
			r.write(t, r.app(r.name+"-one", "http://127.0.0.1:1"))
			agent := a.run(t)
			a.state(t, agent, "refused", func(s state) bool {
				for _, want := range test.want {
					if !strings.Contains(s.LastError+s.Message, want) {
						return false
					}
				}
				return true
			})
			require.Empty(t, r.registered(t))
			code, _ := get(t, diagnostics(t, agent)+"/livez")
			require.Equal(t, http.StatusOK, code)
		})
	}
}
