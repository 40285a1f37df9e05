package tunnel

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"rollcall/cluster"
	"rollcall/diagnostics"
	"rollcall/failure"
)

// fakeApplications are the applications a, b, c and the TCP application db.
type fakeApplications struct {
	addr string

	mu      sync.Mutex // protects the following
	fetched map[string]int
	// found counts the searches by public address, missed the certificates that
	// were asked for in vain.
	found, missed int
	// added is an application beside those.
	added string
	// slow is how long a certificate takes.
	slow time.Duration
}

func (f *fakeApplications) Source(name string) Source { return &fakeAppSource{f, name} }

func (f *fakeApplications) Find(_ context.Context, publicAddr string) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.found++
	name, ok := strings.CutSuffix(publicAddr, ".apps.example.com")
	if !ok || !f.knows(name) {
		return "", failure.New(failure.NotFound, "no application with the public address %q was found", publicAddr)
	}
	return name, nil
}

// knows says whether there's an application of that name. The caller holds mu.
func (f *fakeApplications) knows(name string) bool {
	return slices.Contains([]string{"a", "b", "c", "db"}, name) || name == f.added
}

func (f *fakeApplications) set(change func(*fakeApplications)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

// asked is how often the cluster was asked for something that isn't there.
func (f *fakeApplications) asked() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.found + f.missed
}

type fakeAppSource struct {
	*fakeApplications
	name string
}

func (s *fakeAppSource) Fetch(ctx context.Context) (Routed, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.slow > 0 && !pause(ctx, s.slow) {
		return Routed{}, ctx.Err()
	}
	if !s.knows(s.name) {
		s.missed++
		return Routed{}, failure.New(failure.NotFound, "application %q was not found", s.name)
	}
	s.fetched[s.name]++
	serial := fmt.Sprintf("%s-%d", s.name, s.fetched[s.name])
	app := cluster.App{Name: s.name, PublicAddr: s.name + ".apps.example.com", URI: "http://localhost"}
	if s.name == "db" {
		app.URI = "tcp://localhost:5432"
	}
	return Routed{Session: &fakeSession{addr: s.addr, serial: serial}, App: app, Serial: serial, NotAfter: time.Now().Add(time.Hour)}, nil
}

func (f *fakeApplications) count(name string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fetched[name]
}

// runProxy starts an application-proxy and returns a client that uses it.
func runProxy(t *testing.T, change func(*ProxyOptions, *Dependencies)) (*Proxy, *fakeApplications, *http.Client) {
	t.Helper()
	return runProxyUntil(t, context.Background(), change)
}

// runProxyTo is runProxy with another Teleport, and returns where it listens.
func runProxyTo(t *testing.T, teleport string) string {
	t.Helper()
	p, apps, _ := runProxy(t, nil)
	apps.addr = teleport // nobody has asked yet
	return p.listening.address()
}

// runProxyUntil is runProxy with a proxy that stops when ctx ends.
func runProxyUntil(t *testing.T, ctx context.Context, change func(*ProxyOptions, *Dependencies)) (*Proxy, *fakeApplications, *http.Client) { //nolint:revive // t comes first.
	t.Helper()
	f := newFakeTeleport(t, hello)
	apps := &fakeApplications{addr: f.Listener.Addr().String(), fetched: map[string]int{}}
	opts := ProxyOptions{Domains: []string{"apps.internal"}, ListenOptions: ListenOptions{Listen: "tcp://127.0.0.1:0"}}
	opts.Name = "tunnel"
	board := diagnostics.NewBoard(time.Now)
	deps := Dependencies{
		Interval: time.Hour, Reporter: board.Reporter("tunnel", TypeProxy),
		Log: slog.New(slog.DiscardHandler), Metrics: NewMetrics(),
	}
	if change != nil {
		change(&opts, &deps)
	}
	p, err := NewProxy(opts, ProxyDependencies{Dependencies: deps, Applications: apps})
	require.NoError(t, err)
	require.NoError(t, p.Bind(t.Context()))
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() { cancel(); require.NoError(t, <-done) })
	at, err := url.Parse(strings.Replace(p.listening.address(), "tcp://", "http://", 1))
	require.NoError(t, err)
	transport := &http.Transport{Proxy: http.ProxyURL(at), DisableKeepAlives: true}
	t.Cleanup(transport.CloseIdleConnections)
	require.Eventually(t, func() bool { s, _ := board.Status("tunnel"); return s.Ready }, patience, 5*time.Millisecond)
	return p, apps, &http.Client{Transport: transport}
}

func fetch(t *testing.T, client *http.Client, req *http.Request) answered {
	t.Helper()
	return askWith(t, client.Transport, req)
}

