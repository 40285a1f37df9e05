package tunnel

import (
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
)

// sessionCookies are the browser's sessions at Teleport. A certificate stands
// for us; with a cookie beside it, Teleport would answer with its login page
// where it otherwise says no.
const sessionCookies = "__Host-grv_app_session"

// unnamed stands for the host of an application that has no public address.
const unnamed = "application"

// forwardedHeaders tell who is in front. What clients say of that isn't
// believed; Teleport sets these anew, and trusts what it gets.
func forwardedHeaders() []string {
	return []string{
		"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Proto",
		"X-Forwarded-Server", "X-Forwarded-Ssl", "X-Real-Ip",
	}
}

// rewriteRequest turns a request to this host into one to the application's
// public address, so that the application sees what it would see of a browser
// that came through Teleport.
//
// local says whether a host, with its port, is the one that the client came by:
// only then may a page's address be made the application's.
func rewriteRequest(r *httputil.ProxyRequest, public string, local func(host string) bool) {
	out := r.Out
	out.URL.Scheme, out.URL.Host = "https", unnamed
	// ReverseProxy drops parameters that Go can't parse: that's the
	// application's affair.
	out.URL.RawQuery = r.In.URL.RawQuery
	out.Host = public
	// The same map, which is filled in when the body has been read.
	out.Trailer = r.In.Trailer
	for _, name := range forwardedHeaders() {
		delete(out.Header, name) // Del would look for the canonical form, which these have
	}
	rewriteOwn(out.Header, "Origin", public, local)
	rewriteOwn(out.Header, "Referer", public, local)
	dropSessionCookies(out.Header)
}

// rewriteOwn points a header that holds a URL of ours to the application's
// public address.
func rewriteOwn(header http.Header, name, public string, local func(string) bool) {
	value := header.Get(name)
	if value == "" {
		return
	}
	u, err := url.Parse(value)
	if err != nil || u.Host == "" || !local(u.Host) {
		return
	}
	u.Scheme, u.Host = "https", public
	header.Set(name, u.String())
}

func dropSessionCookies(header http.Header) {
	lines := header.Values("Cookie")
	touched := false
	for _, line := range lines {
		touched = touched || strings.Contains(line, sessionCookies)
	}
	if !touched {
		return
	}
	var kept []string
	for _, line := range lines {
		for part := range strings.SplitSeq(line, ";") {
			part = strings.TrimSpace(part)
			if part != "" && !strings.HasPrefix(part, sessionCookies) {
				kept = append(kept, part)
			}
		}
	}
	header.Del("Cookie")
	if len(kept) > 0 {
		header.Set("Cookie", strings.Join(kept, "; "))
	}
}

// rewriteResponse turns what points to the application's public address back to
// where the client came from: base is http:// and the host that it named. So
// does what points to the address by which Teleport reaches the application,
// which is the only one that an application may know of itself. origin is the
// client's Origin if it's a page of ours that asks: only such a page may read
// what the application lets its own pages read.
func rewriteResponse(header http.Header, public, uri, base, origin string) {
	delete(header, headerKind) // it tells our answers from the application's
	for _, name := range []string{"Location", "Content-Location"} {
		if value := header.Get(name); value != "" {
			header.Set(name, localURL(value, public, uri, base))
		}
	}
	if origin != "" && header.Get("Access-Control-Allow-Origin") == "https://"+public {
		header.Set("Access-Control-Allow-Origin", origin)
	}
	cookies := header["Set-Cookie"]
	for i, line := range cookies {
		cookies[i] = localCookie(line, public)
	}
}

// localURL rewrites an absolute URL of the application: one of its public
// address, whatever the port (Teleport and applications don't always know which
// one it's served at), or one of the very address in its URI.
func localURL(value, public, uri, base string) string {
	u, err := url.Parse(value)
	if err != nil || u.Host == "" || u.Scheme != "" && u.Scheme != "https" && u.Scheme != "http" {
		return value
	}
	own := hostname(u.Host) == hostname(public)
	if inner, err := url.Parse(uri); err == nil && inner.Host != "" {
		own = own || strings.EqualFold(inner.Host, u.Host)
	}
	to, err := url.Parse(base)
	if err != nil || !own || to.Host == "" {
		return value // an HTTP/1.0 client may name no host to lead it back to
	}
	u.Scheme, u.Host = to.Scheme, to.Host
	return u.String()
}

// localCookie makes a cookie one that a client of http://localhost keeps:
// without the application's domain, and without Secure and what needs it. A
// cookie whose name demands Secure keeps it; browsers take it from localhost.
func localCookie(line, public string) string {
	parts := strings.Split(line, ";")
	secure := strings.HasPrefix(parts[0], "__Host-") || strings.HasPrefix(parts[0], "__Secure-")
	kept := parts[:1]
	for _, part := range parts[1:] {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch {
		case strings.EqualFold(name, "Domain") && within(hostname(public), strings.ToLower(strings.TrimPrefix(strings.TrimSpace(value), "."))):
			continue
		case secure:
		case strings.EqualFold(name, "Secure"), strings.EqualFold(name, "Partitioned"):
			continue
		case strings.EqualFold(name, "SameSite") && strings.EqualFold(strings.TrimSpace(value), "None"):
			continue // without Secure, browsers refuse the cookie
		}
		kept = append(kept, part)
	}
	return strings.Join(kept, ";")
}

// within says whether a host is a domain or below it.
func within(host, domain string) bool {
	return host == domain || strings.HasSuffix(host, "."+domain)
}
