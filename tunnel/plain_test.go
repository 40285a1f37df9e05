package tunnel

import (
	"bufio"
	"bytes"
	"math/rand/v2"
	"net/http"
	"net/http/httputil"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPlainHeads(t *testing.T) {
	const end = "\r\n\r\n"
	for name, head := range map[string]string{
		"the least":                 "GET / HTTP/1.1\r\nHost: localhost" + end,
		"what a client of Go sends": "GET /api/x?a=1&b=%20 HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUser-Agent: Go-http-client/1.1\r\nAccept-Encoding: gzip" + end,
		"a browser's":               "GET / HTTP/1.1\r\nHost: [::1]:8080\r\nConnection: keep-alive\r\nsec-ch-ua: \"a\";v=\"1\"\r\nCookie: a=b; c=d\r\nReferer: http://localhost/" + end,
		"kept alive":                "GET / HTTP/1.1\r\nconnection:  Keep-Alive \r\nhOST: a_b" + end,
		"a tab in a value":          "GET / HTTP/1.1\r\nHost: a\r\nX: a\tb" + end,
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, len(head), new(plainHead).read([]byte(head)))
			require.Equal(t, len(head), new(plainHead).read([]byte(head+"GET / HTTP/1.1\r\n")), "another request follows")
			for n := range len(head) {
				require.Zero(t, new(plainHead).read([]byte(head[:n])), "cut after %d bytes", n)
			}
		})
	}
}

// TestHeadsThatAreNotPlain has what http.Server is to look at, which knows what
// to make of it. Much of it is what requests are smuggled with.
func TestHeadsThatAreNotPlain(t *testing.T) {
	const host = "Host: localhost\r\n"
	for name, head := range map[string]string{
		"nothing":                         "",
		"another method":                  "POST / HTTP/1.1\r\n" + host,
		"a method in lower case":          "get / HTTP/1.1\r\n" + host,
		"HEAD":                            "HEAD / HTTP/1.1\r\n" + host,
		"HTTP/1.0":                        "GET / HTTP/1.0\r\n" + host,
		"HTTP/1.1 in lower case":          "GET / http/1.1\r\n" + host,
		"a whole URL":                     "GET http://localhost/ HTTP/1.1\r\n" + host,
		"no path":                         "GET  HTTP/1.1\r\n" + host,
		"two spaces":                      "GET  / HTTP/1.1\r\n" + host,
		"a space in the path":             "GET /a b HTTP/1.1\r\n" + host,
		"a letter beyond ASCII":           "GET /ä HTTP/1.1\r\n" + host,
		"an empty line in front":          "\r\nGET / HTTP/1.1\r\n" + host,
		"no host":                         "GET / HTTP/1.1\r\nAccept: a\r\n",
		"no header":                       "GET / HTTP/1.1\r\n",
		"an empty host":                   "GET / HTTP/1.1\r\nHost: \r\n",
		"two hosts":                       "GET / HTTP/1.1\r\n" + host + host,
		"a host with a path":              "GET / HTTP/1.1\r\nHost: a/b\r\n",
		"a host with a user":              "GET / HTTP/1.1\r\nHost: a@b\r\n",
		"a body":                          "GET / HTTP/1.1\r\n" + host + "Content-Length: 1\r\n",
		"no body, in so many words":       "GET / HTTP/1.1\r\n" + host + "Content-Length: 0\r\n",
		"a body in chunks":                "GET / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n",
		"a body in chunks, cased":         "GET / HTTP/1.1\r\n" + host + "tRANSFER-eNCODING: chunked\r\n",
		"a space before the colon":        "GET / HTTP/1.1\r\n" + host + "Transfer-Encoding : chunked\r\n",
		"a space before the name":         "GET / HTTP/1.1\r\n" + host + " Transfer-Encoding: chunked\r\n",
		"a folded line":                   "GET / HTTP/1.1\r\n" + host + "X: a\r\n b\r\n",
		"no colon":                        "GET / HTTP/1.1\r\n" + host + "X\r\n",
		"no name":                         "GET / HTTP/1.1\r\n" + host + ": a\r\n",
		"no value":                        "GET / HTTP/1.1\r\n" + host + "X:\r\n",
		"a name that isn't a token":       "GET / HTTP/1.1\r\n" + host + "X(: a\r\n",
		"a line that ends with LF":        "GET / HTTP/1.1\r\n" + host + "X: a\n",
		"a CR within a value":             "GET / HTTP/1.1\r\n" + host + "X: a\rb\r\n",
		"a NUL in a value":                "GET / HTTP/1.1\r\n" + host + "X: a\x00b\r\n",
		"a value beyond ASCII":            "GET / HTTP/1.1\r\n" + host + "X: ä\r\n",
		"the end of the connection":       "GET / HTTP/1.1\r\n" + host + "Connection: close\r\n",
		"a header named by Connection":    "GET / HTTP/1.1\r\n" + host + "Connection: keep-alive, X-A\r\n",
		"another protocol":                "GET / HTTP/1.1\r\n" + host + "Upgrade: websocket\r\n",
		"another version of HTTP":         "GET / HTTP/1.1\r\n" + host + "HTTP2-Settings: AAMA\r\n",
		"a wish to be asked for the body": "GET / HTTP/1.1\r\n" + host + "Expect: 100-continue\r\n",
		"codings of the transfer":         "GET / HTTP/1.1\r\n" + host + "TE: trailers\r\n",
		"trailers":                        "GET / HTTP/1.1\r\n" + host + "Trailer: X\r\n",
		"how long to keep the connection": "GET / HTTP/1.1\r\n" + host + "Keep-Alive: timeout=5\r\n",
		"a secret for a proxy":            "GET / HTTP/1.1\r\n" + host + "Proxy-Authorization: Bearer x\r\n",
		"a proxy's question for one":      "GET / HTTP/1.1\r\n" + host + "Proxy-Authenticate: x\r\n",
		"a connection to a proxy":         "GET / HTTP/1.1\r\n" + host + "Proxy-Connection: keep-alive\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			require.Zero(t, new(plainHead).read([]byte(head+"\r\n")))
		})
	}
}

