package tunnel

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// hangingSource doesn't answer, whatever the context says.
type hangingSource struct{ release chan struct{} }

func (s hangingSource) Fetch(context.Context) (Routed, error) {
	<-s.release
	return Routed{}, context.Canceled
}

// mixedApplications are one that hangs, and others that don't.
type mixedApplications struct {
	*fakeApplications
	hanging hangingSource
}

func (m mixedApplications) Source(name string) Source {
	if name == "a" {
		return m.hanging
	}
	return m.fakeApplications.Source(name)
}

// TestProxyThatHangs: one application's certificate that can't be had, and
// doesn't fail either, is told to the watchdog.
func TestProxyThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		apps := mixedApplications{&fakeApplications{fetched: map[string]int{}}, hangingSource{make(chan struct{})}}
		proxy, err := NewProxy(
			ProxyOptions{ListenOptions: ListenOptions{Listen: "tcp://127.0.0.1:0"}},
			ProxyDependencies{Applications: apps, Dependencies: Dependencies{
				Interval: time.Hour, Reporter: unreported{}, Log: slog.New(slog.DiscardHandler), Metrics: NewMetrics(),
			}})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		proxy.routes.open(ctx)
		require.NoError(t, proxy.Alive())

		_, err = proxy.routes.find(ctx, "b")
		require.NoError(t, err)
		_, _ = proxy.routes.find(ctx, "a") // which waits for as long as a client would
		time.Sleep(attemptTimeout)
		require.NoError(t, proxy.Alive())
		time.Sleep(time.Minute + time.Second)
		require.ErrorContains(t, proxy.Alive(), "while renewing the certificate of a")

		close(apps.hanging.release)
		synctest.Wait()
		require.NoError(t, proxy.Alive())
		cancel()
		proxy.routes.close()
	})
}
