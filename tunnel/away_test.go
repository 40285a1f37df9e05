package tunnel

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"rollcall/diagnostics"
	"rollcall/failure"
)

// waitingApps are those of a cluster that is away: whoever asks waits, for the
// bot's identity, as long as it may. A lookup is answered after a time, if that
// isn't zero.
type waitingApps struct{ lookup time.Duration }

func (waitingApps) Source(string) Source { return waitingSource{} }

func (a waitingApps) Find(ctx context.Context, _ string) (string, error) {
	if a.lookup > 0 && pause(ctx, a.lookup) {
		return "a", nil
	}
	<-ctx.Done()
	return "", failure.Wrap(failure.Transient, ctx.Err(), "the bot has no valid identity yet")
}

type waitingSource struct{}

func (waitingSource) Fetch(ctx context.Context) (Routed, error) {
	<-ctx.Done()
	return Routed{}, ctx.Err()
}

// TestNobodyWaitsLongerThanPromised has clients that ask for applications, by
// whatever name, while the cluster is away.
func TestNobodyWaitsLongerThanPromised(t *testing.T) {
	for name, test := range map[string]struct {
		host   string
		lookup time.Duration
		says   string
	}{
		"a name":                          {"a", 0, "there's no certificate for the application yet"},
		"a public address":                {"a.example.com", 0, `which application has the public address "a.example.com" can't be found out: the bot has no valid identity yet`},
		"one that is found after a while": {"a.example.com", issuePatience - time.Second, "there's no certificate for the application yet"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newWaitingProxy(t, test.lookup)
				ctx, cancel := context.WithCancel(t.Context())
				p.routes.open(ctx)
				began := time.Now()

				_, err := p.routes.find(ctx, test.host)

				require.Equal(t, issuePatience, time.Since(began))
				require.ErrorContains(t, err, test.says)
				cancel()
				p.routes.close()
			})
		})
	}
}

// TestTheTurnIsPartOfTheWait has more clients than may look hosts up at a time.
func TestTheTurnIsPartOfTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newWaitingProxy(t, 0)
		p.routes.open(t.Context())
		began := time.Now()
		var clients sync.WaitGroup
		for i := range 3 * lookups {
			clients.Go(func() {
				_, err := p.routes.find(t.Context(), fmt.Sprintf("a%d.example.com", i))
				if failure.KindOf(err) != failure.Transient {
					t.Errorf("it isn't told to try again: %v", err)
				}
			})
		}

		clients.Wait()

		require.Equal(t, issuePatience, time.Since(began))
		p.routes.close()
	})
}

func newWaitingProxy(t *testing.T, lookup time.Duration) *Proxy {
	t.Helper()
	opts := ProxyOptions{ListenOptions: ListenOptions{Listen: "tcp://127.0.0.1:0"}}
	opts.Name = "proxy"
	p, err := NewProxy(opts, ProxyDependencies{Applications: waitingApps{lookup}, Dependencies: Dependencies{
		Interval: 20 * time.Minute, Reporter: diagnostics.NewBoard(time.Now).Reporter("proxy", TypeProxy),
		Log: slog.New(slog.DiscardHandler), Metrics: NewMetrics(),
	}})
	require.NoError(t, err)
	return p
}

// TestWhoAsksTheProxyItselfIsTold has a program, or a browser, that was given the
// proxy's address for the application's.
func TestWhoAsksTheProxyItselfIsTold(t *testing.T) {
	p, apps, _ := runProxy(t, nil)
	for request, host := range map[string]string{
		"/foo": "127.0.0.1:8080", "/port": "localhost:8080", "/upper": "LOCALHOST", "/6": "[::1]:8080", "/another": "192.0.2.7",
		"http://127.0.0.1:8080/foo": "127.0.0.1:8080", "http://127.0.0.1:8080/": "grafana-example",
	} {
		l := connectTo(t, p.listening.address())

		l.send(t, "GET "+request+" HTTP/1.1\r\nHost: "+host+"\r\n\r\n")

		got := l.answer(t)
		require.Equal(t, http.StatusBadRequest, got.status, request)
		require.Equal(t, kindMethod, got.kind())
		require.Contains(t, got.body, "this is an HTTP proxy")
	}
	require.Zero(t, apps.asked(), "the cluster was asked")
}

// TestHostNamesTheApplication: what can't use a proxy may be led here by a name.
func TestHostNamesTheApplication(t *testing.T) {
	p, _, _ := runProxy(t, nil)
	for _, host := range []string{"a", "a:8080", "a.apps.internal", "a.apps.example.com"} {
		l := connectTo(t, p.listening.address())

		l.send(t, "GET / HTTP/1.1\r\nHost: "+host+"\r\n\r\n")

		require.Equal(t, "a-1", l.answer(t).body, host)
	}
}
