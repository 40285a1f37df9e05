package tunnel

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"rollcall/diagnostics"
)

// hello answers with the certificate's serial.
func hello(w http.ResponseWriter, _ *http.Request, serial string) { fmt.Fprint(w, serial) }

func TestRequestReachesTheApplication(t *testing.T) {
	f := newFakeTeleport(t, func(w http.ResponseWriter, r *http.Request, serial string) {
		w.Header().Set("Location", "https://"+r.Host+"/there")
		w.WriteHeader(http.StatusFound)
		fmt.Fprintf(w, "%s %s %s origin=%s", serial, r.Host, r.URL.RequestURI(), r.Header.Get("Origin"))
	})
	r := run(t, f.Listener.Addr().String(), nil)
	req := request(t, http.MethodGet, r.url("/a%2Fb?x;y"), nil)
	req.Header.Set("Origin", r.url(""))

	got := ask(t, req)

	require.Equal(t, http.StatusFound, got.status)
	require.Equal(t, r.url("/there"), got.header.Get("Location"))
	require.Equal(t, "serial-1 "+appHost+" /a%2Fb?x;y origin=https://"+appHost, got.body)
	// Counted once all of it is sent, which the client may see first.
	eventually(t, "counting", func() bool { return r.metric("requests_total", prometheus.Labels{"code": "3xx"}) == 1 })
	require.EqualValues(t, 1, r.metric("connections_total", prometheus.Labels{"result": "accepted"}))
	require.Positive(t, r.metric("bytes_total", prometheus.Labels{"direction": "sent"}))
	require.Equal(t, diagnostics.StateReady, r.state().State)
	require.Contains(t, r.state().Message, r.Address())
}

func TestStreamsAndTrailersPass(t *testing.T) {
	next := make(chan struct{})
	f := newFakeTeleport(t, func(w http.ResponseWriter, r *http.Request, _ string) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Trailer", "Sum")
		fmt.Fprintf(w, "%s %s\n", body, r.Trailer.Get("Asked"))
		_ = http.NewResponseController(w).Flush()
		<-next
		fmt.Fprintln(w, "second")
		w.Header().Set("Sum", "2")
	})
	r := run(t, f.Listener.Addr().String(), nil)
	req := request(t, http.MethodPost, r.url("/"), io.MultiReader(strings.NewReader("body")))
	req.Trailer = http.Header{"Asked": {"for"}}
	transport := &http.Transport{DisableKeepAlives: true}

	resp, err := transport.RoundTrip(req)

	require.NoError(t, err)
	defer resp.Body.Close()
	lines := bufio.NewReader(resp.Body)
	first, err := lines.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "body for\n", first, "before the application has gone on")
	close(next)
	rest, err := io.ReadAll(lines)
	require.NoError(t, err)
	require.Equal(t, "second\n", string(rest))
	require.Equal(t, "2", resp.Trailer.Get("Sum"))
}

// TestPartsOfAKnownLengthPass has an application that says how long its answer
// will be, and takes its time: what is there already isn't kept back.
func TestPartsOfAKnownLengthPass(t *testing.T) {
	for name, part := range map[string]string{
		"a short answer": "part\n", "a long answer": strings.Repeat("part", copyBuffer/4) + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			next := make(chan struct{})
			f := newFakeTeleport(t, func(w http.ResponseWriter, _ *http.Request, _ string) {
				w.Header().Set("Content-Length", strconv.Itoa(2*len(part)))
				for range 2 {
					_ = http.NewResponseController(w).Flush()
					<-next
					fmt.Fprint(w, part)
				}
			})
			r := run(t, f.Listener.Addr().String(), nil)
			transport := &http.Transport{DisableKeepAlives: true}

			resp, err := transport.RoundTrip(request(t, http.MethodGet, r.url("/"), nil))

			require.NoError(t, err, "the header came before the body")
			defer resp.Body.Close()
			require.EqualValues(t, 2*len(part), resp.ContentLength)
			lines := bufio.NewReader(resp.Body)
			for range 2 {
				next <- struct{}{}
				line, err := lines.ReadString('\n')
				require.NoError(t, err)
				require.Equal(t, part, line)
			}
			_, err = lines.ReadByte()
			require.ErrorIs(t, err, io.EOF)
		})
	}
}

