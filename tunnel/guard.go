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

// admit says whether a request shows the token, and removes it wherever it
// stands. Where it's in Proxy-Authorization, another Authorization is the
// application's own.
func (t *token) admit(header http.Header) bool {
	if t.read == nil {
		return true
	}
	own := t.matches(header.Get(headerAuth))
	if own {
		header.Del(headerAuth)
	}
	return t.takeProxy(header) || own
}

// admitProxy is admit for an HTTP proxy, whose clients know Proxy-Authorization.
func (t *token) admitProxy(header http.Header) bool {
	if t.read != nil && t.matches(header.Get(headerAuth)) {
		header.Del(headerAuth)
	}
	return t.takeProxy(header) || t.read == nil
}

func (t *token) takeProxy(header http.Header) bool {
	shown := t.matches(header.Get(headerProxyAuth))
	header.Del(headerProxyAuth)
	return shown
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
	// any permits every name in Host. It says nothing of Origin.
	any     bool
	allowed []string
	// pages are the hosts of web pages that may use the application beside
	// those that came by this very address.
	pages []string
}

// newHosts returns the names of an endpoint that listens at a name: all of a
// unix socket, which no web page reaches but through a server that's in front
// of it.
func newHosts(e *endpoint, name string, configured []string) hosts {
	h := hosts{
		any:     e.unix || slices.Contains(configured, anyHost),
		allowed: []string{"localhost", "127.0.0.1", "::1"},
	}
	if host, _, err := net.SplitHostPort(e.Addr().String()); err == nil {
		h.allowed = append(h.allowed, host)
	}
	if name != "" {
		h.allowed = append(h.allowed, hostname(name))
	}
	for _, host := range configured {
		if host != anyHost {
			h.pages = append(h.pages, hostname(host))
		}
	}
	h.allowed = append(h.allowed, h.pages...)
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
// ask for it. A page of another site could send a form, or open a WebSocket,
// with the bot's rights, and read the answers of an application that lets every
// page read them: all that it may do is lead here by a link.
func (h hosts) permitsOrigin(r *http.Request, public string) bool {
	origin := r.Header.Get("Origin")
	switch origin {
	case "":
		return h.permitsUnnamed(r)
	case "null":
		// A sandboxed page or a file; or a page of ours that wants no Referer,
		// for which the browser vouches.
		return r.Header.Get(headerSite) == siteOwn
	}
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" {
		return false
	}
	return h.ours(u.Host, r.Host) || u.Scheme == "https" && public != "" && hostname(u.Host) == hostname(public)
}

// What browsers say of a request: how near the page that asks is (another port
// of this host is the same site, and another origin), and siteNone where no page
// does, as of a bookmark.
const (
	headerSite = "Sec-Fetch-Site"
	siteOwn    = "same-origin"
	siteNone   = "none"
)

// permitsUnnamed is permitsOrigin for a request without an Origin. Browsers send
// none with what a page shows in a frame, where clicks can be stolen, or loads as
// a script or a picture, which it then knows something of. Who says nothing of
// the site is a program.
func (h hosts) permitsUnnamed(r *http.Request) bool {
	switch r.Header.Get(headerSite) {
	case "", siteNone, siteOwn:
		return true
	}
	return leadsHere(r) || h.ours(referrer(r).Host, r.Host)
}

// leadsHere says whether a request is that of a link which the user follows: the
// page that has it is left.
func leadsHere(r *http.Request) bool {
	dest := r.Header.Get("Sec-Fetch-Dest")
	return r.Header.Get("Sec-Fetch-Mode") == "navigate" && (dest == "" || dest == "document") &&
		safeMethod(r.Method) && r.Header.Get("Upgrade") == ""
}

// referrer is the page that a request comes from, as far as the browser tells.
func referrer(r *http.Request) *url.URL {
	page, err := url.Parse(r.Header.Get("Referer"))
	if err != nil {
		return &url.URL{}
	}
	return page
}

// asker names the page that a request comes from to those who read why it's
// refused.
func asker(r *http.Request) string {
	page := referrer(r)
	switch origin := r.Header.Get("Origin"); {
	case origin != "":
		return origin
	case page.Host != "":
		return page.Scheme + "://" + page.Host
	default:
		return r.Header.Get(headerSite)
	}
}

// ours says whether a page's host, with its port, is the one that the request
// names, or one that is listed. The port counts: on another port of this host
// another user may serve pages.
func (h hosts) ours(page, asked string) bool {
	return page != "" && strings.EqualFold(withoutUsualPort(page), withoutUsualPort(asked)) || slices.Contains(h.pages, hostname(page))
}

func withoutUsualPort(host string) string {
	return strings.TrimSuffix(strings.TrimSuffix(host, ":443"), ":80")
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

// wholeServer is the path of OPTIONS *, which asks for no resource, but what the
// server as a whole can do.
const wholeServer = "*"

// teleportsOwn says whether a path is one that Teleport's proxy answers itself:
// the application never sees it, and a request for the first would end the
// session that everybody here shares.
func teleportsOwn(path string) bool {
	if path == wholeServer {
		return true
	}
	path = strings.ToLower("/" + strings.Trim(path, "/"))
	return path == "/teleport-logout" || path == "/x-teleport-auth"
}

// refuseOwn answers a request for a path of Teleport's own; by is what it came
// by.
func refuseOwn(w http.ResponseWriter, path, by string) {
	if path == wholeServer {
		refuse(w, http.StatusForbidden, kindPath, "* stands for the server as a whole, and Teleport would answer for the application: ask for a path, such as /")
		return
	}
	refuse(w, http.StatusForbidden, kindPath, "%s is answered by Teleport and not by the application, and would concern everybody who uses this %s", path, by)
}
