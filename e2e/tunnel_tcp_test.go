package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"rollcall/e2e/harness"
)

// TestTunnelTCP carries bytes, in both forms and over a socket.
func TestTunnelTCP(t *testing.T) {
	t.Parallel()
	app := harness.NewTCPApp(t)
	s := stageFor(t, suite.Cluster(t), app.URL)
	path := filepath.Join(s.dir, "tunnel.sock")
	agent := s.start(t, s.services(t, "", s.tunnel("tunnel", "")+
		fmt.Sprintf("  - {type: application-tunnel, name: socket, listen: \"unix://%s\", app_name: %s}\n", path, s.app.Name)))
	awaitReady(t, agent, diagnostics(t, agent))
	s.files(t, "credential_ttl: 1h")
	command, at := s.command(t, "--port=0")

	for name, at := range map[string]string{"service": listening(t, agent, "tunnel"), "command": at, "socket": path} {
		t.Run(name, func(t *testing.T) {
			t.Run("both ways", func(t *testing.T) {
				one, two := call(t, at), call(t, at)
				one.says(t, "hello")
				two.says(t, "you")
				one.says(t, strings.Repeat("a long message ", 2000))
			})
			t.Run("the client ends its side", func(t *testing.T) {
				before := app.Ended()
				conn := call(t, at)
				conn.says(t, "the last word")
				conn.endOurs(t)
				conn.ends(t)
				harness.Eventually(t, patience, "the end at the application", func() error {
					if app.Ended() == before {
						return fmt.Errorf("it hasn't seen it")
					}
					return nil
				})
			})
			t.Run("the application ends", func(t *testing.T) {
				conn := call(t, at)
				conn.says(t, "hello")
				_, err := conn.Write([]byte("bye"))
				require.NoError(t, err)
				conn.ends(t)
			})
			t.Run("many at once", func(t *testing.T) { many(t, at, 50) })
		})
	}
	stop(t, agent)
	stop(t, command)
}

// many keeps n connections open together, and uses each.
func many(t *testing.T, at string, n int) {
	lines := make([]*line, n)
	var group errgroup.Group
	for i := range lines {
		lines[i] = call(t, at)
		group.Go(func() error { return lines[i].trySay(fmt.Sprint("I am ", i)) })
	}
	require.NoError(t, group.Wait())
	for i, conn := range lines {
		conn.says(t, fmt.Sprint("still ", i))
	}
}
