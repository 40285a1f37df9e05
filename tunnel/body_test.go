package tunnel

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

// TestBothWaysAtOnce has an application that answers before it reads, line by line
// as lines come: the head of the answer goes out while the body still comes, and
// nothing of the body is lost.
func TestBothWaysAtOnce(t *testing.T) {
	const lines = 20
	line := strings.Repeat("x", 999) + "\n"
	f := newFakeTeleport(t, func(w http.ResponseWriter, r *http.Request, _ string) {
		control := http.NewResponseController(w)
		_ = control.EnableFullDuplex()
		w.WriteHeader(http.StatusOK)
		_ = control.Flush()
		in := bufio.NewReader(r.Body)
		for n := 0; ; n++ {
			if _, err := in.ReadString('\n'); err != nil {
				fmt.Fprintf(w, "end after %d lines: %v\n", n, err)
				return
			}
			fmt.Fprintf(w, "line %d\n", n)
			_ = control.Flush()
		}
	})
	for name, c := range map[string]struct{ header, before, after, end string }{
		"in chunks":     {"Transfer-Encoding: chunked", fmt.Sprintf("%x\r\n", len(line)), "\r\n", "0\r\n\r\n"},
		"with a length": {fmt.Sprintf("Content-Length: %d", lines*len(line)), "", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			l := run(t, f.Listener.Addr().String(), nil).connect(t)

			l.send(t, "POST / HTTP/1.1\r\nHost: localhost\r\n"+c.header+"\r\n\r\n")

			resp := l.head(t)
			require.Equal(t, http.StatusOK, resp.StatusCode)
			answer := bufio.NewReader(resp.Body)
			for n := range lines {
				l.send(t, c.before+line+c.after)
				got, err := answer.ReadString('\n')
				require.NoError(t, err)
				require.Equal(t, fmt.Sprintf("line %d\n", n), got)
			}
			l.send(t, c.end)
			rest, err := io.ReadAll(answer)
			require.NoError(t, err)
			require.Equal(t, fmt.Sprintf("end after %d lines: EOF\n", lines), string(rest))
			require.Contains(t, l.get(t, "/").body, "end after 0 lines", "the connection goes on")
		})
	}
}

