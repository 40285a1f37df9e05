package diagnostics

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rollcall/failure"
)

// syncBuffer is a log that can be read while it's written.
type syncBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

// running is a server on a real socket.
type running struct {
	url    string
	client *http.Client
	log    *syncBuffer
	stop   func() error
}

func serve(t *testing.T, board *Board, addr string, pprof bool) *running {
	listener, err := net.Listen("tcp", addr)
	require.NoError(t, err)
	log := &syncBuffer{}
	server := NewServer(ServerOptions{
		Listener: listener, Board: board, Pprof: pprof,
		Registry: NewRegistry(board, Build{Version: "1.2.3", Commit: "abc", GoVersion: "go1.26"}),
		Log:      NewLogger(log, FormatText, true, ""),
	})
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- server.Run(ctx) }()
	transport := &http.Transport{}
	stop := sync.OnceValue(func() error {
		transport.CloseIdleConnections()
		cancel()
		return <-result
	})
	t.Cleanup(func() { require.NoError(t, stop()) })
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	return &running{
		url: "http://127.0.0.1:" + port, log: log, stop: stop,
		client: &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}
}

func (r *running) get(t *testing.T, path string) (int, string) {
	resp, err := r.client.Get(r.url + path)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(body)
}

func (r *running) ready(t *testing.T) (int, readiness) {
	code, body := r.get(t, "/readyz")
	var answer readiness
	require.NoError(t, json.Unmarshal([]byte(body), &answer), body)
	return code, answer
}

func TestReadyz(t *testing.T) {
	clock := newClock()
	board := NewBoard(clock.Now)
	server := serve(t, board, "127.0.0.1:0", false)

	code, answer := server.ready(t)
	require.Equal(t, 503, code, "an agent without services isn't ready")
	require.False(t, answer.Ready)

	board.Reporter("identity", "identity").Report(Report{NotAfter: start.Add(time.Hour)})
	app := board.Reporter("application/grafana", "output")
	code, answer = server.ready(t)
	require.Equal(t, 503, code)
	require.Equal(t, StateStarting, answer.Services["application/grafana"].State)
	require.Equal(t, StateReady, answer.Services["identity"].State)

	app.Report(Report{NotAfter: start.Add(30 * time.Minute)})
	code, answer = server.ready(t)
	require.Equal(t, 200, code)
	require.True(t, answer.Ready)

	app.Report(Report{Err: failure.New(failure.Unreachable, "nobody answers")})
	code, answer = server.ready(t)
	require.Equal(t, 200, code, "a failed renewal with a valid certificate")
	require.True(t, answer.Services["application/grafana"].Degraded)
	require.Equal(t, "nobody answers", answer.Services["application/grafana"].LastError)
	require.EqualValues(t, 1800, *answer.Services["application/grafana"].SecondsLeft)

	clock.Advance(30 * time.Minute)
	code, answer = server.ready(t)
	require.Equal(t, 503, code)
	require.Equal(t, StateExpired, answer.Services["application/grafana"].State)

	code, body := server.get(t, "/readyz/identity")
	require.Equal(t, 200, code)
	require.Contains(t, body, `"seconds_left": 1800`)
	code, body = server.get(t, "/readyz/application/grafana")
	require.Equal(t, 503, code)
	require.Contains(t, body, `"state": "expired"`)
	code, body = server.get(t, "/readyz/nothing")
	require.Equal(t, 404, code)
	require.Contains(t, body, "there is no service of that name")

	code, body = server.get(t, "/livez")
	require.Equal(t, 200, code, "liveness doesn't depend on renewals")
	require.Equal(t, "ok\n", body)
}

func TestMetricsAreScraped(t *testing.T) {
	clock := newClock()
	board := NewBoard(clock.Now)
	server := serve(t, board, "127.0.0.1:0", false)
	app := board.Reporter("app", "output")

	_, body := server.get(t, "/metrics")
	require.Contains(t, body, "rollcall_build_info{commit=\"abc\",goversion=\"go1.26\",version=\"1.2.3\"} 1\n")
	require.Contains(t, body, "rollcall_renewals_total{service=\"app\"} 0\n", "counters start at zero")
	require.Contains(t, body, "rollcall_ready{service=\"app\"} 0\n")
	require.NotContains(t, body, "rollcall_certificate_not_after_timestamp_seconds{")
	require.Contains(t, body, "\ngo_goroutines ")
	require.Contains(t, body, "\nprocess_resident_memory_bytes ")

	app.Report(Report{NotAfter: start.Add(time.Hour), Unchanged: true, Took: time.Second})
	app.Report(Report{NotAfter: start.Add(time.Hour), Took: 200 * time.Millisecond})
	app.Report(Report{Err: failure.New(failure.Unreachable, "x"), Took: 3 * time.Second})
	app.Report(Report{Err: failure.New(failure.Refused, "x"), Took: 3 * time.Second})
	app.Report(Report{Err: errors.New("x")})
	_, body = server.get(t, "/metrics")
	for _, line := range []string{
		`rollcall_renewals_total{service="app"} 1`,
		`rollcall_renewal_failures_total{kind="unreachable",service="app"} 1`,
		`rollcall_renewal_failures_total{kind="refused",service="app"} 1`,
		`rollcall_renewal_failures_total{kind="other",service="app"} 1`,
		`rollcall_renewal_duration_seconds_count{service="app"} 3`,
		`rollcall_renewal_duration_seconds_bucket{service="app",le="0.25"} 1`,
		`rollcall_consecutive_failures{service="app"} 3`,
		`rollcall_ready{service="app"} 1`,
		`rollcall_certificate_not_after_timestamp_seconds{service="app"} 1.767326645e+09`,
	} {
		require.Contains(t, body, line+"\n")
	}

	clock.Advance(time.Hour)
	_, body = server.get(t, "/metrics")
	require.Contains(t, body, "rollcall_ready{service=\"app\"} 0\n", "computed at the scrape")
}

