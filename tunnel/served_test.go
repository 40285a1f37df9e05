package tunnel

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

// post is a request that isn't plain.
const post = "POST /posted HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nbody"

// cameBy is the header of answers of applications that tell by which connection
// a request came.
const cameBy = "Came-By"

// connectAfterPost returns a client whose connection http.Server has by now, and
// whose plain requests are carried all the same. The application tells cameBy.
func (r *rig) connectAfterPost(t *testing.T) *localClient {
	t.Helper()
	l := r.connect(t)
	l.send(t, post)
	l.answer(t)
	l.ridesAgain(t, r)
	return l
}

// ridesAgain makes plain requests until one is carried plainly. The first after
// another may still go the other way, if the server has read a byte of it to hear
// whether its client is there; the next after one that was carried plainly
// doesn't.
func (l *localClient) ridesAgain(t *testing.T, r *rig) {
	t.Helper()
	eventually(t, "a plain request is carried plainly", func() bool {
		by := l.get(t, "/").header.Get(cameBy)
		lanes := r.upstream.last().lanes
		lanes.mu.Lock()
		defer lanes.mu.Unlock()
		return slices.ContainsFunc(lanes.unused, func(l *lane) bool { return l.conn.LocalAddr().String() == by })
	})
}

func TestPlainRequestsAfterOthersAreCarriedPlainly(t *testing.T) {
	f := newFakeTeleport(t, func(w http.ResponseWriter, r *http.Request, _ string) { w.Header().Set(cameBy, r.RemoteAddr) })
	r := run(t, f.Listener.Addr().String(), nil)
	plain := r.connect(t).get(t, "/").header.Get(cameBy)
	r.carriedPlainly(t)
	l := r.connect(t)

	for range 3 {
		l.send(t, post)
		require.NotEqual(t, plain, l.answer(t).header.Get(cameBy), "Transport has connections of its own")
		l.ridesAgain(t, r)
		for range 3 {
			require.Equal(t, plain, l.get(t, "/").header.Get(cameBy))
			r.carriedPlainly(t)
		}
	}
}

// TestManyClientsReturnToTheExpress at the same moment as others do: a ride that
// two use at once is for the race detector to find.
func TestManyClientsReturnToTheExpress(t *testing.T) {
	f := newFakeTeleport(t, hello)
	r := run(t, f.Listener.Addr().String(), nil)
	for n := range 16 {
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			t.Parallel()
			for range 40 {
				l := r.connect(t)
				l.send(t, "POST /teleport-logout HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
				require.Equal(t, http.StatusForbidden, l.answer(t).status)
				for range 2 {
					require.Equal(t, "serial-1", l.get(t, "/").body)
				}
				require.NoError(t, l.Close())
			}
		})
	}
}

// TestRequestsMayBeCutAnywhere sends a series of requests without waiting for
// answers, and cuts it at each byte: whatever has been read ahead by whom, each
// request ends where it ends. One has a body that looks like a request, and one a
// method that ends like another.
func TestRequestsMayBeCutAnywhere(t *testing.T) {
	f := newFakeTeleport(t, func(w http.ResponseWriter, r *http.Request, _ string) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s", r.Method, r.URL.Path, body)
	})
	r := run(t, f.Listener.Addr().String(), nil)
	const inside = "GET /inside HTTP/1.1\r\nHost: localhost\r\n\r\n"
	series := post + "GET /2 HTTP/1.1\r\nHost: localhost\r\n\r\n" + post +
		fmt.Sprintf("POST /4 HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", len(inside), inside) +
		"XGET /5 HTTP/1.1\r\nHost: localhost\r\n\r\n" + "GET /6 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
	want := []string{"POST /posted body", "GET /2 ", "POST /posted body", "POST /4 " + inside, "XGET /5 ", "GET /6 "}

	for cut := 1; cut < len(series); cut++ {
		l := r.connect(t)
		l.send(t, series[:cut])
		got := []string{}
		if cut >= len(post) {
			got = append(got, l.answer(t).body) // the server waits, or is about to
		}
		l.send(t, series[cut:])
		for len(got) < len(want) {
			got = append(got, l.answer(t).body)
		}
		require.Equal(t, want, got, "cut after %q", series[:cut])
		_, err := l.in.ReadByte()
		require.ErrorIs(t, err, io.EOF)
		require.NoError(t, l.Close())
	}
	all := (len(series) - 1) * len(series)
	eventually(t, "each byte is counted once", func() bool {
		return r.metric("bytes_total", prometheus.Labels{"direction": "sent"}) == float64(all)
	})
}

// noted is a connection that notes its deadline.
type noted struct {
	net.Conn
	deadline time.Time
}

func (n *noted) SetReadDeadline(at time.Time) error {
	n.deadline = at
	return n.Conn.SetReadDeadline(at)
}

// TestABegunRequestHasADeadline where http.Server has not set its own yet: who
// begins one and doesn't go on must not keep a place.
func TestABegunRequestHasADeadline(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	conn := &noted{Conn: near}
	counts := NewMetrics().of("tunnel")
	f := &front{counts: counts, express: &express{carrier: &carrier{upstream: newUpstream(counts, 1, time.Second)}}}
	c := &client{Conn: conn, front: f}
	c.ride = newRide(t.Context(), f.express, c)
	s := &served{client: c}
	noteState(s, http.StateIdle)
	require.NoError(t, s.SetReadDeadline(time.Time{}))
	go func() { _, _ = far.Write([]byte("G")) }()
	_, err := c.ride.in.Peek(1) // it's read ahead, so that the ride has nothing to wait for
	require.NoError(t, err)

	n, err := s.Read(make([]byte, serverRead))

	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.WithinRange(t, conn.deadline, time.Now(), time.Now().Add(clientIdleTimeout))
}