// TestARefusalNeedsNoBody has an application that refuses uploads without reading
// them, and closes: the client gets that while it sends, and then its next answer.
func TestARefusalNeedsNoBody(t *testing.T) {
	addr := newTalker(t, func(conn net.Conn, _ string) {
		_, _ = io.WriteString(conn, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
		_ = conn.Close()
	})
	log := &syncBuffer{}
	r := run(t, addr, func(_ *Options, d *Dependencies, _ *fakeSource) {
		d.Log = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	for range 50 {
		l := r.connect(t)
		for range 3 {
			l.send(t, "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
			resp := l.head(t)
			require.Equal(t, http.StatusRequestEntityTooLarge, resp.StatusCode)
			l.send(t, "1\r\nx\r\n0\r\n\r\n")
			body, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.Equal(t, "no", string(body))
		}
		require.NoError(t, l.Close())
	}
	require.NoError(t, r.stop())
	require.NotContains(t, log.String(), "panic")
}

// TestAClientsCutUploadIsItsOwnTrouble: it says nothing of the connection to the
// proxy, for which others' requests would be repeated and go the long way.
func TestAClientsCutUploadIsItsOwnTrouble(t *testing.T) {
	cut := make(chan struct{}, 1)
	f := newFakeTeleport(t, func(_ http.ResponseWriter, r *http.Request, _ string) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			cut <- struct{}{}
		}
	})
	r := run(t, f.Listener.Addr().String(), nil)
	l := r.connect(t)
	l.send(t, "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\nxxx")
	eventually(t, "the upload has begun", func() bool { return f.conns.Load() > 0 })

	require.NoError(t, l.Close())

	<-cut
	require.NoError(t, r.stop())
	require.False(t, r.upstream.troubled())
}

// TestAClientHearsWhatIsWrongWithItsBody, and that it's its own. What follows such
// a body may be a part of it, and is nobody's request.
func TestAClientHearsWhatIsWrongWithItsBody(t *testing.T) {
	var smuggled atomic.Bool
	f := newFakeTeleport(t, func(_ http.ResponseWriter, r *http.Request, _ string) {
		smuggled.Store(smuggled.Load() || r.URL.Path == "/smuggled")
		_, _ = io.Copy(io.Discard, r.Body)
	})
	for name, c := range map[string]struct{ rest, want string }{
		"a length that's none": {"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nx\r\n", "invalid byte in chunk length"},
		"a trailer that's none": {"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nno trailer\r\n\r\n",
			"malformed MIME header"},
	} {
		t.Run(name, func(t *testing.T) {
			r := run(t, f.Listener.Addr().String(), nil)
			l := r.connect(t)

			l.send(t, c.rest+"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n")

			got := l.answer(t)
			require.Equal(t, http.StatusBadRequest, got.status)
			require.Equal(t, kindBody, got.kind())
			require.Contains(t, got.body, "rollcall: the request's body can't be read: ")
			require.Contains(t, got.body, c.want)
			l.ends(t)
			require.NoError(t, r.stop())
			require.False(t, r.upstream.troubled())
			require.False(t, smuggled.Load())
		})
	}
}

// ends waits for the end of the connection, with nothing before it.
func (l *localClient) ends(t *testing.T) {
	t.Helper()
	_, err := l.in.ReadByte()
	require.Error(t, err)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
}

// TestWhatFollowsABodyWithoutAnEndIsNoRequest has an application that answers
// early, and a client whose body turns out to be none after that, with what looks
// like a request behind it.
func TestWhatFollowsABodyWithoutAnEndIsNoRequest(t *testing.T) {
	var asked atomic.Int64
	addr := newTalker(t, func(conn net.Conn, _ string) {
		asked.Add(1)
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly")
	})
	r := run(t, addr, nil)
	for n := range 20 {
		l := r.connect(t)
		l.send(t, "POST /first HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
		require.Equal(t, "early", l.answer(t).body)

		l.send(t, "zz\r\nPOST /smuggled HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")

		l.ends(t)
		require.EqualValues(t, n+1, asked.Load())
	}
}

// TestAnAnswerEndsBeforeTheBody: a client that holds its body open gets the whole
// of an answer that comes early, the application's or ours, and its connection
// ends then.
func TestAnAnswerEndsBeforeTheBody(t *testing.T) {
	refusing := newTalker(t, func(conn net.Conn, _ string) {
		_, _ = io.WriteString(conn, "HTTP/1.1 413 Content Too Large\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\nno\r\n0\r\n\r\n")
		_ = conn.Close()
	})
	for name, c := range map[string]struct {
		addr, want string
		status     int
	}{
		"the application's": {refusing, "no", http.StatusRequestEntityTooLarge},
		"ours":              {"127.0.0.1:1", "can't be reached", http.StatusBadGateway},
	} {
		for host, listening := range map[string]string{
			"localhost": run(t, c.addr, nil).Address(),
			"a":         runProxyTo(t, c.addr), // an application's name
		} {
			t.Run(name+", "+host, func(t *testing.T) {
				l := connectTo(t, listening)

				l.send(t, "POST / HTTP/1.1\r\nHost: "+host+"\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")

				got := l.answer(t)
				require.Equal(t, c.status, got.status)
				require.Contains(t, got.body, c.want)
				l.ends(t)
			})
		}
	}
}

// TestACutAnswerEndsAtOnce has an application that ends its connection amid an
// answer, while the client holds the rest of its body back.
func TestACutAnswerEndsAtOnce(t *testing.T) {
	addr := newTalker(t, func(conn net.Conn, _ string) {
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"+strings.Repeat("x", 50_000))
		_ = conn.Close()
	})
	for name, header := range map[string]string{"in chunks": "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n", "with a length": "Content-Length: 1000\r\n\r\nx"} {
		t.Run(name, func(t *testing.T) {
			l := run(t, addr, nil).connect(t)

			l.send(t, "POST / HTTP/1.1\r\nHost: localhost\r\n"+header)

			_, err := io.Copy(io.Discard, l.in)
			require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
		})
	}
}

// TestAClientThatEndsItsSideIsTold why it gets nothing: net/http takes it for
// gone, but it may read on, as nc does.
func TestAClientThatEndsItsSideIsTold(t *testing.T) {
	f := newFakeTeleport(t, func(_ http.ResponseWriter, r *http.Request, _ string) { <-r.Context().Done() })
	r := run(t, f.Listener.Addr().String(), nil)
	l := r.connect(t)
	l.send(t, "GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
	eventually(t, "it's asked", func() bool { return f.conns.Load() > 0 })

	require.NoError(t, l.Conn.(*net.TCPConn).CloseWrite())

	got := l.answer(t)
	require.Equal(t, http.StatusBadGateway, got.status)
	require.Equal(t, kindGone, got.kind())
	require.Contains(t, got.body, "keep it open")
	require.NoError(t, r.stop())
	require.EqualValues(t, 1, r.metric("requests_total", prometheus.Labels{"code": "4xx"}), "as one that went away")
}

// TestWhatComesBeforeAnUpgradeIsGrantedIsKept: not every protocol's clients wait
// for the answer.
func TestWhatComesBeforeAnUpgradeIsGrantedIsKept(t *testing.T) {
	f := newFakeTeleport(t, func(w http.ResponseWriter, _ *http.Request, _ string) {
		conn, in, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		_, _ = io.Copy(conn, in)
	})
	l := run(t, f.Listener.Addr().String(), nil).connect(t)

	l.send(t, "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nearly ")

	require.Equal(t, http.StatusSwitchingProtocols, l.head(t).StatusCode)
	l.send(t, "and late\n")
	got, err := l.in.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "early and late\n", got)
}

// TestWhoMaySendOnKeepsNobodyWaiting has clients whose last request had a body, and
// who don't close their side. Some may still send; a stop waits for none in turn.
func TestWhoMaySendOnKeepsNobodyWaiting(t *testing.T) {
	const clients = 12
	f := newFakeTeleport(t, hello)
	for name, asked := range map[string]string{
		"a kept body": "PUT / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nbody",
		"a refusal":   "POST /teleport-logout HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nbody",
		"a wish":      "POST / HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nbody",
	} {
		t.Run(name, func(t *testing.T) {
			r := run(t, f.Listener.Addr().String(), nil)
			for range clients {
				l := r.connect(t)
				l.send(t, asked)
				for l.head(t).StatusCode < http.StatusOK {
				}
			}
			began := time.Now()

			require.NoError(t, r.stop())

			require.Less(t, time.Since(began), clients*lingerTime/2)
		})
	}
}

// TestLingeringTakesItsTime, whoever sets a deadline meanwhile, and ends at once if
// the connection is cut.
func TestLingeringTakesItsTime(t *testing.T) {
	for name, end := range map[string]struct {
		by func(*client)
		// quick says that it's over before its time.
		quick bool
	}{
		"by itself":               {func(*client) {}, false},
		"with an early deadline":  {func(c *client) { _ = c.SetReadDeadline(longAgo()) }, false},
		"with a late deadline":    {func(c *client) { _ = c.SetReadDeadline(time.Now().Add(time.Hour)) }, false},
		"with another Close":      {func(c *client) { _ = c.Close() }, false},
		"when the client is gone": {func(c *client) { _ = c.Conn.(*lingered).far.Close() }, true},
		"when it's cut":           {(*client).cut, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			took := lingerTime
			for try := 0; try == 0 || end.quick && took >= lingerTime && try < 10; try++ { // a busy host is slow now and then
				f := &front{counts: NewMetrics().of("test"), limit: 1, bulk: newBuffers(bulkBuffer), clients: map[*client]struct{}{}}
				conn := newLingered()
				c := f.place(conn)
				c.unread.Store(true)
				began := time.Now()

				require.NoError(t, c.Close())
				<-conn.reads
				end.by(c)

				require.True(t, f.handlers.wait(patience))
				took = time.Since(began)
				require.NotNil(t, f.place(conn), "its place is free")
			}
			require.Equal(t, end.quick, took < lingerTime)
		})
	}
}

// lingered is a connection that tells of reads.
type lingered struct {
	net.Conn
	far   net.Conn
	reads chan struct{}
}

func newLingered() *lingered {
	near, far := net.Pipe()
	return &lingered{Conn: near, far: far, reads: make(chan struct{}, 100)}
}

func (l *lingered) Read(p []byte) (int, error) {
	l.reads <- struct{}{}
	return l.Conn.Read(p)
}

func (*lingered) CloseWrite() error { return nil }

// TestAKnownEndLeavesNothingUnread is for connections that are closed after the
// answer: nobody has to be lingered on who has sent all.
func TestAKnownEndLeavesNothingUnread(t *testing.T) {
	for name, c := range map[string]struct {
		body func() io.ReadCloser
		want bool
	}{
		"a kept body":          {func() io.ReadCloser { return io.NopCloser(strings.NewReader("body")) }, false},
		"a body that was read": {func() io.ReadCloser { b := &clientBody{}; b.atEnd.Store(true); return b }, false},
		"a body that wasn't":   {func() io.ReadCloser { return &clientBody{} }, true},
	} {
		t.Run(name, func(t *testing.T) {
			client := &client{}
			client.unread.Store(true)
			r := request(t, http.MethodPut, "http://localhost", nil)
			r = r.WithContext(withClient(r.Context(), client))
			r.Body = c.body()

			noteRead(r)

			require.Equal(t, c.want, client.unread.Load())
		})
	}
}

// TestAStopCutsUploads that don't end, and the application hears of it: none of
// them is whole, nor may anybody else read what belongs to them.
func TestAStopCutsUploads(t *testing.T) {
	const clients = 12
	ends := make(chan error, clients)
	f := newFakeTeleport(t, func(_ http.ResponseWriter, r *http.Request, _ string) {
		_, err := io.Copy(io.Discard, r.Body)
		ends <- err
	})
	r := run(t, f.Listener.Addr().String(), nil)
	chunk := fmt.Sprintf("%x\r\n%s\r\n", 1000, strings.Repeat("x", 1000))
	var sending sync.WaitGroup
	defer sending.Wait()
	for range clients {
		l := r.connect(t)
		l.send(t, "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
		sending.Go(func() {
			for {
				if _, err := io.WriteString(l, chunk); err != nil {
					return
				}
				time.Sleep(time.Millisecond) // so that the host isn't busy with them alone
			}
		})
	}
	eventually(t, "uploads", func() bool { return r.metric("bytes_total", prometheus.Labels{"direction": "sent"}) > clients*10_000 })
	began := time.Now()

	require.NoError(t, r.stop())

	require.Less(t, time.Since(began), drainTime+clients*lingerTime/2)
	for range clients {
		require.Error(t, <-ends)
	}
}

// TestAnEarlyAnswerIsReadByWhoSendsOn has clients that go on sending a large body
// after it was refused, by the application or by the tunnel.
func TestAnEarlyAnswerIsReadByWhoSendsOn(t *testing.T) {
	f := newFakeTeleport(t, func(w http.ResponseWriter, _ *http.Request, _ string) {
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		fmt.Fprint(w, "too large")
	})
	r := run(t, f.Listener.Addr().String(), nil)
	large := bytes.Repeat([]byte("x"), 32<<20)
	bodies := map[string]func() io.Reader{
		"with a length": func() io.Reader { return bytes.NewReader(large) },
		"in chunks":     func() io.Reader { return io.MultiReader(bytes.NewReader(large)) },
	}
	paths := map[string]int{"/": http.StatusRequestEntityTooLarge, "/teleport-logout": http.StatusForbidden}
	for kind, body := range bodies {
		for path, status := range paths {
			for name, once := range map[string]bool{"the connection's last": true, "perhaps not the last": false} {
				t.Run(kind+" to "+path+", "+name, func(t *testing.T) {
					t.Parallel()
					for range 5 {
						transport := &http.Transport{DisableKeepAlives: once}
						require.Equal(t, status, askWith(t, transport, request(t, http.MethodPost, r.url(path), body())).status)
						transport.CloseIdleConnections()
					}
				})
			}
		}
	}
}
