package tunnel

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
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
			var resets atomic.Int64
			trouble := make(chan error, 8)
			for range cap(trouble) {
				clients.Go(func() {
					for !ended.Load() {
						err := getOnce(path)
						if errors.Is(err, syscall.ECONNRESET) {
							resets.Add(1)
							continue
						}
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
			// On a busy machine one connection in some hundred restarts is reset, and
			// why isn't known: nothing here closes it. A tunnel that forgets whom it
			// has accepted resets several.
			require.LessOrEqual(t, resets.Load(), int64(1), "connections that were reset")
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
