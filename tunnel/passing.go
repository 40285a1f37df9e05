package tunnel

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// answer gives a client the answer on a lane. An error means that both
// connections can't be used any more.
func (v *ride) answer(resp *http.Response, l *lane) error {
	length := resp.ContentLength
	v.writeHead(resp, length < 0)
	switch {
	case length < 0:
		return v.chunks(resp)
	case l.hasBody(resp) && length <= int64(v.out.Available()):
		if _, err := v.out.ReadFrom(resp.Body); err != nil {
			return err
		}
		return v.out.Flush()
	}
	return v.parts(resp)
}

// writeHead writes the head of an answer: that of the application without what
// concerns the connection to the proxy, and with what concerns this one.
func (v *ride) writeHead(resp *http.Response, chunked bool) {
	header := resp.Header
	for _, line := range header["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			header.Del(strings.TrimSpace(name))
		}
	}
	for _, name := range [...]string{"Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade"} {
		delete(header, name)
	}
	if resp.StatusCode == http.StatusNoContent {
		delete(header, "Content-Length") // RFC 9110, section 8.6
	}
	out := v.out
	_, _ = out.WriteString("HTTP/1.1 ")
	_, _ = out.Write(strconv.AppendInt(out.AvailableBuffer(), int64(resp.StatusCode), 10))
	_ = out.WriteByte(' ')
	_, _ = out.WriteString(http.StatusText(resp.StatusCode))
	_, _ = out.WriteString("\r\n")
	_ = header.Write(out)
	if chunked {
		_, _ = out.WriteString("Transfer-Encoding: chunked\r\n")
		for name := range resp.Trailer {
			_, _ = out.WriteString("Trailer: " + name + "\r\n")
		}
	}
	if v.ends() {
		_, _ = out.WriteString("Connection: close\r\n")
	}
	_, _ = out.WriteString("\r\n")
}

// parts passes a body of known length on, each part as it comes.
func (v *ride) parts(resp *http.Response) error {
	if err := v.out.Flush(); err != nil {
		return err
	}
	buf := v.carrier.bulk.Get()
	defer v.carrier.bulk.Put(buf)
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
// for the next event of a stream gets it at once. The first part goes out with
// the head, and so does all of a short answer.
func (v *ride) chunks(resp *http.Response) error {
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
