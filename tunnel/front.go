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
	"rollcall/internal/socket"
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
	// handlerTime bounds the wait for requests whose clients were cut off.
	handlerTime = 5 * time.Second
	// peekTime is how long a client whose connection may be for HTTP or for TCP
	// has for its first bytes.
	peekTime = 2 * time.Second
	// denialPause is the least time between two lines of the log about clients
	// that may not connect, or that can't be served: anybody on this host can
	// cause them.
	denialPause = 10 * time.Second
)

// kind is what a connection is for.
type kind int

const (
	kindHTTP kind = iota
	kindTCP
	// kindUnsure is before the first certificate has told.
	kindUnsure
)

// front is the side of a tunnel that local programs see: it accepts their
// connections, keeps the limit, asks who they are, and hands each to HTTP or to
// TCP. One connection's trouble is no other's.
type front struct {
	log    *slog.Logger
	counts *counts
	peers  peers
	limit  int
	// names are what answers call the options.
	names Names
	// handler serves HTTP. express, if there's one, carries what is plain of it
	// before and in between.
	handler http.Handler
	express *express
	// bulk has the buffers of clients that get much, or are lingered on.
	bulk *buffers
	// stream serves a TCP connection until its end; nil: all is HTTP. kind
	// says which of the two a new connection is for, and learn waits a little
	// until that is known.
	stream func(ctx context.Context, c *client)
	kind   func() kind
	learn  func(ctx context.Context)

	streams  sync.WaitGroup
	turnings chan struct{}
	// handlers are the requests that are being served, the rides that are resumed,
	// and the clients that are lingered on.
	handlers handlers
	denials  occasionally
	// unsure are connections of which it wasn't known what for, failed those
	// that couldn't be accepted.
	unsure, failed occasionally

	// mu protects the following.
	mu      sync.Mutex
	clients map[*client]struct{}
	// stopping says that rides are to end.
	stopping bool
	// empty is closed when the last client has gone, once it's asked for.
	empty chan struct{}
}

// serve accepts connections until ctx ends, and then lets those that are open
// end for a while. It closes the endpoint first of all, so that what comes next
// may listen there.
func (f *front) serve(ctx context.Context, e *endpoint) error {
	f.bulk = newBuffers(bulkBuffer)
	f.clients, f.turnings = make(map[*client]struct{}), make(chan struct{}, turnAwayMost)
	q := newQueue(e.Addr())
	server := &http.Server{
		Handler:           f.handlers.counted(unlessSpent(f.handler)),
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       clientIdleTimeout,
		ConnContext:       withClient,
		ConnState:         noteState,
		ErrorLog:          slog.NewLogLogger(f.log.Handler(), slog.LevelDebug),
		// OPTIONS * would be answered without a look at who asks.
		DisableGeneralOptionsHandler: true,
	}
	// Clients outlive ctx by the time for draining.
	clientCtx, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	server.BaseContext = func(net.Listener) context.Context { return clientCtx }
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(q) // it ends with http.ErrServerClosed
	}()
	stop := context.AfterFunc(ctx, func() { _ = e.Close() })
	err := f.accept(ctx, clientCtx, e, q)
	stop()
	_ = e.Close()

	f.drain(server, q)
	cut()
	<-served
	f.streams.Wait()
	if !f.handlers.wait(handlerTime) {
		f.log.Warn("Requests whose clients have gone haven't ended; please report it.")
	}
	return err
}

// drain waits until the clients have gone, at most for drainTime, and then ends
// them. It isn't http.Server's Shutdown, which takes no more connections: some
// were accepted, and are still on their way to it.
func (f *front) drain(server *http.Server, q *queue) {
	server.SetKeepAlivesEnabled(false) // who's idle is ended, the others after one answer
	f.stopRides()
	timer := time.NewTimer(drainTime)
	defer timer.Stop()
	select {
	case <-f.whenEmpty():
	case <-timer.C:
	}
	_ = q.Close()
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
		c.cut()
	}
	_ = server.Close()
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
		// It's asked once: the end may come between two looks, and a connection
		// would be forgotten for which neither holds.
		ended := ctx.Err() != nil
		switch {
		case err == nil:
			// At the end it was on its way already, and nobody else gets it.
			f.admit(streamCtx, conn, q)
		case !ended && closedByUs(err):
			return failure.Wrap(failure.Other, err, "the listener was closed")
		case !ended:
			if n := f.failed.next(denialPause); n > 0 {
				f.log.Warn("A connection can't be accepted.", diagnostics.KeyErr, err, "connections", n)
			}
			ended = !pause(ctx, acceptPause)
		}
		if ended {
			return nil
		}
	}
}

