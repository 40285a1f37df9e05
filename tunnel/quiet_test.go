package tunnel

import (
	"io"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

// TestNobodyFillsTheLogWithConnections: anybody on this host can connect as often
// as it likes, and what each connection comes to is the same.
func TestNobodyFillsTheLogWithConnections(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*Options, *Dependencies, *fakeSource)
		says   string
		line   string
	}{
		{"the application can't be reached", asTCP, "x", "the application can't be reached"},
		{"there's no certificate", func(o *Options, d *Dependencies, s *fakeSource) { asTCP(o, d, s); s.err = errTest }, "x", "there's no certificate for the application."},
		{"it isn't known what for", func(_ *Options, _ *Dependencies, s *fakeSource) { s.err = errTest }, "\x00", "there's no certificate for the application yet"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := run(t, "127.0.0.1:1", test.change)
			_, _ = r.Ready(t.Context()) // from here on nobody waits for it
			const connections = 20

			for range connections {
				conn := dial(t, r)
				_, _ = io.WriteString(conn, test.says)
				got, _ := io.ReadAll(conn)
				require.Empty(t, got)
			}

			eventually(t, "their end", func() bool { return r.metric("connections", prometheus.Labels{}) == 0 })
			require.Equal(t, 1, strings.Count(r.log.String(), test.line), "the log is flooded")
			require.Contains(t, r.log.String(), " connections=1\n")
		})
	}
}

// reluctant fails to accept a few times, as for want of descriptors.
type reluctant struct {
	net.Listener
	left atomic.Int64
}

func (l *reluctant) Accept() (net.Conn, error) {
	if l.left.Add(-1) >= 0 {
		return nil, syscall.EMFILE
	}
	return l.Listener.Accept()
}

func TestFailuresToAcceptDontFillTheLog(t *testing.T) {
	f := newFakeTeleport(t, hello)
	r := runBound(t, f.Listener.Addr().String(), nil, func(inner net.Listener) net.Listener {
		l := &reluctant{Listener: inner}
		l.left.Store(4)
		return l
	})

	require.Equal(t, "serial-1", r.get(t, "/").body)

	require.Equal(t, 1, strings.Count(r.log.String(), "can't be accepted"), "the log is flooded")
}
