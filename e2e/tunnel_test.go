package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"rollcall/e2e/harness"
)

// What an agent may take at most: while it carries bodies of any size, and with
// a thousand connections on both sides. A body of 1 GiB that somebody kept
// would be far beyond it.
const (
	streamMemory = 80 << 20
	crowdMemory  = 250 << 20
)

// TestTunnelHTTP carries all that HTTP has, in both forms and over a socket.
func TestTunnelHTTP(t *testing.T) {
	t.Parallel()
	s := newTunnelStage(t)
	path := filepath.Join(s.dir, "tunnel.sock")
	agent := s.start(t, s.services(t, "", s.tunnel("tunnel", "max_connections: 1100, access_log: true")+
		fmt.Sprintf("  - {type: application-tunnel, name: socket, listen: \"unix://%s\", app_name: %s, socket: {mode: \"0600\"}}\n", path, s.app.Name)+
		s.tunnel("counted", "")))
	diag := diagnostics(t, agent)
	awaitReady(t, agent, diag)
	s.files(t, "credential_ttl: 1h")
	command, at := s.command(t, "--port=0", "--max-connections=1100")
	require.Equal(t, path, listening(t, agent, "socket"))

	for _, form := range []struct {
		name, at string
		process  *harness.Process
		large    int64
	}{
		{"service", listening(t, agent, "tunnel"), agent, 1 << 30},
		{"command", at, command, 64 << 20},
		{"socket", path, agent, 16 << 20},
	} {
		t.Run(form.name, func(t *testing.T) {
			v := visit(t, form.at)
			s.carriesHTTP(t, v, form.large)
			if form.large == 1<<30 {
				peakBelow(t, form.process, streamMemory)
			}
			if form.at != path { // a socket is no different there
				t.Run("many at once", func(t *testing.T) { s.crowd(t, v, 1000) })
				peakBelow(t, form.process, crowdMemory)
			}
		})
	}
	t.Run("metrics", func(t *testing.T) { s.countsRequests(t, diag, "counted", visit(t, listening(t, agent, "counted"))) })
	if t.Failed() {
		return
	}
	_, metrics := get(t, diag+"/metrics")
	require.Regexp(t, `rollcall_tunnel_requests_total\{code="2xx",service="tunnel"\} [1-9]\d{3}`, metrics)
	require.Regexp(t, `rollcall_tunnel_bytes_total\{direction="sent",service="tunnel"\} [1-9].*e\+09`, metrics)
	require.Contains(t, agent.Stderr.String(), "path=/echo")
	stop(t, agent)
	stop(t, command)
	_, err := os.Stat(path)
	require.ErrorIs(t, err, os.ErrNotExist, "the socket stayed")
}

func (s *tunnelStage) carriesHTTP(t *testing.T, v *visitor, large int64) {
	t.Run("the application's view", func(t *testing.T) { s.view(t, v) })
	t.Run("redirects and cookies", func(t *testing.T) { s.redirects(t, v) })
	t.Run("trailers", func(t *testing.T) { s.trailers(t, v) })
	t.Run("server-sent events", func(t *testing.T) {
		stream := v.listen(t)
		for i := range 5 {
			stream.next(t, s.web, fmt.Sprint("event ", i))
		}
	})
	t.Run("WebSocket", func(t *testing.T) {
		socket := v.socketTo(t)
		for _, message := range []string{"one", strings.Repeat("two", 100_000)} {
			socket.says(t, message)
		}
	})
	t.Run("large bodies", func(t *testing.T) {
		v.post(t, large)
		v.download(t, large/4)
	})
}

// peakBelow fails if a process ever took more memory than that.
func peakBelow(t *testing.T, p *harness.Process, limit int64) {
	t.Helper()
	_, peak := p.Memory(t)
	t.Logf("peak memory %d MiB", peak>>20)
	require.Less(t, peak, limit)
}

// crowd makes n requests that are all under way at the same moment.
func (s *tunnelStage) crowd(t *testing.T, v *visitor, n int) {
	var group errgroup.Group
	for range n {
		group.Go(func() error {
			answer, err := v.try(v.request(t, http.MethodGet, "/slow?ms=1000", nil))
			if err != nil {
				return err
			}
			if answer.body != "slow" {
				return fmt.Errorf("answer %d: %.300s", answer.status, answer.body)
			}
			return nil
		})
	}
	require.NoError(t, group.Wait())
	v.CloseIdleConnections()
}

// view is how the application sees requests, which is as by its public address.
func (s *tunnelStage) view(t *testing.T, v *visitor) {
	seen := v.echo(t, "/echo?a=b%2Fc&d")
	require.Equal(t, "/echo?a=b%2Fc&d", seen.URI)
	require.Equal(t, s.publicHost(t), seen.Header.Get("X-Forwarded-Host"))
	require.NotEmpty(t, seen.Header.Get("Teleport-Jwt-Assertion"), "Teleport's word on who asks")

	// A page of the tunnel's own address.
	request := v.request(t, http.MethodPost, "/echo", strings.NewReader("x"))
	request.Header.Set("Origin", "http://"+v.host())
	request.Header.Set("Referer", "http://"+v.host()+"/page")
	answer := v.do(t, request)
	require.NoError(t, answer.fromApplication(s.web))
	require.NoError(t, json.Unmarshal([]byte(answer.body), &seen))
	require.Equal(t, "https://"+s.publicHost(t), seen.Header.Get("Origin"))
}

// publicHost is the application's public address with the proxy's port.
func (s *stage) publicHost(t *testing.T) string {
	t.Helper()
	_, port, err := net.SplitHostPort(s.cluster.Info().ProxyAddr)
	require.NoError(t, err)
	return net.JoinHostPort(s.app.PublicAddr, port)
}

// redirects and cookies for the public address are for the tunnel's own.
func (s *tunnelStage) redirects(t *testing.T, v *visitor) {
	for to, want := range map[string]string{
		"https://" + s.publicHost(t) + "/echo?x=1": "http://" + v.host() + "/echo?x=1",
		s.web.URL + "/echo":                        "http://" + v.host() + "/echo", // what it makes of Host
		"/echo":                                    "/echo",
		"https://elsewhere.example/?y":             "https://elsewhere.example/?y",
	} {
		answer := v.get(t, "/redirect?to="+url.QueryEscape(to))
		require.Equal(t, http.StatusFound, answer.status, answer.body)
		require.Equal(t, want, answer.header.Get("Location"))
	}
	v.get(t, "/cookie?domain="+s.app.PublicAddr)
	require.Contains(t, v.echo(t, "/echo").Header.Get("Cookie"), "flavour=vanilla", "the client can't use the cookie")
}

func (s *tunnelStage) trailers(t *testing.T, v *visitor) {
	request := v.request(t, http.MethodPost, "/trailers", io.NopCloser(strings.NewReader("12345")))
	request.Trailer = http.Header{"Checksum": {"abc"}}
	answer := v.do(t, request)
	require.NoError(t, answer.fromApplication(s.web))
	require.Equal(t, "12345", answer.body)
	require.Equal(t, "5", answer.trailer.Get("Received"))
	require.Empty(t, answer.trailer.Get("Checksum"), "the page says that Teleport drops a request's trailers")
}
