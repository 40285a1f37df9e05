package tunnel

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"rollcall/cluster"
	"rollcall/diagnostics"
	"rollcall/failure"
	"rollcall/internal/renewal"
)

func withToken(o *Options, d *Dependencies) {
	o.BearerToken = "/etc/tunnel.token"
	d.Secret = func() (string, error) { return secret, nil }
}

func TestTCPApplicationsArentServedToTokens(t *testing.T) {
	addr := tcpServer(t, func(conn *net.TCPConn) { _, _ = io.WriteString(conn, "welcome\n") })
	r := run(t, addr, func(o *Options, d *Dependencies, s *fakeSource) {
		withToken(o, d)
		s.uri = "tcp://127.0.0.1:5432"
	})
	eventually(t, "it's reported", func() bool { return r.state().LastError != "" })
	require.Contains(t, r.state().LastError, "bearer token")
	conn := dial(t, r)
	_, err := io.WriteString(conn, "\x00hello\n")
	require.NoError(t, err)
	got, _ := io.ReadAll(conn)
	require.NotContains(t, string(got), "welcome")
	for range 20 {
		r.keeper.nudge("test")
	}
	require.Equal(t, 1, r.source.count(), "clients caused certificates that can't be used")

	_, err = New(r.opts, Dependencies{
		Source: r.source, Interval: time.Hour, Reporter: r.board.Reporter("again", TypeTunnel), Log: slog.New(slog.DiscardHandler), Metrics: NewMetrics(),
		Secret: func() (string, error) { return secret, nil }, TCP: true,
	})
	require.Equal(t, failure.Configuration, failure.KindOf(err))
}

func TestAnApplicationThatBecomesTCPIsntServedToTokens(t *testing.T) {
	f := newFakeTeleport(t, hello)
	r := run(t, f.Listener.Addr().String(), func(o *Options, d *Dependencies, _ *fakeSource) { withToken(o, d) })
	eventually(t, "there's a certificate", func() bool { return r.state().Ready && r.source.count() == 1 })
	r.source.set(func(s *fakeSource) { s.uri = "tcp://127.0.0.1:5432" })
	r.RenewNow("test")
	eventually(t, "it's reported", func() bool { return r.state().LastError != "" })
	require.Equal(t, kindHTTP, r.kind(), "connections would be carried without a token")
	require.Equal(t, http.StatusUnauthorized, r.get(t, "/").status)
}

func TestAnswersArentReadByOtherPages(t *testing.T) {
	f := newFakeTeleport(t, func(w http.ResponseWriter, r *http.Request, _ string) {
		w.Header().Set("Access-Control-Allow-Origin", "https://"+appHost)
		_, _ = io.WriteString(w, r.Header.Get("Origin"))
	})
	for _, allowed := range [][]string{nil, {"*"}} {
		r := run(t, f.Listener.Addr().String(), func(o *Options, _ *Dependencies, _ *fakeSource) { o.AllowedHosts = allowed })
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodOptions} {
			other := request(t, method, r.url("/"), nil)
			other.Header.Set("Origin", "https://evil.example")
			got := ask(t, other)
			require.Equal(t, http.StatusForbidden, got.status, method)
			require.Equal(t, kindHost, got.kind())
			require.Empty(t, got.header.Get("Access-Control-Allow-Origin"))

			own := request(t, method, r.url("/"), nil)
			origin := "http://" + own.URL.Host
			own.Header.Set("Origin", origin)
			got = ask(t, own)
			require.Equal(t, http.StatusOK, got.status)
			require.Equal(t, origin, got.header.Get("Access-Control-Allow-Origin"))
			require.Equal(t, "https://"+appHost, got.body, "what the application saw")
		}
	}
}

func newTestKeeper() *keeper {
	counts := NewMetrics().of("tunnel")
	return &keeper{upstream: newUpstream(counts, 1, startPatience), log: slog.New(slog.DiscardHandler), mail: renewal.NewMailbox()}
}

// suspicions is how many renewals are asked for within a time if somebody
// suspects the certificate ten times a second, and each renewal comes at once.
func suspicions(k *keeper, sure bool, during time.Duration, then func()) int {
	asked := 0
	for began := time.Now(); time.Since(began) < during; time.Sleep(100 * time.Millisecond) {
		k.suspect("test", sure)
		if _, ok := k.mail.Take(); ok {
			asked++
			k.upstream.same()
		}
		then()
	}
	return asked
}

