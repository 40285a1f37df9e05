package e2e

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"rollcall/e2e/harness"
)

// stranger is a user that isn't the agent's, and neighbour is another.
const (
	stranger  = 65534
	neighbour = 1 // Debian's daemon
)

// TestTunnelRefuses asks in all the ways that a tunnel has to refuse.
func TestTunnelRefuses(t *testing.T) {
	t.Parallel()
	s := newTunnelStage(t)
	secret := suite.WriteFile(t, "bearer", "correct-horse-battery\n")
	agent := s.start(t, s.services(t, "", s.tunnel("plain", "")+
		s.tunnel("named", "allowed_hosts: [tunnel.internal]")+
		s.tunnel("secret", "bearer_token: "+secret)))
	awaitReady(t, agent, diagnostics(t, agent))

	t.Run("names of others", func(t *testing.T) {
		v := visit(t, listening(t, agent, "plain"))
		for _, host := range []string{"evil.example", "evil.example:80", "tunnel.internal", "localhost.evil.example"} {
			request := v.request(t, http.MethodGet, "/echo", nil)
			request.Host = host
			v.do(t, request).refused(t, http.StatusForbidden, "host", host)
		}
		_, port, _ := strings.Cut(v.at, ":")
		for _, host := range []string{"localhost:" + port, "127.0.0.1:" + port, "[::1]:" + port} {
			request := v.request(t, http.MethodGet, "/echo", nil)
			request.Host = host
			require.NoError(t, v.do(t, request).fromApplication(s.web), host)
		}
		for _, origin := range []string{"http://evil.example", "https://localhost.evil.example"} {
			request := v.request(t, http.MethodPost, "/echo", nil)
			request.Header.Set("Origin", origin)
			v.do(t, request).refused(t, http.StatusForbidden, "host", origin)
		}
		v = visit(t, listening(t, agent, "named"))
		request := v.request(t, http.MethodGet, "/echo", nil)
		request.Host = "tunnel.internal"
		require.NoError(t, v.do(t, request).fromApplication(s.web))
	})
	t.Run("Teleport's own paths", func(t *testing.T) {
		v := visit(t, listening(t, agent, "plain"))
		for _, path := range []string{"/teleport-logout", "/x-teleport-auth"} {
			v.get(t, path).refused(t, http.StatusForbidden, "path", path)
		}
		v.reaches(t, s.web) // the session is still there
	})
	t.Run("no token", func(t *testing.T) {
		v := visit(t, listening(t, agent, "secret"))
		v.get(t, "/echo").refused(t, http.StatusUnauthorized, "token", "")
		v.header.Set("Authorization", "Bearer wrong-horse-battery-x")
		v.get(t, "/echo").refused(t, http.StatusUnauthorized, "token", "")
		v.header.Set("Authorization", "Bearer correct-horse-battery")
		require.Empty(t, v.echo(t, "/echo").Header.Get("Authorization"), "the application got the tunnel's token")
		v.header.Set("Proxy-Authorization", "Bearer correct-horse-battery")
		v.header.Set("Authorization", "Basic YTpi")
		seen := v.echo(t, "/echo")
		require.Equal(t, "Basic YTpi", seen.Header.Get("Authorization"))
		require.Empty(t, seen.Header.Get("Proxy-Authorization"))
	})
	require.NotContains(t, agent.Stderr.String(), "correct-horse-battery")
	stop(t, agent)
}

// TestTunnelPeers tells users apart by the kernel's word.
func TestTunnelPeers(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("acting as other users needs root")
	}
	t.Parallel()
	s := newTunnelStage(t)
	require.NoError(t, os.Chmod(s.dir, 0o755))
	path := func(name string) string { return filepath.Join(s.dir, name) }
	socket := func(name, options string) string {
		return fmt.Sprintf("  - {type: application-tunnel, name: %s, listen: \"unix://%s\", app_name: %s, %s}\n", name, path(name), s.app.Name, options)
	}
	agent := s.start(t, s.services(t, "", s.tunnel("tcp", fmt.Sprintf("peer_users: [%d]", neighbour))+
		socket("open", fmt.Sprintf("socket: {mode: \"0666\"}, peer_users: [daemon]"))+
		socket("closed", "")+
		socket("owned", "socket: {mode: \"0600\", user: daemon}")+
		socket("read", "socket: {mode: \"0600\", readers: [{user: daemon}]}")))
	awaitReady(t, agent, diagnostics(t, agent))

	at := listening(t, agent, "tcp")
	for _, c := range []struct {
		name string
		uid  uint32
		args []string
		want string
	}{
		{"tcp, allowed", neighbour, []string{"http://" + at + "/echo"}, "200"},
		{"tcp, not allowed", stranger, []string{"http://" + at + "/echo"}, "403"},
		{"tcp, root isn't named", 0, []string{"http://" + at + "/echo"}, "403"},
		{"socket for all, allowed", neighbour, []string{"--unix-socket", path("open"), "http://localhost/echo"}, "200"},
		{"socket for all, not allowed", stranger, []string{"--unix-socket", path("open"), "http://localhost/echo"}, "403"},
		{"socket of the agent's", neighbour, []string{"--unix-socket", path("closed"), "http://localhost/echo"}, "000"},
		{"socket of the user's", neighbour, []string{"--unix-socket", path("owned"), "http://localhost/echo"}, "200"},
		{"socket of another's", stranger, []string{"--unix-socket", path("owned"), "http://localhost/echo"}, "000"},
		{"socket with an ACL", neighbour, []string{"--unix-socket", path("read"), "http://localhost/echo"}, "200"},
		{"socket with an ACL for another", stranger, []string{"--unix-socket", path("read"), "http://localhost/echo"}, "000"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), "curl", append([]string{"--silent", "--output", os.DevNull, "--write-out", "%{http_code}"}, c.args...)...)
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: c.uid, Gid: c.uid}}
			cmd.Dir = "/"
			out, _ := cmd.Output() // 000 is curl's word for no answer
			require.Equal(t, c.want, string(out))
		})
	}
	info, err := os.Stat(path("closed"))
	require.NoError(t, err)
	require.Equal(t, os.ModeSocket|0o600, info.Mode())
	info, err = os.Stat(path("owned"))
	require.NoError(t, err)
	require.EqualValues(t, neighbour, info.Sys().(*syscall.Stat_t).Uid)
	stop(t, agent)
}

