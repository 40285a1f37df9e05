package e2e

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOneshotWritesAWorkingCertificate(t *testing.T) {
	s := newStage(t)

	agent := s.cluster.Rollcall(t, "start", "-c", s.config(t, ""), "--oneshot", "--debug")
	result := agent.Succeed(t)

	t.Logf("rollcall --oneshot: %v, CPU %v", result.Wall, result.CPU())
	t.Log(agent.Stdout.String())
	t.Log(agent.Stderr.String())
	s.cluster.MustFetch(t, s.app, s.sample, s.out("tlscert"), s.out("key"))
	body, err := s.cluster.Curl(t.Context(), s.app, s.out("tlscert"), s.out("key"), "/hello")
	require.NoError(t, err)
	require.Contains(t, body, s.sample.Text)
	require.Equal(t, uint64(1), s.cluster.Generation(t, s.bot))
}
