package tunnel

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// pipes is a listener whose clients come by pipe, so that what they wait for
// takes no time in a bubble.
type pipes struct {
	conns chan net.Conn
	ended chan struct{}
	once  sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), ended: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.ended:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.ended) })
	return nil
}

// Addr is one that needn't be allowed.
func (*pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

// connect comes as a client.
func (p *pipes) connect() *localClient {
	near, far := net.Pipe()
	p.conns <- far
	return &localClient{near, bufio.NewReader(near)}
}

// TestAClientThatSaysNoMoreIsClosed, so that it doesn't keep its place from
// others.
func TestAClientThatSaysNoMoreIsClosed(t *testing.T) {
	refused := "GET / HTTP/1.1\r\nHost: elsewhere.example.com\r\n\r\n" // by the tunnel itself
	for name, c := range map[string]struct {
		before, last string
		after        time.Duration
	}{
		"at once":                         {"", "", headerTimeout},
		"amid a header":                   {"", "GET / HTTP/1.1\r\nHost: loc", headerTimeout},
		"after a request":                 {refused, "", clientIdleTimeout},
		"amid the header after a request": {refused, "GET / HTTP/1.1\r\nHost: loc", headerTimeout},
		"amid one that isn't plain":       {"", "POST / HTTP/1.1\r\nHost: loc", headerTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				listener := newPipes()
				r := run(t, "", func(_ *Options, d *Dependencies, _ *fakeSource) { d.Listener = listener })
				_, err := r.Ready(t.Context())
				require.NoError(t, err)
				l := listener.connect()
				require.NoError(t, l.SetReadDeadline(time.Now().Add(10*clientIdleTimeout)))
				if c.before != "" {
					l.send(t, c.before)
					require.Equal(t, kindHost, l.answer(t).kind())
				}
				l.send(t, c.last)
				began := time.Now()

				_, err = l.in.ReadByte()

				require.ErrorIs(t, err, io.EOF)
				require.Equal(t, c.after, time.Since(began))
			})
		})
	}
}

// TestAnUnusedConnectionToTheProxyIsClosed, of the requests that aren't plain;
// TestLanesThatNobodyUsesGetOld is about the others'.
func TestAnUnusedConnectionToTheProxyIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		u := newUpstream(NewMetrics().of("test"), 1, startPatience)
		transport := u.newTransport(&dialled{dial: func(context.Context) (net.Conn, error) { return near, nil }})
		proxy := bufio.NewReader(far)
		go func() {
			_, _ = http.ReadRequest(proxy)
			_, _ = io.WriteString(far, "HTTP/1.1 204 No Content\r\n\r\n")
		}()
		require.Equal(t, http.StatusNoContent, askWith(t, transport, request(t, http.MethodGet, "https://"+appHost, nil)).status)
		began := time.Now()

		_, err := proxy.ReadByte()

		require.ErrorIs(t, err, io.EOF)
		require.Equal(t, idleTimeout, time.Since(began))
	})
}
