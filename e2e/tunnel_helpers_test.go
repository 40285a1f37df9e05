package e2e

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rollcall/e2e/harness"
)

// tunnelStage is a stage whose application is one that does all that a tunnel
// has to carry.
type tunnelStage struct {
	*stage
	web *harness.WebApp
}

func newTunnelStage(t *testing.T) *tunnelStage {
	t.Helper()
	return newTunnelStageOn(t, suite.Cluster(t))
}

func newTunnelStageOn(t *testing.T, c *harness.Cluster) *tunnelStage {
	t.Helper()
	web := harness.NewWebApp(t)
	return &tunnelStage{stage: stageFor(t, c, web.URL), web: web}
}

// stageFor is a stage for an application at an address.
func stageFor(t *testing.T, c *harness.Cluster, uri string) *stage {
	t.Helper()
	name := harness.Unique(t, "app")
	app := c.CreateApp(t, name, uri, map[string]string{"team": name})
	c.CreateAppRole(t, name+"-access", map[string]string{"team": name})
	return &stage{cluster: c, app: app, bot: c.CreateBot(t, name, name+"-access"), dir: suite.Dir(t)}
}

// services is a configuration with services and no outputs. times are
// credential_ttl and renewal_interval; empty: nothing is renewed.
func (s *stage) services(t *testing.T, times, services string) string {
	t.Helper()
	return s.servicesAt(t, s.cluster.Info().ProxyAddr, times, services)
}

// servicesAt is services with another address for the proxy.
func (s *stage) servicesAt(t *testing.T, proxy, times, services string) string {
	t.Helper()
	if times == "" {
		times = "credential_ttl: 1h"
	}
	return s.configWith(t, fmt.Sprintf(`
version: v2
proxy_server: %s
onboarding: {join_method: token, token: %s}
storage: {type: directory, path: %s}
settle_time: %s
diag_addr: 127.0.0.1:0
%s
services:
%s`, proxy, s.bot.Token, s.storage(), cmp.Or(s.settle, "200ms"), times, services))
}

// tunnel is a service for the stage's application at a free port; options are
// in YAML's flow style.
func (s *stage) tunnel(name, options string) string {
	return fmt.Sprintf("  - {type: application-tunnel, name: %s, listen: \"tcp://127.0.0.1:0\", app_name: %s, %s}\n", name, s.app.Name, options)
}

// tcpTunnel is a service for a TCP application that the stage's role reaches,
// and that it makes.
func (s *stage) tcpTunnel(t *testing.T, name string) string {
	t.Helper()
	app := s.cluster.CreateApp(t, s.app.Name+"-tcp", harness.NewTCPApp(t).URL, map[string]string{"team": s.app.Name})
	return fmt.Sprintf("  - {type: application-tunnel, name: %s, listen: \"tcp://127.0.0.1:0\", app_name: %s}\n", name, app.Name)
}

// startTunnel starts an agent with one tunnel and waits until it's ready. It
// returns the tunnel's HOST:PORT.
func (s *stage) startTunnel(t *testing.T, times, options string) (*harness.Process, string) {
	t.Helper()
	agent := s.start(t, s.services(t, times, s.tunnel("tunnel", options)))
	awaitReady(t, agent, diagnostics(t, agent))
	return agent, listening(t, agent, "tunnel")
}

// listening is where a service of the agent listens, as its log says: HOST:PORT
// or the path of a socket.
func listening(t *testing.T, agent *harness.Process, service string) string {
	t.Helper()
	return awaitMatch(t, agent, &agent.Stderr, regexp.MustCompile(`listens\..*?service=`+service+`\b.*?listen="?(?:tcp|unix)://([^"\s]+)`),
		regexp.MustCompile(`listens\..*?listen="?(?:tcp|unix)://([^"\s]+)"?.*?service=`+service+`\b`))
}

// command starts `rollcall proxy app` with the files in dir/out, and waits
// until it listens. It returns HOST:PORT or the path of a socket.
func (s *stage) command(t *testing.T, args ...string) (*harness.Process, string) {
	t.Helper()
	p := s.cluster.Rollcall(t, s.commandLine(args...)...)
	return p, proxying(t, p)
}

