package records

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"encoding/hex"
	"io"
	"math/big"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	// soon is how long a test waits for what happens at once, and less than
	// crypto/tls gives a close_notify.
	soon = 3 * time.Second
	// mebibyte is a body that takes many records.
	mebibyte = 1 << 20
)

// versions are those of TLS that there are tests with.
var versions = map[string]uint16{"TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13}

// certificate is the peers'. It's so long that a handshake, too, brings much at
// once.
var certificate = sync.OnceValue(func() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	filler := pkix.Extension{Id: asn1.ObjectIdentifier{2, 999, 1}, Value: make([]byte, 2*maxRecord)}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"peer"}, NotAfter: time.Now().Add(time.Hour),
		ExtraExtensions: []pkix.Extension{filler},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
})

func clientConfig(version uint16) *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(certificate().Leaf)
	return &tls.Config{ServerName: "peer", RootCAs: roots, MinVersion: version, MaxVersion: version}
}

// serverConfig has no tickets: the first write of a server that sends one is
// not one of the test's. Its records are whole from the first.
func serverConfig() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{certificate()}, SessionTicketsDisabled: true, DynamicRecordSizingDisabled: true}
}

// network returns both ends of a connection over the loopback interface.
func network(t *testing.T) (near *probe, far net.Conn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	conn, err := net.Dial("tcp", listener.Addr().String())
	require.NoError(t, err)
	far, err = listener.Accept()
	require.NoError(t, err)
	return probed(t, conn, far), far
}

// pipe is the same without any room in between: who writes waits until all of
// it is read.
func pipe(t *testing.T) (near *probe, far net.Conn) {
	t.Helper()
	conn, far := net.Pipe()
	return probed(t, conn, far), far
}

func probed(t *testing.T, near, far net.Conn) *probe {
	t.Helper()
	t.Cleanup(func() { _, _ = near.Close(), far.Close() })
	return &probe{Conn: near, reading: make(chan int, 1), writing: make(chan int, 1), limited: make(chan int, 1), allowance: -1}
}

// join makes TLS of both ends. Each of them fails if it waits for too long.
func join(t *testing.T, near, far net.Conn, client, server *tls.Config) (conn *Conn, peer *tls.Conn) {
	t.Helper()
	conn, peer = new(Pool).Client(near, client), tls.Server(far, server)
	shakeHands(t, conn, peer)
	return conn, peer
}

// joinPlain is join without this package.
func joinPlain(t *testing.T, near, far net.Conn, client, server *tls.Config) (conn, peer *tls.Conn) {
	t.Helper()
	conn, peer = tls.Client(near, client), tls.Server(far, server)
	shakeHands(t, conn, peer)
	return conn, peer
}

type handshaker interface {
	net.Conn
	Handshake() error
}

func shakeHands(t *testing.T, conn, peer handshaker) {
	t.Helper()
	inTime(t, conn, peer)
	done := make(chan error, 1)
	go func() { done <- peer.Handshake() }()
	require.NoError(t, conn.Handshake())
	require.NoError(t, <-done)
}

func inTime(t *testing.T, conns ...net.Conn) {
	t.Helper()
	for _, conn := range conns {
		require.NoError(t, conn.SetDeadline(time.Now().Add(10*soon)))
	}
}

// within returns what comes soon.
func within[T any](t *testing.T, results <-chan T) T {
	t.Helper()
	select {
	case result := <-results:
		return result
	case <-time.After(soon):
		require.FailNow(t, "Nothing came.")
		panic("unreachable")
	}
}

// probe is a connection to the network that counts calls of the system.
type probe struct {
	net.Conn
	reads, writes atomic.Int64
	// reading and writing get the length of what a call is made with, and limited
	// a 0 for a deadline of writes, if there's room.
	reading, writing, limited chan int
	// flood makes reads bring as much as there's room for, as if all had come.
	flood atomic.Bool
	// mu protects allowance, which is how much may still be written before writes
	// fail; negative: anything.
	mu        sync.Mutex
	allowance int
}

func (p *probe) Read(b []byte) (int, error) {
	p.reads.Add(1)
	tell(p.reading, len(b))
	if !p.flood.Load() {
		return p.Conn.Read(b)
	}
	n, err := io.ReadFull(p.Conn, b)
	if n > 0 {
		err = nil
	}
	return n, err
}

func (p *probe) Write(b []byte) (int, error) {
	p.writes.Add(1)
	tell(p.writing, len(b))
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.allowance < 0:
		return p.Conn.Write(b)
	case p.allowance < len(b):
		n, _ := p.Conn.Write(b[:p.allowance])
		p.allowance = 0
		return n, errFull
	default:
		p.allowance -= len(b)
		return p.Conn.Write(b)
	}
}

func (p *probe) SetWriteDeadline(end time.Time) error {
	tell(p.limited, 0)
	return p.Conn.SetWriteDeadline(end)
}

