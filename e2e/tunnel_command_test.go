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
	nonsense := suite.Dir(t)
	require.NoError(t, os.WriteFile(filepath.Join(nonsense, "tlscert"), []byte("nonsense"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(nonsense, "key"), []byte("nonsense"), 0o600))
	out := s.place("out")
	for _, c := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"another application", []string{"--destination-dir=" + out, "--proxy=" + proxy, "app", "--port=0", "another"}, 1,
			fmt.Sprintf("the certificate in %s is for application %q, not \"another\": give that name, or the directory of the output for \"another\"", out, s.app.Name)},
		{"no directory", []string{"--destination-dir=" + out + "/nowhere", "--proxy=" + proxy, "app", "--port=0", s.app.Name}, 1,
			"the directory " + out + "/nowhere doesn't exist: give --destination-dir the path that stands in the output's destination"},
		{"an empty directory", []string{"--destination-dir=" + empty, "--proxy=" + proxy, "app", "--port=0", s.app.Name}, 1,
			"there are no credentials in " + empty + ": give --destination-dir the directory of an output of type application; if it's the right one, the agent hasn't written it yet (see its log, or `rollcall status`)"},
		{"nonsense in the directory", []string{"--destination-dir=" + nonsense, "--proxy=" + proxy, "app", "--port=0", s.app.Name}, 1,
			"the files tlscert and key in directory " + nonsense + " aren't a certificate and its key: is another program writing there?"},
		{"no application", []string{"--destination-dir=" + out, "--proxy=" + proxy, "app", "--port=0"}, 1,
			"name one application, such as `rollcall proxy app --port=1234 grafana-example`; see `rollcall proxy app --help`"},
		{"no proxy", []string{"--destination-dir=" + out, "app", "--port=0", s.app.Name}, 1,
			"--proxy is missing: give the proxy's address, for example --proxy=teleport.example.com:443"},
		{"nobody at the proxy's address", []string{"--destination-dir=" + out, "--proxy=localhost:1", "app", "--port=0", s.app.Name}, 4,
			"asking the proxy localhost:1: the connection was refused (127.0.0.1:1): check the address and the port; if they're right, the server is down or a firewall forbids it"},
		{"an address for all", []string{"--destination-dir=" + out, "--proxy=" + proxy, "app", "--listen=tcp://0.0.0.0:0", s.app.Name}, 1,
			"--listen: 0.0.0.0 isn't for this host alone: whoever can reach it would use the application with the bot's rights; listen on 127.0.0.1, or set --allow-remote together with --bearer-token"},
		{"another cluster", []string{"--destination-dir=" + out, "--proxy=" + proxy, "--cluster=another", "app", "--port=0", s.app.Name}, 1,
			fmt.Sprintf("the certificate in %s is for cluster %q, not \"another\", which --cluster says", out, s.cluster.Info().ClusterName)},
		{"no file with the token", []string{"--destination-dir=" + out, "--proxy=" + proxy, "app", "--port=0", "--bearer-token=/nowhere/token", s.app.Name}, 1,
			"--bearer-token: the file /nowhere/token can't be read: no such file or directory"},
		{"an unknown user", []string{"--destination-dir=" + out, "--proxy=" + proxy, "app", "--port=0", "--peer-user=no-such-user", s.app.Name}, 1,
			"--peer-user: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := s.cluster.Rollcall(t, append([]string{"proxy"}, c.args...)...)
			require.Equal(t, c.code, p.Wait(t).ExitCode, p.Stderr.String())
			require.Contains(t, p.Stderr.String(), "rollcall: "+c.want)
			require.Empty(t, p.Stdout.String())
		})
	}
}

// TestProxyCommandFollowsItsDirectory outlives its certificate: while it has
// expired there's a sentence for that, and the next set of files is taken as
// soon as it's there. Whoever watches it on --diag-addr sees the same.
func TestProxyCommandFollowsItsDirectory(t *testing.T) {
	t.Parallel()
	s := newTunnelStage(t)
	s.files(t, "credential_ttl: 1m")
	cert, err := certificate(s.out("tlscert"))
	require.NoError(t, err)
	command, at := s.command(t, "--port=0", "--diag-addr=127.0.0.1:0")
	v := visit(t, at)
	v.reaches(t, s.web)
	watched := diagnostics(t, command)
	awaitReady(t, command, watched)
	socket := v.socketTo(t)

	command.WaitFor(t, 2*time.Minute, "the end of the certificate", func() error {
		if left := time.Until(cert.NotAfter); left > -time.Second {
			return fmt.Errorf("%v left", left)
		}
		return nil
	})
	v.get(t, "/echo").refused(t, http.StatusServiceUnavailable, "unavailable", "expired")
	code, ready, services := readyz(t, watched)
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.False(t, ready, services)
	socket.says(t, "opened before")
	late := s.cluster.Rollcall(t, s.commandLine("--port=0")...)
	require.Equal(t, 1, late.Wait(t).ExitCode)
	require.Contains(t, late.Stderr.String(), "expired")

	s.files(t, "credential_ttl: 1h")
	harness.Eventually(t, patience, "the new files in use", func() error { return v.tryReach(t, s.web) })
	socket.says(t, "still open")
	awaitReady(t, command, watched)
	_, metrics := get(t, watched+"/metrics")
	require.Contains(t, metrics, `rollcall_tunnel_requests_total{code="2xx",service="proxy"}`)
	stop(t, command)
}