func TestRenewalsThatClientsCauseAreBounded(t *testing.T) {
	for _, test := range []struct {
		name string
		sure bool
		then func(*keeper)
		most int
	}{
		{"an application's own 403", false, func(*keeper) {}, 11},
		{"a login whatever the certificate", true, func(*keeper) {}, 66},
		{"one that seems to help each time", true, (*keeper).helped, 120},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newTestKeeper()
				asked := suspicions(k, test.sure, time.Hour, func() { test.then(k) })
				require.LessOrEqual(t, asked, test.most)
				require.Greater(t, asked, 4, "it never gives up")
				time.Sleep(time.Hour)
				require.Equal(t, 1, suspicions(k, test.sure, 500*time.Millisecond, func() {}), "the next one is new")
			})
		})
	}
}

func TestAnUnsureSuspicionKeepsNobodyWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newTestKeeper()
		began := time.Now()
		attempts, until, ok := k.suspect("test", false)
		require.True(t, ok)
		k.upstream.after(t.Context(), attempts, until) // nothing comes: Auth is away
		require.Equal(t, unsurePatience, time.Since(began))
		_, _, ok = k.suspect("test", false)
		require.False(t, ok, "the next request waits anew")
	})
}

func TestConnectionsWaitForTheirTurnOnlySoLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newTestKeeper().upstream
		for range dialsAtOnce {
			u.dials <- struct{}{}
		}
		_, err := u.dial(context.Background(), func(context.Context) (net.Conn, error) { panic("it isn't its turn") })
		require.Equal(t, failure.Unreachable, failure.KindOf(err))
		require.ErrorContains(t, err, "10s")
	})
}

// slowSource gives a certificate when it's told to.
type slowSource struct {
	*fakeSource
	release chan struct{}
}

func (s *slowSource) Fetch(ctx context.Context) (Routed, error) {
	select {
	case <-s.release:
		return s.fakeSource.Fetch(ctx)
	case <-ctx.Done():
		return Routed{}, ctx.Err()
	}
}

func TestTCPClientsMayComeBeforeTheCertificate(t *testing.T) {
	addr := tcpServer(t, func(conn *net.TCPConn) { _, _ = io.WriteString(conn, "welcome\n") })
	release := make(chan struct{})
	r := run(t, addr, func(_ *Options, d *Dependencies, s *fakeSource) {
		s.uri = "tcp://127.0.0.1:5432"
		d.Source = &slowSource{s, release}
	})
	conn := dial(t, r)
	_, err := io.WriteString(conn, "GET it\r\n\r\n") // it may even look like HTTP
	require.NoError(t, err)
	eventually(t, "it's accepted", func() bool { return r.metric("connections", prometheus.Labels{}) == 1 })
	close(release)
	got, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.Equal(t, "welcome\n", string(got))
}

func TestWithoutACertificateHTTPIsToldSoAndTCPIsClosed(t *testing.T) {
	r := run(t, "127.0.0.1:1", func(_ *Options, d *Dependencies, s *fakeSource) { d.Source = &slowSource{s, nil} })
	conn := dial(t, r)
	_, err := io.WriteString(conn, "hello\r\n\r\n")
	require.NoError(t, err)
	answer := r.get(t, "/")
	require.Equal(t, http.StatusServiceUnavailable, answer.status)
	require.Equal(t, kindUnavailable, answer.kind())
	got, _ := io.ReadAll(conn)
	require.Empty(t, got)
}

func TestWhoMayNotConnectTakesNoPlace(t *testing.T) {
	f := newFakeTeleport(t, hello)
	r := run(t, f.Listener.Addr().String(), func(o *Options, _ *Dependencies, _ *fakeSource) {
		o.PeerUsers, o.MaxConnections = []string{"4294967294"}, 3
	})
	_, err := r.Ready(t.Context())
	require.NoError(t, err)
	for range 20 {
		dial(t, r) // and says nothing
	}
	denied := func() float64 { return r.metric("connections_total", prometheus.Labels{"result": resultPeer}) }
	eventually(t, "none of them has a place", func() bool {
		limited := r.metric("connections_total", prometheus.Labels{"result": resultLimit})
		return denied() > 0 && denied()+limited == 20 && r.metric("connections", prometheus.Labels{}) == 0
	})
	answer := r.get(t, "/")
	require.Equal(t, http.StatusForbidden, answer.status)
	require.Equal(t, kindPeer, answer.kind())
	require.Equal(t, 1, strings.Count(r.log.String(), "is refused"), "the log is flooded")
}

func TestPeerThatHasEndedItsSideIsKnown(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	conn, err := net.Dial("tcp", listener.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.(*net.TCPConn).CloseWrite())
	accepted, err := listener.Accept()
	require.NoError(t, err)
	defer accepted.Close()
	require.EqualValues(t, os.Getuid(), peers{ask: true}.user(accepted))
}

