// Package records moves large bodies through a TLS connection with fewer calls
// of the system than there are TLS records.
//
// crypto/tls reads and writes the network record by record, 16 KiB at most, and
// its Read returns the content of one record. Where a body goes from one
// connection to another that makes four or more calls, and as many wake-ups of
// the other side, for each 64 KiB. Here, while much comes, several records are
// read from the network at once and returned by one Read, and all records of one
// Write are sent together. Nothing waits for more: what has come is returned,
// and what was written has been sent when Write returns. All else, errors and
// deadlines included, is as crypto/tls has it.
package records

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"

	"rollcall/internal/socket"
)

const (
	// maxRecord is how much content a record has at most, in bytes, and overhead
	// more than what crypto/tls puts around it.
	maxRecord = 16 << 10
	overhead  = 256
	// oneRecord is how much crypto/tls always sends as one record, in bytes: the
	// first records of a connection are made to fit into a packet.
	oneRecord = 1 << 10
	// bufferSize is how much is read, or sent, at once, in bytes.
	bufferSize = 4 * (maxRecord + overhead)
	// much is what a read has to bring for the next one to be worth a buffer, in
	// bytes: the better part of a record.
	much = 8 << 10
)

// Conn is a TLS connection. Like those of any net.Conn, its methods may be
// called by several goroutines at once.
type Conn struct {
	*tls.Conn
	raw *rawConn
	// reading and writing are held by Read and by Write: they do in several steps
	// what is one for crypto/tls.
	reading, writing sync.Mutex
}

// Client returns the client's side of TLS on a connection, whose handshake is
// still to come. The connection belongs to it from then on. There's no
// renegotiation: it's a handshake in the middle of a Read, which here may not
// wait, and of a Write, whose records are held back.
func (p *Pool) Client(conn net.Conn, config *tls.Config) *Conn {
	if config.Renegotiation != tls.RenegotiateNever {
		config = config.Clone()
		config.Renegotiation = tls.RenegotiateNever
	}
	raw := &rawConn{Conn: socket.Over(conn), pool: p}
	raw.socket, _ = raw.Conn.(*socket.Conn)
	return &Conn{Conn: tls.Client(raw, config), raw: raw}
}

// Read returns what has come, at least a byte of it. It may return an error
// along with the last bytes before it.
func (c *Conn) Read(p []byte) (int, error) {
	// A handshake reads as well, and may be under way in another goroutine.
	if err := c.Handshake(); err != nil {
		return 0, err
	}
	c.reading.Lock()
	defer c.reading.Unlock()
	c.raw.roomy = len(p) > maxRecord
	n, err := c.Conn.Read(p)
	for n > 0 && n < len(p) && err == nil && c.raw.flows() {
		// Only what is here already: the rest of a record that isn't stays where it
		// is until the next Read.
		var more int
		c.raw.dry = true
		more, err = c.Conn.Read(p[n:])
		c.raw.dry = false
		n += more
	}
	if errors.Is(err, errDry) {
		err = nil // n > 0
	}
	return n, err
}

// Quiet says, without waiting for the peer, whether it has sent nothing that Read
// hasn't returned, and hasn't ended the connection. It waits for a Read that is
// under way. Messages of TLS itself, such as the tickets that servers send after
// the handshake, don't count, but a record that isn't whole does. known is false,
// and so is quiet, if the connection below isn't a socket's. What has come may be
// lost: without quiet, there's nothing left to do but Close.
func (c *Conn) Quiet() (quiet, known bool) {
	if c.raw.socket == nil {
		return false, false
	}
	c.reading.Lock()
	defer c.reading.Unlock()
	c.raw.dry, c.raw.probing = true, true
	n, err := c.Conn.Read(c.raw.one[:])
	c.raw.dry, c.raw.probing = false, false
	return n == 0 && errors.Is(err, errDry) && c.raw.frame.atBoundary(), true
}

