package tunnel

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"
)

// clientBody is the body of a request, whose errors are the client's and say
// nothing of the proxy. Its methods may be called by several goroutines at once,
// as those of the server's own.
type clientBody struct {
	io.ReadCloser
	atEnd atomic.Bool
}

// Read reads what the client sends.
func (b *clientBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	switch {
	case errors.Is(err, io.EOF):
		b.atEnd.Store(true)
	case err != nil:
		err = &bodyError{cause: err}
	}
	return n, err
}

// bodyError is why a client's body can't be read. It doesn't unwrap: what is
// below is often the word for a connection that was cut, and whoever asks for
// that means the one to the proxy.
type bodyError struct{ cause error }

func (e *bodyError) Error() string { return "the request's body can't be read: " + e.cause.Error() }

// withClientBody returns a copy of a request that has a body, with that as a
// clientBody, or the request itself. The server keeps its own.
func withClientBody(r *http.Request) *http.Request {
	if r.ContentLength == 0 || r.Body == nil || r.Body == http.NoBody {
		return r
	}
	r = r.WithContext(r.Context())
	r.Body = &clientBody{ReadCloser: r.Body}
	return r
}

// bothWays returns the body of a request whose answer may come before its end;
// nil: none can. Who waits for leave to send it (RFC 9110, section 10.1.1) sends
// nothing after an answer, and after an upgrade there is no body.
func bothWays(r *http.Request) *clientBody {
	body, ok := r.Body.(*clientBody)
	if !ok || body.atEnd.Load() || r.Header.Get("Expect") != "" || r.Header.Get("Upgrade") != "" {
		return nil
	}
	return body
}

// serveBothWays has next answer a request while its body still comes. By itself
// http.Server reads a part of the body away before it sends an answer's head: the
// application would never see that part.
func serveBothWays(w http.ResponseWriter, body *clientBody, next func()) {
	control := http.NewResponseController(w)
	_ = control.EnableFullDuplex() // HTTP/1 can
	next()
	if body.atEnd.Load() {
		return
	}
	// The transport may still read. That has to end before the server reads again
	// (golang/go#68560), and Close waits for it, and for more from the client, who
	// may wait for the answer.
	_ = control.Flush()
	_ = body.Close()
}

// hasty is the connection of a client that has sent something before its upgrade
// was granted.
type hasty struct {
	net.Conn
	in *bufio.Reader
}

// Read reads what came early first.
func (h *hasty) Read(p []byte) (int, error) { return h.in.Read(p) }

// CloseWrite tells the client that nothing more comes.
func (h *hasty) CloseWrite() error { return closeWrite(h.Conn) }
