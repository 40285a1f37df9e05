package tunnel

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
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
	const records = 32 << 10 // two of TLS

	asked := request(t, http.MethodPost, "https://"+appHost, inChunks(make([]byte, 2*wholeChunk)))
	asked.ContentLength = -1 // as of a request that was served
	got := askWith(t, u.last(), asked)

	require.Equal(t, fmt.Sprint(2*wholeChunk), got.body)
	sent.mu.Lock()
	defer sent.mu.Unlock()
	require.Equal(t, []int{records, records}, largerThan(sent.sizes, records/2))
	require.Len(t, sent.sizes, 4, "the head, the chunks and the end")
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
