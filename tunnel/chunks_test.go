package tunnel

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
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

// TestALargeBodyIsUnchanged on its way there and back, whether or not its length is
// known.
func TestALargeBodyIsUnchanged(t *testing.T) {
	f := newFakeTeleport(t, func(w http.ResponseWriter, r *http.Request, _ string) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Header.Get("With-Length") != fmt.Sprint(r.ContentLength > 0) {
			w.WriteHeader(http.StatusBadRequest)
		}
		if r.ContentLength > 0 {
			w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		}
		_, _ = w.Write(body)
	})
	r := run(t, f.Listener.Addr().String(), nil)
	body := make([]byte, 3<<20+7)
	_, _ = rand.NewChaCha8([32]byte{}).Read(body)
	for name, reader := range map[string]io.Reader{"true": bytes.NewReader(body), "false": inChunks(body)} {
		t.Run("length "+name, func(t *testing.T) {
			asked := request(t, http.MethodPost, r.url("/"), reader)
			asked.Header.Set("With-Length", name)

			got := ask(t, asked)

			require.Equal(t, http.StatusOK, got.status)
			require.True(t, got.body == string(body), "%d bytes came", len(got.body))
		})
	}
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