// proxying is where the command says that it listens.
func proxying(t *testing.T, p *harness.Process) string {
	t.Helper()
	return awaitMatch(t, p, &p.Stdout, regexp.MustCompile(`(?m)^Proxying connections to \S+ on \w+://(\S+)$`))
}

func (s *stage) commandLine(args ...string) []string {
	line := []string{"proxy", "--destination-dir=" + s.place("out"), "--proxy=" + s.cluster.Info().ProxyAddr, "app"}
	return append(append(line, args...), s.app.Name)
}

// awaitMatch waits until one of the patterns is in an output, and returns its
// first group.
func awaitMatch(t *testing.T, p *harness.Process, output **harness.Output, patterns ...*regexp.Regexp) string {
	t.Helper()
	var found string
	p.WaitFor(t, patience, "the place where it listens", func() error {
		for _, pattern := range patterns {
			if match := pattern.FindStringSubmatch((*output).String()); match != nil {
				found = match[1]
				return nil
			}
		}
		return errors.New("not told yet")
	})
	return found
}

// visitor is a client of a tunnel that knows nothing of Teleport.
type visitor struct {
	*http.Client
	// at is HOST:PORT or the path of a socket.
	at string
	// name is the host that it asks for; empty: at.
	name string
	// header is sent with each request.
	header http.Header
}

func visit(t *testing.T, at string) *visitor {
	t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	transport := &http.Transport{MaxIdleConnsPerHost: 2000, DisableCompression: true, DialContext: dialer(at)}
	t.Cleanup(transport.CloseIdleConnections)
	return &visitor{
		Client: &http.Client{
			Transport: transport, Jar: jar, Timeout: 5 * time.Minute,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		at: at, header: http.Header{},
	}
}

// visitThrough is visit with an HTTP proxy at HOST:PORT, for one host.
func visitThrough(t *testing.T, at, name string) *visitor {
	t.Helper()
	v := visit(t, at)
	v.name = name
	transport, ok := v.Transport.(*http.Transport)
	require.True(t, ok)
	transport.Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: at})
	return v
}

// dialer connects to HOST:PORT or the path of a socket, whatever it's asked for.
func dialer(at string) func(ctx context.Context, _, _ string) (net.Conn, error) {
	network := "tcp"
	if strings.HasPrefix(at, "/") {
		network = "unix"
	}
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, network, at)
	}
}

// host is what such a client calls the tunnel.
func (v *visitor) host() string {
	switch {
	case v.name != "":
		return v.name
	case strings.HasPrefix(v.at, "/"):
		return "localhost"
	default:
		return v.at
	}
}

// request makes a request of the tunnel.
func (v *visitor) request(t *testing.T, method, path string, body io.Reader) *http.Request {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, "http://"+v.host()+path, body)
	require.NoError(t, err)
	request.Header = v.header.Clone()
	return request
}

// reply is an answer with its whole body.
type reply struct {
	status  int
	header  http.Header
	trailer http.Header
	body    string
}

