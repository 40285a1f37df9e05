package tunnel

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

// TestAnAnswerThatNobodyAskedForIsNobodys has a server that says more than it's
// asked for. The next client may be another user.
func TestAnAnswerThatNobodyAskedForIsNobodys(t *testing.T) {
	for name, c := range map[string]struct {
		size   int
		late   bool
		header string
	}{
		"with a short answer": {5, false, ""}, "with a long one": {12_000, false, ""}, "later": {5, true, ""},
		"with one that goes on as it is": {5, false, date}, "after one that does": {5, true, date},
	} {
		t.Run(name, func(t *testing.T) {
			answered, told := make(chan struct{}), make(chan struct{}, 1)
			addr := newTalker(t, func(conn net.Conn, path string) {
				answer := fmt.Sprintf("HTTP/1.1 200 OK\r\nPath: %s\r\n"+c.header+"Content-Length: %d\r\n\r\n%s", path, c.size, strings.Repeat("x", c.size))
				const more = "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"
				if c.late {
					_, _ = io.WriteString(conn, answer)
				} else {
					_, _ = io.WriteString(conn, answer+more)
				}
				select {
				case <-answered:
				case <-t.Context().Done():
					return
				}
				if c.late {
					_, _ = io.WriteString(conn, more)
				}
				told <- struct{}{}
			})
			r := run(t, addr, nil)
			for i := range 4 {
				path := fmt.Sprintf("/%d", i)

				l := r.connect(t)
				got := l.get(t, path)

				require.Equal(t, http.StatusOK, got.status)
				require.Equal(t, path, got.header.Get("Path"))
				answered <- struct{}{}
				<-told
				left, _ := l.in.Peek(l.in.Buffered())
				require.Empty(t, left, "the one who asked gets no other answer either")
			}
		})
	}
}

// newListener is a TLS server that serves each connection as it's told.
func newListener(t *testing.T, serve func(conn net.Conn)) (addr string) {
	t.Helper()
	f := newFakeTeleport(t, hello)
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: f.TLS.Certificates, NextProtos: []string{"http/1.1"}})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var served sync.WaitGroup
	t.Cleanup(served.Wait)
	t.Cleanup(cancel) // what a failed test leaves open
	t.Cleanup(func() { _ = listener.Close() })
	served.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			served.Go(func() {
				defer conn.Close()
				defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
				serve(conn)
			})
		}
	})
	return listener.Addr().String()
}

// newTalker is a TLS server that answers requests byte by byte as it's told.
func newTalker(t *testing.T, answer func(conn net.Conn, path string)) (addr string) {
	t.Helper()
	return newListener(t, func(conn net.Conn) {
		in := bufio.NewReader(conn)
		for {
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			answer(conn, r.URL.Path)
		}
	})
}

// TestAFailureAfterAnEarlyAnswerIsMended: what was said early may be said twice.
func TestAFailureAfterAnEarlyAnswerIsMended(t *testing.T) {
	var asked atomic.Int64
	addr := newTalker(t, func(conn net.Conn, _ string) {
		_, _ = io.WriteString(conn, "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n")
		if asked.Add(1) == 1 {
			_ = conn.Close()
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	})
	r := run(t, addr, nil)
	l := r.connect(t)

	l.send(t, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")

	for range 2 {
		require.Equal(t, http.StatusEarlyHints, l.head(t).StatusCode)
	}
	require.Equal(t, "ok", l.answer(t).body)
	require.EqualValues(t, 2, asked.Load())
}

// panickyObserver panics while it's told to.
type panickyObserver struct {
	prometheus.Observer
	panics atomic.Bool
}

func (o *panickyObserver) Observe(seconds float64) {
	if o.panics.Load() {
		panic("as a fault would")
	}
	o.Observer.Observe(seconds)
}

// TestAFaultEndsItsConnectionsAlone: those of one client, on both sides.
func TestAFaultEndsItsConnectionsAlone(t *testing.T) {
	ended := make(chan struct{}, 8) // more than there are connections
	addr := newTalker(t, func(conn net.Conn, _ string) {
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		_, _ = conn.Read(make([]byte, 1))
		ended <- struct{}{}
	})
	r := run(t, addr, nil)
	observer := &panickyObserver{Observer: r.counts.latency}
	r.counts.latency = observer
	other := r.connect(t)
	other.send(t, post)
	require.Equal(t, "ok", other.answer(t).body)

	observer.panics.Store(true)
	for _, l := range []*localClient{r.connect(t), other} {
		l.send(t, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
		_, err := l.in.ReadByte()
		require.ErrorIs(t, err, io.EOF)
		<-ended
	}
	observer.panics.Store(false)

	require.Equal(t, "ok", r.connect(t).get(t, "/").body)
	require.Contains(t, r.log.String(), "internal fault")
	eventually(t, "their places are free", func() bool { return r.metric("connections", prometheus.Labels{}) == 1 })
}
