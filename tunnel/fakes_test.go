package tunnel

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"rollcall/cluster"
	"rollcall/diagnostics"
	"rollcall/failure"
	"rollcall/internal/records"
)

const (
	patience = 20 * time.Second
	appName  = "grafana"
	appHost  = "grafana.apps.example.com"
)

// fakeTeleport stands for Teleport's proxy with an application behind it: a real
// TLS server that knows connections by the session that dialled them. What it
// answers is the test's.
type fakeTeleport struct {
	*httptest.Server
	// handle answers requests; serial says with which certificate they came.
	handle atomic.Pointer[func(w http.ResponseWriter, r *http.Request, serial string)]
	conns  atomic.Int64
}

func newFakeTeleport(t *testing.T, handle func(w http.ResponseWriter, r *http.Request, serial string)) *fakeTeleport {
	t.Helper()
	f := &fakeTeleport{}
	f.handle.Store(&handle)
	f.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		(*f.handle.Load())(w, r, r.TLS.ServerName)
	}))
	f.Server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	f.Server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			f.conns.Add(1)
		}
	}
	f.StartTLS()
	t.Cleanup(f.Close)
	return f
}

// fakeSession dials a fake Teleport. Its serial travels as the server's name.
type fakeSession struct {
	addr, serial string
	tcp          bool
	buffers      records.Pool
}

func (s *fakeSession) DialHTTP(ctx context.Context) (net.Conn, error) {
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", s.addr)
	if err != nil {
		return nil, err
	}
	conn := s.buffers.Client(raw, s.config())
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, err
	}
	return conn, nil
}

func (s *fakeSession) config() *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, ServerName: s.serial, NextProtos: []string{"http/1.1"}}
}

func (s *fakeSession) DialTCP(ctx context.Context) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", s.addr)
}

func (s *fakeSession) PublicHost() string { return appHost }

// fakeSource gives certificates serial-1, serial-2 …, or what it's told.
type fakeSource struct {
	addr string
	uri  string

	mu      sync.Mutex // protects the following
	err     error
	life    time.Duration
	fetched int
	// same makes it give the last certificate again.
	same bool
}

func (s *fakeSource) Fetch(context.Context) (Routed, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return Routed{}, s.err
	}
	if !s.same || s.fetched == 0 {
		s.fetched++
	}
	life := s.life
	if life == 0 {
		life = time.Hour
	}
	serial := fmt.Sprintf("serial-%d", s.fetched)
	return Routed{
		Session: &fakeSession{addr: s.addr, serial: serial},
		App:     cluster.App{Name: appName, PublicAddr: appHost, URI: s.uri},
		Serial:  serial, NotAfter: time.Now().Add(life), ProxyHost: "teleport.example.com",
	}, nil
}

func (s *fakeSource) set(change func(*fakeSource)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

func (s *fakeSource) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fetched
}

// rig is a tunnel that runs.
type rig struct {
	*Tunnel
	source  *fakeSource
	board   *diagnostics.Board
	metrics *Metrics
	log     *syncBuffer
	stop    func() error
}

type syncBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// run starts a tunnel to a fake Teleport's address until the test ends.
func run(t testing.TB, addr string, change func(*Options, *Dependencies, *fakeSource)) *rig {
	t.Helper()
	return runBound(t, addr, change, func(net.Listener) net.Listener { return nil })
}

// runBound is run with a listener that wraps the tunnel's own, unless wrap
// returns nil.
func runBound(t testing.TB, addr string, change func(*Options, *Dependencies, *fakeSource), wrap func(net.Listener) net.Listener) *rig {
	t.Helper()
	r := &rig{source: &fakeSource{addr: addr, uri: "http://127.0.0.1:35097"}, board: diagnostics.NewBoard(time.Now), metrics: NewMetrics(), log: &syncBuffer{}}
	opts := Options{AppName: appName, ListenOptions: ListenOptions{Listen: "tcp://127.0.0.1:0"}}
	opts.Name = "tunnel"
	deps := Dependencies{
		Source: r.source, Interval: time.Hour, Reporter: r.board.Reporter("tunnel", TypeTunnel),
		Log: slog.New(slog.NewTextHandler(r.log, nil)), Metrics: r.metrics,
	}
	if change != nil {
		change(&opts, &deps, r.source)
	}
	built, err := New(opts, deps)
	require.NoError(t, err)
	r.Tunnel = built
	require.NoError(t, built.Bind(t.Context()))
	if wrapped := wrap(built.listening.endpoint.Listener); wrapped != nil {
		built.listening.endpoint.Listener = wrapped
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- built.Run(ctx) }()
	r.stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() {
		require.NoError(t, r.stop())
		built.Close()
	})
	return r
}

// url is an address of the tunnel.
func (r *rig) url(path string) string {
	return strings.Replace(r.Address(), "tcp://", "http://", 1) + path
}

// answered is what a client got.
type answered struct {
	status int
	header http.Header
	body   string
}

func (a answered) kind() string { return a.header.Get(headerKind) }

// ask sends one request over a connection of its own.
func ask(t *testing.T, request *http.Request) answered {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	return askWith(t, transport, request)
}

func askWith(t *testing.T, transport http.RoundTripper, request *http.Request) answered {
	t.Helper()
	resp, err := transport.RoundTrip(request)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return answered{resp.StatusCode, resp.Header, string(body)}
}

func request(t *testing.T, method, url string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, body)
	require.NoError(t, err)
	return r
}

func (r *rig) get(t *testing.T, path string) answered {
	t.Helper()
	return ask(t, request(t, http.MethodGet, r.url(path), nil))
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, check func() bool) {
	t.Helper()
	require.Eventually(t, check, patience, 5*time.Millisecond, what)
}

// metric is one of the tunnel's metrics, by the end of its name.
func (r *rig) metric(name string, labels prometheus.Labels) float64 {
	labels["service"] = "tunnel"
	registry := prometheus.NewRegistry()
	registry.MustRegister(r.metrics)
	families, err := registry.Gather()
	if err != nil {
		return -1
	}
	for _, family := range families {
		if family.GetName() != "rollcall_tunnel_"+name {
			continue
		}
		for _, m := range family.GetMetric() {
			same := len(m.GetLabel()) == len(labels)
			for _, label := range m.GetLabel() {
				same = same && labels[label.GetName()] == label.GetValue()
			}
			if same {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return 0
}

func (r *rig) state() diagnostics.Status {
	status, _ := r.board.Status("tunnel")
	return status
}

func notFound() error {
	return failure.New(failure.NotFound, "application %q was not found", appName)
}

var errTest = errors.New("as the test wants it")

func shortDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if len(filepath.Join(dir, ".rc-0123456789", "s")) > maxSocketPath {
		t.Fatalf("the directory %s is too long for a socket", dir)
	}
	return dir
}
