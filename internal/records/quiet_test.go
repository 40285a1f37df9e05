package records

import (
	"crypto/tls"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestQuiet: whoever keeps a connection for later asks whether something has
// come on it that nobody asked for.
func TestQuiet(t *testing.T) {
	for name, version := range versions {
		t.Run(name, func(t *testing.T) {
			near, far := network(t)
			conn, peer := join(t, near.Conn, far, clientConfig(version), serverConfig())
			quiet, known := conn.Quiet()
			require.True(t, known)
			require.True(t, quiet, "nothing has been said")
			talk(t, conn, peer, "hello")
			isQuiet, _ := conn.Quiet()
			require.True(t, isQuiet, "all has been read")
			require.NoError(t, conn.SetReadDeadline(time.Unix(1, 0)))
			isQuiet, _ = conn.Quiet()
			require.True(t, isQuiet, "whatever the deadline is")
			require.NoError(t, conn.SetReadDeadline(time.Time{}))
			talk(t, conn, peer, "a look changes nothing")

			_, err := io.WriteString(peer, "unasked")
			require.NoError(t, err)

			require.Eventually(t, func() bool {
				quiet, _ := conn.Quiet()
				return !quiet
			}, 10*time.Second, time.Millisecond)
		})
	}
}

// TestATicketChangesNothing: servers send them after the handshake.
func TestATicketChangesNothing(t *testing.T) {
	near, far := network(t)
	server, client := serverConfig(), clientConfig(tls.VersionTLS13)
	server.SessionTicketsDisabled = false
	tickets := &tickets{ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	client.ClientSessionCache = tickets
	conn, peer := join(t, near.Conn, far, client, server)

	for until := time.Now().Add(10 * time.Second); tickets.came == 0; {
		require.True(t, time.Now().Before(until), "no ticket comes")
		quiet, known := conn.Quiet()
		require.True(t, known)
		require.True(t, quiet)
	}

	talk(t, conn, peer, "hello")
}

// tickets counts those that come.
type tickets struct {
	tls.ClientSessionCache
	came int
}

func (t *tickets) Put(key string, state *tls.ClientSessionState) {
	t.came++
	t.ClientSessionCache.Put(key, state)
}

// TestALookTakesLittleMemory: there's one before each request. What is left is
// crypto/tls's own.
func TestALookTakesLittleMemory(t *testing.T) {
	near, far := network(t)
	conn, peer := join(t, near.Conn, far, clientConfig(tls.VersionTLS13), serverConfig())
	talk(t, conn, peer, "hello")

	require.LessOrEqual(t, testing.AllocsPerRun(100, func() { conn.Quiet() }), 1.0)
}

func TestQuietEndsWithTheConnection(t *testing.T) {
	near, far := network(t)
	conn, peer := join(t, near.Conn, far, clientConfig(tls.VersionTLS13), serverConfig())
	talk(t, conn, peer, "hello")

	require.NoError(t, peer.Close())

	require.Eventually(t, func() bool {
		quiet, _ := conn.Quiet()
		return !quiet
	}, 10*time.Second, time.Millisecond)
}

func TestQuietSeesWhatCameWithTheLastRead(t *testing.T) {
	near, far := network(t)
	conn, peer := join(t, near.Conn, far, clientConfig(tls.VersionTLS13), serverConfig())
	_, err := io.WriteString(peer, "answer and more")
	require.NoError(t, err)
	buf := make([]byte, len("answer"))
	_, err = io.ReadFull(conn, buf)
	require.NoError(t, err)

	quiet, known := conn.Quiet()

	require.True(t, known)
	require.False(t, quiet)
}

// TestQuietSeesTheBeginningOfARecord that crypto/tls has read along with the one
// before: what follows may come when somebody else uses the connection.
func TestQuietSeesTheBeginningOfARecord(t *testing.T) {
	near, far := network(t)
	server := &stream{Conn: far}
	conn, peer := join(t, near.Conn, server, clientConfig(tls.VersionTLS13), serverConfig())
	answer, more := server.records(t, peer, []byte("answer")), server.records(t, peer, []byte("unasked"))
	_, err := far.Write(append(answer, more[:20]...))
	require.NoError(t, err)
	buf := make([]byte, len("answer"))
	_, err = io.ReadFull(conn, buf)
	require.NoError(t, err)

	quiet, _ := conn.Quiet()

	require.False(t, quiet)
}

func TestQuietIsUnknownWithoutADescriptor(t *testing.T) {
	near, _ := net.Pipe()
	conn := new(Pool).Client(near, clientConfig(tls.VersionTLS13))
	quiet, known := conn.Quiet()
	require.False(t, known)
	require.False(t, quiet)
}

// talk has the peer say something, and reads it.
func talk(t *testing.T, conn, peer net.Conn, text string) {
	t.Helper()
	_, err := io.WriteString(peer, text)
	require.NoError(t, err)
	buf := make([]byte, len(text))
	_, err = io.ReadFull(conn, buf)
	require.NoError(t, err)
	require.Equal(t, text, string(buf))
}
