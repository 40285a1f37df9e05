package tunnel

import (
	"context"
	"errors"
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
	// user is who connected, or unknownUser; denied says that they may not.
	user   int64
	denied bool

	sent, received atomic.Int64
	once           sync.Once
}

// Read counts what the client sends.
func (c *client) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.sent.Add(int64(n))
	c.front.counts.sent.Add(float64(n))
	return n, err
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

// Close closes the connection once.
func (c *client) Close() error {
	err := net.ErrClosed
	c.once.Do(func() {
		err = c.Conn.Close()
		c.front.gone(c)
	})
	return err
}

func closeWrite(conn net.Conn) error {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return conn.Close()
}

type clientKey struct{}

func withClient(ctx context.Context, conn net.Conn) context.Context {
	if c, ok := conn.(*client); ok {
		return context.WithValue(ctx, clientKey{}, c)
	}
	return ctx
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
	// turnAwayTime bounds how long a client beyond the limit is talked to.
	turnAwayTime = 2 * time.Second
	// turnAwayMost bounds how many are talked to at a time.
	turnAwayMost = 64
)

// turnAway answers an HTTP client that's one too many. What it has sent is read
// first, since closing with something unread would destroy the answer.
func turnAway(conn net.Conn, answer string) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(turnAwayTime))
	if _, err := conn.Write([]byte(answer)); err != nil {
		return
	}
	if err := closeWrite(conn); err != nil {
		return
	}
	buf := make([]byte, 4096)
	for {
		if _, err := conn.Read(buf); err != nil {
			return
		}
	}
}

// closedByUs says whether an Accept failed because the listener was closed.
func closedByUs(err error) bool { return errors.Is(err, net.ErrClosed) }
