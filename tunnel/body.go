package tunnel

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// clientBody is the body of a request, whose errors are the client's and say
// nothing of the proxy. Its methods may be called by several goroutines at once,
// as those of the server's own.
type clientBody struct {
	io.ReadCloser
	// atEnd says that all of it was read, failed that it can't be.
	atEnd, failed atomic.Bool
}

// Read reads what the client sends.
func (b *clientBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	switch {
	case errors.Is(err, io.EOF):
		b.atEnd.Store(true)
	case err != nil:
		b.failed.Store(true)
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

// noteRead notes of a request that was answered whether its body has come whole:
// one that was kept has.
func noteRead(r *http.Request) {
	body, streamed := r.Body.(*clientBody)
	if c := clientOf(r.Context()); c != nil && (!streamed || body.atEnd.Load()) {
		c.unread.Store(false)
	}
}

// restTime is how long the rest of a body is awaited when its request has been
// answered.
const restTime = time.Second

// serveBothWays has next answer a request while its body still comes. By itself
// http.Server reads a part of the body away before it sends an answer's head: the
// application would never see that part.
func serveBothWays(w http.ResponseWriter, r *http.Request, body *clientBody, next func()) {
	control := http.NewResponseController(w)
	_ = control.EnableFullDuplex() // HTTP/1 can
	whole := false
	defer func() { settleBody(control, r, body, whole) }() // also where ReverseProxy panics to cut an answer off
	next()
	whole = true
}

// settleBody ends the reading of a body whose request has been answered, or whose
// answer is cut off. The transport may still read. That has to end before the
// server reads again (golang/go#68560): Close waits for it, and reads the rest, up
// to 256 KiB of it. The client may wait for the answer meanwhile.
func settleBody(control *http.ResponseController, r *http.Request, body *clientBody, whole bool) {
	c := clientOf(r.Context())
	if c != nil {
		c.unread.Store(whole && !body.atEnd.Load())
	}
	if body.atEnd.Load() {
		return
	}
	wait := time.Duration(0)
	if whole {
		_ = control.Flush()
		wait = restTime
	}
	_ = control.SetReadDeadline(time.Now().Add(wait))
	err := body.Close()
	if c != nil && (err != nil || body.failed.Load()) {
		c.spent.Store(true)
	}
}

// unlessSpent ends a connection that is spent: what looks like a request may be a
// part of the last one.
func unlessSpent(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c := clientOf(r.Context()); c != nil {
			if c.spent.Load() {
				_ = c.Close()
				return
			}
			c.unread.Store(r.ContentLength != 0)
		}
		next.ServeHTTP(w, r)
	})
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
