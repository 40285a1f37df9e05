package tunnel

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/gravitational/trace"

	"rollcall/failure"
)

const (
	headerAuth      = "Authorization"
	headerProxyAuth = "Proxy-Authorization"
	// minToken is the least length of a bearer token: what is shorter can be
	// guessed by those it's to keep out.
	minToken = 16
)

// token is the bearer token that clients must show. The zero value wants none.
// It's safe for concurrent use.
type token struct {
	read func() (string, error)
	// sum is the token's hash: comparing hashes takes the same time whatever
	// the client sent.
	sum atomic.Pointer[[sha256.Size]byte]
}

// load reads the token anew. After an error the one before stays.
func (t *token) load() error {
	if t.read == nil {
		return nil
	}
	text, err := t.read()
	if err != nil {
		return trace.Wrap(err)
	}
	text = strings.TrimSpace(text)
	if len(text) < minToken {
		return failure.New(failure.Configuration, "the bearer token has fewer than %d characters: use a random one, for example of `openssl rand -hex 32`", minToken)
	}
	sum := sha256.Sum256([]byte(text))
	t.sum.Store(&sum)
	return nil
}

// admit says whether a request shows the token, and removes it. Where it stands
// in Proxy-Authorization, an Authorization is the application's own.
func (t *token) admit(header http.Header) bool {
	if t.read == nil {
		return true
	}
	proxy := header.Get(headerProxyAuth)
	header.Del(headerProxyAuth)
	if t.matches(proxy) {
		return true
	}
	if !t.matches(header.Get(headerAuth)) {
		return false
	}
	header.Del(headerAuth)
	return true
}

// admitProxy is admit for an HTTP proxy, whose clients know Proxy-Authorization.
func (t *token) admitProxy(header http.Header) bool {
	proxy := header.Get(headerProxyAuth)
	header.Del(headerProxyAuth)
	return t.read == nil || t.matches(proxy)
}

// matches compares the token in a header's value: Bearer TOKEN, or Basic with
// the token as the password, which is what clients make of
// http_proxy=http://any:TOKEN@127.0.0.1:8080.
func (t *token) matches(value string) bool {
	want := t.sum.Load()
	scheme, given, _ := strings.Cut(strings.TrimSpace(value), " ")
	given = strings.TrimSpace(given)
	switch {
	case want == nil:
		return false
	case strings.EqualFold(scheme, "basic"):
		decoded, err := base64.StdEncoding.DecodeString(given)
		if err != nil {
			return false
		}
		_, given, _ = strings.Cut(string(decoded), ":")
	case !strings.EqualFold(scheme, "bearer"):
		return false
	}
	sum := sha256.Sum256([]byte(given))
	return subtle.ConstantTimeCompare(sum[:], want[:]) == 1
}

// hosts are the names that requests may be addressed to. A web page that points
// a name of its own at this host (DNS rebinding) is told by that name.
type hosts struct {
	any     bool
	allowed []string
}

// newHosts returns the names of an endpoint: all of a unix socket, which no web
// page reaches.
func newHosts(e *endpoint, configured []string) hosts {
	h := hosts{
		any:     e.unix || slices.Contains(configured, anyHost),
		allowed: []string{"localhost", "127.0.0.1", "::1"},
	}
	if host, _, err := net.SplitHostPort(e.Addr().String()); err == nil {
		h.allowed = append(h.allowed, host)
	}
	for _, host := range configured {
		h.allowed = append(h.allowed, hostname(host))
	}
	return h
}

// permits says whether a Host header, with or without a port, is one of ours.
// None at all is what HTTP/1.0 clients send, and no browser does.
func (h hosts) permits(host string) bool {
	if h.any || host == "" {
		return true
	}
	name := hostname(host)
	return slices.Contains(h.allowed, name) || strings.HasSuffix(name, ".localhost")
}

// permitsOrigin says whether what a browser asks for comes from a page that may
// ask for it. A page of another site can't read the answers, but could still
// send a form, or open a WebSocket, with the bot's rights.
func (h hosts) permitsOrigin(r *http.Request, public string) bool {
	if h.any || (safeMethod(r.Method) && r.Header.Get("Upgrade") == "") {
		return true
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		site := r.Header.Get("Sec-Fetch-Site")
		return site != "cross-site"
	}
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" {
		return false // "null" too: a sandboxed page, or a file
	}
	return h.permits(u.Host) || hostname(u.Host) == hostname(public)
}

func safeMethod(method string) bool {
	return method == http.MethodGet || method == http.MethodHead || method == http.MethodOptions || method == http.MethodTrace
}

// hostname is a host without its port, brackets and final dot, in lower case.
func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// teleportsOwn says whether a path is one that Teleport's proxy answers itself:
// the application never sees it, and a request for the first would end the
// session that everybody here shares.
func teleportsOwn(path string) bool {
	path = strings.ToLower("/" + strings.Trim(path, "/"))
	return path == "/teleport-logout" || path == "/x-teleport-auth"
}
