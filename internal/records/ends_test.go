package records

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestCloseWriteWaitsForAWrite(t *testing.T) {
	near, far := pipe(t)
	conn, peer := join(t, near, far, clientConfig(tls.VersionTLS13), serverConfig())
	<-near.writing // that of the handshake
	content := random(4 * maxRecord)
	written, closed := make(chan error, 1), make(chan error, 1)
	go func() { _, err := conn.Write(content); written <- err }()
	within(t, near.writing)

	go func() { closed <- conn.CloseWrite() }()

	select {
	case <-near.limited:
		require.FailNow(t, "the Write got the deadline of close_notify")
	case <-time.After(50 * time.Millisecond):
	}
	got, err := io.ReadAll(peer)
	require.NoError(t, err)
	require.Equal(t, content, got)
	require.NoError(t, within(t, written))
	require.NoError(t, within(t, closed))
}

func TestCloseEndsARead(t *testing.T) {
	near, far := network(t)
	conn, peer := join(t, near, far, clientConfig(tls.VersionTLS13), serverConfig())
	<-near.reading // that of the handshake
	read := make(chan error, 1)
	go func() { _, err := conn.Read(make([]byte, 1)); read <- err }()
	within(t, near.reading)

	err := conn.Close()

	require.NoError(t, err)
	require.ErrorIs(t, within(t, read), net.ErrClosed)
	_, err = peer.Read(make([]byte, 1))
	require.Equal(t, io.EOF, err) // close_notify
	require.ErrorIs(t, conn.Close(), net.ErrClosed)
	_, err = conn.Write(random(2 * maxRecord))
	require.ErrorIs(t, err, net.ErrClosed)
}

func TestCloseEndsAWrite(t *testing.T) {
	for name, size := range map[string]int{"short": 1, "a record": maxRecord, "several": 4 * maxRecord, "more than is held": mebibyte} {
		t.Run(name, func(t *testing.T) {
			near, far := pipe(t)
			conn, _ := join(t, near, far, clientConfig(tls.VersionTLS13), serverConfig())
			<-near.writing // that of the handshake
			written, closed := make(chan error, 1), make(chan error, 1)
			go func() { _, err := conn.Write(random(size)); written <- err }()
			within(t, near.writing)

			go func() { closed <- conn.Close() }()

			require.NoError(t, within(t, closed))
			require.Error(t, within(t, written))
			_, err := conn.Write(random(size))
			require.Error(t, err)
		})
	}
}

func TestMessagesBetweenDataAreNoMatter(t *testing.T) {
	near, far := network(t)
	client, server := clientConfig(tls.VersionTLS13), serverConfig()
	cache := &countingCache{}
	client.ClientSessionCache = cache
	keys := keyLog(server)
	conn, peer := join(t, near, far, client, server)
	seal := newSealer(t, peer, keys)
	content := random(6 * maxRecord)
	part := func(i int) []byte { return seal.seal(typeData, content[i*maxRecord:(i+1)*maxRecord]) }
	long := ticket(20_000)
	message := func(parts ...[]byte) func() []byte {
		return func() (records []byte) {
			for _, part := range parts {
				records = append(records, seal.seal(typeHandshake, part)...)
			}
			return records
		}
	}
	buf, got := make([]byte, bufferSize), []byte(nil)
	rest := []byte(nil)
	for i, between := range []func() []byte{
		message(ticket(100)),
		message(slices.Concat(ticket(50), ticket(60))),
		message(long[:2], long[2:9000], long[9000:]),
		func() []byte { return seal.seal(typeData, nil) },
		func() []byte { return seal.updateKeys(t) },
		message(ticket(70)),
	} {
		record, message := part(i), between()
		half := len(message) / 2
		_, err := far.Write(slices.Concat(rest, record, message[:half]))
		require.NoError(t, err)
		rest = message[half:]
		for len(got) < (i+1)*maxRecord {

			n, err := conn.Read(buf)

			require.NoError(t, err)
			got = append(got, buf[:n]...)
		}
	}
	_, err := far.Write(append(rest, seal.seal(typeAlert, []byte{1, 0})...)) // close_notify
	require.NoError(t, err)
	_, err = conn.Read(buf)
	require.Equal(t, io.EOF, err)
	require.True(t, bytes.Equal(content, got), "what came differs")
	require.Equal(t, 5, cache.tickets)
	_, err = conn.Write([]byte("new keys"))
	require.NoError(t, err)
	n, err := peer.Read(buf)
	require.NoError(t, err)
	require.Equal(t, "new keys", string(buf[:n]))
}