// Write sends p. After an error nothing more can be sent. How much it says was
// sent may then be off by what stands around the records.
func (c *Conn) Write(p []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	if len(p) <= oneRecord {
		return c.Conn.Write(p)
	}
	// What a handshake sends can't be held back: the answer to it is awaited.
	if err := c.Handshake(); err != nil {
		return 0, err
	}
	c.raw.cork()
	n, err := c.Conn.Write(p)
	n, broken := c.raw.uncork(n)
	if err == nil {
		err = broken
	}
	return n, err
}

// ReadFrom sends what r has until its end, each part as it comes, and returns
// how much was sent.
func (c *Conn) ReadFrom(r io.Reader) (int64, error) {
	buf := c.raw.pool.take()
	defer c.raw.pool.give(buf)
	// Without the WriteTo of one, which knows other sizes, and this very method.
	return io.CopyBuffer(struct{ io.Writer }{c}, struct{ io.Reader }{r}, (*buf)[:4*maxRecord])
}

// Close closes the connection. A Write that is under way fails at once, and the
// peer isn't told of the end then. crypto/tls has it so as well, but can't know
// of what uncork sends, and would wait seconds for that.
func (c *Conn) Close() error {
	if !c.writing.TryLock() {
		return c.raw.Close()
	}
	defer c.writing.Unlock()
	return c.Conn.Close()
}

// CloseWrite tells the peer that nothing more will be sent, after what a Write
// that is under way sends.
func (c *Conn) CloseWrite() error {
	c.writing.Lock()
	defer c.writing.Unlock()
	return c.Conn.CloseWrite()
}

// rawConn is the connection to the network as crypto/tls sees it.
type rawConn struct {
	net.Conn
	pool *Pool

	// The following belong to the goroutine that reads.

	// unread is what has been read and crypto/tls hasn't got yet, a part of
	// buffer. readErr came along with it, and goes after it.
	buffer  *[]byte
	unread  []byte
	readErr error
	// busy says that the last read brought much, roomy that the caller of Read has
	// room for more than a record. Only with both a read gets a buffer: who looks
	// with little room for the next use of a connection keeps none from others.
	busy, roomy bool
	// dry keeps reads from waiting for the network: they return errDry. With
	// probing they return what is there.
	dry, probing bool
	// one is what Quiet reads into. It stands here so that a look takes no memory.
	one [1]byte
	// frame is where crypto/tls is in the stream: it may have read the beginning
	// of a record along with the one before.
	frame frame
	// socket is the network's own connection, which can be read without waiting; nil:
	// it isn't a socket's.
	socket *socket.Conn

	// mu protects the following: alerts, and answers to a change of keys, are
	// written by who reads or closes.
	mu sync.Mutex
	// corked are records that wait for uncork, filled bytes; nil: they are sent at
	// once. taken is how many bytes of records came since cork, sent how many of
	// them have been sent.
	corked      *[]byte
	filled      int
	taken, sent int64
	// broken is the error of a write. A part of a record may have been sent before
	// it, and nothing may follow that.
	broken error
}

// Read returns some of what has been read already, or reads.
func (r *rawConn) Read(p []byte) (int, error) {
	n, err := r.read(p)
	r.frame.follow(p[:n])
	return n, err
}

func (r *rawConn) read(p []byte) (int, error) {
	switch {
	case len(r.unread) > 0:
		return r.serve(p), nil
	case r.probing:
		return r.probe(p)
	case r.dry:
		return 0, errDry
	case r.readErr != nil:
		err := r.readErr
		r.readErr = nil
		return 0, err
	case !r.busy || !r.roomy:
		n, err := r.Conn.Read(p)
		r.busy = n >= much
		return n, err
	}
	r.buffer = r.pool.take()
	n, err := r.Conn.Read(*r.buffer)
	r.busy = n >= much
	r.unread = (*r.buffer)[:n]
	served := r.serve(p)
	if served > 0 {
		r.readErr, err = err, nil
	}
	return served, err
}

