package tunnel

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"rollcall/diagnostics"
	"rollcall/failure"
)

const (
	// drainTime is what open connections get to end by themselves when the
	// agent stops. It's less than service.StopTimeout.
	drainTime = 4 * time.Second
	// headerTimeout bounds how long a client may take to send a header.
	headerTimeout = 30 * time.Second
	// clientIdleTimeout is how long an unused HTTP connection of a client stays.
	clientIdleTimeout = 3 * time.Minute
	// acceptPause is the wait after a failed accept, such as for want of
	// descriptors.
	acceptPause = 100 * time.Millisecond
)

// front is the side of a tunnel that local programs see: it accepts their
// connections, keeps the limit, asks who they are, and hands each to HTTP or to
// TCP. One connection's trouble is no other's.
type front struct {
	log    *slog.Logger
	counts *counts
	peers  peers
	limit  int
	// handler serves HTTP.
	handler http.Handler
	// stream serves a TCP connection until its end; nil: all is HTTP. isTCP
	// says which of the two a new connection is for.
	stream func(ctx context.Context, c *client)
	isTCP  func() bool

	streams  sync.WaitGroup
	turnings chan struct{}

	// mu protects the following.
	mu      sync.Mutex
	clients map[*client]struct{}
	// empty is closed when the last client has gone, once it's asked for.
	empty chan struct{}
}

// serve accepts connections until ctx ends, and then lets those that are open
// end for a while. It doesn't close the listener's socket file; the caller owns
// the endpoint.
func (f *front) serve(ctx context.Context, e *endpoint) error {
	f.clients, f.turnings = make(map[*client]struct{}), make(chan struct{}, turnAwayMost)
	q := newQueue(e.Addr())
	server := &http.Server{
		Handler:           f.handler,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       clientIdleTimeout,
		ConnContext:       withClient,
		ErrorLog:          slog.NewLogLogger(f.log.Handler(), slog.LevelDebug),
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(q) // it ends with http.ErrServerClosed
	}()
	// Streams outlive ctx by the time for draining.
	streamCtx, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	stop := context.AfterFunc(ctx, func() { _ = e.Listener.Close() })
	err := f.accept(ctx, streamCtx, e, q)
	stop()
	_ = e.Listener.Close()

	f.drain(server, q)
	cut()
	<-served
	f.streams.Wait()
	return err
}

// drain waits until the clients have gone, at most for drainTime, and then ends
// them.
func (f *front) drain(server *http.Server, q *queue) {
	ctx, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	_ = server.Shutdown(ctx) // who's left is ended below
	_ = q.Close()
	select {
	case <-f.whenEmpty():
	case <-ctx.Done():
	}
	_ = server.Close()
	f.mu.Lock()
	left := make([]*client, 0, len(f.clients))
	for c := range f.clients {
		left = append(left, c)
	}
	f.mu.Unlock()
	if len(left) > 0 {
		f.log.Info("Connections that haven't ended by themselves are cut.", "connections", len(left))
	}
	for _, c := range left {
		_ = c.Close()
	}
}

// whenEmpty returns a channel that is closed when there are no clients.
func (f *front) whenEmpty() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.empty = make(chan struct{})
	if len(f.clients) == 0 {
		close(f.empty)
	}
	return f.empty
}

func (f *front) accept(ctx, streamCtx context.Context, e *endpoint, q *queue) error {
	for {
		conn, err := e.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = conn.Close()
			}
			return nil
		case err != nil && closedByUs(err):
			return failure.Wrap(failure.Other, err, "the listener was closed")
		case err != nil:
			f.log.Warn("A connection can't be accepted.", diagnostics.KeyErr, err)
			if !pause(ctx, acceptPause) {
				return nil
			}
			continue
		}
		f.admit(streamCtx, conn, q)
	}
}

// admit decides what becomes of a new connection.
func (f *front) admit(ctx context.Context, conn net.Conn, q *queue) {
	tcp := f.isTCP != nil && f.isTCP()
	c := f.place(conn)
	if c == nil {
		f.counts.limited.Inc()
		f.refuse(conn, tcp)
		return
	}
	if !f.peers.ask {
		f.hand(ctx, c, q, tcp)
		return
	}
	// Who it is takes a look at a table that may be long; others needn't wait.
	f.streams.Go(func() {
		c.user = f.peers.user(conn)
		c.denied = !f.peers.permits(c.user)
		if c.denied {
			f.counts.denied.Inc()
			f.log.Warn("A connection of a user who may not use this tunnel is refused.", "peer_uid", c.user)
		}
		f.hand(ctx, c, q, tcp)
	})
}

func (f *front) hand(ctx context.Context, c *client, q *queue, tcp bool) {
	switch {
	case !c.denied:
		f.counts.accepted.Inc()
	case tcp:
		_ = c.Close()
		return
	}
	if !tcp {
		q.put(c)
		return
	}
	f.streams.Go(func() {
		defer c.Close()
		defer f.recover()
		f.stream(ctx, c)
	})
}

// recover keeps the panic of one connection from the others.
func (f *front) recover() {
	if value := recover(); value != nil {
		f.log.Error("A connection ended on an internal fault; please report it.")
		f.log.Debug("A connection panicked.", "panic", fmt.Sprint(value), "stack", string(debug.Stack()))
	}
}

// place returns the connection with a place of its own, or nil if all are
// taken.
func (f *front) place(conn net.Conn) *client {
	c := &client{Conn: conn, front: f, user: unknownUser}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.clients) >= f.limit {
		return nil
	}
	f.clients[c] = struct{}{}
	f.counts.open.Inc()
	return c
}

func (f *front) gone(c *client) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.clients, c)
	f.counts.open.Dec()
	if len(f.clients) == 0 && f.empty != nil {
		close(f.empty)
		f.empty = nil
	}
}

// refuse closes a connection that is one too many; HTTP clients are told why.
func (f *front) refuse(conn net.Conn, tcp bool) {
	if tcp {
		_ = conn.Close()
		return
	}
	select {
	case f.turnings <- struct{}{}:
	default:
		_ = conn.Close()
		return
	}
	f.counts.answered(http.StatusServiceUnavailable, true)
	f.streams.Go(func() {
		defer func() { <-f.turnings }()
		turnAway(conn, fullAnswer(f.limit))
	})
}

func fullAnswer(limit int) string {
	text := fmt.Sprintf("rollcall: all %d connections of this tunnel are in use; try again, or raise max_connections.\n", limit)
	return fmt.Sprintf("HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\n%s: %s\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s",
		headerKind, kindLimit, len(text), text)
}

// pause waits for d, and returns false if ctx ends before.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
