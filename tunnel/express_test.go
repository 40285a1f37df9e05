package tunnel

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

// localClient is a connection of a client that says byte by byte what it sends.
type localClient struct {
	net.Conn
	in *bufio.Reader
}

func (r *rig) connect(t *testing.T) *localClient {
	t.Helper()
	return connectTo(t, r.Address())
}

// connectTo is connect for an address as configurations have it.
func connectTo(t *testing.T, listen string) *localClient {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(listen, "tcp://"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	return &localClient{conn, bufio.NewReader(conn)}
}

func (l *localClient) send(t *testing.T, text string) {
	t.Helper()
	_, err := io.WriteString(l, text)
	require.NoError(t, err)
}

// head reads the head of an answer; its body is still to come.
func (l *localClient) head(t *testing.T) *http.Response {
	t.Helper()
	resp, err := http.ReadResponse(l.in, nil)
	require.NoError(t, err)
	return resp
}

func (l *localClient) answer(t *testing.T) answered {
	t.Helper()
	resp := l.head(t)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return answered{resp.StatusCode, resp.Header, string(body)}
}

// get sends a plain request.
func (l *localClient) get(t *testing.T, path string) answered {
	t.Helper()
	l.send(t, "GET "+path+" HTTP/1.1\r\nHost: localhost\r\n\r\n")
	return l.answer(t)
}

// unused are the connections to the fake Teleport that plain requests have left
// behind.
func (r *rig) unused() int {
	now := r.upstream.last()
	now.lanes.mu.Lock()
	defer now.lanes.mu.Unlock()
	return len(now.lanes.unused)
}

// carriedPlainly waits for what a plain request leaves behind, once it's done.
func (r *rig) carriedPlainly(t *testing.T) {
	t.Helper()
	eventually(t, "the connection of a plain request", func() bool { return r.unused() > 0 })
}

// TestPlainRequestsAreCarriedAsOthersAre sends each request twice, once so that
// it's plain and once so that it isn't, and compares what the application sees
// and what the client gets.
func TestPlainRequestsAreCarriedAsOthersAre(t *testing.T) {
	large := strings.Repeat("0123456789abcdef", 20<<10)
	answers := map[string]func(w http.ResponseWriter, r *http.Request){
		"a short one": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") },
		"nothing":     func(http.ResponseWriter, *http.Request) {},
		"no content":  func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) },
		"not modified": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Etag", `"a"`)
			w.WriteHeader(http.StatusNotModified)
		},
		"a long one of known length": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(large)))
			fmt.Fprint(w, large)
		},
		"a long one of unknown length": func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, large)
			_ = http.NewResponseController(w).Flush()
			fmt.Fprint(w, large)
		},
		"trailers": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Trailer", "Sum")
			fmt.Fprint(w, "hello")
			w.Header().Set("Sum", "5")
			w.Header().Set(http.TrailerPrefix+"Unannounced", "6")
		},
		"a redirect": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "https://"+r.Host+"/there")
			w.WriteHeader(http.StatusFound)
		},
		"cookies": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Add("Set-Cookie", "a=b; Secure; Domain="+appHost)
			w.Header().Add("Set-Cookie", "c=d; SameSite=None; Secure")
		},
		"headers of the connection": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Connection", "X-Hop")
			w.Header().Set("X-Hop", "1")
			w.Header().Set("Keep-Alive", "timeout=5")
			fmt.Fprint(w, "hello")
		},
		"the end of the connection": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Connection", "close")
			fmt.Fprint(w, "hello")
		},
		"early hints": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Link", "</a.css>")
			w.WriteHeader(http.StatusEarlyHints)
			fmt.Fprint(w, "hello")
		},
		"another page may read it": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Access-Control-Allow-Origin", "https://"+appHost)
		},
		"what looks like Teleport's refusal": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "Forbidden", http.StatusForbidden) },
		"an error":                           func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no such thing", http.StatusNotFound) },
	}
	questions := map[string]string{
		"a browser": "GET /a%2Fb//c?x;y=%zz HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\nReferer: http://localhost/a\r\n" +
			"Cookie: x=y; " + sessionCookies + "=z\r\nX-Forwarded-For: 1.2.3.4\r\nForwarded: for=1.2.3.4\r\nX-Real-Ip: 1.2.3.4\r\n" +
			"Authorization: Basic eDp5\r\nAccept: a\r\nAccept: b\r\nPragma: no-cache\r\n",
		"a program": "GET /a/b//c/../d@e;f?x;y=%zz&/?g HTTP/1.1\r\naccept: a\r\nHost:  localhost:80 \r\nConnection: keep-alive\r\n" +
			"Authorization: Basic eDp5\r\nX-odd_Name:  1\t2 \r\nAccept: b\r\n",
	}
	for name, answer := range answers {
		for who, question := range questions {
			t.Run(name+" for "+who, func(t *testing.T) {
				var seen atomic.Pointer[http.Request]
				f := newFakeTeleport(t, func(w http.ResponseWriter, r *http.Request, _ string) {
					seen.Store(r)
					answer(w, r)
				})
				r := run(t, f.Listener.Addr().String(), nil)
				both := map[string]exchanged{}
				r.keeper.suspect("test", false) // so that 403 is no reason for a renewal
				for way, more := range map[string]string{"plain": "", "other": "Content-Length: 0\r\n"} {
					l := r.connect(t)
					l.send(t, question+more+"\r\n")
					both[way] = l.exchanged(t, &seen)
				}

				require.Equal(t, both["other"], both["plain"])
				if name != "the end of the connection" {
					r.carriedPlainly(t)
				}
			})
		}
	}
}