// allow limits what may be written from now on.
func (p *probe) allow(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.allowance = n
}

func tell(calls chan int, n int) {
	select {
	case calls <- n:
	default:
	}
}

type fullError struct{}

func (fullError) Error() string { return "the network takes no more" }

var errFull = fullError{}

// stream keeps what a peer sends until it's sent as the test likes.
type stream struct {
	net.Conn
	kept bytes.Buffer
	keep bool
}

func (s *stream) Write(p []byte) (int, error) {
	if s.keep {
		return s.kept.Write(p)
	}
	return s.Conn.Write(p)
}

// records writes each content as TLS records and returns what goes over the
// network for it.
func (s *stream) records(t *testing.T, peer *tls.Conn, contents ...[]byte) []byte {
	t.Helper()
	s.keep = true
	for _, content := range contents {
		_, err := peer.Write(content)
		require.NoError(t, err)
	}
	s.keep = false
	return bytes.Clone(s.kept.Next(s.kept.Len()))
}

// Types of records, and of messages in them (RFC 8446, sections 4 and 5.1).
const (
	typeAlert       = 21
	typeHandshake   = 22
	typeData        = 23
	typeTicket      = 4
	typeKeyUpdate   = 24
	updateRequested = 1
)

// sealer makes the records of a TLS 1.3 server, in place of its tls.Conn: any,
// and in any pieces. It goes on where the handshake ended.
type sealer struct {
	secret []byte
	aead   cipher.AEAD
	iv     []byte
	seq    uint64
}

// keyLog returns a config's key log, for newSealer.
func keyLog(config *tls.Config) *bytes.Buffer {
	keys := new(bytes.Buffer)
	config.KeyLogWriter = keys
	return keys
}

func newSealer(t *testing.T, peer *tls.Conn, keys *bytes.Buffer) *sealer {
	t.Helper()
	if suite := peer.ConnectionState().CipherSuite; suite != tls.TLS_AES_128_GCM_SHA256 {
		t.Skipf("This machine prefers %s, which the test's own records aren't made with.", tls.CipherSuiteName(suite))
	}
	for line := range bytes.Lines(keys.Bytes()) {
		fields := bytes.Fields(line)
		if string(fields[0]) == "SERVER_TRAFFIC_SECRET_0" {
			secret, err := hex.DecodeString(string(fields[2]))
			require.NoError(t, err)
			s := &sealer{}
			s.use(t, secret)
			return s
		}
	}
	require.FailNow(t, "The handshake logged no secret.")
	return nil
}

func (s *sealer) use(t *testing.T, secret []byte) {
	t.Helper()
	block, err := aes.NewCipher(expand(t, secret, "key", 16))
	require.NoError(t, err)
	s.aead, err = cipher.NewGCM(block)
	require.NoError(t, err)
	s.secret, s.iv, s.seq = secret, expand(t, secret, "iv", 12), 0
}

// expand is HKDF-Expand-Label (RFC 8446, section 7.1).
func expand(t *testing.T, secret []byte, label string, length int) []byte {
	t.Helper()
	info := binary.BigEndian.AppendUint16(nil, uint16(length))
	info = append(info, byte(len("tls13 ")+len(label)))
	info = append(info, "tls13 "+label...)
	out, err := hkdf.Expand(sha256.New, secret, string(append(info, 0)), length)
	require.NoError(t, err)
	return out
}

// seal returns a record.
func (s *sealer) seal(kind byte, content []byte) []byte {
	inner := append(bytes.Clone(content), kind)
	header := binary.BigEndian.AppendUint16([]byte{typeData, 3, 3}, uint16(len(inner)+s.aead.Overhead()))
	nonce := bytes.Clone(s.iv)
	for i, c := range binary.BigEndian.AppendUint64(nil, s.seq) {
		nonce[4+i] ^= c
	}
	s.seq++
	return s.aead.Seal(header, nonce, inner, header)
}

// ticket returns a message with a session ticket of a length.
func ticket(length int) []byte {
	body := binary.BigEndian.AppendUint32(nil, 3600)           // lifetime, in seconds
	body = append(body, 0, 0, 0, 0, 1, 0)                      // age_add, and a nonce
	body = binary.BigEndian.AppendUint16(body, uint16(length)) // the ticket
	body = append(body, make([]byte, length)...)
	body = append(body, 0, 0) // no extensions
	return append([]byte{typeTicket, 0, byte(len(body) >> 8), byte(len(body))}, body...)
}

// updateKeys returns a record that changes the server's keys, and asks for a
// change of the client's.
func (s *sealer) updateKeys(t *testing.T) []byte {
	t.Helper()
	record := s.seal(typeHandshake, []byte{typeKeyUpdate, 0, 0, 1, updateRequested})
	s.use(t, expand(t, s.secret, "traffic upd", sha256.Size))
	return record
}
