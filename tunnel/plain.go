package tunnel

import (
	"bytes"
)

// plainHead returns the length of the head that data begins with, its empty
// line included, if it's that of a plain request: a whole one of GET, without a
// body, without anything that concerns the connection or that parsers may
// disagree about. It returns 0 for all else, which net/http's server is to look
// at. What it lets through is parsed by net/http all the same; it's strict so
// that what is left out there (http.ReadRequest checks less than http.Server)
// can't matter, and so that no two of those who read the request on its way can
// see two different ones (RFC 9112, section 11.2).
func plainHead(data []byte) int {
	line, rest, ok := cutLine(data)
	if !ok || !plainRequestLine(line) {
		return 0
	}
	named := false
	for {
		line, rest, ok = cutLine(rest)
		switch {
		case !ok:
			return 0
		case len(line) == 0 && named:
			return len(data) - len(rest)
		case len(line) == 0:
			return 0
		}
		name, value, ok := bytes.Cut(line, []byte{':'})
		if !ok || !all(name, isToken) || !all(value, isText) {
			return 0
		}
		isHost := equalsFold(name, "host")
		if isHost && (named || !all(bytes.TrimSpace(value), isHostChar)) {
			return 0
		}
		named = named || isHost
		if !isHost && concernsConnection(name, value) {
			return 0
		}
	}
}

// cutLine returns a line without its CR LF, and what comes after. A line that
// ends with LF alone isn't one.
func cutLine(data []byte) (line, rest []byte, ok bool) {
	end := bytes.IndexByte(data, '\n')
	if end < 1 || data[end-1] != '\r' {
		return nil, nil, false
	}
	return data[:end-1], data[end+1:], true
}

// plainRequestLine says whether a line asks for a path by GET in HTTP/1.1.
func plainRequestLine(line []byte) bool {
	target, ok := bytes.CutPrefix(line, []byte("GET "))
	if !ok {
		return false
	}
	target, ok = bytes.CutSuffix(target, []byte(" HTTP/1.1"))
	return ok && len(target) > 0 && target[0] == '/' && all(target, isVisible)
}

// concernsConnection says whether a header is about the connection, the body or
// another protocol, rather than about what is asked for. A wish to keep the
// connection is granted as it is.
func concernsConnection(name, value []byte) bool {
	switch len(name) { // most names have another length than all of these
	case 2, 6, 7, 10, 14, 16, 17, 18, 19:
	default:
		return false
	}
	if equalsFold(name, "connection") {
		return !equalsFold(bytes.TrimSpace(value), "keep-alive")
	}
	for _, other := range [...]string{
		"te", "expect", "trailer", "upgrade", "keep-alive", "content-length", "transfer-encoding",
		"http2-settings", "proxy-connection", "proxy-authenticate", "proxy-authorization",
	} {
		if equalsFold(name, other) {
			return true
		}
	}
	return false
}

// equalsFold says whether a name is another one, given in lower case. Only
// letters of ASCII are folded.
func equalsFold(name []byte, lower string) bool {
	if len(name) != len(lower) {
		return false
	}
	for i, c := range name {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// all says whether there are bytes, and each is of a kind.
func all(text []byte, is func(byte) bool) bool {
	for _, c := range text {
		if !is(c) {
			return false
		}
	}
	return len(text) > 0
}

// isVisible is a visible character of ASCII.
func isVisible(c byte) bool { return '!' <= c && c <= '~' }

// isText is what a header's value may have here: ASCII with spaces and tabs.
func isText(c byte) bool { return ' ' <= c && c <= '~' || c == '\t' }

// isToken is what names of headers are made of (RFC 9110, section 5.6.2).
func isToken(c byte) bool {
	return isAlphanumeric(c) || bytes.IndexByte([]byte("!#$%&'*+-.^_`|~"), c) >= 0
}

// isHostChar is what a host with a port may have: a name or an IP address.
func isHostChar(c byte) bool {
	return isAlphanumeric(c) || c == '.' || c == '-' || c == '_' || c == ':' || c == '[' || c == ']'
}

func isAlphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}
