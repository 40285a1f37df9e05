package tunnel

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// answer gives a client the answer on a lane. An error means that both
// connections can't be used any more.
func (v *ride) answer(resp *http.Response, l *lane) error {
	length := resp.ContentLength
	v.writeHead(resp, length < 0)
	switch {
	case length < 0:
		return v.chunks(resp, l)
	case l.hasBody(resp) && length <= int64(v.out.Available()):
		if _, err := v.out.ReadFrom(resp.Body); err != nil {
			return err
		}
		return v.out.Flush()
	}
	return v.parts(resp)
}

// inform passes an answer on that comes before the one that counts.
func (v *ride) inform(resp *http.Response) error {
	withoutHops(resp.Header)
	v.writeStatus(resp.StatusCode)
	_ = resp.Header.Write(v.out)
	_, _ = v.out.WriteString("\r\n")
	return v.out.Flush()
}

// withoutHops takes out what concerns the connection to the proxy alone (RFC
// 9110, section 7.6.1).
func withoutHops(header http.Header) {
	for _, line := range header["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			header.Del(strings.TrimSpace(name))
		}
	}
	for _, name := range [...]string{
		"Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection",
		"Te", "Trailer", "Transfer-Encoding", "Upgrade",
	} {
		delete(header, name)
	}
}

// writeHead writes the head of an answer: that of the application without what
// concerns the connection to the proxy, and with what concerns this one.
func (v *ride) writeHead(resp *http.Response, chunked bool) {
	header, out := resp.Header, v.out
	withoutHops(header)
	if _, err := strconv.ParseUint(header.Get("Content-Length"), 10, 63); err != nil || resp.StatusCode != http.StatusNotModified {
		delete(header, "Content-Length") // what it's by our own count follows, where there's a body
	}
	v.writeStatus(resp.StatusCode)
	_ = header.Write(out)
	if header.Get("Date") == "" {
		_, _ = out.WriteString("Date: " + time.Now().UTC().Format(http.TimeFormat) + "\r\n")
	}
	switch {
	case chunked:
		_, _ = out.WriteString("Transfer-Encoding: chunked\r\n")
		for name := range resp.Trailer {
			_, _ = out.WriteString("Trailer: " + name + "\r\n")
		}
	case resp.StatusCode != http.StatusNoContent && resp.StatusCode != http.StatusNotModified:
		_, _ = out.WriteString("Content-Length: ")
		_, _ = out.Write(strconv.AppendInt(out.AvailableBuffer(), resp.ContentLength, 10))
		_, _ = out.WriteString("\r\n")
	}
	if v.ends() {
		_, _ = out.WriteString("Connection: close\r\n")
	}
	_, _ = out.WriteString("\r\n")
}

func (v *ride) writeStatus(status int) {
	_, _ = v.out.WriteString("HTTP/1.1 ")
	_, _ = v.out.Write(strconv.AppendInt(v.out.AvailableBuffer(), int64(status), 10))
	_ = v.out.WriteByte(' ')
	_, _ = v.out.WriteString(http.StatusText(status))
	_, _ = v.out.WriteString("\r\n")
}

// parts passes a body of known length on, each part as it comes.
func (v *ride) parts(resp *http.Response) error {
	if err := v.out.Flush(); err != nil {
		return err
	}
	buf := v.client.front.bulk.Get()
	defer v.client.front.bulk.Put(buf)
	for {
		n, err := resp.Body.Read(buf)
		if n > 0 {
			if _, err := v.client.Write(buf[:n]); err != nil {
				return err
			}
		}
		if err != nil {
			return unlessEnd(err)
		}
	}
}

// chunkRoom is for the length of a chunk in front of it, in hexadecimal, and
// the ends of both lines.
const chunkRoom = 16

// chunks passes a body of unknown length on, each part as it comes: who waits
// for the next event of a stream gets it at once. A short answer that is here
// already goes out with its head.
func (v *ride) chunks(resp *http.Response, l *lane) error {
	if !l.hasChunks() {
		// Who waits for the first event of a stream knows that it has begun.
		if err := v.out.Flush(); err != nil {
			return err
		}
	}
	buf := v.carrier.buffers.Get()
	defer v.carrier.buffers.Put(buf)
	for {
		n, err := resp.Body.Read(buf[chunkRoom : len(buf)-2])
		if n > 0 {
			if err := v.chunk(buf, n); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			_, _ = v.out.WriteString("0\r\n")
			_ = resp.Trailer.Write(v.out)
			_, _ = v.out.WriteString("\r\n")
			return v.out.Flush()
		}
		if err != nil {
			return err
		}
		if err := v.out.Flush(); err != nil {
			return err
		}
	}
}

// chunk sends a part of n bytes that stands in a buffer behind chunkRoom, with
// what belongs around it.
func (v *ride) chunk(buf []byte, n int) error {
	var room [chunkRoom]byte
	length := append(strconv.AppendInt(room[:0], int64(n), 16), '\r', '\n')
	begin := chunkRoom - len(length)
	copy(buf[begin:], length)
	end := chunkRoom + n
	copy(buf[end:], "\r\n")
	piece := buf[begin : end+2]
	if len(piece) <= v.out.Available() {
		_, err := v.out.Write(piece)
		return err
	}
	if err := v.out.Flush(); err != nil {
		return err
	}
	_, err := v.client.Write(piece)
	return err
}

// unlessEnd is nil at the end of a body.
func unlessEnd(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
