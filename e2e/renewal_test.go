package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestTwentyGenerations renews by schedule, with a restart in between that
// renews nothing, since nothing is due.
func TestTwentyGenerations(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	hasty := s.document(t, document{times: everySecond})

	agent := s.start(t, hasty)
	s.awaitGeneration(t, agent, 10)
	stop(t, agent)

	reached, serial := s.cluster.Generation(t, s.bot), s.serial(t, "out")
	patient := s.start(t, s.document(t, document{times: "credential_ttl: 1h\nrenewal_interval: 20m"}))
	patient.WaitForLog(t, patience, "The stored identity is valid.")
	patient.WaitForLog(t, patience, "The credentials in place aren't due yet.")
	stop(t, patient)
	require.Equal(t, reached, s.cluster.Generation(t, s.bot), "a restart renewed what wasn't due")
	require.Equal(t, serial, s.serial(t, "out"), "a restart renewed what wasn't due")

	agent = s.start(t, hasty)
	s.awaitGeneration(t, agent, 21)
	// Read while it renews on: the application must be there at any moment.
	for range 5 {
		require.NoError(t, s.tryPair(t, s.place("out")))
	}
	stop(t, agent)
	require.Empty(t, s.cluster.Locks(t, s.bot))
	s.fetches(t, "out")
}

// TestShortLivedCertificatesAreReplacedBeforeTheyEnd renews certificates of the shortest life that is allowed,
// until the first one has ended.
func TestShortLivedCertificatesAreReplacedBeforeTheyEnd(t *testing.T) {
	t.Parallel()
	s := newStage(t)

	agent := s.start(t, s.document(t, document{times: "credential_ttl: 1m\nrenewal_interval: 5s"}))
	s.awaitFile(t, agent, "out")
	first, err := certificate(s.out("tlscert"))
	require.NoError(t, err)
	require.LessOrEqual(t, time.Until(first.NotAfter), time.Minute)

	agent.WaitFor(t, 2*time.Minute, "the end of the first certificate", func() error {
		if err := s.tryPair(t, s.place("out")); err != nil {
			t.Fatalf("a renewal broke the access: %v", err)
		}
		if left := time.Until(first.NotAfter); left > 0 {
			return fmt.Errorf("%v left", left)
		}
		return nil
	})
	s.fetches(t, "out")
	require.Empty(t, s.cluster.Locks(t, s.bot))
}

// TestKubernetesJoinsAgain renews by joining with whatever ServiceAccount token
// is in the file by then: the first has ended long before.
func TestKubernetesJoinsAgain(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	token, path, rotate := kubernetesToken(t, s)
	const life = 3 * time.Second
	rotate(life)
	firstEnds := time.Now().Add(life)

	agent := s.start(t, s.document(t, document{
		onboarding: fmt.Sprintf("{join_method: kubernetes, token: %s, kubernetes: {token_path: %s}}", token, path),
		times:      everySecond,
	}))
	joins := func() int { return strings.Count(agent.Stderr.String(), "The identity was renewed.") }
	before := 0
	agent.WaitFor(t, patience, "three joins after the end of the first token", func() error {
		rotate(life)
		if time.Now().Before(firstEnds) {
			before = joins()
			return fmt.Errorf("the first token is still good")
		}
		if n := joins() - before; n < 3 {
			return fmt.Errorf("%d", n)
		}
		return nil
	})

	require.Zero(t, s.cluster.Generation(t, s.bot), "kubernetes identities aren't counted")
	require.NoError(t, s.tryPair(t, s.place("out")))
	stop(t, agent)
}

// TestKubernetesRestartDoesNotJoin starts again with no ServiceAccount token at
// all: what is stored still serves.
func TestKubernetesRestartDoesNotJoin(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	token, path, _ := kubernetesToken(t, s)
	config := s.document(t, document{
		onboarding: fmt.Sprintf("{join_method: kubernetes, token: %s, kubernetes: {token_path: %s}}", token, path),
	})
	s.oneshot(t, config)
	serial := s.serial(t, "out")
	require.NoError(t, os.Remove(path))

	agent := s.start(t, config)
	agent.WaitForLog(t, patience, "The stored identity is valid.")
	agent.Signal(t, syscall.SIGHUP)
	// The identity can't be renewed without the token; the output can.
	s.awaitSerial(t, agent, "out", serial)
	agent.WaitForLog(t, patience, "The identity couldn't be renewed; the current one serves on.")

	require.Contains(t, agent.Stderr.String(), path)
	s.fetches(t, "out")
	stop(t, agent)
}

// TestSignalsRenewNow renews everything, long before it's due.
func TestSignalsRenewNow(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{syscall.SIGHUP, syscall.SIGUSR1} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			agent := s.start(t, s.document(t, document{outputs: s.application("out", "") + s.output("identity", "ssh", "")}))
			s.awaitFile(t, agent, "out")
			s.awaitFile(t, agent, "ssh")
			app, ssh := s.serial(t, "out"), s.serial(t, "ssh")
			require.EqualValues(t, 1, s.cluster.Generation(t, s.bot))

			agent.Signal(t, signal)

			s.awaitSerial(t, agent, "out", app)
			s.awaitSerial(t, agent, "ssh", ssh)
			s.awaitGeneration(t, agent, 2)
			s.fetches(t, "out")
			stop(t, agent)
			require.EqualValues(t, 2, s.cluster.Generation(t, s.bot), "one signal, one renewal")
		})
	}
}

// TestSignalsStop ends the agent cleanly, at rest and in the midst of renewals.
func TestSignalsStop(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		for _, times := range []string{"credential_ttl: 1h", everySecond} {
			t.Run(signal.String()+" "+strings.Fields(times)[len(strings.Fields(times))-1], func(t *testing.T) {
				t.Parallel()
				s := newStage(t)
				agent := s.start(t, s.document(t, document{times: times}))
				s.awaitFile(t, agent, "out")

				agent.Signal(t, signal)
				result := agent.WaitAtMost(t, stopLimit)

				require.Zero(t, result.ExitCode)
				require.Contains(t, agent.Stderr.String(), "rollcall stopped.")
				s.fetches(t, "out")
				require.Empty(t, leftovers(t, s.storage()), "an intent or a temporary file stayed")
			})
		}
	}
}

// leftovers lists what only an interrupted write leaves in the storage.
func leftovers(t *testing.T, storage string) []string {
	t.Helper()
	var found []string
	for _, pattern := range []string{"*.next", "*.tmp", "intent*"} {
		names, err := filepath.Glob(filepath.Join(storage, pattern))
		require.NoError(t, err)
		found = append(found, names...)
	}
	return found
}