// countingListener counts how often its connections are written to.
type countingListener struct {
	net.Listener
	writes atomic.Int64
}

func (l *countingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &countingConn{conn, l}, nil
}

type countingConn struct {
	net.Conn
	listener *countingListener
}

func (c *countingConn) Write(p []byte) (int, error) {
	c.listener.writes.Add(1)
	return c.Conn.Write(p)
}

// TestSmallAnswersGoOutInOnePiece: a header that is sent before its body costs
// this host and the client as much as the answer does.
func TestSmallAnswersGoOutInOnePiece(t *testing.T) {
	f := newFakeTeleport(t, hello)
	counted := &countingListener{}
	r := runBound(t, f.Listener.Addr().String(), nil, func(own net.Listener) net.Listener {
		counted.Listener = own
		return counted
	})

	const answers = 50
	for range answers {
		require.Equal(t, "serial-1", r.get(t, "/").body)
	}

	// On a busy host one or another may take longer than it waits for its body.
	require.Less(t, counted.writes.Load(), int64(answers*3/2))
}

// upgradeEcho takes over the connection and echoes.
func upgradeEcho(w http.ResponseWriter, _ *http.Request, serial string) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: test\r\nX-Serial: %s\r\n\r\n", serial)
	_, _ = io.Copy(conn, buffered)
}

// upgradeTo opens an upgraded connection through the tunnel.
func upgradeTo(t *testing.T, r *rig) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(r.Address(), "tcp://"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	_, err = io.WriteString(conn, "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: test\r\n\r\n")
	require.NoError(t, err)
	reader := bufio.NewReader(conn)
	resp, err := http.ReadResponse(reader, nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusSwitchingProtocols, resp.StatusCode)
	return conn, reader
}

func requireLine(t *testing.T, conn net.Conn, reader *bufio.Reader, text string) {
	t.Helper()
	_, err := io.WriteString(conn, text+"\n")
	require.NoError(t, err)
	got, err := reader.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, text+"\n", got)
}

func TestRenewalBreaksNothing(t *testing.T) {
	held := make(chan struct{})
	f := newFakeTeleport(t, func(w http.ResponseWriter, r *http.Request, serial string) {
		if r.URL.Path == "/ws" {
			upgradeEcho(w, r, serial)
			return
		}
		if r.URL.Path == "/held" {
			fmt.Fprintln(w, serial)
			_ = http.NewResponseController(w).Flush()
			<-held
		}
		hello(w, r, serial)
	})
	r := run(t, f.Listener.Addr().String(), nil)
	socket, reader := upgradeTo(t, r)
	requireLine(t, socket, reader, "before")
	transport := &http.Transport{DisableKeepAlives: true}
	stream, err := transport.RoundTrip(request(t, http.MethodGet, r.url("/held"), nil))
	require.NoError(t, err)
	defer stream.Body.Close()
	require.Equal(t, "serial-1", r.get(t, "/").body)

	r.RenewNow("test")

	eventually(t, "a new certificate", func() bool { return r.get(t, "/").body == "serial-2" })
	requireLine(t, socket, reader, "after")
	close(held)
	rest, err := io.ReadAll(stream.Body)
	require.NoError(t, err)
	require.Equal(t, "serial-1\nserial-1", string(rest))
	eventually(t, "counting", func() bool { return r.metric("requests_total", prometheus.Labels{"code": "2xx"}) >= 3 })
}

