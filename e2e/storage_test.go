package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"rollcall/e2e/harness"
)

// TestChangedToken replaces the token in its file, for another bot's: the
// stored identity is discarded, and the agent is that bot from then on.
func TestChangedToken(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	token := filepath.Join(suite.Dir(t), "token")
	require.NoError(t, os.WriteFile(token, []byte(s.bot.Token), 0o600))
	config := s.document(t, document{onboarding: "{join_method: token, token: " + token + "}"})
	s.oneshot(t, config)

	// A spent token is often removed: no reason to do anything.
	require.NoError(t, os.Remove(token))
	agent := s.oneshot(t, config)
	require.Contains(t, agent.Stderr.String(), "The stored identity is valid.")

	other := s.cluster.CreateBot(t, harness.Unique(t, "other"), s.app.Name+"-access")
	require.NoError(t, os.WriteFile(token, []byte(other.Token), 0o600))
	agent = s.oneshot(t, config)

	require.Contains(t, agent.Stderr.String(), "The join token changed")
	require.EqualValues(t, 1, s.cluster.Generation(t, other))
	require.EqualValues(t, 1, s.cluster.Generation(t, s.bot))
	cert, err := certificate(s.out("tlscert"))
	require.NoError(t, err)
	require.Equal(t, other.User, cert.Subject.CommonName)
	s.fetches(t, "out")
}

// TestStorageIsForOneProcess starts a second agent on the storage of a running
// one.
func TestStorageIsForOneProcess(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	config := s.document(t, document{})
	first := s.start(t, config)
	s.awaitFile(t, first, "out")

	second := s.start(t, config)
	result := second.Wait(t)

	require.Equal(t, 5, result.ExitCode)
	require.Contains(t, second.Stderr.String(), s.storage()+" is in use by another process")
	require.True(t, first.Running())
	require.EqualValues(t, 1, s.cluster.Generation(t, s.bot))
	stop(t, first)
	// The lock goes with the process, also after a kill.
	third := s.start(t, config)
	third.WaitForLog(t, patience, "The stored identity is valid.")
	third.Kill()
	s.oneshot(t, config)
}

// tbotDocument is a configuration that both agents read: nothing in it is ours
// alone, and a proxy is called auth_server, as tbot 14 has no proxy_server.
func (s *stage) tbotDocument(t *testing.T, outputs string) string {
	t.Helper()
	return s.configWith(t, fmt.Sprintf(`
version: v2
auth_server: %s
onboarding: {join_method: token, token: %s}
storage: {type: directory, path: %s}
certificate_ttl: 1h
renewal_interval: 20m
outputs:
%s`, s.cluster.Info().ProxyAddr, s.bot.Token, s.storage(), outputs))
}

// TestTakesOverFromTbot runs the official agent, stops it, and goes on from its
// storage and its configuration, into its output directory.
func TestTakesOverFromTbot(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	config := s.tbotDocument(t, fmt.Sprintf("  - {type: application, app_name: %s, destination: {type: directory, path: %s}}\n",
		s.app.Name, s.place("out")))
	tbot := s.cluster.Tbot(t, "start", "-c", config)
	tbot.WaitFor(t, patience, "tbot's certificate", func() error {
		return s.cluster.TryFetch(t.Context(), s.app, s.sample, s.out("tlscert"), s.out("key"))
	})

	// While tbot runs, its lock keeps us out.
	early := s.start(t, config)
	require.Equal(t, 5, early.Wait(t).ExitCode)
	require.Contains(t, early.Stderr.String(), "in use by another process (rollcall or tbot)")
	require.True(t, tbot.Running())
	tbot.Signal(t, syscall.SIGINT)
	tbot.Wait(t)
	generation := s.cluster.Generation(t, s.bot)
	originals := files(t, s.storage())
	require.Contains(t, originals, "key")

	agent := s.start(t, config)
	agent.WaitForLog(t, patience, "The official agent's identity was imported")
	agent.WaitForLog(t, patience, "The stored identity is valid.")
	agent.Signal(t, syscall.SIGHUP)
	s.awaitGeneration(t, agent, generation+1)
	agent.WaitFor(t, patience, "a set of ours", func() error { return s.tryPair(t, s.place("out")) })
	stop(t, agent)

	require.Equal(t, generation+1, s.cluster.Generation(t, s.bot), "it went on from tbot's generation")
	require.Empty(t, s.cluster.Locks(t, s.bot))
	backups, err := filepath.Glob(filepath.Join(s.storage(), "tbot-backup-*"))
	require.NoError(t, err)
	require.Len(t, backups, 1)
	kept := files(t, backups[0])
	for _, name := range []string{"key", "key.pub", "tlscert", "key-cert.pub", "tlscacerts", "sshcacerts", "tokenhash"} {
		require.Equal(t, originals[name], kept[name], name)
		require.NoFileExists(t, filepath.Join(s.storage(), name))
	}
	// Once is enough: the next start uses our own file.
	again := s.oneshot(t, config)
	require.NotContains(t, again.Stderr.String(), "was imported")
	s.fetches(t, "out")
}

// files reads the regular files of a directory.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	all := make(map[string]string)
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		// Names of a set are links into its version.
		if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
			continue
		}
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		all[entry.Name()] = string(content)
	}
	return all
}
