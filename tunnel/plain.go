package tunnel

import (
	"bytes"
)

// plainHead is the head of a plain request: a whole one of GET, without a body,
// without anything that concerns the connection or that parsers may disagree about.
//
// What is let through here is either simple, and goes on to another host, or is
// parsed by net/http all the same. It's strict so that what is left out there
// (http.ReadRequest checks less than http.Server) can't matter, and so that no two
// of those who read the request on its way can see two different ones (RFC 9112,
// section 11.2).
type plainHead struct {
	// target is what is asked for, and host what the request names. They're parts of
	// what was read.
	target, host []byte
	// fields are the headers, line by line, without that of the host and without
	// those about the connection.
	fields []byte
	// simple says that nothing depends on the headers, that nothing in the target is
	// escaped, and that it isn't Teleport's own: target and headers go on as they are.
	simple bool
}

// read reads the head that data begins with, and returns its length, the empty
// line included. It returns 0 for all that isn't plain, which net/http's server is
// to look at.
func (h *plainHead) read(data []byte) int {
	line, rest, ok := cutLine(data)
	if !ok {
		return 0
	}
	if h.target, ok = plainTarget(line); !ok {
		return 0
	}
	h.host, h.fields, h.simple = nil, h.fields[:0], isSimpleTarget(h.target)
	for {
		line, rest, ok = cutLine(rest)
		switch {
		case !ok:
			return 0
		case len(line) > 0:
			if !h.field(line) {
				return 0
			}
		case h.host == nil:
			return 0
		default:
			return len(data) - len(rest)
		}
	}
}

// field reads the line of a header, and says whether it's one of a plain request.
func (h *plainHead) field(line []byte) bool {
	name, value, ok := cutField(line)
	switch {
	case !ok:
		return false
	case equalsFold(name, "host"):
		value = bytes.TrimSpace(value)
		if h.host != nil || !all(value, isHostChar) {
			return false
		}
		h.host = value
		return true
	case equalsFold(name, "connection"):
		// A wish to keep the connection is granted as it is.
		return equalsFold(bytes.TrimSpace(value), "keep-alive")
	case concernsConnection(name):
		return false
	}
	h.simple = h.simple && !concernsTunnel(name)
	h.fields = append(append(h.fields, line...), "\r\n"...)
	return true
}

// write writes a simple request to a host as the application is to get it.
func (h *plainHead) write(out *bytes.Buffer, host string) {
	out.WriteString("GET ")
	out.Write(h.target)
	out.WriteString(" HTTP/1.1\r\nHost: ")
	out.WriteString(host)
	out.WriteString("\r\n")
	out.Write(h.fields)
	out.WriteString("\r\n")
}

// plainAnswer reads the head that data begins with, and returns its length and that
// of the body. It returns false for all but an answer that can be passed on byte by
// byte: 200 with a body of a length that is known, a date, and nothing that concerns
// the connection or where the application is.
func plainAnswer(data []byte) (head, body int, ok bool) {
	line, rest, ok := cutLine(data)
	reason, is := bytes.CutPrefix(line, []byte("HTTP/1.1 200 "))
	if !ok || !is || len(reason) > 0 && !all(reason, isText) {
		return 0, 0, false
	}
	body, dated := -1, false
	for {
		if line, rest, ok = cutLine(rest); !ok {
			return 0, 0, false
		}
		if len(line) == 0 {
			return len(data) - len(rest), body, body >= 0 && dated
		}
		name, value, ok := cutField(line)
		switch {
		case !ok, concernsAnswer(name):
			return 0, 0, false
		case equalsFold(name, "date"):
			dated = len(bytes.TrimSpace(value)) > 0
		case equalsFold(name, "content-length"):
			if body >= 0 {
				return 0, 0, false
			}
			if body, ok = plainLength(bytes.TrimSpace(value)); !ok {
				return 0, 0, false
			}
		}
	}
}

// plainLength reads the length of a body that may be a short one.
func plainLength(digits []byte) (length int, ok bool) {
	if len(digits) == 0 || len(digits) > 6 || len(digits) > 1 && digits[0] == '0' {
		return 0, false
	}
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, false
		}
		length = 10*length + int(c-'0')
	}
	return length, true
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

// cutField returns the name and the value of a header's line, and whether all are
// of one mind on them.
func cutField(line []byte) (name, value []byte, ok bool) {
	name, value, ok = bytes.Cut(line, []byte{':'})
	return name, value, ok && all(name, isToken) && all(value, isText)
}

// plainTarget returns the target of a line that asks for a path by GET in HTTP/1.1.
func plainTarget(line []byte) (target []byte, ok bool) {
	if target, ok = bytes.CutPrefix(line, []byte("GET ")); !ok {
		return nil, false
	}
	target, ok = bytes.CutSuffix(target, []byte(" HTTP/1.1"))
	return target, ok && len(target) > 0 && target[0] == '/' && all(target, isVisible)
}

// isSimpleTarget says whether a target has a path in which nothing is escaped, or
// should have been, and that isn't Teleport's own. What stands in the query is the
// application's affair.
func isSimpleTarget(target []byte) bool {
	path, query, _ := bytes.Cut(target, []byte{'?'})
	return all(path, isPathChar) && bytes.IndexByte(query, '#') < 0 && !teleportsOwn(string(path))
}

// concernsConnection says whether a header of a request is about the connection,
// the body or another protocol, rather than about what is asked for.
func concernsConnection(name []byte) bool {
	return isOneOf(name, "te", "expect", "trailer", "upgrade", "keep-alive", "content-length", "transfer-encoding",
		"http2-settings", "proxy-connection", "proxy-authenticate", "proxy-authorization")
}

// concernsTunnel says whether a header of a request is one that the tunnel looks
// at, changes or takes out: those of browsers, and those that tell who is in front.
func concernsTunnel(name []byte) bool {
	return isOneOf(name, "cookie", "origin", "referer", "forwarded", "x-real-ip") ||
		beginsFold(name, "x-forwarded-") || beginsFold(name, "sec-") || beginsFold(name, "proxy-")
}

// concernsAnswer says whether a header of an answer is about the connection, or is
// one that the tunnel looks at, changes or takes out.
func concernsAnswer(name []byte) bool {
	return isOneOf(name, "te", "trailer", "upgrade", "location", "connection", "keep-alive", "set-cookie",
		"content-location", "transfer-encoding", "access-control-allow-origin") ||
		beginsFold(name, "x-rollcall-") || beginsFold(name, "proxy-")
}

func isOneOf(name []byte, others ...string) bool {
	for _, other := range others {
		if equalsFold(name, other) {
			return true
		}
	}
	return false
}

// beginsFold says whether a name begins with a prefix, given in lower case.
func beginsFold(name []byte, lower string) bool {
	return len(name) >= len(lower) && equalsFold(name[:len(lower)], lower)
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

// isPathChar is what a path may have without being escaped (RFC 3986, section 3.3).
func isPathChar(c byte) bool {
	return isAlphanumeric(c) || bytes.IndexByte([]byte("/-._~!$&'()*+,;=:@"), c) >= 0
}

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
