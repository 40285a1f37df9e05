package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rollcall/e2e/harness"
)

// TestProxyCommandComplains has each mistake answered with a sentence and an
// exit code, and nothing that listens.
func TestProxyCommandComplains(t *testing.T) {
	t.Parallel()
	s := newTunnelStage(t)
	s.files(t, "credential_ttl: 1h")
	proxy := s.cluster.Info().ProxyAddr
	empty := suite.Dir(t)
	identity := suite.Dir(t)
	require.NoError(t, os.WriteFile(filepath.Join(identity, "tlscert"), []byte("nonsense"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(identity, "key"), []byte("nonsense"), 0o600))
	const closed = "localhost:1"
	for _, c := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"another application", []string{"--destination-dir=" + s.place("out"), "--proxy=" + proxy, "app", "--port=0", "another"}, 1, "another"},
		{"no directory", []string{"--destination-dir=" + s.place("nowhere"), "--proxy=" + proxy, "app", "--port=0", s.app.Name}, 1, s.place("nowhere")},
		{"an empty directory", []string{"--destination-dir=" + empty, "--proxy=" + proxy, "app", "--port=0", s.app.Name}, 1, empty},
		{"nonsense in the directory", []string{"--destination-dir=" + identity, "--proxy=" + proxy, "app", "--port=0", s.app.Name}, 1, identity},
		{"no application", []string{"--destination-dir=" + s.place("out"), "--proxy=" + proxy, "app", "--port=0"}, 1, "app"},
		{"no proxy", []string{"--destination-dir=" + s.place("out"), "app", "--port=0", s.app.Name}, 1, "--proxy"},
		{"nobody at the proxy's address", []string{"--destination-dir=" + s.place("out"), "--proxy=" + closed, "app", "--port=0", s.app.Name}, 4, closed},
		{"an address for all", []string{"--destination-dir=" + s.place("out"), "--proxy=" + proxy, "app", "--listen=tcp://0.0.0.0:0", s.app.Name}, 1, "allow"},
		{"another cluster", []string{"--destination-dir=" + s.place("out"), "--proxy=" + proxy, "--cluster=another", "app", "--port=0", s.app.Name}, 1, "another"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := s.cluster.Rollcall(t, append([]string{"proxy"}, c.args...)...)
			require.Equal(t, c.code, p.Wait(t).ExitCode, p.Stderr.String())
			require.Contains(t, p.Stderr.String(), c.want)
			require.Empty(t, p.Stdout.String())
		})
	}
}

// TestProxyCommandFollowsItsDirectory outlives its certificate: while it has
// expired there's a sentence for that, and the next set of files is taken as
// soon as it's there.
func TestProxyCommandFollowsItsDirectory(t *testing.T) {
	t.Parallel()
	s := newTunnelStage(t)
	s.files(t, "credential_ttl: 1m")
	cert, err := certificate(s.out("tlscert"))
	require.NoError(t, err)
	command, at := s.command(t, "--port=0")
	v := visit(t, at)
	v.reaches(t, s.web)
	socket := v.socketTo(t)

	command.WaitFor(t, 2*time.Minute, "the end of the certificate", func() error {
		if left := time.Until(cert.NotAfter); left > -time.Second {
			return fmt.Errorf("%v left", left)
		}
		return nil
	})
	v.get(t, "/echo").refused(t, http.StatusServiceUnavailable, "unavailable", "expired")
	socket.says(t, "opened before")
	late := s.cluster.Rollcall(t, s.commandLine("--port=0")...)
	require.Equal(t, 1, late.Wait(t).ExitCode)
	require.Contains(t, late.Stderr.String(), "expired")

	s.files(t, "credential_ttl: 1h")
	harness.Eventually(t, patience, "the new files in use", func() error { return v.tryReach(t, s.web) })
	socket.says(t, "still open")
	stop(t, command)
}