func TestRequestsDontAddSeries(t *testing.T) {
	board := NewBoard(time.Now)
	board.Reporter("app", "output")
	server := serve(t, board, "127.0.0.1:0", false)
	for _, path := range []string{"/readyz/made-up", "/nothing", "/readyz/app"} {
		server.get(t, path)
	}
	_, body := server.get(t, "/metrics")
	require.NotContains(t, body, "made-up")
	require.Len(t, board.Snapshot(), 1)
}

func TestIndexAndUnknownPaths(t *testing.T) {
	server := serve(t, NewBoard(time.Now), "127.0.0.1:0", false)
	code, body := server.get(t, "/")
	require.Equal(t, 200, code)
	require.Contains(t, body, "/readyz/NAME")
	code, _ = server.get(t, "/else")
	require.Equal(t, 404, code)
	code, _ = server.get(t, "/debug/pprof/")
	require.Equal(t, 404, code, "pprof must be asked for")
	resp, err := server.client.Post(server.url+"/livez", "text/plain", nil)
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, 405, resp.StatusCode)
}

func TestPprofIfAskedFor(t *testing.T) {
	server := serve(t, NewBoard(time.Now), "127.0.0.1:0", true)
	code, body := server.get(t, "/debug/pprof/goroutine?debug=1")
	require.Equal(t, 200, code)
	require.Contains(t, body, "goroutine profile")
}

func TestWarnsUnlessLoopback(t *testing.T) {
	for addr, warns := range map[string]bool{"127.0.0.1:0": false, "0.0.0.0:0": true} {
		server := serve(t, NewBoard(time.Now), addr, false)
		server.get(t, "/livez")
		require.NoError(t, server.stop())
		if warns {
			require.Contains(t, server.log.String(), "can be reached from other machines", addr)
		} else {
			require.NotContains(t, server.log.String(), "can be reached from other machines", addr)
		}
	}
}

func TestBusyAddressIsSaidInOneSentence(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	board := NewBoard(time.Now)
	for _, test := range []struct{ addr, want string }{
		{listener.Addr().String(), "address already in use"},
		{"127.0.0.1", "missing port in address"},
	} {
		server := NewServer(ServerOptions{Addr: test.addr, Board: board, Registry: NewRegistry(board, Build{}), Log: slog.New(slog.DiscardHandler)})
		err := server.Run(t.Context())
		require.ErrorContains(t, err, "diag_addr \""+test.addr+"\" can't be listened on")
		require.ErrorContains(t, err, test.want)
		require.Equal(t, failure.Configuration, failure.KindOf(err))
	}
}

func TestServerBindsItsAddressAndCanRunAgain(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := listener.Addr().String()
	require.NoError(t, listener.Close())
	board := NewBoard(time.Now)
	server := NewServer(ServerOptions{Addr: addr, Board: board, Registry: NewRegistry(board, Build{}), Log: slog.New(slog.DiscardHandler)})
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for range 2 {
		ctx, cancel := context.WithCancel(t.Context())
		result := make(chan error, 1)
		go func() { result <- server.Run(ctx) }()
		require.Eventually(t, func() bool {
			resp, err := client.Get("http://" + addr + "/livez")
			if err != nil {
				return false
			}
			resp.Body.Close()
			return resp.StatusCode == http.StatusOK
		}, 30*time.Second, 5*time.Millisecond)
		cancel()
		require.NoError(t, <-result)
	}
}

func TestStopCutsOffAConnectionThatSaysNothing(t *testing.T) {
	server := serve(t, NewBoard(time.Now), "127.0.0.1:0", false)
	conn, err := net.Dial("tcp", server.url[len("http://"):])
	require.NoError(t, err)
	defer conn.Close()
	_, err = conn.Write([]byte("GET /livez HTTP/1.1\r\n"))
	require.NoError(t, err)
	server.get(t, "/livez") // The accept loop has seen both by now.
	began := time.Now()
	require.NoError(t, server.stop())
	require.Less(t, time.Since(began), shutdownTimeout+2*time.Second)
}

// TestAPassedSocketOutlivesAFailure: nobody can make it again.
func TestAPassedSocketOutlivesAFailure(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	board := NewBoard(time.Now)
	server := NewServer(ServerOptions{
		Listener: listener, Board: board, Registry: NewRegistry(board, Build{}), Log: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, server.Bind(t.Context()))
	require.NoError(t, server.bound.Close(), "something goes wrong with it")

	require.Error(t, server.Run(t.Context()))

	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	answer, err := http.Get("http://" + listener.Addr().String() + "/livez")
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	require.Equal(t, http.StatusOK, answer.StatusCode)
	cancel()
	require.NoError(t, <-ended)
	_, err = listener.Accept()
	require.ErrorIs(t, err, net.ErrClosed, "at the end it's given up")
}