// exchanged is what an application saw and what its client got.
type exchanged struct {
	method, uri, host, answer string
	asked, got, trailer       http.Header
	informed                  []int
	status                    int
	length                    int64
}

func (l *localClient) exchanged(t *testing.T, seen *atomic.Pointer[http.Request]) exchanged {
	t.Helper()
	x := exchanged{}
	resp := l.head(t)
	for resp.StatusCode < http.StatusOK {
		x.informed = append(x.informed, resp.StatusCode)
		resp = l.head(t)
	}
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	asked := seen.Load()
	x.method, x.uri, x.host, x.asked = asked.Method, asked.RequestURI, asked.Host, asked.Header
	x.answer, x.got, x.trailer, x.status, x.length = string(body), resp.Header, resp.Trailer, resp.StatusCode, resp.ContentLength
	x.got.Del("Date")
	return x
}

func TestAnythingMayFollowAPlainRequest(t *testing.T) {
	f := newFakeTeleport(t, func(w http.ResponseWriter, r *http.Request, _ string) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s", r.Method, r.URL.Path, body)
	})
	r := run(t, f.Listener.Addr().String(), nil)
	l := r.connect(t)

	require.Equal(t, "GET /1 ", l.get(t, "/1").body)
	require.Equal(t, "GET /2 ", l.get(t, "/2").body)
	r.carriedPlainly(t)
	l.send(t, "GET /3 HTTP/1.1\r\nHost: localhost\r\n\r\nPOST /4 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nbodyGET /5 HTTP/1.1\r\nHost: localhost\r\n\r\n")
	require.Equal(t, "GET /3 ", l.answer(t).body, "it's sent with others in one piece")
	require.Equal(t, "POST /4 body", l.answer(t).body)
	require.Equal(t, "GET /5 ", l.answer(t).body)
	l.send(t, "GET /6 HTTP/1.1\r\nHost: loc")
	l.send(t, "alhost\r\nConnection: close\r\n\r\n")
	require.Equal(t, "GET /6 ", l.answer(t).body)
	_, err := l.in.ReadByte()
	require.ErrorIs(t, err, io.EOF)
	eventually(t, "counting", func() bool { return r.metric("requests_total", prometheus.Labels{"code": "2xx"}) == 6 })
}

func TestARequestInPiecesIsServed(t *testing.T) {
	f := newFakeTeleport(t, hello)
	r := run(t, f.Listener.Addr().String(), nil)
	l := r.connect(t)

	for _, piece := range []string{"G", "ET / HTTP/1.1\r", "\nHost: localhost\r\n", "\r", "\n"} {
		l.send(t, piece)
	}

	require.Equal(t, "serial-1", l.answer(t).body)
}

