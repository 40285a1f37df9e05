// Package records moves large bodies through a TLS connection with fewer calls
// of the system than there are TLS records.
//
// crypto/tls reads and writes the network record by record, 16 KiB at most, and
// its Read returns the content of one record. Where a body goes from one
// connection to another that makes four or more calls, and as many wake-ups of
// the other side, for each 64 KiB. Here several records are read from the
// network at once, as many as are there are returned by one Read, and all
// records of one Write are sent together. Nothing waits for more: what has come
// is returned, and what was written has been sent when Write returns.
package records

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
)

const (
	// maxRecord is how much a record holds at most, in bytes, and overhead what
	// stands around it, at most in what Go speaks.
	maxRecord = 16 << 10
	overhead  = 256
	// size is how much is read, or sent, at once, in bytes.
	size = 4 * (maxRecord + overhead)
	// many is how much a read has to bring for the next one to be worth a buffer
	// of its own, in bytes: the better part of a record.
	many = 8 << 10
)

// Conn is a TLS connection. As with any net.Conn, Read, Write and Close may be
// called by several goroutines; Read by one at a time.
type Conn struct {
	*tls.Conn
	below *below
}

// Client returns the client's side of TLS on a connection, whose handshake is
// still to come. The connection belongs to it from then on.
func (p *Pool) Client(conn net.Conn, config *tls.Config) *Conn {
	b := &below{Conn: conn, pool: p}
	return &Conn{Conn: tls.Client(b, config), below: b}
}

// Read returns what has come, at least a byte of it.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	for n > 0 && n < len(p) && err == nil && c.below.buffer != nil {
		// Only what is here already: the rest of a record that isn't stays where it
		// is until the next Read.
		var more int
		c.below.dry = true
		more, err = c.Conn.Read(p[n:])
		c.below.dry = false
		n += more
	}
	if n > 0 && errors.Is(err, errDry) {
		err = nil
	}
	return n, err
}

// Write sends p.
func (c *Conn) Write(p []byte) (int, error) {
	if len(p) <= maxRecord {
		return c.Conn.Write(p)
	}
	c.below.hold()
	n, err := c.Conn.Write(p)
	if sent := c.below.release(); err == nil && sent != nil {
		return 0, sent
	}
	return n, err
}

// ReadFrom sends what r has until its end, each part as it comes.
func (c *Conn) ReadFrom(r io.Reader) (int64, error) {
	buf := c.below.pool.take()
	defer c.below.pool.give(buf)
	var total int64
	for {
		n, err := r.Read((*buf)[:4*maxRecord])
		if n > 0 {
			total += int64(n)
			if _, err := c.Write((*buf)[:n]); err != nil {
				return total, err
			}
		}
		switch {
		case err == io.EOF: //nolint:errorlint // As io.Copy has it.
			return total, nil
		case err != nil:
			return total, err
		}
	}
}

// below is the connection to the network as crypto/tls sees it.
type below struct {
	net.Conn
	pool *Pool
	// buffer has been read, and is at rest: to be read by crypto/tls. They belong
	// to who reads.
	buffer *[]byte
	rest   []byte
	// dry keeps reads from the network.
	dry bool

	// mu protects the following: alerts are written by others than the writer.
	mu   sync.Mutex
	held *[]byte
	fill int
	// broken is the first error of a write of what was held.
	broken error
}

// Read returns some of what has been read already, or reads.
func (b *below) Read(p []byte) (int, error) {
	if len(b.rest) > 0 {
		return b.serve(p), nil
	}
	if b.dry {
		return 0, errDry
	}
	if b.buffer == nil {
		n, err := b.Conn.Read(p)
		if n >= many {
			b.buffer = b.pool.take()
		}
		return n, err
	}
	n, err := b.Conn.Read(*b.buffer)
	b.rest = (*b.buffer)[:n]
	served := b.serve(p)
	if n < many && len(b.rest) == 0 {
		// It's quiet again. Connections that aren't in use have no buffer.
		b.pool.give(b.buffer)
		b.buffer = nil
	}
	return served, err
}

func (b *below) serve(p []byte) int {
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n
}

// hold keeps what is written until release, as far as there's room for it.
func (b *below) hold() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held, b.fill = b.pool.take(), 0
}

// release sends what was held.
func (b *below) release() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	err := b.flush()
	b.pool.give(b.held)
	b.held = nil
	return err
}

// Write sends p, or holds it.
func (b *below) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.broken != nil:
		return 0, b.broken
	case b.held == nil:
		return b.Conn.Write(p)
	case b.fill+len(p) > len(*b.held):
		if err := b.flush(); err != nil {
			return 0, err
		}
	}
	if len(p) > len(*b.held) {
		return b.Conn.Write(p) // no record is that long
	}
	b.fill += copy((*b.held)[b.fill:], p)
	return len(p), nil
}

// flush sends what is held. After an error a part of a record may have been
// sent, and crypto/tls, for which all had, can send nothing more.
func (b *below) flush() error {
	if b.broken != nil || b.fill == 0 {
		return b.broken
	}
	_, b.broken = b.Conn.Write((*b.held)[:b.fill])
	b.fill = 0
	return b.broken
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
	buf := make([]byte, size)
	return &buf
}

func (p *Pool) give(buf *[]byte) { p.pool.Put(buf) }
