package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// How a disturbedSocket answers.
const (
	slow     = "slow"
	half     = "half an answer"
	refusing = "refusing"
	garbage  = "garbage"
)

// disturbedSocket stands before a real Docker Engine and can be cut, slowed and
// made to answer half.
type disturbedSocket struct {
	path   string
	engine *httputil.ReverseProxy

	// mu protects the following.
	mu     sync.Mutex
	server *http.Server
	how    string
	// cut ends what is under way.
	cut  context.CancelFunc
	live context.Context
}

func newDisturbedSocket(t *testing.T, path, engine string) *disturbedSocket {
	t.Helper()
	s := &disturbedSocket{path: path, engine: proxyTo(engine)}
	s.live, s.cut = context.WithCancel(context.Background())
	t.Cleanup(s.close)
	return s
}

// proxyTo passes requests on to a Unix socket, streams included.
func proxyTo(socket string) *httputil.ReverseProxy {
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: "docker"})
	proxy.FlushInterval = -1
	proxy.Transport = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	proxy.ErrorHandler = func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }
	return proxy
}

// open begins to listen.
func (s *disturbedSocket) open(t *testing.T) {
	t.Helper()
	listener, err := net.Listen("unix", s.path)
	require.NoError(t, err)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live, s.cut = context.WithCancel(context.Background())
	s.server = &http.Server{Handler: s, ReadHeaderTimeout: time.Minute}
	go func(server *http.Server) { _ = server.Serve(listener) }(s.server)
}

// close cuts everything off, and removes the socket.
func (s *disturbedSocket) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut()
	if s.server != nil {
		_ = s.server.Close()
		s.server = nil
	}
	_ = os.Remove(s.path)
}

// disturb changes how new requests are answered, and cuts those under way.
func (s *disturbedSocket) disturb(how string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.how = how
	s.cut()
	s.live, s.cut = context.WithCancel(context.Background())
}

// ServeHTTP answers one request.
func (s *disturbedSocket) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	how, live := s.how, s.live
	s.mu.Unlock()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(live, cancel)()
	switch how {
	case slow:
		<-ctx.Done()
		panic(http.ErrAbortHandler)
	case half:
		w = &halfWriter{ResponseWriter: w}
	case refusing:
		http.Error(w, `{"message":"the daemon is shutting down"}`, http.StatusInternalServerError)
		return
	case garbage:
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `[{"Id":"0123","Names":["/x"]}, {`)
		return
	}
	s.engine.ServeHTTP(w, r.WithContext(ctx))
}

// halfWriter breaks the connection in the middle of the first body.
type halfWriter struct{ http.ResponseWriter }

// Write writes half, and ends the connection.
func (w *halfWriter) Write(body []byte) (int, error) {
	_, _ = w.ResponseWriter.Write(body[:len(body)/2])
	_ = http.NewResponseController(w.ResponseWriter).Flush()
	panic(http.ErrAbortHandler)
}

// readOnlyProxy lets through what docs/discovery.md says that the source needs.
type readOnlyProxy struct {
	path   string
	engine *httputil.ReverseProxy

	// mu protects the following.
	mu      sync.Mutex
	strange []string
}

// needed are the requests that the documentation lists.
var needed = regexp.MustCompile(`^(/v[0-9.]+)?/(_ping|version|containers/json|containers/[0-9a-f]+/json|networks|networks/[^/]+|events)$`)

func newReadOnlyProxy(t *testing.T, path, engine string) *readOnlyProxy {
	t.Helper()
	p := &readOnlyProxy{path: path, engine: proxyTo(engine)}
	listener, err := net.Listen("unix", path)
	require.NoError(t, err)
	server := &http.Server{Handler: p, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return p
}

// ServeHTTP answers one request.
func (p *readOnlyProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	reads := r.Method == http.MethodGet || r.Method == http.MethodHead && strings.HasSuffix(r.URL.Path, "/_ping")
	if !reads || !needed.MatchString(r.URL.Path) {
		p.mu.Lock()
		p.strange = append(p.strange, r.Method+" "+r.URL.Path)
		p.mu.Unlock()
		http.Error(w, fmt.Sprintf(`{"message":"%s %s isn't allowed"}`, r.Method, r.URL.Path), http.StatusForbidden)
		return
	}
	p.engine.ServeHTTP(w, r)
}

// refused are the requests that weren't let through.
func (p *readOnlyProxy) refused() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.strange
}
