package cluster

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gravitational/teleport/api/client/proto"
	"github.com/gravitational/teleport/api/client/webclient"
	"github.com/gravitational/teleport/api/constants"
	"github.com/stretchr/testify/require"

	"rollcall/failure"
)

// fakeAppProxy is a fake of a proxy's web port as far as applications go: real
// TLS with client certificates and ALPN, behind something that ends TLS if it's
// told so. What comes over an application's connection is echoed.
type fakeAppProxy struct {
	t         *testing.T
	web, own  *testAuthority
	addr      string
	listener  net.Listener
	balancer  bool   // ends TLS, without ALPN
	upgrade   string // alpn, websocket, mute, refuse
	protocols []string
	seen      chan tls.ConnectionState
	outer     *tls.Config
	queue     *connQueue
	running   sync.WaitGroup
	pings     atomic.Int64
	held      atomic.Pointer[chan struct{}] // answers to pings wait for it

	mu   sync.Mutex // protects the following
	open []net.Conn
}

func newFakeAppProxy(t *testing.T, change func(*fakeAppProxy)) *fakeAppProxy {
	t.Helper()
	p := &fakeAppProxy{
		t: t, web: newTestAuthority(t, "web CA"), own: newTestAuthority(t, testClusterName),
		protocols: []string{constants.ALPNSNIProtocolReverseTunnel, alpnHTTP, alpnTCPPing, alpnTCP},
		seen:      make(chan tls.ConnectionState, 100),
	}
	if change != nil {
		change(p)
	}
	p.outer = p.webTLS(p.web, p.protocols)
	if p.balancer {
		p.outer.NextProtos = nil
	}
	p.listen("127.0.0.1:0")
	p.queue = newConnQueue(p.listener.Addr())
	server := &http.Server{Handler: p.handler(), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	p.running.Go(func() { _ = server.Serve(p.queue) })
	t.Cleanup(func() {
		_ = p.listener.Close()
		_ = server.Close()
		p.mu.Lock()
		for _, conn := range p.open {
			_ = conn.Close()
		}
		p.mu.Unlock()
		p.running.Wait()
	})
	return p
}

// listen serves until its listener is closed.
func (p *fakeAppProxy) listen(addr string) {
	listener, err := net.Listen("tcp", addr)
	require.NoError(p.t, err)
	p.listener, p.addr = listener, listener.Addr().String()
	p.running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			p.mu.Lock()
			p.open = append(p.open, conn)
			p.mu.Unlock()
			p.running.Go(func() { p.serve(conn) })
		}
	})
}

func (p *fakeAppProxy) webTLS(authority *testAuthority, protocols []string) *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{authority.server("127.0.0.1")},
		ClientAuth:   tls.VerifyClientCertIfGiven,
		ClientCAs:    p.own.pool(),
		NextProtos:   protocols,
	}
}

func (p *fakeAppProxy) serve(raw net.Conn) {
	conn := tls.Server(raw, p.outer)
	if conn.Handshake() != nil {
		// Read on, lest a reset destroy the alert.
		_ = raw.SetReadDeadline(time.Now().Add(time.Second))
		_, _ = io.Copy(io.Discard, raw)
		_ = raw.Close()
		return
	}
	if len(conn.ConnectionState().PeerCertificates) == 0 {
		p.queue.put(conn)
		return
	}
	defer raw.Close()
	p.echo(conn)
}

func (p *fakeAppProxy) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /webapi/ping", func(w http.ResponseWriter, r *http.Request) {
		p.pings.Add(1)
		if held := p.held.Load(); held != nil {
			select {
			case <-*held:
			case <-r.Context().Done():
			}
		}
		_ = json.NewEncoder(w).Encode(webclient.PingResponse{
			ClusterName: testClusterName, ServerVersion: "14.2.3",
			Proxy: webclient.ProxySettings{TLSRoutingEnabled: true},
		})
	})
	mux.HandleFunc("GET "+constants.WebAPIConnUpgrade, func(w http.ResponseWriter, r *http.Request) {
		switch p.upgrade {
		case "refuse":
			http.Error(w, "no", http.StatusNotFound)
			return
		case "mute":
			<-r.Context().Done()
			return
		}
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		p.upgraded(conn, buffered.Reader, r)
	})
	return mux
}