// admit decides what becomes of a new connection.
func (f *front) admit(ctx context.Context, conn net.Conn, q *queue) {
	what := kindHTTP
	if f.kind != nil {
		what = f.kind()
	}
	c := f.place(conn)
	if c == nil {
		f.counts.limited.Inc()
		f.refuse(conn, what, http.StatusServiceUnavailable, fullAnswer(f.limit, f.names))
		return
	}
	if !f.peers.ask && what != kindUnsure {
		f.hand(ctx, c, q, what)
		return
	}
	// Who it is takes a look at a table that may be long, and what for a wait;
	// others needn't wait as well.
	f.streams.Go(func() {
		c.user = f.peers.user(conn)
		if !f.peers.permits(c.user) {
			f.deny(c, what)
			return
		}
		if what == kindUnsure {
			what = f.ascertain(ctx, c)
		}
		f.hand(ctx, c, q, what)
	})
}

// deny turns a client away whose user may not connect. It takes no place from
// those who may.
func (f *front) deny(c *client, what kind) {
	f.counts.denied.Inc()
	if n := f.denials.next(denialPause); n > 0 {
		f.log.Warn("A connection of a user who may not use this tunnel is refused.", "peer_uid", c.user, "connections", n)
	}
	f.refuse(c.detach(), what, http.StatusForbidden, deniedAnswer(f.names))
}

// ascertain waits until it's known what a connection is for. If that takes too
// long, an HTTP client is known by what it sends, so that it can be told why it
// gets nothing.
func (f *front) ascertain(ctx context.Context, c *client) kind {
	f.learn(ctx)
	if what := f.kind(); what != kindUnsure {
		return what
	}
	c.waited.Store(true)
	if c.sendsHTTP(peekTime) {
		return kindHTTP
	}
	return kindUnsure
}

func (f *front) hand(ctx context.Context, c *client, q *queue, what kind) {
	switch what {
	case kindUnsure:
		if n := f.unsure.next(denialPause); n > 0 {
			f.log.WarnContext(ctx, "A connection is closed: there's no certificate for the application yet.", "connections", n)
		}
		_ = c.Close()
	case kindHTTP:
		f.counts.accepted.Inc()
		if f.express == nil {
			q.put(c)
			return
		}
		f.streams.Go(func() { f.ride(ctx, c, q) })
	case kindTCP:
		f.counts.accepted.Inc()
		f.streams.Go(func() {
			defer c.Close()
			defer f.recover()
			f.stream(ctx, c)
		})
	}
}

// ride carries a client's plain requests, and hands it on when one isn't.
func (f *front) ride(ctx context.Context, c *client, q *queue) {
	v := newRide(ctx, f.express, c)
	f.mu.Lock()
	c.ride, v.stopping = v, f.stopping
	f.mu.Unlock()
	left := false
	defer func() {
		if !left {
			v.abandon()
			_ = c.Close()
		}
	}()
	defer f.recover()
	if left = v.run(); left {
		// From here on the connection and the ride belong to the server.
		_ = c.SetReadDeadline(time.Time{})
		q.put(&served{client: c})
	}
}

// resume carries a client's plain requests in the midst of a read of the server's.
// It returns true if there's one that isn't plain, which is to be read, and false
// at the end of the connection.
func (f *front) resume(s *served) (left bool) {
	if !f.handlers.begin() {
		return false
	}
	defer f.handlers.end()
	s.riding.Store(true)
	defer s.riding.Store(false)
	defer func() {
		if !left {
			s.ride.abandon()
		}
	}()
	defer f.recover()
	s.ride.again()
	if !s.ride.run() {
		return false
	}
	// A request has begun, or what looks so. The server sets another deadline when
	// it has the first bytes of it, and until then has this one.
	return s.client.SetReadDeadline(time.Now().Add(clientIdleTimeout)) == nil
}

// stopRides ends the rides after the requests that they have.
func (f *front) stopRides() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stopping = true
	for c := range f.clients {
		if c.ride != nil {
			c.ride.stop()
		}
	}
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
	c := &client{Conn: socket.Over(conn), front: f, user: unknownUser}
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

// refuse closes a connection; HTTP clients are told why.
func (f *front) refuse(conn net.Conn, what kind, status int, answer string) {
	if what == kindTCP {
		_ = conn.Close()
		return
	}
	select {
	case f.turnings <- struct{}{}:
	default:
		_ = conn.Close()
		return
	}
	f.counts.answered(status, true)
	f.streams.Go(func() {
		defer func() { <-f.turnings }()
		turnAway(conn, answer)
	})
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