// probe reads what is there, without waiting and whatever the deadline is.
func (r *rawConn) probe(p []byte) (int, error) {
	n, err := r.socket.ReadNow(p)
	if errors.Is(err, socket.ErrNothing) {
		err = errDry
	}
	return n, err
}

// serve returns a part of what is unread, and gives the buffer back if it was
// the last.
func (r *rawConn) serve(p []byte) int {
	n := copy(p, r.unread)
	r.unread = r.unread[n:]
	if len(r.unread) == 0 {
		r.pool.give(r.buffer)
		r.buffer, r.unread = nil, nil
	}
	return n
}

// flows says whether more records are likely to be here than the one that was
// read.
func (r *rawConn) flows() bool { return r.busy || len(r.unread) > 0 }

// frame follows a stream of records (RFC 8446, section 5.1): five bytes, the last
// two of which are the length of what comes after them.
type frame struct {
	head [5]byte
	// have is how much there is of the head, left how much is to come of the rest.
	have, left int
}

func (f *frame) follow(p []byte) {
	for len(p) > 0 {
		if f.left > 0 {
			n := min(f.left, len(p))
			f.left, p = f.left-n, p[n:]
			continue
		}
		n := copy(f.head[f.have:], p)
		f.have, p = f.have+n, p[n:]
		if f.have == len(f.head) {
			f.have, f.left = 0, int(f.head[3])<<8|int(f.head[4])
		}
	}
}

// atBoundary says whether the last record is whole.
func (f *frame) atBoundary() bool { return f.have == 0 && f.left == 0 }

// cork keeps what is written until uncork, as far as there's room for it.
func (r *rawConn) cork() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.corked, r.filled, r.taken, r.sent = r.pool.take(), 0, 0, 0
}

// uncork sends what was kept since cork, the records of n bytes of content, and
// returns how many of these have been sent.
func (r *rawConn) uncork(n int) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := r.flush()
	r.pool.give(r.corked)
	r.corked = nil
	if err != nil && r.taken > 0 {
		// It matters that it isn't 0 if the peer may have got something: callers
		// take that for leave to send the same again elsewhere.
		n = int(int64(n) * r.sent / r.taken)
	}
	return n, err
}

// Write sends p, or keeps it.
func (r *rawConn) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.corked == nil || r.broken != nil {
		return r.send(p)
	}
	if r.filled+len(p) > len(*r.corked) {
		if err := r.flush(); err != nil {
			return 0, err
		}
	}
	r.taken += int64(len(p))
	if len(p) > len(*r.corked) {
		return r.send(p) // no record is that long
	}
	r.filled += copy((*r.corked)[r.filled:], p)
	return len(p), nil
}

// flush sends what is kept. The caller holds mu, as that of send does.
func (r *rawConn) flush() error {
	if r.filled > 0 {
		_, _ = r.send((*r.corked)[:r.filled]) // broken has the error
		r.filled = 0
	}
	return r.broken
}

func (r *rawConn) send(p []byte) (int, error) {
	if r.broken != nil {
		return 0, r.broken
	}
	n, err := r.Conn.Write(p)
	r.sent += int64(n)
	r.broken = err
	return n, err
}

// dryError is what crypto/tls is told where nothing has come. It's a temporary
// net.Error, after which crypto/tls goes on, as after a deadline.
type dryError struct{}

func (dryError) Error() string   { return "nothing more has come" }
func (dryError) Timeout() bool   { return true }
func (dryError) Temporary() bool { return true }

var errDry net.Error = dryError{}

// Pool has the buffers of connections that are busy. The zero value is ready, and
// safe for concurrent use.
type Pool struct{ pool sync.Pool }

func (p *Pool) take() *[]byte {
	if buf, ok := p.pool.Get().(*[]byte); ok {
		return buf
	}
	buf := make([]byte, bufferSize)
	return &buf
}

func (p *Pool) give(buf *[]byte) { p.pool.Put(buf) }
