package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDiscoveryDisputes has two workloads ask for one name, and for one public
// address: whoever has it keeps it, and what is registered isn't touched.
func TestDiscoveryDisputes(t *testing.T) {
	t.Parallel()
	r := newRegistrar(t, suite.Cluster(t))
	a := r.agent(t, r.service(r.fromFile(), "guard: {absent_for: 0s, absent_reads: 1}"))
	a.employ(t, r.name, nil)
	one, two := r.app(r.name+"-one", "http://127.0.0.1:1"), r.app(r.name+"-two", "http://127.0.0.1:2")
	two.PublicAddr = strings.ToUpper(one.PublicAddr)
	r.write(t, one, two)
	inConflict := func(n int) func(state) bool {
		return func(s state) bool { return strings.Contains(s.Message, fmt.Sprintf("%d in conflict", n)) }
	}

	agent := a.run(t)

	a.state(t, agent, "in conflict", inConflict(2))
	require.Empty(t, r.registered(t), "neither of the two")

	r.write(t, one)
	r.await(t, agent, one.Name)
	before, err := r.asStored(t, one.Name)
	require.NoError(t, err)
	unchanged := func() {
		t.Helper()
		after, err := r.asStored(t, one.Name)
		require.NoError(t, err)
		require.Equal(t, string(before), string(after))
	}

	r.write(t, two, one)
	s := a.state(t, agent, "in conflict", inConflict(1))
	require.True(t, s.Ready, "%+v", s)
	code, out, _ := a.discovery(t, "explain", "file/"+two.Name)
	require.Equal(t, 3, code, out)
	require.Contains(t, out, "which has it and keeps it")
	code, out, _ = a.discovery(t, "explain", "file/"+one.Name)
	require.Equal(t, 3, code, out)
	require.Contains(t, out, two.Name, "who has it is told, too")
	unchanged()

	// Two entries of one name are a mistake in the file, which both are told.
	rival := r.app(one.Name, "http://127.0.0.1:3")
	rival.Workload = r.name + "-rival"
	r.write(t, two, rival, one)
	a.state(t, agent, "in dispute", func(s state) bool { return strings.Contains(s.Message, "2 that can't be read") })
	unchanged()

	// When the first goes, the address moves on.
	r.write(t, two)
	r.await(t, agent, two.Name)
	a.state(t, agent, "at peace", func(s state) bool { return !strings.Contains(s.Message, "conflict") })
	stop(t, agent)
}