func TestProxyChoosesTheApplicationByHost(t *testing.T) {
	p, apps, client := runProxy(t, nil)
	for _, test := range []struct {
		url    string
		status int
		want   string
	}{
		{"http://a/", 200, "a-1"},
		{"http://A:80/", 200, "a-1"},
		{"http://a.apps.internal/", 200, "a-1"},
		{"http://b.apps.example.com/", 200, "b-1"},
		{"http://nothing/", 404, "was not found"},
		{"http://nothing.example/", 404, "no application with the public address"},
		{"http://x.a.apps.internal/", 404, ""},
		{"http://db/", 502, "TCP application"},
		{"http://a/teleport-logout", 403, "Teleport"},
	} {
		got := fetch(t, client, request(t, http.MethodGet, test.url, nil))
		require.Equal(t, test.status, got.status, "%s: %s", test.url, got.body)
		require.Contains(t, got.body, test.want)
	}
	require.Equal(t, 1, apps.count("a"), "the certificate is kept")
	p.RenewNow("test")
	eventually(t, "a new certificate", func() bool {
		return fetch(t, client, request(t, http.MethodGet, "http://a/", nil)).body == "a-2"
	})
}

func TestProxyRefuses(t *testing.T) {
	p, _, client := runProxy(t, func(o *ProxyOptions, d *Dependencies) {
		o.BearerToken, d.Secret = "/etc/token", func() (string, error) { return secret, nil }
	})
	got := fetch(t, client, request(t, http.MethodGet, "http://a/", nil))
	require.Equal(t, http.StatusProxyAuthRequired, got.status)
	require.Len(t, got.header.Values("Proxy-Authenticate"), 2)

	at, err := url.Parse(strings.Replace(p.listening.address(), "tcp://", "http://any:"+secret+"@", 1))
	require.NoError(t, err)
	withToken := &http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(at), DisableKeepAlives: true}}
	require.Equal(t, "a-1", fetch(t, withToken, request(t, http.MethodGet, "http://a/", nil)).body)
	_, err = withToken.Get("https://a/")
	require.ErrorContains(t, err, "Method Not Allowed")

	form := request(t, http.MethodPost, "http://a/", nil)
	form.Header.Set("Origin", "http://evil.example")
	got = fetch(t, withToken, form)
	require.Equal(t, http.StatusForbidden, got.status)
	require.Equal(t, kindHost, got.kind())
}

func TestProxyKeepsABoundedNumberOfApplications(t *testing.T) {
	p, apps, client := runProxy(t, func(o *ProxyOptions, _ *Dependencies) { o.MaxApplications = 2 })
	for range 3 {
		for _, name := range []string{"a", "b", "c", "nothing"} {
			got := fetch(t, client, request(t, http.MethodGet, "http://"+name+"/", nil))
			require.Contains(t, []int{200, 404}, got.status, got.body)
		}
	}
	p.routes.mu.Lock()
	kept := len(p.routes.byName)
	p.routes.mu.Unlock()
	require.LessOrEqual(t, kept, 2)
	require.Greater(t, apps.count("a"), 1, "it had to give way")
}

func TestProxyDropsWhatNobodyUses(t *testing.T) {
	p, apps, client := runProxy(t, func(_ *ProxyOptions, d *Dependencies) { d.Interval = 30 * time.Millisecond })
	require.Equal(t, http.StatusOK, fetch(t, client, request(t, http.MethodGet, "http://a/", nil)).status)
	eventually(t, "it's dropped", func() bool {
		p.routes.mu.Lock()
		defer p.routes.mu.Unlock()
		return len(p.routes.byName) == 0
	})
	require.Equal(t, http.StatusOK, fetch(t, client, request(t, http.MethodGet, "http://a/", nil)).status)
	require.Greater(t, apps.count("a"), 1)
}

// TestProxyAsksOnceForWhatIsMissing has a program that asks for wrong names in a
// loop, and applications of these names added meanwhile.
func TestProxyAsksOnceForWhatIsMissing(t *testing.T) {
	for _, test := range []struct{ name, url string }{
		{"by name", "http://late/"},
		{"by public address", "http://late.apps.example.com/"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, apps, client := runProxy(t, nil)
			began := time.Now()
			first := fetch(t, client, request(t, http.MethodGet, test.url, nil))
			require.Equal(t, http.StatusNotFound, first.status)
			for range 20 {
				got := fetch(t, client, request(t, http.MethodGet, test.url, nil))
				require.Equal(t, http.StatusNotFound, got.status)
				require.Equal(t, first.body, got.body)
			}
			// More than once only if a busy host took longer than it's remembered.
			require.LessOrEqual(t, apps.asked(), 1+int(time.Since(began)/unknownTime))

			apps.set(func(f *fakeApplications) { f.added = "late" })
			p.RenewNow("test")
			require.Equal(t, "late-1", fetch(t, client, request(t, http.MethodGet, test.url, nil)).body, "a reload forgets what there wasn't")
		})
	}
}

func TestProxyFindsANewApplicationSoon(t *testing.T) {
	t.Parallel()
	_, apps, client := runProxy(t, nil)
	require.Equal(t, http.StatusNotFound, fetch(t, client, request(t, http.MethodGet, "http://late/", nil)).status)
	apps.set(func(f *fakeApplications) { f.added = "late" })
	eventually(t, "the application by itself", func() bool {
		return fetch(t, client, request(t, http.MethodGet, "http://late/", nil)).body == "late-1"
	})
}

