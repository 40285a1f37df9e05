package tunnel

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// client is a connection of a local program. It counts what goes over it, and
// gives its place back when it's closed.
type client struct {
	net.Conn
	front *front
	// user is who connected, or unknownUser.
	user int64
	// spent says that the connection can't be used again: where a request's body
	// ends isn't known, and so isn't where the next request begins. http.Server
	// doesn't learn of that.
	spent atomic.Bool
	// unread says that the last request had a body of which it isn't known that all
	// has come. Closing while it comes would reset the connection, and many a client
	// would not get to see the answer.
	unread atomic.Bool
	// waited says that the client has waited for a certificate already.
	waited atomic.Bool
	// tried is when a request was first tried to be carried that is to be carried
	// next, in Unix nanoseconds; zero: it wasn't.
	tried atomic.Int64
	// ride carries the client's plain requests; nil: nothing does. It's set once,
	// with front.mu, before http.Server has the client.
	ride *ride
	// ahead has what was read ahead; nil: nothing. It belongs to who reads.
	ahead io.Reader

	sent, received atomic.Int64
	once           sync.Once
}

// Read counts what the client sends.
func (c *client) Read(p []byte) (int, error) {
	if c.spent.Load() {
		return 0, io.EOF
	}
	from := io.Reader(c.Conn)
	if c.ahead != nil {
		from = c.ahead
	}
	n, err := from.Read(p)
	c.took(n)
	return n, err
}

// lingerTime is for how long a client may send on after its answer.
const lingerTime = 500 * time.Millisecond

// linger reads away what the client still sends. It ends at once if the client
// does, or if the connection is closed. The server may still set deadlines, early
// and late ones, and so the time is kept without one.
func (c *client) linger() {
	timer := time.AfterFunc(lingerTime, func() { _ = c.Conn.Close() })
	defer timer.Stop()
	buf := c.front.bulk.Get()
	defer c.front.bulk.Put(buf)
	_ = c.SetReadDeadline(time.Time{})
	for {
		_, err := c.Conn.Read(buf)
		switch {
		case err == nil:
		case isDeadline(err):
			_ = c.SetReadDeadline(time.Time{})
		default:
			return
		}
	}
}

// took counts what the client sent.
func (c *client) took(n int) {
	c.sent.Add(int64(n))
	c.front.counts.sent.Add(float64(n))
}

// Write counts what the client receives.
func (c *client) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.received.Add(int64(n))
	c.front.counts.received.Add(float64(n))
	return n, err
}

// CloseWrite tells the client that nothing more comes.
func (c *client) CloseWrite() error { return closeWrite(c.Conn) }

// Close closes the connection once, and doesn't wait. A client that may still send
// is lingered on, and keeps its place until then; it gets nothing more.
func (c *client) Close() error {
	err := net.ErrClosed
	c.once.Do(func() {
		if c.unread.Load() && c.front.handlers.begin() {
			err = closeWrite(c.Conn)
			go func() {
				defer c.front.handlers.end()
				defer c.front.gone(c)
				defer c.Conn.Close()
				c.linger()
			}()
			return
		}
		err = c.Conn.Close()
		c.front.gone(c)
	})
	return err
}

// cut closes the connection without lingering, and ends that if it has begun: a
// request may still be reading its body.
func (c *client) cut() {
	c.once.Do(func() {
		_ = c.Conn.Close()
		c.front.gone(c)
	})
	_ = c.Conn.Close()
}

// detach gives the place back, and leaves the connection to the caller.
func (c *client) detach() net.Conn {
	c.once.Do(func() { c.front.gone(c) })
	return c.Conn
}

// longestMethod is the longest of HTTP's methods that is known here, CONNECT or
// OPTIONS, with a space.
const longestMethod = 8

// sendsHTTP looks at what the client sends first, and leaves it to be read. It
// must not be called while something else reads.
func (c *client) sendsHTTP(within time.Duration) bool {
	if c.SetReadDeadline(time.Now().Add(within)) != nil {
		return false
	}
	reader := bufio.NewReader(c.Conn)
	for n := 1; n <= longestMethod; n++ {
		first, err := reader.Peek(n)
		if err != nil {
			return false
		}
		switch last := first[n-1]; {
		case last == ' ' && n > 1:
			c.ahead = reader
			return c.SetReadDeadline(time.Time{}) == nil
		case last < 'A' || last > 'Z':
			return false
		}
	}
	return false
}

func closeWrite(conn net.Conn) error {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return conn.Close()
}

type clientKey struct{}

func withClient(ctx context.Context, conn net.Conn) context.Context {
	if c := clientBehind(conn); c != nil {
		return context.WithValue(ctx, clientKey{}, c)
	}
	return ctx
}

// clientBehind is the client whose connection http.Server has; nil: it's none of
// ours.
func clientBehind(conn net.Conn) *client {
	switch c := conn.(type) {
	case *client:
		return c
	case *served:
		return c.client
	}
	return nil
}

func clientOf(ctx context.Context) *client {
	c, _ := ctx.Value(clientKey{}).(*client)
	return c
}

// queue hands connections to an http.Server; it satisfies net.Listener.
type queue struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
	addr  net.Addr
}

func newQueue(addr net.Addr) *queue {
	return &queue{conns: make(chan net.Conn), done: make(chan struct{}), addr: addr}
}

// put hands over a connection, or closes it after the end.
func (q *queue) put(conn net.Conn) {
	select {
	case q.conns <- conn:
	case <-q.done:
		_ = conn.Close()
	}
}

// Accept returns the next connection.
func (q *queue) Accept() (net.Conn, error) {
	select {
	case conn := <-q.conns:
		return conn, nil
	case <-q.done:
		return nil, net.ErrClosed
	}
}

// Close ends Accept.
func (q *queue) Close() error {
	q.once.Do(func() { close(q.done) })
	return nil
}

// Addr is the address of the listener behind the queue.
func (q *queue) Addr() net.Addr { return q.addr }

const (
	// turnAwayTime bounds how long a client that's turned away is talked to.
	turnAwayTime = 2 * time.Second
	// turnAwayMost bounds how many are talked to at a time.
	turnAwayMost = 64
)

// turnAway answers an HTTP client without serving it, once it asks. What it has
// sent is read, since closing with something unread would destroy the answer.
func turnAway(conn net.Conn, answer string) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(turnAwayTime))
	buf := make([]byte, 4096)
	if _, err := conn.Read(buf); err != nil {
		return
	}
	if _, err := conn.Write([]byte(answer)); err != nil {
		return
	}
	if err := closeWrite(conn); err != nil {
		return
	}
	for {
		if _, err := conn.Read(buf); err != nil {
			return
		}
	}
}

// closedByUs says whether an Accept failed because the listener was closed.
func closedByUs(err error) bool { return errors.Is(err, net.ErrClosed) }
