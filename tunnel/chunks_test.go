package tunnel

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rollcall/cluster"
)

// inChunks is a body of unknown length.
func inChunks(body []byte) io.Reader { return struct{ io.Reader }{bytes.NewReader(body)} }

// writes is a connection that notes how much each Write sends.
type writes struct {
	net.Conn
	mu    sync.Mutex
	sizes []int
}

func (w *writes) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sizes = append(w.sizes, len(p))
	return w.Conn.Write(p)
}

// TestAChunkGoesOutInOnePiece: each piece is a call of the system, and a wake-up on
// the other side.
func TestAChunkGoesOutInOnePiece(t *testing.T) {
	f := newFakeTeleport(t, func(w http.ResponseWriter, r *http.Request, _ string) {
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n)
	})
	sent := &writes{}
	session := &dialled{dial: func(ctx context.Context) (net.Conn, error) {
		conn, err := (&fakeSession{addr: f.Listener.Addr().String(), serial: "a"}).DialHTTP(ctx)
		sent.Conn = conn
		return sent, err
	}}
	u := newUpstream(NewMetrics().of("test"), 1, startPatience)
	u.set(Routed{Session: session, App: cluster.App{Name: appName}, NotAfter: time.Now().Add(time.Hour)})
	defer u.close()
	const chunk = 32 << 10 // what http.Transport reads at once

	asked := request(t, http.MethodPost, "https://"+appHost, inChunks(make([]byte, 2*chunk)))
	asked.ContentLength = -1 // as of a request that was served
	got := askWith(t, u.last(), asked)

	require.Equal(t, fmt.Sprint(2*chunk), got.body)
	sent.mu.Lock()
	defer sent.mu.Unlock()
	require.Equal(t, []int{chunk + 8, chunk + 8}, largerThan(sent.sizes, chunk/2))
	require.Len(t, sent.sizes, 4, "the head, the chunks and the end")
}

// TestAChunkStaysWhole of a client that takes its time, as most clients' chunks are.
func TestAChunkStaysWhole(t *testing.T) {
	const chunk, chunks = 32 << 10, 4
	sizes := make(chan int, 100)
	addr := newListener(t, func(conn net.Conn) {
		in := bufio.NewReader(conn)
		if _, _, _, err := readHead(in); err != nil {
			return
		}
		for size := -1; size != 0; {
			if n, err := fmt.Fscanf(in, "%x\r\n", &size); n != 1 || err != nil {
				return
			}
			_, _ = in.Discard(size + len("\r\n"))
			sizes <- size
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	})
	r := run(t, addr, nil)
	body, feed := io.Pipe()
	defer feed.Close()
	done := make(chan int, 1)
	go func() { done <- ask(t, request(t, http.MethodPost, r.url("/"), body)).status }()

	var got []int
	for range chunks {
		_, err := feed.Write(make([]byte, chunk))
		require.NoError(t, err)
		for left := chunk; left > 0; {
			select {
			case n := <-sizes:
				got, left = append(got, n), left-n
			case <-time.After(patience):
				t.Fatal("a chunk doesn't come")
			}
		}
	}
	require.NoError(t, feed.Close())

	require.Equal(t, http.StatusOK, <-done)
	require.Equal(t, slices.Repeat([]int{chunk}, chunks), got)
}

// largerThan are the sizes of more than least bytes.
func largerThan(sizes []int, least int) (large []int) {
	for _, size := range sizes {
		if size > least {
			large = append(large, size)
		}
	}
	return large
}

// TestConnectionsOfChunksEndInTime: with the certificate that they bear, and with
// the tunnel.
func TestConnectionsOfChunksEndInTime(t *testing.T) {
	for name, end := range map[string]func(*rig){
		"with the certificate": func(r *rig) { r.RenewNow("test") },
		"with the tunnel":      func(r *rig) { _ = r.stop() },
	} {
		t.Run(name, func(t *testing.T) {
			var opened atomic.Int64
			ended := make(chan error, 100)
			addr := newListener(t, func(conn net.Conn) {
				opened.Add(1)
				in := bufio.NewReader(conn)
				for {
					r, err := http.ReadRequest(in)
					if err != nil {
						ended <- err
						return
					}
					_, _ = io.Copy(io.Discard, r.Body)
					_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
				}
			})
			r := run(t, addr, nil)
			const tries = 20 // who asks at once may come before the connection is kept
			for kept := int64(0); opened.Load() == 0 || opened.Load() != kept; {
				kept = opened.Load()
				require.Less(t, kept, int64(tries), "no connection is kept")
				got := ask(t, request(t, http.MethodPost, r.url("/"), inChunks([]byte("body"))))
				require.Equal(t, "ok", got.body)
			}

			end(r)

			for range opened.Load() {
				select {
				case err := <-ended:
					require.ErrorIs(t, err, io.EOF)
				case <-time.After(patience):
					t.Fatal("a connection stays")
				}
			}
		})
	}
}