// TestProxyWaitsForANewApplication: a certificate that takes longer than a
// tunnel's clients would wait for one is waited for, since nobody has asked for
// it before this request.
func TestProxyWaitsForANewApplication(t *testing.T) {
	t.Parallel()
	_, apps, client := runProxy(t, nil)
	apps.set(func(f *fakeApplications) { f.slow = startPatience + time.Second })

	got := fetch(t, client, request(t, http.MethodGet, "http://a/", nil))

	require.Equal(t, http.StatusOK, got.status, got.body)
	require.Equal(t, "a-1", got.body)
}

func TestProxyKnowsThatNoNameIsSoLong(t *testing.T) {
	_, apps, client := runProxy(t, nil)
	got := fetch(t, client, request(t, http.MethodGet, "http://"+strings.Repeat("a.", 200)+"example/", nil))
	require.Equal(t, http.StatusNotFound, got.status)
	require.Contains(t, got.body, "has 407 characters")
	require.Zero(t, apps.asked())
}

func TestUnknownHostsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var u unknown
		require.NoError(t, u.recall("a"))
		u.note(u.age(), "a", errTest)
		require.Equal(t, errTest, u.recall("a"))
		require.NoError(t, u.recall("b"))
		time.Sleep(unknownTime - 1)
		require.Equal(t, errTest, u.recall("a"))
		time.Sleep(1)
		require.NoError(t, u.recall("a"))
	})
}

// TestWhatWasAskedBeforeAReloadIsNotRemembered has a question on its way while
// all is forgotten: its answer may be older than what made somebody reload.
func TestWhatWasAskedBeforeAReloadIsNotRemembered(t *testing.T) {
	var u unknown
	age := u.age()
	u.clear()
	u.note(age, "a", errTest)
	require.NoError(t, u.recall("a"))
	u.note(u.age(), "a", errTest)
	require.Equal(t, errTest, u.recall("a"))
}

func TestUnknownHostsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var u unknown
		for i := range 3 * unknownMost {
			time.Sleep(time.Microsecond)
			u.note(u.age(), fmt.Sprint(i), errTest)
		}
		require.Len(t, u.hosts, unknownMost)
		require.NoError(t, u.recall("0"), "the oldest has given way")
		require.Equal(t, errTest, u.recall(fmt.Sprint(3*unknownMost-1)))
		time.Sleep(unknownTime)
		u.note(u.age(), "last", errTest)
		require.Len(t, u.hosts, 1, "those that have ended make room first")
	})
}

// TestLogsNameTheApplicationOnce: a key that stands twice in a line is one that
// a program that reads the log may not take.
func TestLogsNameTheApplicationOnce(t *testing.T) {
	log := &syncBuffer{}
	_, _, client := runProxy(t, func(_ *ProxyOptions, d *Dependencies) { d.Log = slog.New(slog.NewTextHandler(log, nil)) })
	require.Equal(t, http.StatusOK, fetch(t, client, request(t, http.MethodGet, "http://a/", nil)).status)
	require.Equal(t, http.StatusNotFound, fetch(t, client, request(t, http.MethodGet, "http://nothing/", nil)).status)
	r := run(t, newFakeTeleport(t, hello).Listener.Addr().String(), nil)
	require.Equal(t, http.StatusOK, r.get(t, "/").status)

	for app, text := range map[string]func() string{"a": log.String, "nothing": log.String, appName: r.log.String} {
		mark := " app=" + app + " "
		// The client may be answered before the line is written.
		eventually(t, "a line of "+app, func() bool { return strings.Contains(text(), mark) })
		for line := range strings.Lines(text()) {
			if strings.Contains(line, mark) {
				require.Equal(t, 1, strings.Count(line, " app="), line)
			}
		}
		require.Equal(t, 1, strings.Count(text(), mark), text())
	}
}

// TestAStopAnswersWhoWaitsForACertificate: neither who waits for the first
// certificate of an application when the proxy stops, nor who asks for another
// application on a connection that is open by then, is cut off without a word.
func TestAStopAnswersWhoWaitsForACertificate(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	p, apps, client := runProxyUntil(t, ctx, nil)
	apps.set(func(f *fakeApplications) { f.slow = time.Hour })
	answers := make(chan answered, 1)
	go func() { answers <- fetch(t, client, request(t, http.MethodGet, "http://a/", nil)) }()
	eventually(t, "somebody waits", func() bool {
		p.routes.mu.Lock()
		defer p.routes.mu.Unlock()
		return p.routes.byName["a"] != nil
	})

	stop()

	got := <-answers
	require.Equal(t, http.StatusServiceUnavailable, got.status)
	require.Contains(t, got.body, "the local proxy is stopping")
	_, err := p.routes.acquire("b")
	require.ErrorContains(t, err, "the local proxy is stopping")
}