// TestSimpleHeads has plain requests, and which of them go on as they are. The
// others have something that the tunnel looks at, or changes.
func TestSimpleHeads(t *testing.T) {
	for name, c := range map[string]struct {
		target, fields string
		want           bool
	}{
		"what a client of Go sends":            {"/api/x?a=1", "User-Agent: Go-http-client/1.1\r\nAccept-Encoding: gzip\r\n", true},
		"a secret of the application's":        {"/", "Authorization: Bearer x\r\n", true},
		"a header that begins like another":    {"/", "X-Forwarded: a\r\nReferers: b\r\nSecret: c\r\nCookie2: d\r\n", true},
		"all that a path may have":             {"/-._~!$&'()*+,;=:@/a//b/../", "", true},
		"a query that can't be parsed":         {"/?a;b=%zz&/?", "", true},
		"an escape":                            {"/a%20b", "", false},
		"an escape that isn't one":             {"/a%zz", "", false},
		"a letter that should be escaped":      {"/a|b", "", false},
		"a fragment":                           {"/a#b", "", false},
		"a fragment after a query":             {"/a?b#c", "", false},
		"Teleport's own":                       {"/teleport-logout", "", false},
		"Teleport's own, otherwise spelt":      {"//X-Teleport-Auth/?a", "", false},
		"a page":                               {"/", "Origin: http://localhost\r\n", false},
		"a page that another leads to":         {"/", "referer: http://localhost\r\n", false},
		"what a browser says of a page":        {"/", "Sec-Fetch-Site: cross-site\r\n", false},
		"a cookie":                             {"/", "COOKIE: a=b\r\n", false},
		"who is said to be in front":           {"/", "X-Forwarded-For: 1.2.3.4\r\n", false},
		"who is said to be in front, RFC 7239": {"/", "Forwarded: for=1.2.3.4\r\n", false},
		"who is said to be in front, nginx":    {"/", "X-Real-IP: 1.2.3.4\r\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			head := "GET " + c.target + " HTTP/1.1\r\nHost: localhost\r\n" + c.fields + "\r\n"
			h := new(plainHead)

			require.Equal(t, len(head), h.read([]byte(head)))
			require.Equal(t, c.want, h.simple)
		})
	}
	for _, name := range forwardedHeaders() {
		require.True(t, concernsTunnel([]byte(name)), name)
	}
}

// TestAHeadSaysNothingOfTheOneBefore reads two heads with one value, as rides do.
func TestAHeadSaysNothingOfTheOneBefore(t *testing.T) {
	h := new(plainHead)
	require.NotZero(t, h.read([]byte("GET /a HTTP/1.1\r\nHost: a\r\nCookie: x=y\r\n\r\n")))
	require.False(t, h.simple)

	require.NotZero(t, h.read([]byte("GET /b HTTP/1.1\r\nX: 1\r\nConnection: keep-alive\r\nHost: b\r\n\r\n")))

	var out bytes.Buffer
	h.write(&out, appHost)
	require.True(t, h.simple)
	require.Equal(t, "b", string(h.host))
	require.Equal(t, "GET /b HTTP/1.1\r\nHost: "+appHost+"\r\nX: 1\r\n\r\n", out.String())
	require.Zero(t, h.read([]byte("GET /c HTTP/1.1\r\nX: 1\r\n\r\n")), "it has no host")
}