// upgraded answers in the asked form and speaks TLS inside of it.
func (p *fakeAppProxy) upgraded(conn net.Conn, reader io.Reader, r *http.Request) {
	header := http.Header{"Connection": {"Upgrade"}, "Upgrade": {p.upgrade}}
	inner := net.Conn(conn)
	if p.upgrade == constants.WebAPIConnUpgradeTypeWebSocket {
		header.Set("Sec-Websocket-Accept", acceptKey(r.Header.Get("Sec-Websocket-Key")))
		header.Set("Sec-Websocket-Protocol", "alpn")
		inner = &fakeWebSocketServer{Conn: conn, reader: reader}
	}
	resp := http.Response{StatusCode: http.StatusSwitchingProtocols, ProtoMajor: 1, ProtoMinor: 1, Header: header}
	if resp.Write(conn) != nil {
		return
	}
	if p.upgrade == constants.WebAPIConnUpgradeTypeWebSocket {
		_ = ws.WriteFrame(conn, ws.NewPingFrame([]byte("alive?")))
	}
	tlsConn := tls.Server(inner, p.webTLS(p.own, p.protocols))
	if tlsConn.Handshake() == nil {
		p.echo(tlsConn)
	}
}

// hold keeps pings waiting until release is closed.
func (p *fakeAppProxy) hold(release chan struct{}) { p.held.Store(&release) }

func (p *fakeAppProxy) echo(conn *tls.Conn) {
	state := conn.ConnectionState()
	p.seen <- state
	if state.NegotiatedProtocol != alpnTCPPing {
		_, _ = io.Copy(conn, conn)
		_ = conn.CloseWrite()
		return
	}
	// A ping packet, of length 0, before each one that is echoed.
	for {
		var size [4]byte
		if _, err := io.ReadFull(conn, size[:]); err != nil {
			return
		}
		packet := make([]byte, binary.BigEndian.Uint32(size[:]))
		if _, err := io.ReadFull(conn, packet); err != nil {
			return
		}
		_, _ = conn.Write(append(append(make([]byte, 4), size[:]...), packet...))
	}
}

// fakeWebSocketServer is the server's side of an upgrade.
type fakeWebSocketServer struct {
	net.Conn
	reader io.Reader
	left   []byte
}

func (c *fakeWebSocketServer) Read(b []byte) (int, error) {
	for len(c.left) == 0 {
		frame, err := ws.ReadFrame(c.reader)
		if err != nil {
			return 0, err
		}
		if frame.Header.OpCode == ws.OpBinary {
			c.left = ws.UnmaskFrame(frame).Payload
		}
	}
	n := copy(b, c.left)
	c.left = c.left[n:]
	return n, nil
}

func (c *fakeWebSocketServer) Write(b []byte) (int, error) {
	return len(b), ws.WriteFrame(c.Conn, ws.NewBinaryFrame(b))
}

// application issues credentials that are routed to an application.
func (a *testAuthority) application(name string, expires time.Time) *Credentials {
	key, err := NewKey()
	require.NoError(a.t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject: pkix.Name{CommonName: "bot-test", ExtraNames: []pkix.AttributeTypeAndValue{
			{Type: oidAppName, Value: name},
			{Type: oidAppPublicAddr, Value: name + ".apps.example.com"},
			{Type: oidAppCluster, Value: testClusterName},
		}},
		NotBefore:   time.Now().Add(-time.Hour),
		NotAfter:    expires,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Signer.Public(), a.key.Signer)
	require.NoError(a.t, err)
	creds, err := NewCredentials(key, &proto.Certs{
		TLS:        pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		TLSCACerts: [][]byte{a.pem},
	})
	require.NoError(a.t, err)
	return creds
}

func (p *fakeAppProxy) dialer() *AppDialer {
	return NewAppDialer(New(Options{ProxyServer: p.addr, ProxyCA: p.web.file()}, slog.New(slog.DiscardHandler)))
}

func (p *fakeAppProxy) session(d *AppDialer) *AppSession {
	return d.Session(p.own.application("grafana", time.Now().Add(time.Hour)))
}

// requireEcho sends a text and wants it back.
func requireEcho(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	_, err := io.WriteString(conn, text)
	require.NoError(t, err)
	got := make([]byte, len(text))
	_, err = io.ReadFull(conn, got)
	require.NoError(t, err)
	require.Equal(t, text, string(got))
}