func TestLoginRedirectIsAnsweredWithANewCertificate(t *testing.T) {
	login := func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://teleport.example.com/web/launch/"+appHost+"?path=x", http.StatusFound)
	}
	var reached atomic.Int64
	f := newFakeTeleport(t, func(w http.ResponseWriter, r *http.Request, serial string) {
		if serial == "serial-1" {
			login(w, r)
			return
		}
		reached.Add(1)
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s", r.Method, serial, body)
	})
	r := run(t, f.Listener.Addr().String(), nil)
	require.Equal(t, "GET serial-2 ", r.get(t, "/").body)

	t.Run("a small body is sent again", func(t *testing.T) {
		r := run(t, f.Listener.Addr().String(), nil)
		got := ask(t, request(t, http.MethodPut, r.url("/"), strings.NewReader("small")))
		require.Equal(t, "PUT serial-2 small", got.body)
	})
	t.Run("a request that can't be sent again is told the reason, and the next one works", func(t *testing.T) {
		r := run(t, f.Listener.Addr().String(), nil)
		got := ask(t, request(t, http.MethodPost, r.url("/"), io.MultiReader(strings.NewReader("stream"))))
		require.Equal(t, http.StatusBadGateway, got.status)
		require.Equal(t, kindLogin, got.kind())
		require.Empty(t, got.header.Get("Location"))
		eventually(t, "a new certificate", func() bool { return r.get(t, "/").body == "GET serial-2 " })
	})
	t.Run("no login page after a renewal that was in vain", func(t *testing.T) {
		always := func(w http.ResponseWriter, r *http.Request, _ string) { login(w, r) }
		r := run(t, newFakeTeleport(t, always).Listener.Addr().String(), nil)
		got := r.get(t, "/")
		require.Equal(t, http.StatusBadGateway, got.status)
		require.Equal(t, kindLogin, got.kind())
		require.Equal(t, 2, r.source.count())
		require.EqualValues(t, 1, r.metric("requests_total", prometheus.Labels{"code": "local_502"}))
	})
}

func TestForbiddenIsAnsweredWithANewCertificate(t *testing.T) {
	f := newFakeTeleport(t, func(w http.ResponseWriter, r *http.Request, serial string) {
		if serial == "serial-1" {
			http.Error(w, "Forbidden", http.StatusForbidden)
			return
		}
		hello(w, r, serial)
	})
	r := run(t, f.Listener.Addr().String(), nil)
	var group sync.WaitGroup
	for range 20 { // all of them at once, and one renewal
		group.Go(func() {
			resp, err := http.Get(r.url("/"))
			if err == nil {
				defer resp.Body.Close()
				_, err = io.Copy(io.Discard, resp.Body)
			}
			if err != nil || resp.StatusCode != http.StatusOK {
				t.Errorf("got %v, %v", resp, err)
			}
		})
	}
	group.Wait()
	http.DefaultClient.CloseIdleConnections()
	require.Equal(t, 2, r.source.count())
}

func TestAnApplicationsOwnForbiddenCausesFewRenewals(t *testing.T) {
	var posts atomic.Int64
	f := newFakeTeleport(t, func(w http.ResponseWriter, r *http.Request, _ string) {
		if r.Method == http.MethodPost {
			posts.Add(1)
		}
		http.Error(w, "Forbidden", http.StatusForbidden)
	})
	r := run(t, f.Listener.Addr().String(), nil)
	for range 10 {
		got := r.get(t, "/")
		require.Equal(t, http.StatusForbidden, got.status)
		require.Equal(t, "Forbidden\n", got.body)
		require.Empty(t, got.kind(), "it's the application's answer")
	}
	got := ask(t, request(t, http.MethodPost, r.url("/"), strings.NewReader("x")))
	require.Equal(t, http.StatusForbidden, got.status)
	require.EqualValues(t, 1, posts.Load(), "a POST is never sent twice")
	require.Equal(t, 2, r.source.count())
}

func TestApplicationThatComesLater(t *testing.T) {
	f := newFakeTeleport(t, hello)
	r := run(t, f.Listener.Addr().String(), func(_ *Options, _ *Dependencies, s *fakeSource) { s.err = notFound() })
	got := r.get(t, "/")
	require.Equal(t, http.StatusServiceUnavailable, got.status)
	require.Equal(t, kindUnavailable, got.kind())
	require.Equal(t, "1", got.header.Get("Retry-After"))
	require.Contains(t, got.body, "was not found")
	eventually(t, "it is reported", func() bool { return r.state().State == diagnostics.StateFailing })

	r.source.set(func(s *fakeSource) { s.err = nil })

	// Nobody tells it: clients who ask are reason enough to look again.
	eventually(t, "the application", func() bool { return r.get(t, "/").body == "serial-1" })
	eventually(t, "it is reported too", func() bool { return r.state().State == diagnostics.StateReady })
}