func TestKeysChangeDuringWrites(t *testing.T) {
	const changes = 15 // crypto/tls takes no more without data in between
	near, far := network(t)
	server := serverConfig()
	keys := keyLog(server)
	conn, peer := join(t, near, far, clientConfig(tls.VersionTLS13), server)
	seal := newSealer(t, peer, keys)
	content := random(4 * maxRecord)
	asked, read, answered := make(chan error, 1), make(chan error, 1), make(chan struct{})
	go func() {
		for range changes {
			if _, err := far.Write(append(seal.updateKeys(t), seal.seal(typeData, []byte{1})...)); err != nil {
				asked <- err
				return
			}
		}
		asked <- nil
	}()
	go func() {
		_, err := io.ReadFull(conn, make([]byte, changes))
		close(answered)
		read <- err
	}()
	go func() {
		for range 2 * mebibyte / len(content) {
			if _, err := conn.Write(content); err != nil {
				return // too little will come
			}
		}
		<-answered // crypto/tls can't change keys after CloseWrite
		_ = conn.CloseWrite()
	}()

	got, err := io.ReadAll(peer)

	require.NoError(t, err)
	require.True(t, bytes.Equal(bytes.Repeat(content, 2*mebibyte/len(content)), got), "what came differs")
	require.NoError(t, within(t, asked))
	require.NoError(t, within(t, read))
}

func TestAnAlertGoesBetweenTheRecordsOfWrites(t *testing.T) {
	for name, version := range versions {
		t.Run(name, func(t *testing.T) {
			near, far := network(t)
			conn, peer := join(t, near, far, clientConfig(version), serverConfig())
			content := random(4 * maxRecord)
			written, read := make(chan error, 1), make(chan error, 1)
			go func() {
				var err error
				for err == nil {
					_, err = conn.Write(content)
				}
				written <- err
			}()
			go func() { _, err := conn.Read(make([]byte, bufferSize)); read <- err }()
			_, err := io.ReadFull(peer, make([]byte, mebibyte)) // writes are under way
			require.NoError(t, err)
			_, err = far.Write(append([]byte{typeData, 3, 3, 0, 100}, make([]byte, 100)...))
			require.NoError(t, err)

			_, err = io.Copy(io.Discard, peer)

			require.ErrorContains(t, err, "remote error: tls: bad record MAC")
			require.ErrorContains(t, within(t, read), "local error: tls: bad record MAC")
			require.ErrorContains(t, within(t, written), "local error: tls: bad record MAC")
		})
	}
}

// net.Conn allows an error along with data: that's then read first.
func TestWhatCameWithAnErrorIsReadFirst(t *testing.T) {
	content := random(bufferSize)
	conn := &ending{data: content, err: errFull}
	raw := &rawConn{Conn: conn, pool: new(Pool), busy: true, roomy: true}
	var got []byte
	var err error
	for buf := make([]byte, 1000); err == nil; {
		var n int

		n, err = raw.Read(buf)

		got = append(got, buf[:n]...)
	}
	require.Equal(t, errFull, err)
	require.True(t, bytes.Equal(content, got), "%d bytes came, not %d", len(got), len(content))
	require.Nil(t, raw.buffer)
}

// ending is a connection with data, and an error that comes with it, once;
// from then on it's at its end.
type ending struct {
	net.Conn
	data []byte
	err  error
}

func (e *ending) Read(p []byte) (int, error) {
	n, err := copy(p, e.data), e.err
	e.data, e.err = e.data[n:], io.EOF
	return n, err
}

func TestAQuietConnectionHasNoBuffer(t *testing.T) {
	near, far := network(t)
	conn, peer := join(t, near, far, clientConfig(tls.VersionTLS13), serverConfig())
	go func() { _, _ = peer.Write(random(mebibyte)) }()
	buf := make([]byte, 4*maxRecord)
	for left := mebibyte; left > 0; {
		n, err := conn.Read(buf[:min(left, len(buf))])
		require.NoError(t, err)
		left -= n
	}

	require.Nil(t, conn.raw.buffer)
	require.Nil(t, conn.raw.unread)

	<-near.reading
	read := make(chan error, 1)
	go func() { _, err := conn.Read(make([]byte, 4<<10)); read <- err }()
	require.Less(t, within(t, near.reading), bufferSize, "a wait for the next answer takes a buffer")
	require.NoError(t, conn.Close())
	require.Error(t, within(t, read))
}

func TestAWriteGivesItsBufferBack(t *testing.T) {
	near, far := network(t)
	conn, peer := join(t, near, far, clientConfig(tls.VersionTLS13), serverConfig())
	go func() { _, _ = io.Copy(io.Discard, peer) }()

	_, err := conn.Write(random(mebibyte))

	require.NoError(t, err)
	require.Nil(t, conn.raw.corked)
	near.allow(0)
	_, err = conn.Write(random(mebibyte))
	require.ErrorIs(t, err, errFull)
	require.Nil(t, conn.raw.corked)
}

func TestThereIsNoRenegotiation(t *testing.T) {
	near, far := network(t)
	config := clientConfig(tls.VersionTLS12)
	config.Renegotiation = tls.RenegotiateFreelyAsClient
	conn, _ := join(t, near, far, config, serverConfig())

	state := conn.ConnectionState()
	_, err := state.ExportKeyingMaterial("EXPERIMENTAL", nil, 16) // crypto/tls refuses it with renegotiation

	require.NoError(t, err)
	require.Equal(t, tls.RenegotiateFreelyAsClient, config.Renegotiation, "the caller's own was changed")
}

// countingCache counts the tickets it gets.
type countingCache struct{ tickets int }

func (c *countingCache) Get(string) (*tls.ClientSessionState, bool) { return nil, false }
func (c *countingCache) Put(string, *tls.ClientSessionState)        { c.tickets++ }