func TestCertificateNamesItsApplication(t *testing.T) {
	authority := newTestAuthority(t, testClusterName)
	creds := authority.application("grafana", time.Now().Add(time.Hour))
	require.Equal(t, App{Name: "grafana", PublicAddr: "grafana.apps.example.com"}, creds.App())
	require.Equal(t, testClusterName, creds.AppCluster())
	require.Empty(t, authority.credentials(userCert{name: "bot-test"}).App())
	require.True(t, App{URI: "tcp://localhost:5432"}.TCP())
	require.False(t, App{URI: "http://localhost:80"}.TCP())
	require.False(t, App{}.TCP())
}

func TestAppDialerReachesTheApplication(t *testing.T) {
	for name, change := range map[string]func(*fakeAppProxy){
		"directly":                        nil,
		"upgraded as Teleport 14 does it": func(p *fakeAppProxy) { p.balancer, p.upgrade = true, "alpn" },
		"upgraded to WebSocket":           func(p *fakeAppProxy) { p.balancer, p.upgrade = true, "websocket" },
	} {
		t.Run(name, func(t *testing.T) {
			p := newFakeAppProxy(t, change)
			session := p.session(p.dialer())

			conn, err := session.DialHTTP(t.Context())
			require.NoError(t, err)
			defer conn.Close()
			requireEcho(t, conn, "hello")
			state := <-p.seen
			require.Equal(t, alpnHTTP, state.NegotiatedProtocol)
			require.Equal(t, session.Credentials().X509.Raw, state.PeerCertificates[0].Raw)
			_, port, err := net.SplitHostPort(p.addr)
			require.NoError(t, err)
			require.Equal(t, "grafana.apps.example.com:"+port, session.PublicHost())

			far, err := session.DialTCP(t.Context())
			require.NoError(t, err)
			defer far.Close()
			require.Equal(t, alpnTCPPing, (<-p.seen).NegotiatedProtocol)
			requireEcho(t, far, "hello")
			requireEcho(t, far, string(make([]byte, 100_000)))
			require.Implements(t, (*interface{ CloseWrite() error })(nil), far)
		})
	}
}

func TestAppDialerResumesWithinOneCertificateOnly(t *testing.T) {
	p := newFakeAppProxy(t, nil)
	d := p.dialer()
	session := p.session(d)
	connect := func(s *AppSession) tls.ConnectionState {
		conn, err := s.DialHTTP(t.Context())
		require.NoError(t, err)
		defer conn.Close()
		requireEcho(t, conn, "hello") // the ticket comes with the first bytes
		return <-p.seen
	}
	require.False(t, connect(session).DidResume)
	require.True(t, connect(session).DidResume)
	renewed := p.session(d)
	state := connect(renewed)
	require.False(t, state.DidResume)
	require.Equal(t, renewed.Credentials().X509.Raw, state.PeerCertificates[0].Raw)
}

func TestAppDialerBridgesARestart(t *testing.T) {
	p := newFakeAppProxy(t, nil)
	session := p.session(p.dialer())
	require.NoError(t, session.dialer.Find(t.Context()))
	require.NoError(t, p.listener.Close())
	back := make(chan struct{})
	time.AfterFunc(300*time.Millisecond, func() { p.listen(p.addr); close(back) })
	defer func() { <-back }()

	conn, err := session.DialHTTP(t.Context())

	require.NoError(t, err)
	defer conn.Close()
	requireEcho(t, conn, "hello")
}

func TestAppDialerGivesUp(t *testing.T) {
	p := newFakeAppProxy(t, nil)
	d := p.dialer()
	require.NoError(t, d.Find(t.Context()))
	ended := d.Session(p.own.application("grafana", time.Now().Add(-time.Minute)))
	_, err := ended.DialHTTP(t.Context())
	require.Equal(t, failure.Refused, failure.KindOf(err))
	require.ErrorContains(t, err, "expired at")

	session := p.session(d)
	require.NoError(t, p.listener.Close())
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err = session.DialHTTP(ctx)
	require.Equal(t, failure.Unreachable, failure.KindOf(err))
	require.ErrorContains(t, err, p.addr)
}

