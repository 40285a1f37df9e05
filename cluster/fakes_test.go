package cluster

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gravitational/teleport/api/client/proto"
	"github.com/gravitational/teleport/api/client/webclient"
	"github.com/gravitational/teleport/api/constants"
	"github.com/gravitational/teleport/api/types"
	"github.com/gravitational/teleport/api/utils/grpc/interceptors"
	"github.com/gravitational/trace"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/types/known/emptypb"
)

const testClusterName = "teleport.example.com"

// joined is one join that a fake server took or refused.
type joined struct {
	via     string // "grpc", "grpc with certificate of NAME", "http PATH"
	request *types.RegisterUsingTokenRequest
}

// fakeTeleport is a Teleport proxy or Auth Service as far as joining goes: real
// TLS, real HTTP and a real gRPC server that serves the api module's services;
// only what stands behind them is made up. It's for the server versions that
// can't be had here; what a real 14.2.3 does is in the end-to-end tests.
type fakeTeleport struct {
	proto.UnimplementedAuthServiceServer
	proto.UnimplementedJoinServiceServer

	version     string
	minClient   string
	proxy       bool
	joinService bool
	httpJoin    bool
	// joinALPN: the proxy takes the join service's protocol, whether or not the
	// service is there.
	joinALPN bool
	// noALPN: something in front of the proxy strips it.
	noALPN bool
	// refuse is what a join is answered with, if set.
	refuse error
	// locked: whoever shows a certificate is denied everything.
	locked bool

	t         *testing.T
	authority *testAuthority
	webCA     *testAuthority
	addr      string
	grpc      *grpc.Server

	mu    sync.Mutex // protects the following
	joins []joined
	pings int

	// issuing is what happens after the join; see fakes_issue_test.go.
	issuing fakeIssuing
}

func fakeV14Proxy() *fakeTeleport {
	return &fakeTeleport{version: "14.2.3", proxy: true, httpJoin: true}
}

func fakeV17Proxy() *fakeTeleport {
	return &fakeTeleport{version: "17.2.1", proxy: true, httpJoin: true, joinService: true}
}

func fakeV16Auth() *fakeTeleport { return &fakeTeleport{version: "16.4.0", httpJoin: true} }

func fakeV17Auth() *fakeTeleport {
	return &fakeTeleport{version: "17.2.1", httpJoin: true, joinService: true}
}

func fakeV18Auth() *fakeTeleport { return &fakeTeleport{version: "18.0.1", joinService: true} }

// start serves until the test ends.
func (f *fakeTeleport) start(t *testing.T) *fakeTeleport {
	t.Helper()
	f.t = t
	f.authority = newTestAuthority(t, testClusterName)
	f.webCA = newTestAuthority(t, "web CA")
	listener, err := tls.Listen("tcp", "127.0.0.1:0", f.tls())
	require.NoError(t, err)
	f.addr = listener.Addr().String()

	f.grpc = grpc.NewServer(grpc.Creds(acceptedTLS{}),
		grpc.UnaryInterceptor(interceptors.GRPCServerUnaryErrorInterceptor),
		grpc.StreamInterceptor(interceptors.GRPCServerStreamErrorInterceptor))
	proto.RegisterAuthServiceServer(f.grpc, f)
	f.registerIssuing(f.grpc)
	if f.joinService {
		proto.RegisterJoinServiceServer(f.grpc, f)
	}
	httpServer := &http.Server{Handler: f.handler(), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	forGRPC, forHTTP := newConnQueue(listener.Addr()), newConnQueue(listener.Addr())

	var serving sync.WaitGroup
	serving.Go(func() { _ = f.grpc.Serve(forGRPC) })
	serving.Go(func() { _ = httpServer.Serve(forHTTP) })
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { f.dispatch(conn.(*tls.Conn), forGRPC, forHTTP) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		f.grpc.Stop()
		_ = httpServer.Close()
		serving.Wait()
	})
	return f
}

// tls is the certificate that a name and a protocol ask for.
func (f *fakeTeleport) tls() *tls.Config {
	auth := &tls.Config{
		Certificates: []tls.Certificate{f.authority.server("*."+constants.APIDomain, constants.APIDomain)},
		ClientAuth:   tls.VerifyClientCertIfGiven,
		ClientCAs:    f.authority.pool(),
		NextProtos:   []string{"h2", "http/1.1"},
	}
	if !f.proxy {
		return auth
	}
	web := &tls.Config{
		Certificates: []tls.Certificate{f.webCA.server("127.0.0.1", "localhost")},
		NextProtos:   []string{constants.ALPNSNIProtocolReverseTunnel, "http/1.1"},
	}
	if f.joinService || f.joinALPN {
		web.NextProtos = append(web.NextProtos, alpnProxyGRPC)
	}
	if f.noALPN {
		web.NextProtos = nil
	}
	return &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		for _, name := range hello.SupportedProtos {
			if strings.HasPrefix(name, constants.ALPNSNIAuthProtocol) && !f.noALPN {
				return auth, nil
			}
		}
		return web, nil
	}}
}

// dispatch hands a connection to the server of its protocol.
func (f *fakeTeleport) dispatch(conn *tls.Conn, forGRPC, forHTTP *connQueue) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		// Closed at once, the connection would be reset and the client might
		// never read the alert that tells why.
		if plain, ok := conn.NetConn().(*net.TCPConn); ok {
			_ = plain.CloseWrite()
			_ = plain.SetReadDeadline(time.Now().Add(time.Second))
			_, _ = io.Copy(io.Discard, plain)
		}
		_ = conn.Close()
		return
	}
	switch conn.ConnectionState().NegotiatedProtocol {
	case "h2", alpnProxyGRPC:
		forGRPC.put(conn)
	default:
		forHTTP.put(conn)
	}
}

