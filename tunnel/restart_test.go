package tunnel

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"rollcall/internal/passed"
)

// TestARestartTurnsNobodyAway stops tunnels one after the other on a socket that
// stays open, as systemd's does, under the requests of clients that make a
// connection for each: whoever a tunnel accepts it also answers, and the others
// wait for the next one.
func TestARestartTurnsNobodyAway(t *testing.T) {
	path := filepath.Join(shortDir(t), "app.sock")
	held, err := net.Listen("unix", path)
	require.NoError(t, err)
	defer held.Close()
	teleport := newFakeTeleport(t, hello)

	for name, users := range map[string][]string{
		"whoever it is":       nil,
		"users are looked up": {strconv.Itoa(os.Getuid())},
	} {
		t.Run(name, func(t *testing.T) {
			var ended atomic.Bool
			var answered atomic.Int64
			var clients sync.WaitGroup
			trouble := make(chan error, 8)
			for range cap(trouble) {
				clients.Go(func() {
					for !ended.Load() {
						err := getOnce(path)
						if err != nil {
							trouble <- err
							return
						}
						answered.Add(1)
					}
				})
			}
			for range 50 {
				before := answered.Load()
				r := run(t, teleport.Listener.Addr().String(), func(o *Options, d *Dependencies, _ *fakeSource) {
					o.PeerUsers, d.Listener = users, listenAgain(t, held)
				})
				eventually(t, "requests are answered", func() bool { return answered.Load() > before+20 || len(trouble) > 0 })
				require.NoError(t, r.stop())
			}
			ended.Store(true)
			run(t, teleport.Listener.Addr().String(), func(_ *Options, d *Dependencies, _ *fakeSource) { d.Listener = listenAgain(t, held) })
			clients.Wait()
			close(trouble)
			for err := range trouble {
				require.NoError(t, err, "turned away after %d answers", answered.Load())
			}
		})
	}
}

func listenAgain(t *testing.T, held net.Listener) net.Listener {
	t.Helper()
	another, err := passed.Again(held)
	require.NoError(t, err)
	return another
}

func getOnce(path string) error {
	client := viaSocket(path)
	resp, err := client.Get("http://localhost/")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && (resp.StatusCode != http.StatusOK || string(body) != "serial-1") {
		err = fmt.Errorf("answer %d: %s", resp.StatusCode, body)
	}
	return err
}

// endsAfter is a context that ends after some looks at it.
type endsAfter struct {
	context.Context
	looks int
}

func (c *endsAfter) Err() error {
	c.looks--
	if c.looks < 0 {
		return context.Canceled
	}
	return nil
}

// oneComes is a listener to which one client comes before it's closed.
type oneComes struct {
	net.Listener
	conns chan net.Conn
}

func (l oneComes) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	default:
		return nil, net.ErrClosed
	}
}

// TestWhoeverIsAcceptedHasAPlace: the end may come at any moment, and a connection
// that was accepted just then is served all the same. Nobody else would get it,
// and the garbage collector would reset it.
func TestWhoeverIsAcceptedHasAPlace(t *testing.T) {
	for looks := range 4 {
		t.Run(strconv.Itoa(looks), func(t *testing.T) {
			near, far := net.Pipe()
			defer near.Close()
			listener := oneComes{conns: make(chan net.Conn, 1)}
			listener.conns <- far
			f := &front{log: slog.New(slog.DiscardHandler), counts: NewMetrics().of("tunnel"), limit: 1, clients: map[*client]struct{}{}}
			q := newQueue(nil)
			go func() {
				defer q.Close() // who waits for the client needn't wait any more
				_ = f.accept(&endsAfter{t.Context(), looks}, t.Context(), &endpoint{Listener: listener}, q)
			}()

			got, err := q.Accept()

			require.NoError(t, err)
			require.Equal(t, far, got.(*client).Conn)
		})
	}
}