func TestAppDialerNeedsAProxy(t *testing.T) {
	auth := fakeV16Auth().start(t)
	d := NewAppDialer(New(auth.options(), slog.New(slog.DiscardHandler)))
	err := d.Find(t.Context())
	require.Equal(t, failure.Configuration, failure.KindOf(err))
	require.ErrorContains(t, err, "set proxy_server")
}

func TestRefusedCertificateIsRecognised(t *testing.T) {
	p := newFakeAppProxy(t, nil)
	stranger := newTestAuthority(t, "stranger")
	conn, err := p.dialer().Session(stranger.application("grafana", time.Now().Add(time.Hour))).DialHTTP(t.Context())
	if err == nil {
		// TLS 1.3: the server's verdict comes after the client's end of the handshake.
		defer conn.Close()
		require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
		_, err = conn.Read(make([]byte, 1))
	}
	require.Error(t, err)
	require.True(t, CertificateRefused(err), "%v", err)
	require.False(t, CertificateRefused(nil))
	require.False(t, CertificateRefused(io.EOF))
	require.False(t, CertificateRefused(x509.UnknownAuthorityError{}))
}

func TestUpgradeThatGoesWrong(t *testing.T) {
	t.Run("refused", func(t *testing.T) {
		p := newFakeAppProxy(t, func(p *fakeAppProxy) { p.balancer, p.upgrade = true, "refuse" })
		_, err := p.session(p.dialer()).DialHTTP(t.Context())
		require.Equal(t, failure.Configuration, failure.KindOf(err))
		require.ErrorContains(t, err, "Upgrade")
	})
	t.Run("never answered", func(t *testing.T) {
		p := newFakeAppProxy(t, func(p *fakeAppProxy) { p.balancer, p.upgrade = true, "mute" })
		session := p.session(p.dialer())
		require.NoError(t, session.dialer.Find(t.Context()))
		session.dialer.cluster.timeout = 200 * time.Millisecond
		_, err := session.DialHTTP(t.Context())
		require.Equal(t, failure.Unreachable, failure.KindOf(err), "%v", err)
	})
	t.Run("a proxy without TCP applications", func(t *testing.T) {
		p := newFakeAppProxy(t, func(p *fakeAppProxy) { p.protocols = []string{constants.ALPNSNIProtocolReverseTunnel, alpnHTTP} })
		_, err := p.session(p.dialer()).DialTCP(t.Context())
		require.Error(t, err)
		require.False(t, errors.Is(err, context.DeadlineExceeded))
	})
}

func TestAppDialerAsksOnceAndUsesWhatItKnows(t *testing.T) {
	release := make(chan struct{})
	p := newFakeAppProxy(t, nil)
	d := p.dialer()
	p.hold(release)
	// Many come at once, and nothing is known yet: one asks.
	errs := make(chan error, 20)
	for range cap(errs) {
		go func() { errs <- d.Find(t.Context()) }()
	}
	require.Eventually(t, func() bool { return p.pings.Load() == 1 }, 10*time.Second, time.Millisecond)
	close(release)
	for range cap(errs) {
		require.NoError(t, <-errs)
	}
	require.EqualValues(t, 1, p.pings.Load())

	// What is known has grown old, and the proxy doesn't answer the question any
	// more: one dial asks, for as long as a dial may take, and the others don't
	// wait.
	p.hold(make(chan struct{}))
	d.cluster.timeout = time.Second
	d.cluster.forgetEndpoint()
	go func() { errs <- d.Find(t.Context()) }()
	require.Eventually(t, func() bool { return p.pings.Load() == 2 }, 10*time.Second, time.Millisecond)
	conn, err := p.session(d).DialHTTP(t.Context())
	require.NoError(t, err)
	_ = conn.Close()
	select {
	case <-errs:
		t.Fatal("the question was answered, or given up already")
	default:
	}
	require.NoError(t, <-errs, "what is known is good enough")
	conn, err = p.session(d).DialHTTP(t.Context())
	require.NoError(t, err)
	_ = conn.Close()
	require.EqualValues(t, 2, p.pings.Load(), "each dial asks a proxy that doesn't answer")
}

func TestWebSocketCarriesNothingButBinaryFrames(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	go func() { _ = ws.WriteFrame(far, ws.NewTextFrame([]byte("lost"))) }()
	_, err := (&webSocketConn{Conn: near, reader: bufio.NewReader(near)}).Read(make([]byte, 4))
	require.ErrorContains(t, err, "neither binary")
}
