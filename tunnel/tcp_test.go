package tunnel

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

// tcpServer accepts connections until the test ends.
func tcpServer(t *testing.T, serve func(conn *net.TCPConn)) string {
	t.Helper()
	listener, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.AcceptTCP()
			if err != nil {
				return
			}
			go func() { defer conn.Close(); serve(conn) }()
		}
	}()
	t.Cleanup(func() { _ = listener.Close(); <-done })
	return listener.Addr().String()
}

func asTCP(_ *Options, d *Dependencies, s *fakeSource) { s.uri, d.TCP = "tcp://127.0.0.1:5432", true }

func dial(t *testing.T, r *rig) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(r.Address(), "tcp://"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	return conn.(*net.TCPConn)
}

func TestTCPHasHalfClose(t *testing.T) {
	// It answers only when the client has said that nothing more comes.
	addr := tcpServer(t, func(conn *net.TCPConn) {
		all, _ := io.ReadAll(conn)
		_, _ = conn.Write([]byte(strings.ToUpper(string(all))))
	})
	r := run(t, addr, asTCP)
	conn := dial(t, r)
	_, err := io.WriteString(conn, "shout")
	require.NoError(t, err)
	require.NoError(t, conn.CloseWrite())
	all, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.Equal(t, "SHOUT", string(all))
	eventually(t, "the place is free", func() bool { return r.metric("connections", prometheus.Labels{}) == 0 })
	for _, direction := range []string{"sent", "received"} {
		require.EqualValues(t, len("shout"), r.metric("bytes_total", prometheus.Labels{"direction": direction}), direction)
	}
}

func TestTCPServerSpeaksFirst(t *testing.T) {
	addr := tcpServer(t, func(conn *net.TCPConn) { _, _ = io.WriteString(conn, "220 hello\r\n") })
	r := run(t, addr, asTCP)
	all, err := io.ReadAll(dial(t, r))
	require.NoError(t, err)
	require.Equal(t, "220 hello\r\n", string(all))
}

func TestTCPRenewalLeavesConnectionsAlone(t *testing.T) {
	addr := tcpServer(t, func(conn *net.TCPConn) { _, _ = io.Copy(conn, conn) })
	r := run(t, addr, asTCP)
	conn := dial(t, r)
	echo := func(text string) {
		_, err := io.WriteString(conn, text)
		require.NoError(t, err)
		got := make([]byte, len(text))
		_, err = io.ReadFull(conn, got)
		require.NoError(t, err)
		require.Equal(t, text, string(got))
	}
	echo("before")
	r.RenewNow("test")
	eventually(t, "a new certificate", func() bool { return r.source.count() == 2 })
	echo("after")
}

func TestTCPThatEndsAtOnceMakesTheCertificateSuspect(t *testing.T) {
	addr := tcpServer(t, func(*net.TCPConn) {})
	r := run(t, addr, asTCP)
	for range 5 {
		all, err := io.ReadAll(dial(t, r))
		require.NoError(t, err)
		require.Empty(t, all)
	}
	eventually(t, "a new certificate", func() bool { return r.source.count() == 2 })
}

func TestTCPBeyondTheLimitIsClosed(t *testing.T) {
	addr := tcpServer(t, func(conn *net.TCPConn) { _, _ = io.Copy(conn, conn) })
	r := run(t, addr, func(o *Options, d *Dependencies, s *fakeSource) { asTCP(o, d, s); o.MaxConnections = 1 })
	first := dial(t, r)
	_, err := io.WriteString(first, "x")
	require.NoError(t, err)
	_, err = io.ReadFull(first, make([]byte, 1))
	require.NoError(t, err)
	all, _ := io.ReadAll(dial(t, r))
	require.Empty(t, all)
	require.EqualValues(t, 1, r.metric("connections_total", prometheus.Labels{"result": "limit"}))
}

func TestStopCutsWhatDoesntEnd(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes as long as draining may")
	}
	addr := tcpServer(t, func(conn *net.TCPConn) { _, _ = io.Copy(conn, conn) })
	r := run(t, addr, asTCP)
	conn := dial(t, r)
	_, err := io.WriteString(conn, "x")
	require.NoError(t, err)
	_, err = io.ReadFull(conn, make([]byte, 1))
	require.NoError(t, err)
	began := time.Now()
	require.NoError(t, r.stop())
	require.Less(t, time.Since(began), drainTime+3*time.Second)
	_, err = conn.Read(make([]byte, 1))
	require.Error(t, err)
}

func TestOnePanicIsNoOthers(t *testing.T) {
	addr := tcpServer(t, func(conn *net.TCPConn) { _, _ = io.Copy(conn, conn) })
	r := run(t, addr, asTCP)
	f := &front{log: r.Tunnel.log, counts: r.Tunnel.counts, clients: map[*client]struct{}{}}
	require.NotPanics(t, func() {
		defer f.recover()
		panic("as the test wants it")
	})
	require.Contains(t, r.log.String(), "internal fault")
	require.NotContains(t, r.log.String(), "as the test wants it")
}