// TestEventsOfAStreamAreNotKeptBack has an application whose events are each
// awaited before it goes on.
func TestEventsOfAStreamAreNotKeptBack(t *testing.T) {
	next := make(chan struct{})
	f := newFakeTeleport(t, func(w http.ResponseWriter, _ *http.Request, _ string) {
		for i := range 3 {
			fmt.Fprintf(w, "data: %d\n", i)
			_ = http.NewResponseController(w).Flush()
			<-next
		}
	})
	r := run(t, f.Listener.Addr().String(), nil)
	l := r.connect(t)

	l.send(t, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")

	resp := l.head(t)
	lines := bufio.NewReader(resp.Body)
	for i := range 3 {
		line, err := lines.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("data: %d\n", i), line)
		next <- struct{}{}
	}
	_, err := lines.ReadByte()
	require.ErrorIs(t, err, io.EOF)
	r.carriedPlainly(t)
}

// TestARequestEndsWithItsClient has clients that go away before the answer and
// amid it.
func TestARequestEndsWithItsClient(t *testing.T) {
	for name, begin := range map[string]func(w http.ResponseWriter){
		"before the answer": func(http.ResponseWriter) {},
		"amid the answer": func(w http.ResponseWriter) {
			fmt.Fprint(w, "some")
			_ = http.NewResponseController(w).Flush()
		},
	} {
		t.Run(name, func(t *testing.T) {
			asked, ended := make(chan struct{}), make(chan struct{})
			f := newFakeTeleport(t, func(w http.ResponseWriter, r *http.Request, _ string) {
				begin(w)
				close(asked)
				<-r.Context().Done()
				close(ended)
			})
			r := run(t, f.Listener.Addr().String(), nil)
			l := r.connect(t)
			l.send(t, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
			<-asked

			require.NoError(t, l.Close())

			select {
			case <-ended:
			case <-time.After(patience):
				t.Fatal("the application still works on it")
			}
			eventually(t, "the client's place is free", func() bool { return r.metric("connections", prometheus.Labels{}) == 0 })
		})
	}
}

// TestASlowAnswerIsAwaited takes longer than the tunnel waits before it looks
// after the client, who asks for more meanwhile.
func TestASlowAnswerIsAwaited(t *testing.T) {
	f := newFakeTeleport(t, func(w http.ResponseWriter, r *http.Request, _ string) {
		if r.URL.Path == "/slow" {
			time.Sleep(3 * silence) // what it's about
		}
		fmt.Fprint(w, r.URL.Path)
	})
	r := run(t, f.Listener.Addr().String(), nil)
	l := r.connect(t)
	l.send(t, "GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
	l.send(t, "GET /next HTTP/1.1\r\nHost: localhost\r\n\r\n")

	require.Equal(t, "/slow", l.answer(t).body)
	require.Equal(t, "/next", l.answer(t).body)
	require.Equal(t, "/slow", l.get(t, "/slow").body)
	require.Equal(t, "/last", l.get(t, "/last").body)
	require.EqualValues(t, 1, f.conns.Load(), "all on one connection")
	r.carriedPlainly(t)
}

func TestAConnectionThatTheProxyClosedIsReplaced(t *testing.T) {
	f := newFakeTeleport(t, hello)
	r := run(t, f.Listener.Addr().String(), nil)
	l := r.connect(t)
	require.Equal(t, "serial-1", l.get(t, "/").body)

	f.CloseClientConnections()

	require.Equal(t, "serial-1", l.get(t, "/").body)
	require.EqualValues(t, 2, f.conns.Load())
	eventually(t, "counting", func() bool { return r.metric("requests_total", prometheus.Labels{"code": "2xx"}) == 2 })
}

func TestARenewalChangesWhatPlainRequestsBear(t *testing.T) {
	f := newFakeTeleport(t, hello)
	r := run(t, f.Listener.Addr().String(), nil)
	l := r.connect(t)
	require.Equal(t, "serial-1", l.get(t, "/").body)
	old := r.upstream.last()

	r.RenewNow("test")

	eventually(t, "the new certificate", func() bool { return l.get(t, "/").body == "serial-2" })
	eventually(t, "the end of what bears the old one", func() bool {
		old.lanes.mu.Lock()
		defer old.lanes.mu.Unlock()
		return old.lanes.closed && len(old.lanes.unused) == 0
	})
}

// TestABrokenAnswerBreaksForTheClient: half an answer must not look like a
// whole one.
func TestABrokenAnswerBreaksForTheClient(t *testing.T) {
	for name, length := range map[string]string{"of known length": "100", "of unknown length": ""} {
		t.Run(name, func(t *testing.T) {
			f := newFakeTeleport(t, func(w http.ResponseWriter, _ *http.Request, _ string) {
				if length != "" {
					w.Header().Set("Content-Length", length)
				}
				fmt.Fprint(w, "some")
				_ = http.NewResponseController(w).Flush()
				panic(http.ErrAbortHandler)
			})
			r := run(t, f.Listener.Addr().String(), nil)
			l := r.connect(t)
			l.send(t, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")

			body, err := io.ReadAll(l.head(t).Body)

			require.ErrorIs(t, err, io.ErrUnexpectedEOF)
			require.Equal(t, "some", string(body))
			require.Zero(t, r.unused())
		})
	}
}

func TestAnAnswersHeaderIsBounded(t *testing.T) {
	f := newFakeTeleport(t, func(w http.ResponseWriter, _ *http.Request, _ string) {
		for i := range 40 {
			w.Header().Set(fmt.Sprintf("X-%d", i), strings.Repeat("x", maxAnswerHeader/32))
		}
	})
	r := run(t, f.Listener.Addr().String(), nil)

	got := r.connect(t).get(t, "/")

	require.Equal(t, http.StatusBadGateway, got.status)
	require.Equal(t, kindUpstream, got.kind())
}

// TestABareForbiddenIsAskedAgainOnce: it may be Teleport's, and most often is the
// application's own.
func TestABareForbiddenIsAskedAgainOnce(t *testing.T) {
	var asked atomic.Int64
	f := newFakeTeleport(t, func(w http.ResponseWriter, _ *http.Request, _ string) {
		asked.Add(1)
		http.Error(w, "Forbidden", http.StatusForbidden)
	})
	r := run(t, f.Listener.Addr().String(), nil)
	for range 10 {
		require.Equal(t, http.StatusForbidden, r.connect(t).get(t, "/").status)
	}
	require.LessOrEqual(t, asked.Load(), int64(12), "10, and what was asked again with the one new certificate")
}

// TestAStreamIsKnownToHaveBegun before anything of it has come.
func TestAStreamIsKnownToHaveBegun(t *testing.T) {
	f := newFakeTeleport(t, func(w http.ResponseWriter, r *http.Request, _ string) {
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	r := run(t, f.Listener.Addr().String(), nil)
	l := r.connect(t)

	l.send(t, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")

	require.Equal(t, http.StatusOK, l.head(t).StatusCode)
}

// TestASecondRunHasConnectionsToo: the host runs a service again after a fault,
// and the certificate may be the same.
func TestASecondRunHasConnectionsToo(t *testing.T) {
	f := newFakeTeleport(t, hello)
	r := run(t, f.Listener.Addr().String(), func(_ *Options, _ *Dependencies, s *fakeSource) { s.same = true })
	require.Equal(t, "serial-1", r.connect(t).get(t, "/").body)
	require.NoError(t, r.stop())
	require.NoError(t, r.Bind(t.Context()))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	_, err := r.Ready(t.Context())
	require.NoError(t, err)

	for range 10 {
		require.Equal(t, "serial-1", r.connect(t).get(t, "/").body)
		// The client has its answer before the connection is given back: who came
		// in between would have another opened.
		r.carriedPlainly(t)
	}

	require.EqualValues(t, 2, f.conns.Load(), "one each")
	cancel()
	require.NoError(t, <-ended)
}

// TestRulesHoldForPlainRequests: what the tunnel refuses it refuses in its own
// words, and the application never hears of it.
func TestRulesHoldForPlainRequests(t *testing.T) {
	for name, c := range map[string]struct {
		head, kind string
	}{
		"another host":      {"GET / HTTP/1.1\r\nHost: evil.example.com\r\n", kindHost},
		"a page of another": {"GET / HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example.com\r\n", kindHost},
		"Teleport's own":    {"GET /teleport-logout HTTP/1.1\r\nHost: localhost\r\n", kindPath},
		"the same, escaped": {"GET /%74eleport-logout HTTP/1.1\r\nHost: localhost\r\n", kindPath},
		"no token":          {"GET / HTTP/1.1\r\nHost: localhost\r\n", kindToken},
		"another token":     {"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer 0123456789abcdee\r\n", kindToken},
	} {
		t.Run(name, func(t *testing.T) {
			var reached atomic.Int64
			f := newFakeTeleport(t, func(w http.ResponseWriter, r *http.Request, _ string) {
				reached.Add(1)
				fmt.Fprint(w, r.Header.Get("Authorization"))
			})
			r := run(t, f.Listener.Addr().String(), func(o *Options, d *Dependencies, _ *fakeSource) {
				if c.kind == kindToken {
					o.BearerToken = "/token"
					d.Secret = func() (string, error) { return "0123456789abcdef", nil }
				}
			})
			_, err := r.Ready(t.Context())
			require.NoError(t, err)
			l := r.connect(t)
			if c.kind != kindToken {
				require.Empty(t, l.get(t, "/").kind(), "what's permitted doesn't matter to what comes next")
				reached.Store(0)
			}

			l.send(t, c.head+"\r\n")

			require.Equal(t, c.kind, l.answer(t).kind())
			require.Zero(t, reached.Load())
			if c.kind == kindToken {
				l := r.connect(t)
				l.send(t, "GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer 0123456789abcdef\r\n\r\n")
				require.Empty(t, l.answer(t).body, "the token isn't the application's")
				r.carriedPlainly(t)
			}
		})
	}
}

// TestARequestSaysNothingOfTheNext has a page, and a program between its requests,
// on one connection: none gets what is for the other, by whichever name of the
// tunnel it came.
func TestARequestSaysNothingOfTheNext(t *testing.T) {
	addr := newTalker(t, func(conn net.Conn, _ string) {
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n"+date+"Content-Length: 0\r\n"+
			"Location: https://"+appHost+"/a\r\nAccess-Control-Allow-Origin: https://"+appHost+"\r\n\r\n")
	})
	l := run(t, addr, nil).connect(t)
	for range 2 {
		for _, c := range []struct{ host, origin, reader string }{
			{"localhost", "Origin: http://localhost\r\n", "http://localhost"},
			{"localhost", "", "https://" + appHost},
			{"127.0.0.1", "", "https://" + appHost},
		} {
			l.send(t, "GET / HTTP/1.1\r\nHost: "+c.host+"\r\n"+c.origin+"\r\n")

			got := l.answer(t)

			require.Equal(t, "http://"+c.host+"/a", got.header.Get("Location"))
			require.Equal(t, c.reader, got.header.Get("Access-Control-Allow-Origin"))
		}
	}
}

// TestSimpleRequestsGoOnAsTheyAre, and so do short answers: byte by byte.
func TestSimpleRequestsGoOnAsTheyAre(t *testing.T) {
	const answer = "HTTP/1.1 200 Fine\r\nx-Odd:  a\t\r\n" + date + "content-length:5\r\n\r\nhello"
	asked := make(chan string, 1)
	addr := newListener(t, func(conn net.Conn) {
		buf := make([]byte, 4096)
		n, _ := conn.Read(buf)
		asked <- string(buf[:n])
		_, _ = io.WriteString(conn, answer)
	})
	l := run(t, addr, nil).connect(t)

	l.send(t, "GET /a?b HTTP/1.1\r\naccept: x\r\nHost: localhost\r\nConnection: keep-alive\r\nx-Odd:y \r\n\r\n")

	require.Equal(t, "GET /a?b HTTP/1.1\r\nHost: "+appHost+"\r\naccept: x\r\nx-Odd:y \r\n\r\n", <-asked)
	got := make([]byte, len(answer))
	_, err := io.ReadFull(l.in, got)
	require.NoError(t, err)
	require.Equal(t, answer, string(got))
}

// TestAnApplicationWithoutAPublicAddress has the same stand for it in each way.
func TestAnApplicationWithoutAPublicAddress(t *testing.T) {
	v := newRide(t.Context(), &express{
		carrier: &carrier{}, permits: func(*http.Request) bool { return true }, permitsSimple: func(string) bool { return true },
	}, &client{})
	for _, field := range []string{"", "Cookie: a=b\r\n"} {
		v.head = []byte("GET / HTTP/1.1\r\nHost: localhost\r\n" + field + "\r\n")
		require.NotZero(t, v.plain.read(v.head))

		require.True(t, v.prepare(""))

		require.Equal(t, "GET / HTTP/1.1\r\nHost: "+unnamed+"\r\n"+field+"\r\n", v.sent.String())
		require.Equal(t, field == "", v.request == nil)
	}
}