const date = "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"

func TestPlainAnswers(t *testing.T) {
	for name, head := range map[string]string{
		"the least":         "HTTP/1.1 200 OK\r\n" + date + "Content-Length: 5\r\n\r\n",
		"no body":           "HTTP/1.1 200 OK\r\n" + date + "Content-Length: 0\r\n\r\n",
		"no reason":         "HTTP/1.1 200 \r\n" + date + "Content-Length: 5\r\n\r\n",
		"in another case":   "HTTP/1.1 200 Sure\r\ncontent-length:5\r\nDATE: now\r\n\r\n",
		"as programs do":    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" + date + "Content-Length: 5\r\nEtag: \"a\"\r\nVary: Cookie\r\n\r\n",
		"names like others": "HTTP/1.1 200 OK\r\n" + date + "Content-Length: 5\r\nContent-Lengths: 6\r\nLocations: a\r\nX-Rollcall: b\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			want := 5
			if name == "no body" {
				want = 0
			}
			n, body, ok := plainAnswer([]byte(head + "hello"))
			require.True(t, ok)
			require.Equal(t, len(head), n)
			require.Equal(t, want, body)
			for n := range len(head) {
				_, _, ok := plainAnswer([]byte(head[:n]))
				require.False(t, ok, "cut after %d bytes", n)
			}
		})
	}
}

// TestAnswersThatAreNotPlain has what net/http is to look at, and the tunnel.
func TestAnswersThatAreNotPlain(t *testing.T) {
	const first, length = "HTTP/1.1 200 OK\r\n", "Content-Length: 5\r\n"
	for name, head := range map[string]string{
		"nothing":                       "",
		"another status":                "HTTP/1.1 404 Not Found\r\n" + date + length,
		"what Teleport says, too":       "HTTP/1.1 403 Forbidden\r\n" + date + length,
		"a status of four digits":       "HTTP/1.1 2000 OK\r\n" + date + length,
		"no reason, nor a space":        "HTTP/1.1 200\r\n" + date + length,
		"a reason beyond ASCII":         "HTTP/1.1 200 \xe4\r\n" + date + length,
		"HTTP/1.0":                      "HTTP/1.0 200 OK\r\n" + date + length,
		"a status that ends with LF":    "HTTP/1.1 200 OK\n" + date + length,
		"no date":                       first + length,
		"an empty date":                 first + "Date: \r\n" + length,
		"no length":                     first + date,
		"two lengths":                   first + date + length + length,
		"two lengths in one":            first + date + "Content-Length: 5, 5\r\n",
		"a length with a sign":          first + date + "Content-Length: +5\r\n",
		"a length below zero":           first + date + "Content-Length: -5\r\n",
		"a length in hexadecimal":       first + date + "Content-Length: 0x5\r\n",
		"a length that is empty":        first + date + "Content-Length: \r\n",
		"a length with a zero in front": first + date + "Content-Length: 05\r\n",
		"a length that is huge":         first + date + "Content-Length: 99999999999999999999\r\n",
		"chunks":                        first + date + "Transfer-Encoding: chunked\r\n",
		"chunks, and a length":          first + date + length + "transfer-encoding: chunked\r\n",
		"chunks behind a space":         first + date + length + "Transfer-Encoding : chunked\r\n",
		"a folded line":                 first + date + length + "X: a\r\n b\r\n",
		"a line that ends with LF":      first + date + length + "X: a\n",
		"a CR within a value":           first + date + length + "X: a\rb\r\n",
		"a value beyond ASCII":          first + date + length + "X: \xe4\r\n",
		"no colon":                      first + date + length + "X\r\n",
		"the end of the connection":     first + date + length + "Connection: close\r\n",
		"a connection that is kept":     first + date + length + "Keep-Alive: timeout=5\r\n",
		"another protocol":              first + date + length + "Upgrade: websocket\r\n",
		"trailers":                      first + date + length + "Trailer: Sum\r\n",
		"where to go":                   first + date + length + "location: https://app.example/\r\n",
		"where it is":                   first + date + length + "Content-Location: https://app.example/\r\n",
		"who may read it":               first + date + length + "Access-Control-Allow-Origin: https://app.example\r\n",
		"a cookie":                      first + date + length + "Set-Cookie: a=b; Secure\r\n",
		"what would be the tunnel's":    first + date + length + "x-rollcall-error: gone\r\n",
		"what is between two proxies":   first + date + length + "Proxy-Authenticate: Basic\r\n",
		"an answer that comes before":   "HTTP/1.1 103 Early Hints\r\n" + date + length,
		"an empty line in front of it":  "\r\n" + first + date + length,
	} {
		t.Run(name, func(t *testing.T) {
			_, _, ok := plainAnswer([]byte(head + "\r\nhello"))
			require.False(t, ok)
		})
	}
	for _, name := range []string{"Connection", "Location", "Set-Cookie", headerKind} {
		require.True(t, concernsAnswer([]byte(name)), name)
	}
}

