package e2e

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rollcall/e2e/harness"
)

// TestStartsWhileTheClusterIsDown joins when the cluster comes.
func TestStartsWhileTheClusterIsDown(t *testing.T) {
	t.Parallel()
	c := suite.NewCluster(t, harness.ClusterOptions{})
	s := newStageOn(t, c)
	c.Stop(t)

	agent := s.start(t, s.document(t, document{more: "diag_addr: 127.0.0.1:0"}))
	address := diagnostics(t, agent)
	agent.WaitForLog(t, patience, "The bot couldn't join.")
	code, ready, services := readyz(t, address)
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.False(t, ready)
	require.Contains(t, services["identity"].LastError, c.Info().ProxyAddr, "the message doesn't say who can't be reached")
	live, _ := get(t, address+"/livez")
	require.Equal(t, http.StatusOK, live, "an agent that waits for its cluster is alive")

	c.Start(t)
	c.WaitForApp(t, s.app.Name)

	awaitReady(t, agent, address)
	s.eventuallyFetches(t, agent)
	require.EqualValues(t, 1, c.Generation(t, s.bot))
	stop(t, agent)
}

// eventuallyFetches is for a cluster that has just begun: its proxy finds its
// own services in the first seconds.
func (s *stage) eventuallyFetches(t *testing.T, agent *harness.Process) {
	t.Helper()
	agent.WaitFor(t, patience, "the application's answer", func() error { return s.tryPair(t, s.place("out")) })
}

// TestClusterGoesAndComesBack takes the cluster away from a running agent: what
// it has written stays in place, and renewals go on when the cluster is back.
func TestClusterGoesAndComesBack(t *testing.T) {
	t.Parallel()
	c := suite.NewCluster(t, harness.ClusterOptions{})
	s := newStageOn(t, c)
	agent := s.start(t, s.document(t, document{times: "credential_ttl: 1h\nrenewal_interval: 8s", more: "diag_addr: 127.0.0.1:0"}))
	address := diagnostics(t, agent)
	// Just after a renewal, lest the outage begin in the midst of the next: the
	// cluster takes some seconds to stop on a busy machine.
	agent.WaitForLog(t, patience, "generation=2 ")

	c.Stop(t)
	agent.WaitForLog(t, patience, "The identity couldn't be renewed; the current one serves on.")
	agent.WaitForLog(t, patience, "Renewing failed; the credentials in place are still valid.")
	before := s.serial(t, "out")
	code, _, services := readyz(t, address)
	require.Equal(t, http.StatusOK, code, "what is valid is ready: %+v", services)
	require.Positive(t, services["out"].Failures)
	cert, err := pair(s.place("out"))
	require.NoError(t, err)
	require.NotEmpty(t, cert.Certificate)

	c.Start(t)
	began := time.Now()
	s.awaitSerial(t, agent, "out", before)
	s.awaitGeneration(t, agent, 4)
	t.Logf("renewals went on %v after the cluster was ready", time.Since(began).Round(time.Millisecond))
	require.Empty(t, c.Locks(t, s.bot), "a renewal that the outage cut off locked the bot")
	c.WaitForApp(t, s.app.Name)
	s.eventuallyFetches(t, agent)
	stop(t, agent)
}

// TestClusterHangs freezes the cluster: connections stay open and nobody
// answers. The agent stops in time all the same, and renews afterwards.
func TestClusterHangs(t *testing.T) {
	t.Parallel()
	c := suite.NewCluster(t, harness.ClusterOptions{})
	s := newStageOn(t, c)
	config := s.document(t, document{times: everySecond})
	agent := s.start(t, config)
	s.awaitGeneration(t, agent, 2)
	agent.WaitFor(t, patience, "the first set", func() error { return s.tryPair(t, s.place("out")) })

	c.Pause(t)
	// The identity gives up after ten seconds and tries again; the output's
	// look-up hangs for thirty, so it's under way when the agent is stopped.
	agent.WaitForLog(t, patience, "The identity couldn't be renewed")
	stop(t, agent)
	c.Resume(t)

	// The server may have carried out the request that was under way when it
	// froze. Then the agent must say so, and must not cause a lock.
	agent = s.start(t, config)
	agent.WaitFor(t, patience, "a renewal, or the news that the server has moved on", func() error {
		if contains(agent, "The identity was renewed.") || contains(agent, "the cluster holds generation") {
			return nil
		}
		return errors.New("neither")
	})
	require.Empty(t, c.Locks(t, s.bot))
	require.NoError(t, s.tryPair(t, s.place("out")))
	stop(t, agent)
}