// TestTunnelIsLocal refuses a configuration, and a command line, that would let
// the whole network in.
func TestTunnelIsLocal(t *testing.T) {
	t.Parallel()
	s := newTunnelStage(t)
	for _, listen := range []string{"tcp://0.0.0.0:0", "tcp://:0", "tcp://[::]:0", "tcp://192.0.2.1:80"} {
		service := func(more string) string {
			return s.services(t, "", fmt.Sprintf("  - {type: application-tunnel, listen: %q, app_name: %s, %s}\n", listen, s.app.Name, more))
		}
		agent := s.cluster.Rollcall(t, "start", "-c", service(""))
		require.Equal(t, 1, agent.Wait(t).ExitCode)
		require.Contains(t, agent.Stderr.String(), "allow_remote", listen)
		s.cluster.Rollcall(t, "validate", "-c", service("allow_remote: true")).Succeed(t)
	}
}

// TestApplicationProxy chooses applications by the names in requests.
func TestApplicationProxy(t *testing.T) {
	t.Parallel()
	c := suite.Cluster(t)
	s := newTunnelStageOn(t, c)
	second := harness.NewWebApp(t)
	other := c.CreateApp(t, s.app.Name+"-2", second.URL, map[string]string{"team": s.app.Name})
	tcp := c.CreateApp(t, s.app.Name+"-tcp", harness.NewTCPApp(t).URL, map[string]string{"team": s.app.Name})
	foreign := stageFor(t, c, second.URL) // the bot's role doesn't reach it
	secret := suite.WriteFile(t, "bearer", "correct-horse-battery\n")
	agent := s.start(t, s.services(t, "",
		"  - {type: application-proxy, name: proxy, listen: \"tcp://127.0.0.1:0\", domains: [apps.internal]}\n"+
			"  - {type: application-proxy, name: secret, listen: \"tcp://127.0.0.1:0\", bearer_token: "+secret+"}\n"))
	awaitReady(t, agent, diagnostics(t, agent))
	at := listening(t, agent, "proxy")
	curl := func(t *testing.T, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "curl", append([]string{
			"--silent", "--show-error", "--include", "--max-time", "60", "--proxy", "http://" + at}, args...)...)
		cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
		out, _ := cmd.CombinedOutput() // curl's errors are among what is looked for
		return string(out)
	}

	// The first request for an application may be told that its certificate is
	// still to come.
	reaches := func(t *testing.T, url string, web *harness.WebApp, args ...string) (answer string) {
		t.Helper()
		harness.Eventually(t, patience, url, func() error {
			answer = curl(t, append(args, url)...)
			if strings.Contains(answer, "\r\nX-Rollcall-Error: unavailable\r\n") {
				return errors.New(answer)
			}
			return nil
		})
		require.Contains(t, answer, "\r\nWebapp: "+web.Name+"\r\n", url)
		return answer
	}

	for host, web := range map[string]*harness.WebApp{
		s.app.Name:                    s.web,
		s.app.Name + ".apps.internal": s.web,
		s.app.PublicAddr:              s.web,
		other.Name:                    second,
		other.PublicAddr:              second,
	} {
		reaches(t, "http://"+host+"/echo", web)
	}
	t.Run("all of HTTP", func(t *testing.T) { s.carriesHTTP(t, visitThrough(t, at, s.app.Name), 64<<20) })
	for url, want := range map[string][2]string{
		"http://no-such-app/echo":              {"404", "no-such-app"},
		"http://" + foreign.app.Name + "/echo": {"404", foreign.app.Name},
		"http://" + tcp.Name + "/":             {"502", "TCP"},
		"http://elsewhere.example/":            {"404", "elsewhere.example"},
		"https://" + s.app.Name + "/echo":      {"405", "CONNECT"}, // what curl does with https
	} {
		answer := curl(t, url)
		require.Contains(t, answer, "HTTP/1.1 "+want[0]+" ", answer)
		require.Contains(t, answer, want[1])
	}

	at = listening(t, agent, "secret")
	require.Contains(t, curl(t, "http://"+s.app.Name+"/echo"), "HTTP/1.1 407 ")
	reaches(t, "http://"+s.app.Name+"/echo", s.web, "--proxy-header", "Proxy-Authorization: Bearer correct-horse-battery")
	answer := reaches(t, "http://"+s.app.Name+"/echo", s.web, "--proxy-user", "anybody:correct-horse-battery")
	require.NotContains(t, answer, base64.StdEncoding.EncodeToString([]byte("anybody:correct-horse-battery")), "the application got the proxy's password")
	stop(t, agent)
}