// try sends a request, and fails if the connection does.
func (v *visitor) try(request *http.Request) (reply, error) {
	response, err := v.Do(request)
	if err != nil {
		return reply{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return reply{response.StatusCode, response.Header, response.Trailer, string(body)}, err
}

func (v *visitor) do(t *testing.T, request *http.Request) reply {
	t.Helper()
	answer, err := v.try(request)
	require.NoError(t, err)
	return answer
}

func (v *visitor) get(t *testing.T, path string) reply {
	t.Helper()
	return v.do(t, v.request(t, http.MethodGet, path, nil))
}

// fromApplication is what an answer is unless it's the application's own.
func (r reply) fromApplication(web *harness.WebApp) error {
	if r.status != http.StatusOK || r.header.Get("Webapp") != web.Name {
		return fmt.Errorf("answer %d: %.300s", r.status, r.body)
	}
	return nil
}

// reaches gets a page once, and fails unless the application answers.
func (v *visitor) reaches(t *testing.T, web *harness.WebApp) {
	t.Helper()
	require.NoError(t, v.get(t, "/echo").fromApplication(web))
}

// tryReach is reaches for a loop that waits.
func (v *visitor) tryReach(t *testing.T, web *harness.WebApp) error {
	t.Helper()
	answer, err := v.try(v.request(t, http.MethodGet, "/echo", nil))
	if err != nil {
		return err
	}
	return answer.fromApplication(web)
}

// refused fails unless the tunnel itself refuses a page, in one sentence.
func (r reply) refused(t *testing.T, status int, kind, sentence string) {
	t.Helper()
	require.Equal(t, status, r.status, r.body)
	require.Equal(t, kind, r.header.Get("X-Rollcall-Error"), r.body)
	require.Contains(t, r.body, sentence)
	require.Equal(t, 1, strings.Count(strings.TrimSpace(r.body), "\n")+1, "not one line: %s", r.body)
}

// echo asks the application what it saw.
func (v *visitor) echo(t *testing.T, path string) harness.Echo {
	t.Helper()
	answer := v.get(t, path)
	require.Equal(t, http.StatusOK, answer.status, answer.body)
	var seen harness.Echo
	require.NoError(t, json.Unmarshal([]byte(answer.body), &seen), answer.body)
	return seen
}

// post sends a body of that many bytes, not known in advance, and fails unless
// all of it arrives.
func (v *visitor) post(t *testing.T, size int64) {
	t.Helper()
	_, err := v.tryPost(t, size)
	require.NoError(t, err)
}

// tryPost is post for a loop. It returns the answer also where that isn't what
// it should be.
func (v *visitor) tryPost(t *testing.T, size int64) (reply, error) {
	t.Helper()
	hash := newHash()
	body := io.TeeReader(io.LimitReader(&harness.Endless{}, size), hash)
	answer, err := v.try(v.request(t, http.MethodPost, "/count", io.NopCloser(body)))
	if err != nil {
		return answer, err
	}
	if answer.status != http.StatusOK {
		return answer, fmt.Errorf("answer %d: %.300s", answer.status, answer.body)
	}
	var counted harness.Count
	if err := json.Unmarshal([]byte(answer.body), &counted); err != nil {
		return answer, fmt.Errorf("answer %.300s: %w", answer.body, err)
	}
	if want := (harness.Count{Bytes: size, SHA256: fmt.Sprintf("%x", hash.Sum(nil))}); counted != want {
		return answer, fmt.Errorf("%+v arrived of %+v", counted, want)
	}
	return answer, nil
}

// download gets that many bytes and fails unless they're the application's.
func (v *visitor) download(t *testing.T, size int64) {
	t.Helper()
	response, err := v.Do(v.request(t, http.MethodGet, fmt.Sprintf("/bytes?n=%d", size), nil))
	require.NoError(t, err)
	defer response.Body.Close()
	got, want := newHash(), newHash()
	n, err := io.Copy(got, response.Body)
	require.NoError(t, err)
	require.Equal(t, size, n)
	_, err = io.CopyN(want, &harness.Endless{}, size)
	require.NoError(t, err)
	require.True(t, bytes.Equal(want.Sum(nil), got.Sum(nil)), "the bytes aren't those that were sent")
}

// files has another bot write the application's files into dir/out: an agent's
// join spends its token.
func (s *stage) files(t *testing.T, times string) {
	t.Helper()
	other := *s
	other.bot = s.cluster.CreateBot(t, harness.Unique(t, "files"), s.app.Name+"-access")
	config := other.configWith(t, fmt.Sprintf(`
version: v2
proxy_server: %s
onboarding: {join_method: token, token: %s}
storage: {type: memory}
settle_time: 200ms
%s
outputs:
%s`, s.cluster.Info().ProxyAddr, other.bot.Token, times, other.application("out", "")))
	other.oneshot(t, config)
}
