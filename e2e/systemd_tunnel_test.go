package e2e

import (
	"fmt"
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

	as := func(user string) string {
		out, _ := m.Run(t, "setpriv", "--reuid="+user, "--regid=nogroup", "--clear-groups", "/bin/sh", "-c",
			`exec perl -MIO::Socket::UNIX -e '$s=IO::Socket::UNIX->new(Peer=>"/run/hello.sock") or die $!; print $s "GET / HTTP/1.0\r\nHost: localhost\r\n\r\n"; print <$s>'`)
		return out
	}
	require.Contains(t, as("www-data"), s.sample.Text)
	require.Contains(t, as("games"), "403 Forbidden")
	m.Must(t, "systemctl", "stop", "rollcall-hello.socket", "rollcall.service")
	require.NoError(t, os.Remove(m.Path(unit)))
	s.configure(t, s.cluster.Info().ProxyAddr)
	m.Must(t, "systemctl", "daemon-reload")
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
