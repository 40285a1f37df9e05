package tunnel

import (
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// post is a request that isn't plain.
const post = "POST /posted HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nbody"

// connectAfterPost returns a client whose connection http.Server has by now.
func (r *rig) connectAfterPost(t *testing.T) *localClient {
	t.Helper()
	l := r.connect(t)
	l.send(t, post)
	l.answer(t)
	return l
}

// TestPlainRequestsAfterOthersAreCarriedPlainly has an application that answers
// with the connection that a request came on: plain requests share theirs. The
// first after another may still go the other way, if the server has read a byte
// of it to hear whether its client is there.
func TestPlainRequestsAfterOthersAreCarriedPlainly(t *testing.T) {
	f := newFakeTeleport(t, func(w http.ResponseWriter, r *http.Request, _ string) { fmt.Fprint(w, r.RemoteAddr) })
	r := run(t, f.Listener.Addr().String(), nil)
	plain := r.connect(t).get(t, "/").body
	r.carriedPlainly(t)
	l := r.connect(t)

	for range 3 {
		l.send(t, post)
		require.NotEqual(t, plain, l.answer(t).body)
		eventually(t, "a plain request is carried plainly", func() bool { return l.get(t, "/").body == plain })
		r.carriedPlainly(t)
		require.Equal(t, plain, l.get(t, "/").body)
		r.carriedPlainly(t)
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
}

// TestAStopEndsWhatIsCarriedForTheServer is TestAStopEndsPlainConnections for
// clients that have posted something: http.Server takes their connections for
// unused ones.
func TestAStopEndsWhatIsCarriedForTheServer(t *testing.T) {
	goOn, asked := make(chan struct{}), make(chan struct{}, 1)
	f := newFakeTeleport(t, func(w http.ResponseWriter, r *http.Request, _ string) {
		if r.URL.Path == "/busy" {
			asked <- struct{}{}
			<-goOn
		}
		fmt.Fprint(w, r.URL.Path)
	})
	r := run(t, f.Listener.Addr().String(), nil)
	idle, busy := r.connectAfterPost(t), r.connectAfterPost(t)
	idle.get(t, "/")
	busy.get(t, "/")
	busy.send(t, "GET /busy HTTP/1.1\r\nHost: localhost\r\n\r\n")
	<-asked
	began := time.Now()

	stopped := make(chan error, 1)
	go func() { stopped <- r.stop() }()

	_, err := idle.in.ReadByte()
	require.ErrorIs(t, err, io.EOF)
	close(goOn)
	got := busy.head(t)
	body, err := io.ReadAll(got.Body)
	require.NoError(t, err)
	require.Equal(t, "/busy", string(body))
	require.True(t, got.Close)
	require.NoError(t, <-stopped)
	require.Less(t, time.Since(began), drainTime)
}

func TestAStopCutsWhatIsCarriedForTheServer(t *testing.T) {
	gone := make(chan struct{})
	f := newFakeTeleport(t, func(w http.ResponseWriter, r *http.Request, _ string) {
		if r.Method == http.MethodPost {
			return
		}
		fmt.Fprint(w, "some")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		close(gone)
	})
	r := run(t, f.Listener.Addr().String(), nil)
	l := r.connectAfterPost(t)
	l.send(t, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
	resp := l.head(t)

	require.NoError(t, r.stop())

	<-gone
	_, err := io.ReadAll(resp.Body)
	require.Error(t, err)
}
