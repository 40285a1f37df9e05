package tunnel

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

// TestTheWaitForAnAnswerIsMeasured up to its head, however long its body takes,
// whichever way the request is carried.
func TestTheWaitForAnAnswerIsMeasured(t *testing.T) {
	for name, c := range map[string]struct {
		head  string
		plain bool
	}{
		"of a plain request": {"GET / HTTP/1.1\r\nHost: localhost\r\n", true},
		"of another":         {"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			proceed := make(chan struct{})
			f := newFakeTeleport(t, func(w http.ResponseWriter, _ *http.Request, _ string) {
				_ = http.NewResponseController(w).Flush()
				<-proceed
				fmt.Fprint(w, "body")
			})
			release := sync.OnceFunc(func() { close(proceed) })
			t.Cleanup(release) // before the fake's, which waits for the answer
			r := run(t, f.Listener.Addr().String(), nil)
			_, err := r.Ready(t.Context())
			require.NoError(t, err)
			l := r.connect(t)
			began := time.Now()

			l.send(t, c.head+"\r\n")
			resp := l.head(t)

			times, sum := r.waits()
			require.EqualValues(t, 1, times, "the body is still to come")
			require.Positive(t, sum)
			require.LessOrEqual(t, sum, time.Since(began).Seconds())
			release()
			_, err = resp.Body.Read(make([]byte, 1))
			require.NoError(t, err)
			if c.plain {
				r.carriedPlainly(t)
			} else {
				require.Zero(t, r.unused(), "it was to go the other way")
			}
		})
	}
}

// waits is how often an answer's head was awaited, and for how many seconds in
// all.
func (r *rig) waits() (times uint64, sum float64) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(r.metrics.latency)
	families, err := registry.Gather()
	if err != nil || len(families) != 1 {
		return 0, 0
	}
	waits := families[0].GetMetric()[0].GetHistogram()
	return waits.GetSampleCount(), waits.GetSampleSum()
}

// TestDialsAreCounted by what comes of them, unless it's the client who ended it.
func TestDialsAreCounted(t *testing.T) {
	works := func(context.Context) (net.Conn, error) {
		near, _ := net.Pipe()
		return near, nil
	}
	fails := func(context.Context) (net.Conn, error) { return nil, errTest }
	hangs := func(ctx context.Context) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	for name, c := range map[string]struct {
		others              int // dials that are under way, and don't get on
		dial                func(context.Context) (net.Conn, error)
		gone                bool // the client is
		succeeded, failures float64
	}{
		"one that works":              {dial: works, succeeded: 1},
		"one that fails":              {dial: fails, failures: 1},
		"one that nobody waits for":   {dial: hangs, gone: true},
		"one whose turn never comes":  {others: dialsAtOnce, dial: works, failures: 1},
		"one that never had its turn": {others: dialsAtOnce, dial: works, gone: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &rig{metrics: NewMetrics()}
				u := newUpstream(r.metrics.of("tunnel"), 1, startPatience)
				for range c.others {
					u.dials <- struct{}{}
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if c.gone {
					time.AfterFunc(time.Second, cancel)
				}

				_, err := u.dial(ctx, c.dial)

				require.Equal(t, c.succeeded == 1, err == nil)
				require.InDelta(t, c.succeeded, r.metric("dials_total", prometheus.Labels{"result": resultSuccess}), 0)
				require.InDelta(t, c.failures, r.metric("dials_total", prometheus.Labels{"result": resultFailure}), 0)
			})
		})
	}
}
