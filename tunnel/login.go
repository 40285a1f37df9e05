package tunnel

import (
	"bytes"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// forbidden is all that Teleport's proxy says where the session in a client's
// certificate isn't one that it knows (lib/web/app of Teleport 14).
const forbidden = "Forbidden\n"

// plainText is the type of short answers of Teleport's.
const plainText = "text/plain; charset=utf-8"

// asksForLogin says whether an answer is Teleport's own redirect to its login:
// the certificate isn't taken any more. That is /web/launch with the
// application's public address; from there the web UI leads to /web/login,
// which an application may redirect to as well, when it has done what it was
// asked to.
func asksForLogin(resp *http.Response, proxyHost, publicHost string) bool {
	switch resp.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
	default:
		return false
	}
	to, err := url.Parse(resp.Header.Get("Location"))
	if err != nil || to.Host == "" {
		return false
	}
	host, public := hostname(to.Host), hostname(publicHost)
	launched, ok := strings.CutPrefix(to.Path, "/web/launch/")
	if !ok || host == public {
		return false
	}
	if public == "" {
		return host == hostname(proxyHost)
	}
	// The proxy may have another name than the one that we dial.
	first, _, _ := strings.Cut(launched, "/")
	return hostname(first) == public
}

// looksForbidden says whether an answer is word by word Teleport's refusal of a
// session. Applications written in Go may answer the same. It reads such a
// short body, and puts it back.
func looksForbidden(resp *http.Response) bool {
	return resp.StatusCode == http.StatusForbidden && isBare(resp, forbidden)
}

// looksUnready says whether an answer is word by word what Teleport says while
// its parts look for each other after a restart.
func looksUnready(resp *http.Response) bool {
	switch resp.StatusCode {
	case http.StatusForbidden, http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return isBare(resp, http.StatusText(resp.StatusCode)+"\n") || isBare(resp, http.StatusText(resp.StatusCode))
	default:
		return false
	}
}

// isBare says whether an answer has just this text, and none of the headers
// that applications set.
func isBare(resp *http.Response, text string) bool {
	if resp.ContentLength != int64(len(text)) || resp.Header.Get("Set-Cookie") != "" {
		return false
	}
	if kind := resp.Header.Get("Content-Type"); kind != "" && kind != plainText {
		return false
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, int64(len(text))+1))
	resp.Body = &prefixed{Reader: io.MultiReader(bytes.NewReader(body), resp.Body), Closer: resp.Body}
	return err == nil && string(body) == text
}

// prefixed is a body whose beginning was read already.
type prefixed struct {
	io.Reader
	io.Closer
}