func TestExpiredCertificateIsNotUsed(t *testing.T) {
	f := newFakeTeleport(t, hello)
	r := run(t, f.Listener.Addr().String(), func(_ *Options, d *Dependencies, s *fakeSource) {
		s.life, d.Polls = 300*time.Millisecond, true
	})
	require.Equal(t, "serial-1", r.get(t, "/").body)
	r.source.set(func(s *fakeSource) { s.err = errTest })
	eventually(t, "the reason", func() bool {
		got := r.get(t, "/")
		return got.status == http.StatusServiceUnavailable && strings.Contains(got.body, errTest.Error())
	})
	r.source.set(func(s *fakeSource) { s.err, s.life = nil, time.Hour })
	r.RenewNow("the files changed")
	eventually(t, "a new one", func() bool { return r.get(t, "/").status == http.StatusOK })
}

func TestCutConnectionsAreBridged(t *testing.T) {
	var tries atomic.Int64
	f := newFakeTeleport(t, func(w http.ResponseWriter, r *http.Request, serial string) {
		n := tries.Add(1)
		switch {
		case n == 1:
			panic(http.ErrAbortHandler) // as a proxy that is killed
		case n == 2:
			http.Error(w, "Internal Server Error", http.StatusInternalServerError) // while its parts meet
		default:
			hello(w, r, serial)
		}
	})
	r := run(t, f.Listener.Addr().String(), nil)
	got := r.get(t, "/")
	require.Equal(t, http.StatusOK, got.status, got.body)

	tries.Store(0)
	got = ask(t, request(t, http.MethodPost, r.url("/"), strings.NewReader("x")))
	require.Equal(t, http.StatusBadGateway, got.status, "a POST may have been done")
	require.Equal(t, kindUpstream, got.kind())
	require.Contains(t, got.body, appName)
}

func TestWhatIsRefused(t *testing.T) {
	f := newFakeTeleport(t, hello)
	r := run(t, f.Listener.Addr().String(), func(o *Options, d *Dependencies, _ *fakeSource) {
		o.AllowedHosts = []string{"grafana.internal"}
		o.BearerToken, d.Secret = "/etc/token", func() (string, error) { return secret, nil }
	})
	for _, test := range []struct {
		name, method, path, host string
		header                   map[string]string
		status                   int
		kind                     string
	}{
		{"with the token", "GET", "/", "", map[string]string{"Authorization": "Bearer " + secret}, 200, ""},
		{"by an allowed name", "GET", "/", "grafana.internal:80", map[string]string{"Authorization": "Bearer " + secret}, 200, ""},
		{"without the token", "GET", "/", "", nil, 401, kindToken},
		{"another host", "GET", "/", "evil.example", map[string]string{"Authorization": "Bearer " + secret}, 403, kindHost},
		{"another site", "POST", "/", "", map[string]string{"Authorization": "Bearer " + secret, "Origin": "https://evil.example"}, 403, kindHost},
		{"Teleport's logout", "GET", "/teleport-logout", "", map[string]string{"Authorization": "Bearer " + secret}, 403, kindPath},
		{"CONNECT", "CONNECT", "/", "", map[string]string{"Authorization": "Bearer " + secret}, 400, kindMethod},
	} {
		t.Run(test.name, func(t *testing.T) {
			req := request(t, test.method, r.url(test.path), nil)
			if test.host != "" {
				req.Host = test.host
			}
			for name, value := range test.header {
				req.Header.Set(name, value)
			}
			got := ask(t, req)
			require.Equal(t, test.status, got.status, got.body)
			require.Equal(t, test.kind, got.kind())
		})
	}
	require.EqualValues(t, 1, r.metric("requests_total", prometheus.Labels{"code": "local_401"}))
}

// TestNoApplicationAnswersInOurName has one that answers with the header by which
// clients know answers that aren't an application's.
func TestNoApplicationAnswersInOurName(t *testing.T) {
	f := newFakeTeleport(t, func(w http.ResponseWriter, _ *http.Request, _ string) {
		w.Header().Set(headerKind, kindToken)
		w.WriteHeader(http.StatusUnauthorized)
	})
	r := run(t, f.Listener.Addr().String(), nil)
	for way, more := range map[string]string{"plain": "", "other": "Content-Length: 0\r\n"} {
		l := r.connect(t)

		l.send(t, "GET / HTTP/1.1\r\nHost: localhost\r\n"+more+"\r\n")

		got := l.answer(t)
		require.Equal(t, http.StatusUnauthorized, got.status)
		require.NotContains(t, got.header, headerKind, way)
	}
	r.carriedPlainly(t)
}

