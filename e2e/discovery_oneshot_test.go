package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gravitational/teleport/api/types"
	"github.com/stretchr/testify/require"
)

// once runs the agent with --oneshot, and returns what it says of the service.
func (a *registrarAgent) once(t *testing.T) (code int, said string) {
	t.Helper()
	p := a.cluster.Rollcall(t, "start", "-c", a.config, "--oneshot")
	code = p.Wait(t).ExitCode
	for line := range strings.Lines(p.Stdout.String()) {
		if name, rest, _ := strings.Cut(line, " "); name == a.name {
			said = strings.TrimSpace(rest)
		}
	}
	return code, said
}

// TestDiscoveryOneshot compares and applies once, and ends: with what is new,
// changed and gone, and then with nothing to do.
func TestDiscoveryOneshot(t *testing.T) {
	t.Parallel()
	r := newRegistrar(t, suite.Cluster(t))
	one, two, three := r.name+"-one", r.name+"-two", r.name+"-three"
	a := r.agent(t, r.service(r.fromFile(), "guard: {absent_for: 1s}"))
	a.employ(t, r.name, nil)
	for _, step := range []struct {
		entries []entry
		names   []string
	}{
		{[]entry{r.app(one, "http://127.0.0.1:1"), r.app(two, "http://127.0.0.1:2")}, []string{one, two}},
		{[]entry{r.app(two, "http://127.0.0.1:22"), r.app(three, "http://127.0.0.1:3")}, []string{three, two}},
		{[]entry{r.app(two, "http://127.0.0.1:22"), r.app(three, "http://127.0.0.1:3")}, []string{three, two}},
	} {
		r.write(t, step.entries...)
		code, said := a.once(t)
		require.Zero(t, code, said)
		require.Regexp(t, "^ok ", said)
		r.awaitCache(t, step.names...)
	}
	var what []string
	for _, w := range r.writes(t) {
		what = append(what, w.What+" "+w.App)
	}
	require.ElementsMatch(t, []string{"create " + one, "create " + two, "create " + three, "update " + two, "delete " + one}, what)
}

// TestDiscoveryOneshotThatFails ends with 2, says why, and changes nothing that it
// can't be sure of.
func TestDiscoveryOneshotThatFails(t *testing.T) {
	t.Parallel()
	t.Run("Docker is absent", func(t *testing.T) {
		t.Parallel()
		r := newRegistrar(t, suite.Cluster(t))
		socket := filepath.Join(r.dir, "no-docker.sock")
		a := r.agent(t, r.service(fmt.Sprintf("source: {type: docker, host: 'unix://%s'}", socket), "resource: {name: '{{ .Name }}'}"))
		a.employ(t, r.name, nil)
		code, said := a.once(t)
		require.Equal(t, 2, code, said)
		require.Regexp(t, "^failed ", said)
		require.Contains(t, said, socket)
		require.Contains(t, said, "so nothing is changed")
	})
	t.Run("the role is too narrow", func(t *testing.T) {
		t.Parallel()
		r := newRegistrar(t, suite.Cluster(t))
		a := r.agent(t, r.service(r.fromFile()))
		a.employ(t, r.name, func(role *types.RoleV6) {
			role.Spec.Allow.Rules[0].Verbs = []string{"list", "read", "update", "delete"}
		})
		r.write(t, r.app(r.name+"-one", "http://127.0.0.1:1"))
		code, said := a.once(t)
		require.Equal(t, 2, code, said)
		require.Regexp(t, "^failed ", said)
		require.Contains(t, said, "lacks the rule {resources: [app], verbs: [create]}")
		require.Empty(t, r.registered(t))
	})
	t.Run("a name is taken", func(t *testing.T) {
		t.Parallel()
		r := newRegistrar(t, suite.Cluster(t))
		one, taken := r.name+"-one", r.name+"-taken"
		unchanged := r.foreign(t, taken, map[string]string{"theirs": "true"})
		a := r.agent(t, r.service(r.fromFile()))
		a.employ(t, r.name, nil)
		r.write(t, r.app(one, "http://127.0.0.1:1"), r.app(taken, "http://127.0.0.1:2"))
		code, said := a.once(t)
		require.Equal(t, 2, code, said)
		require.Regexp(t, "^failed ", said)
		require.Contains(t, said, taken)
		r.awaitCache(t, one)
		unchanged()
	})
}