// FuzzPlainHead looks for a head that is taken for plain, and that net/http
// takes for something else; and for a simple one that an application would see
// otherwise if it had been parsed.
func FuzzPlainHead(f *testing.F) {
	f.Add("GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n")
	f.Add("GET //a/../b?%zz HTTP/1.1\r\nConnection: keep-alive\r\nhost: a:1\r\n\r\nGET / HTTP/1.1\r\n")
	f.Add("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n")
	f.Add("GET /a;b@c?d#e HTTP/1.1\r\nX-Forwarded-For: b\r\nhost: a:1\r\naccept:a\r\naccept: b\t \r\n\r\n")
	f.Fuzz(checkPlainHead)
}

// TestHeadsMadeOfPieces is FuzzPlainHead with heads that are nearly plain, which
// are rare among those that come by chance.
func TestHeadsMadeOfPieces(t *testing.T) {
	methods := []string{"GET ", "GET ", "GET ", "GET ", "HEAD ", "get ", " GET "}
	targets := []string{"/", "//", "/a/../b", "/a%2Fb", "/%zz", "/a?b=%zz", "/a?b#c", "/a#b", "/a;b@c", "/a\\b", "/teleport-logout", "/X-Teleport-Auth//", "/a?/teleport-logout", "*", "a", "http://a/", "/\x7f", "/a b"}
	ends := []string{"\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\n", "\r", "\r\r\n", "\r\n "}
	names := []string{"Host", "hOST", "Accept", "accept", "X-a_B", "Connection", "Cookie", "Origin", "Referer", "Sec-Fetch-Site", "Forwarded", "X-Forwarded-For", "X-Real-Ip", "Content-Length", "Transfer-Encoding", "Te", "User-Agent", "Authorization", "Proxy-Authorization", "X a", "", "X\t", "Range"}
	values := []string{"localhost", "a:1", "[::1]:2", "a", "b", "", "\t", "close", "keep-alive", "Keep-Alive", "0", "chunked", "a, b", "a\x00", "\xe4", "a/b", "cross-site", "http://evil.example"}
	random := rand.New(rand.NewPCG(1, 2))
	pick := func(from []string) string { return from[random.IntN(len(from))] }
	simple := 0
	for range 40_000 {
		head := pick(methods) + pick(targets) + " HTTP/1.1" + pick(ends)
		if random.IntN(4) > 0 {
			head += "Host: localhost\r\n"
		}
		for range random.IntN(4) {
			head += pick(names) + ":" + pick([]string{" ", " ", "", "\t", "  "}) + pick(values) + pick([]string{"", "", " "}) + pick(ends)
		}
		head += "\r\n" + pick([]string{"", "GET / HTTP/1.1\r\n", "body"})

		checkPlainHead(t, head)

		h := new(plainHead)
		if h.read([]byte(head)) > 0 && h.simple {
			simple++
		}
	}
	require.Greater(t, simple, 1000)
}

func checkPlainHead(t *testing.T, data string) {
	t.Helper()
	h := new(plainHead)
	n := h.read([]byte(data))
	if n == 0 {
		return
	}
	source := bufio.NewReader(strings.NewReader(data))
	r, err := http.ReadRequest(source)
	if err != nil {
		require.False(t, h.simple, "http.Server would refuse it: %v", err)
		return
	}
	rest, _ := source.Peek(len(data) - n)
	require.Equal(t, data[n:], string(rest), "where the request ends")
	require.Equal(t, http.MethodGet, r.Method)
	require.True(t, r.ProtoAtLeast(1, 1))
	require.Zero(t, r.ContentLength)
	require.Empty(t, r.TransferEncoding)
	require.Equal(t, http.NoBody, r.Body)
	require.NotEmpty(t, r.Host)
	require.False(t, r.Close)
	if !h.simple {
		return
	}
	require.Equal(t, r.Host, string(h.host))
	require.False(t, teleportsOwn(r.URL.Path))
	require.True(t, (hosts{}).permitsOrigin(r, ""), "there's no page to be refused")
	var simple, parsed bytes.Buffer
	h.write(&simple, appHost)
	delete(r.Header, "Connection")
	rewriteRequest(&httputil.ProxyRequest{In: r, Out: r}, appHost, func(string) bool { return true })
	writeRequest(&parsed, r)
	require.Equal(t, readBack(t, &parsed), readBack(t, &simple))
}