func TestConnectionsBeyondTheLimit(t *testing.T) {
	release := make(chan struct{})
	f := newFakeTeleport(t, func(w http.ResponseWriter, r *http.Request, serial string) {
		if r.URL.Path == "/held" {
			<-release
		}
		hello(w, r, serial)
	})
	r := run(t, f.Listener.Addr().String(), func(o *Options, _ *Dependencies, _ *fakeSource) { o.MaxConnections = 2 })
	var group sync.WaitGroup
	for range 2 {
		group.Go(func() {
			resp, err := http.Get(r.url("/held"))
			if err != nil {
				t.Error(err)
				return
			}
			_ = resp.Body.Close()
		})
	}
	eventually(t, "two connections", func() bool { return r.metric("connections", prometheus.Labels{}) == 2 })

	got := r.get(t, "/")
	require.Equal(t, http.StatusServiceUnavailable, got.status)
	require.Equal(t, kindLimit, got.kind())
	require.EqualValues(t, 1, r.metric("connections_total", prometheus.Labels{"result": "limit"}))

	close(release)
	group.Wait()
	http.DefaultClient.CloseIdleConnections()
	eventually(t, "a free place", func() bool { return r.get(t, "/").status == http.StatusOK })
}

func TestAccessLogHasNoSecrets(t *testing.T) {
	for name, transport := range map[string]*http.Transport{"of a plain request": {}, "of another": {DisableKeepAlives: true}} {
		t.Run(name, func(t *testing.T) {
			f := newFakeTeleport(t, hello)
			r := run(t, f.Listener.Addr().String(), func(o *Options, _ *Dependencies, _ *fakeSource) { o.AccessLog = true })
			req := request(t, http.MethodGet, r.url("/path?token="+secret), nil)
			req.Header.Set("Authorization", "Bearer "+secret)
			defer transport.CloseIdleConnections()
			require.Equal(t, http.StatusOK, askWith(t, transport, req).status)
			eventually(t, "the line", func() bool { return strings.Contains(r.log.String(), "msg=Request.") })
			require.Regexp(t, `method=GET host=127\.0\.0\.1:\d+ path=/path status=200 took=\S+ sent=\d+ received=\d+ peer_uid=\d+`, r.log.String())
			require.NotContains(t, r.log.String(), secret)
		})
	}
}

func TestStopLetsRequestsEnd(t *testing.T) {
	begun, release := make(chan struct{}), make(chan struct{})
	f := newFakeTeleport(t, func(w http.ResponseWriter, r *http.Request, serial string) {
		close(begun)
		<-release
		hello(w, r, serial)
	})
	r := run(t, f.Listener.Addr().String(), nil)
	result := make(chan answered, 1)
	go func() { result <- r.get(t, "/") }()
	<-begun
	stopped := make(chan error, 1)
	go func() { stopped <- r.stop() }()
	eventually(t, "nobody is let in any more", func() bool {
		conn, err := net.Dial("tcp", strings.TrimPrefix(r.url(""), "http://"))
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	})
	close(release)
	require.Equal(t, "serial-1", (<-result).body)
	require.NoError(t, <-stopped)
}

func TestOneThousandAtOnce(t *testing.T) {
	f := newFakeTeleport(t, hello)
	r := run(t, f.Listener.Addr().String(), nil)
	transport := &http.Transport{MaxIdleConnsPerHost: 1000}
	defer transport.CloseIdleConnections()
	var group sync.WaitGroup
	for range 1000 {
		group.Go(func() {
			resp, err := transport.RoundTrip(request(t, http.MethodGet, r.url("/"), nil))
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			if body, _ := io.ReadAll(resp.Body); string(body) != "serial-1" {
				t.Errorf("got %d %s", resp.StatusCode, body)
			}
		})
	}
	group.Wait()
}

// TestASlowAttemptIsRepeatedOnce: where the first attempt alone took longer than
// the time for repeating, there's one more, and no third.
func TestASlowAttemptIsRepeatedOnce(t *testing.T) {
	r := run(t, newFakeTeleport(t, hello).Listener.Addr().String(), nil)
	now := time.Now()
	slow := &delivery{courier: &courier{upstream: r.Tunnel.upstream}, until: now.Add(-time.Second), once: now.Add(time.Minute), pause: time.Millisecond}

	require.True(t, slow.rest(t.Context()))
	require.False(t, slow.rest(t.Context()))
}