func (f *fakeTeleport) handler() http.Handler {
	mux := http.NewServeMux()
	path := authJoinPath
	if f.proxy {
		path = proxyJoinPath
		mux.HandleFunc("GET /webapi/ping", f.servePing)
	}
	if f.httpJoin {
		mux.HandleFunc("POST "+path, f.serveJoin)
	}
	return mux
}

func (f *fakeTeleport) servePing(w http.ResponseWriter, _ *http.Request) {
	f.mu.Lock()
	f.pings++
	f.mu.Unlock()
	_ = json.NewEncoder(w).Encode(webclient.PingResponse{
		ClusterName:      testClusterName,
		ServerVersion:    f.version,
		MinClientVersion: f.minClient,
		Proxy:            webclient.ProxySettings{TLSRoutingEnabled: true},
	})
}

func (f *fakeTeleport) serveJoin(w http.ResponseWriter, r *http.Request) {
	request := &types.RegisterUsingTokenRequest{}
	if err := json.NewDecoder(r.Body).Decode(request); err != nil {
		trace.WriteError(w, trace.BadParameter("invalid request"))
		return
	}
	certs, err := f.join("http "+r.URL.Path, request)
	if err != nil {
		trace.WriteError(w, err)
		return
	}
	_ = json.NewEncoder(w).Encode(certs)
}

func (f *fakeTeleport) join(via string, request *types.RegisterUsingTokenRequest) (*proto.Certs, error) {
	f.mu.Lock()
	f.joins = append(f.joins, joined{via: via, request: request})
	f.mu.Unlock()
	if f.refuse != nil {
		return nil, f.refuse
	}
	return f.authority.user(request.PublicSSHKey, userCert{name: "bot-test", generation: 1}), nil
}

// RegisterUsingToken is the JoinService's.
func (f *fakeTeleport) RegisterUsingToken(ctx context.Context, request *types.RegisterUsingTokenRequest) (*proto.Certs, error) {
	via := "grpc"
	if caller, ok := peer.FromContext(ctx); ok {
		if info, ok := caller.AuthInfo.(credentials.TLSInfo); ok && len(info.State.PeerCertificates) > 0 {
			via += " with certificate of " + info.State.PeerCertificates[0].Subject.CommonName
		}
	}
	return f.join(via, request)
}

// Ping is the AuthService's.
func (f *fakeTeleport) Ping(context.Context, *proto.PingRequest) (*proto.PingResponse, error) {
	if f.locked {
		return nil, trace.AccessDenied("access denied") // all that a real 14.2.3 says of a lock
	}
	return &proto.PingResponse{ClusterName: testClusterName, ServerVersion: f.version}, nil
}

// GetClusterCACert is the AuthService's.
func (f *fakeTeleport) GetClusterCACert(context.Context, *emptypb.Empty) (*proto.GetClusterCACertResponse, error) {
	return &proto.GetClusterCACertResponse{TLSCA: f.authority.pem}, nil
}

// ways returns through what the joins came.
func (f *fakeTeleport) ways() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var ways []string
	for _, j := range f.joins {
		ways = append(ways, j.via)
	}
	return ways
}

// lastRequest returns the last join's request.
func (f *fakeTeleport) lastRequest() *types.RegisterUsingTokenRequest {
	f.mu.Lock()
	defer f.mu.Unlock()
	require.NotEmpty(f.t, f.joins)
	return f.joins[len(f.joins)-1].request
}

// options name the fake and whom to trust for it.
func (f *fakeTeleport) options() Options {
	if f.proxy {
		return Options{ProxyServer: f.addr, ProxyCA: f.webCA.file()}
	}
	return Options{AuthServer: f.addr, CAPins: []string{pinOf(f.authority.cert)}}
}

// acceptedTLS passes on what a handshake, already done, has shown.
type acceptedTLS struct{}

func (acceptedTLS) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return conn, credentials.TLSInfo{
		State:          conn.(*tls.Conn).ConnectionState(),
		CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity},
	}, nil
}

func (acceptedTLS) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, trace.NotImplemented("for servers only")
}
func (acceptedTLS) Info() credentials.ProtocolInfo          { return credentials.ProtocolInfo{} }
func (acceptedTLS) Clone() credentials.TransportCredentials { return acceptedTLS{} }
func (acceptedTLS) OverrideServerName(string) error         { return nil }

// connQueue is a listener of connections that were accepted elsewhere.
type connQueue struct {
	addr   net.Addr
	conns  chan net.Conn
	closed chan struct{}
	close  func()
}

func newConnQueue(addr net.Addr) *connQueue {
	q := &connQueue{addr: addr, conns: make(chan net.Conn), closed: make(chan struct{})}
	q.close = sync.OnceFunc(func() { close(q.closed) })
	return q
}

func (q *connQueue) put(conn net.Conn) {
	select {
	case q.conns <- conn:
	case <-q.closed:
		_ = conn.Close()
	}
}

func (q *connQueue) Accept() (net.Conn, error) {
	select {
	case conn := <-q.conns:
		return conn, nil
	case <-q.closed:
		return nil, net.ErrClosed
	}
}

func (q *connQueue) Close() error   { q.close(); return nil }
func (q *connQueue) Addr() net.Addr { return q.addr }