// readBack is what a server of Go's, as Teleport's proxy is, sees of a request.
func readBack(t *testing.T, sent *bytes.Buffer) *http.Request {
	t.Helper()
	source := bufio.NewReader(sent)
	r, err := http.ReadRequest(source)
	require.NoError(t, err)
	require.Zero(t, source.Buffered())
	return r
}

// FuzzPlainAnswer looks for a head of an answer that is taken for plain, and that
// net/http takes for something else, or that would be changed if it had been parsed.
func FuzzPlainAnswer(f *testing.F) {
	f.Add("HTTP/1.1 200 OK\r\n" + date + "Content-Length: 5\r\n\r\nhello")
	f.Add("HTTP/1.1 200 \r\ndate:a\r\ncontent-length: 0\r\nX-Rollcall-Error: a\r\n\r\nHTTP/1.1 200 OK\r\n")
	f.Add("HTTP/1.1 200 OK\r\n" + date + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\nLocation: /a\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
	f.Fuzz(checkPlainAnswer)
}

// TestAnswersMadeOfPieces is FuzzPlainAnswer with heads that are nearly plain.
func TestAnswersMadeOfPieces(t *testing.T) {
	first := []string{"HTTP/1.1 200 OK", "HTTP/1.1 200 OK", "HTTP/1.1 200 ", "HTTP/1.1 200", "HTTP/1.0 200 OK", "HTTP/1.1 206 Partial Content", "HTTP/1.1 2000 OK", "http/1.1 200 OK"}
	ends := []string{"\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\n", "\r", "\r\r\n", "\r\n "}
	names := []string{"Date", "Content-Length", "content-length", "Content-Length ", "Transfer-Encoding", "Connection", "X-Rollcall-Error", "Location", "Content-Location", "Set-Cookie", "Access-Control-Allow-Origin", "Etag", "Trailer", "Upgrade", "Keep-Alive", "Proxy-Authenticate", "Te", "X a", "", "Vary"}
	values := []string{"now", "5", "05", "0", "+5", "5, 5", "5 5", "-1", "0x5", "1e1", "99999999", "chunked", "close", "keep-alive", "https://" + appHost + "/", "https://" + appHost, "a=b; Secure", "", "\xe4", "Etag"}
	random := rand.New(rand.NewPCG(3, 4))
	pick := func(from []string) string { return from[random.IntN(len(from))] }
	plain := 0
	for range 40_000 {
		head := pick(first) + pick(ends)
		for _, line := range []string{date, "Content-Length: 5\r\n"} {
			if random.IntN(6) > 0 {
				head += line
			}
		}
		for range random.IntN(3) {
			head += pick(names) + ":" + pick([]string{" ", " ", "", "\t", "  "}) + pick(values) + pick([]string{"", "", " "}) + pick(ends)
		}
		head += "\r\n" + pick([]string{"", "hello", "HTTP/1.1 200 OK\r\n"})

		checkPlainAnswer(t, head)

		if _, _, ok := plainAnswer([]byte(head)); ok {
			plain++
		}
	}
	require.Greater(t, plain, 1000)
}

func checkPlainAnswer(t *testing.T, data string) {
	t.Helper()
	head, body, ok := plainAnswer([]byte(data))
	if !ok {
		return
	}
	source := bufio.NewReader(strings.NewReader(data))
	resp, err := http.ReadResponse(source, nil)
	require.NoError(t, err)
	rest, _ := source.Peek(len(data) - head)
	require.Equal(t, data[head:], string(rest), "where the head ends")
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.EqualValues(t, body, resp.ContentLength)
	require.False(t, resp.Close)
	require.Empty(t, resp.TransferEncoding)
	require.Empty(t, resp.Trailer)
	require.NotEmpty(t, resp.Header.Get("Date"))
	asItCame := resp.Header.Clone()
	rewriteResponse(resp.Header, appHost, "http://"+appHost, "http://localhost", "http://localhost")
	withoutHops(resp.Header)
	require.Equal(t, asItCame, resp.Header)
}
