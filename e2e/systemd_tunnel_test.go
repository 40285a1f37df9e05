package e2e

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rollcall/e2e/harness"
)

// tunnelSocket has systemd hold a tunnel's socket: the first request starts the
// agent, and a restart turns nobody away.
func (s *unitStage) tunnelSocket(t *testing.T) {
	m := s.machine
	const unit = "/etc/systemd/system/rollcall-hello.socket"
	m.Write(t, unit, []byte("[Socket]\nListenStream=/run/hello.sock\nSocketMode=0666\nFileDescriptorName=hello\nService=rollcall.service\n"), 0o644)
	s.configure(t, s.cluster.Info().ProxyAddr)
	content, err := os.ReadFile(m.Path(unitConfig))
	require.NoError(t, err)
	m.Write(t, unitConfig, append(content, fmt.Sprintf(`services:
  - {type: application-tunnel, name: hello, listen: "unix:///run/hello.sock", app_name: %s, peer_users: [0, www-data]}
`, s.app.Name)...), 0o644)
	m.Must(t, "systemctl", "daemon-reload")
	m.Must(t, "systemctl", "start", "rollcall-hello.socket")
	require.Equal(t, "inactive", s.property(t, "ActiveState"))
	v := visit(t, m.Path("/run/hello.sock"))
	try := func() error {
		answer, err := v.try(v.request(t, http.MethodGet, "/", nil))
		if err != nil {
			return err
		}
		if answer.status != http.StatusOK || !strings.HasPrefix(answer.body, s.sample.Text) {
			return fmt.Errorf("answer %d: %.200s", answer.status, answer.body)
		}
		return nil
	}

	// The first may come before there's a certificate; none is refused.
	harness.Eventually(t, patience, "the application through a passed socket", try)
	for range 3 {
		s.restartUnderRequests(t, v)
		harness.Eventually(t, patience, "the application after a restart", try)
	}

	require.Contains(t, s.askedBy(t, "www-data", "/run/hello.sock"), s.sample.Text)
	require.Contains(t, s.askedBy(t, "games", "/run/hello.sock"), "403 Forbidden")
	m.Must(t, "systemctl", "stop", "rollcall-hello.socket", "rollcall.service")
	require.NoError(t, os.Remove(m.Path(unit)))
	s.configure(t, s.cluster.Info().ProxyAddr)
	m.Must(t, "systemctl", "daemon-reload")
}

// askedBy is what a user's program in the machine gets for a request to a socket,
// by its path or HOST:PORT.
func (s *unitStage) askedBy(t *testing.T, user, socket string) string {
	t.Helper()
	const ask = `$to = $ARGV[0]; $s = $to =~ m{^/} ? IO::Socket::UNIX->new(Peer => $to) : IO::Socket::INET->new(PeerAddr => $to);
$s or die $!; print $s "GET / HTTP/1.0\r\nHost: localhost\r\n\r\n"; print <$s>`
	out, _ := s.machine.Run(t, "setpriv", "--reuid="+user, "--regid=nogroup", "--clear-groups",
		"perl", "-MIO::Socket::UNIX", "-MIO::Socket::INET", "-e", ask, socket)
	return out
}

// ownSocket has the sandboxed agent make a tunnel's socket itself, where
// docs/local-proxy.md puts it: its readers get to it, and nobody gets to anything
// else there. In the sandbox it also sees whose program connects to a port.
func (s *unitStage) ownSocket(t *testing.T) {
	m := s.machine
	const socket = "/run/rollcall/own.sock"
	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port := free.Addr().String()
	require.NoError(t, free.Close())
	s.configure(t, s.cluster.Info().ProxyAddr)
	content, err := os.ReadFile(m.Path(unitConfig))
	require.NoError(t, err)
	m.Write(t, unitConfig, append(content, fmt.Sprintf(`services:
  - {type: application-tunnel, name: own, listen: "unix://%[1]s", app_name: %[2]s, socket: {readers: [{user: www-data}]}}
  - {type: application-tunnel, name: port, listen: "tcp://%[3]s", app_name: %[2]s, peer_users: [www-data]}
`, socket, s.app.Name, port)...), 0o644)
	m.Must(t, "rollcall", "install", "systemd", "--write", "--force")
	m.Must(t, "systemctl", "start", "rollcall")

	for _, at := range []string{socket, port} {
		harness.Eventually(t, patience, "the application at "+at, func() error {
			if out := s.askedBy(t, "www-data", at); !strings.Contains(out, s.sample.Text) {
				return errors.New(out)
			}
			return nil
		})
	}
	require.Contains(t, s.askedBy(t, "games", socket), "Permission denied")
	require.Contains(t, s.askedBy(t, "games", port), "403 Forbidden")
	require.Contains(t, s.askedBy(t, "www-data", "/run/rollcall/status.sock"), "Permission denied")
	_, err = m.Run(t, "setpriv", "--reuid=www-data", "--regid=nogroup", "--clear-groups", "ls", "/run/rollcall")
	require.Error(t, err, "passing through isn't looking around")

	m.Must(t, "systemctl", "stop", "rollcall")
	s.configure(t, s.cluster.Info().ProxyAddr)
	m.Must(t, "rollcall", "install", "systemd", "--write", "--force")
	require.Contains(t, m.Must(t, "systemctl", "cat", "rollcall"), "\nRuntimeDirectoryMode=0700\n")
}

// restartUnderRequests restarts the agent while a client asks, with a connection
// of its own for each request: each gets an answer, from the agent that goes or
// from the one that comes.
func (s *unitStage) restartUnderRequests(t *testing.T, v *visitor) {
	t.Helper()
	pid := s.property(t, "MainPID")
	restarted := make(chan error, 1)
	go func() {
		_, err := s.machine.Run(t, "systemctl", "restart", "rollcall")
		restarted <- err
	}()
	for answers := 0; ; answers++ {
		select {
		case err := <-restarted:
			require.NoError(t, err)
			require.NotEqual(t, pid, s.property(t, "MainPID"))
			return
		default:
		}
		v.CloseIdleConnections()
		answer, err := v.try(v.request(t, http.MethodGet, "/", nil))
		require.NoError(t, err, "turned away during the restart, after %d answers", answers)
		require.Contains(t, []int{http.StatusOK, http.StatusServiceUnavailable}, answer.status, answer.body)
	}
}