func TestALogoutThatLeadsToTeleportsLoginIsDoneOnce(t *testing.T) {
	var mu sync.Mutex
	done := 0
	f := newFakeTeleport(t, func(w http.ResponseWriter, r *http.Request, _ string) {
		mu.Lock()
		defer mu.Unlock()
		done++
		http.Redirect(w, r, "https://teleport.example.com/web/login", http.StatusFound)
	})
	r := run(t, f.Listener.Addr().String(), nil)
	answer := ask(t, request(t, http.MethodPost, r.url("/logout"), nil))
	require.Equal(t, http.StatusFound, answer.status)
	require.Equal(t, "https://teleport.example.com/web/login", answer.header.Get("Location"))
	mu.Lock()
	defer mu.Unlock()
	require.Equal(t, 1, done)
	require.Equal(t, 1, r.source.count(), "it cost a certificate")
}

func TestRunWaitsForHandlers(t *testing.T) {
	var h handlers
	started, release := make(chan struct{}), make(chan struct{})
	handler := h.counted(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { close(started); <-release }))
	go handler.ServeHTTP(nil, nil)
	<-started
	require.False(t, h.wait(10*time.Millisecond))
	handler.ServeHTTP(nil, nil) // one more doesn't begin, which would close started twice
	close(release)
	eventually(t, "it has ended", func() bool { return h.wait(0) })
}

// goneApps knows no application, but the first question isn't answered.
type goneApps struct{}

func (goneApps) Source(string) Source { return &goneSource{} }

func (goneApps) Find(context.Context, string) (string, error) { return "", notFound() }

type goneSource struct{ asked int }

func (s *goneSource) Fetch(context.Context) (Routed, error) {
	s.asked++
	if s.asked == 1 {
		return Routed{}, failure.New(failure.Unreachable, "the cluster is away")
	}
	return Routed{}, notFound()
}

// awaySource is never answered.
type awaySource struct{}

func (awaySource) Fetch(context.Context) (Routed, error) {
	return Routed{}, failure.New(failure.Unreachable, "the cluster is away")
}

type awayApps struct{ goneApps }

func (awayApps) Source(string) Source { return awaySource{} }

func TestRoutesOfNothingAreDropped(t *testing.T) {
	for name, test := range map[string]struct {
		apps  Applications
		after time.Duration
	}{
		"they turn out not to exist": {goneApps{}, 30 * time.Second},
		"the cluster stays away":     {awayApps{}, 3 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				opts := ProxyOptions{ListenOptions: ListenOptions{Listen: "tcp://127.0.0.1:0"}}
				opts.Name = "proxy"
				p, err := NewProxy(opts, ProxyDependencies{Applications: test.apps, Dependencies: Dependencies{
					Interval: 20 * time.Minute, Reporter: diagnostics.NewBoard(time.Now).Reporter("proxy", TypeProxy),
					Log: slog.New(slog.DiscardHandler), Metrics: NewMetrics(),
				}})
				require.NoError(t, err)
				ctx, cancel := context.WithCancel(t.Context())
				p.routes.open(ctx)
				_, err = p.routes.find(ctx, "nosuch")
				require.Equal(t, failure.Unreachable, failure.KindOf(err))
				kept := func() int {
					p.routes.mu.Lock()
					defer p.routes.mu.Unlock()
					return len(p.routes.byName)
				}
				require.Equal(t, 1, kept())

				time.Sleep(test.after)

				require.Zero(t, kept())
				cancel()
				p.routes.close()
			})
		})
	}
}

// unusedIssuer is a fake that must not be asked.
type unusedIssuer struct{ t *testing.T }

func (i unusedIssuer) RoutedApplication(context.Context, cluster.ApplicationRequest) (*cluster.Credentials, cluster.App, error) {
	i.t.Error("a certificate was issued")
	return nil, cluster.App{}, errTest
}

func (i unusedIssuer) FindApp(context.Context, cluster.CertRequest, string) (cluster.App, error) {
	return cluster.App{}, errTest
}

func TestNoCertificateWhereThereIsNoProxy(t *testing.T) {
	f := newFakeTeleport(t, func(w http.ResponseWriter, _ *http.Request, _ string) { http.NotFound(w, nil) })
	place := cluster.New(cluster.Options{AuthServer: f.Listener.Addr().String()}, slog.New(slog.DiscardHandler))
	source := NewIssued(unusedIssuer{t}, cluster.NewAppDialer(place), cluster.CertRequest{}).Source(appName)
	_, err := source.Fetch(t.Context())
	require.Equal(t, failure.Configuration, failure.KindOf(err))
	require.ErrorContains(t, err, "isn't a proxy")
}
