package tunnel

import (
	"bufio"
	"net/http"
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

// FuzzPlainHead looks for a head that is taken for plain, and that net/http
// takes for something else.
func FuzzPlainHead(f *testing.F) {
	f.Add("GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n")
	f.Add("GET //a/../b?%zz HTTP/1.1\r\nConnection: keep-alive\r\nhost: a:1\r\n\r\nGET / HTTP/1.1\r\n")
	f.Add("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n")
	f.Fuzz(func(t *testing.T, data string) {
		n := new(plainHead).read([]byte(data))
		if n == 0 {
			return
		}
		source := bufio.NewReader(strings.NewReader(data))
		r, err := http.ReadRequest(source)
		if err != nil {
			return // it's left to http.Server, which says the same
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
	})
}
