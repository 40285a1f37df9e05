package tunnel

import (
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"rollcall/cluster"
	"rollcall/failure"
)

const (
	// startPatience is how long a client waits for the first certificate while
	// it's being asked for.
	startPatience = 3 * time.Second
	// issuePatience is how long a proxy's client waits for the first certificate
	// of an application that nobody has asked for before: it's issued because of
	// this very request, and its session has to become known to the proxies.
	issuePatience = 10 * time.Second
	// idleTimeout is how long an unused connection to the proxy is kept.
	idleTimeout = 90 * time.Second
	// dialsAtOnce bounds how many connections are opened at a time: a thousand
	// TLS handshakes at the same moment would all be late, and most of the
	// requests find a connection that has become idle meanwhile.
	dialsAtOnce = 32
	// dialQueueTime bounds the wait for the own turn while no connection is
	// opened: if the proxy doesn't answer, each turn takes as long as a dial may.
	dialQueueTime = 10 * time.Second
	// maxAnswerHeader bounds the header of an application's answer, in bytes.
	maxAnswerHeader = 1 << 20
	// chunkBuffer is the size of the buffers that bodies in chunks are sent through,
	// in bytes: the largest chunk that http.Transport makes and what stands around
	// it go out in one piece, and not in three. Other bodies don't need that, and
	// their first part would wait for the rest of such a buffer.
	chunkBuffer = 32<<10 + 64
	// chunksIdle is how many connections with such a buffer are kept unused.
	chunksIdle = 64
)

// Session opens connections to one application with one certificate. It's safe
// for concurrent use.
type Session interface {
	DialHTTP(ctx context.Context) (net.Conn, error)
	// DialTCP's connections have CloseWrite.
	DialTCP(ctx context.Context) (net.Conn, error)
	// PublicHost is the application's host as a browser would have it.
	PublicHost() string
}

// Routed is what a source of certificates gives.
type Routed struct {
	Session Session
	App     cluster.App
	// Serial tells one certificate from another.
	Serial string
	// NotAfter is when the certificate ends.
	NotAfter time.Time
	// ProxyHost is the host name of Teleport's proxy.
	ProxyHost string
}

// generation is one certificate in use, with the connections that bear it.
type generation struct {
	Routed
	// lanes carry plain requests, chunks those with bodies in chunks, and transport
	// the others.
	lanes             *lanes
	transport, chunks *http.Transport
}

// RoundTrip carries a request that isn't plain.
func (g *generation) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.ContentLength < 0 {
		return g.chunks.RoundTrip(r)
	}
	return g.transport.RoundTrip(r)
}

func (g *generation) closeIdle() {
	g.transport.CloseIdleConnections()
	g.chunks.CloseIdleConnections()
}

// retire closes the connections that aren't in use, and the others as soon as
// they aren't.
func (g *generation) retire() {
	g.closeIdle()
	g.lanes.close()
}

// upstream is the way to one application. A renewal changes what new
// connections bear; open ones stay as they are until they end by themselves.
// It's safe for concurrent use.
type upstream struct {
	counts *counts
	// idle is how many unused connections are kept, of each kind.
	idle int
	// patience is how long get waits for the first certificate.
	patience time.Duration
	// dials has a place for each connection that is being opened.
	dials chan struct{}

	// trouble is when a connection to the proxy last failed, in Unix
	// nanoseconds.
	trouble atomic.Int64
	// opened is when one was last opened, likewise.
	opened atomic.Int64

	// mu protects the following.
	mu sync.Mutex
	// now is nil before the first certificate.
	now *generation
	// err says why there's no certificate, or no newer one; nil: the first
	// attempt is under way, or the last one worked.
	err error
	// changed is closed and replaced after each attempt.
	changed chan struct{}
	// attempts counts them.
	attempts uint64
}

func newUpstream(counts *counts, idle int, patience time.Duration) *upstream {
	return &upstream{counts: counts, idle: idle, patience: patience, dials: make(chan struct{}, dialsAtOnce), changed: make(chan struct{})}
}

// set takes a new certificate into use.
func (u *upstream) set(routed Routed) {
	fresh := &generation{
		Routed: routed, lanes: newLanes(u, routed.Session),
		transport: u.newTransport(routed.Session), chunks: u.newTransport(routed.Session),
	}
	fresh.chunks.WriteBufferSize = chunkBuffer
	fresh.chunks.MaxIdleConnsPerHost = min(u.idle, chunksIdle)
	u.mu.Lock()
	old := u.now
	u.now = fresh
	u.tellLocked(nil)
	u.mu.Unlock()
	if old != nil {
		old.retire()
	}
}

// same notes an attempt that gave the certificate that is in use.
func (u *upstream) same() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.tellLocked(nil)
}

// fail notes an attempt that failed.
func (u *upstream) fail(err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.tellLocked(err)
}

func (u *upstream) tellLocked(err error) {
	u.err = err
	u.attempts++
	close(u.changed)
	u.changed = make(chan struct{})
}

// close lets all idle connections go.
func (u *upstream) close() {
	if now := u.last(); now != nil {
		now.closeIdle()
		now.lanes.pause()
	}
}

// peek returns the certificate in use, nil: there is none, and when the next
// attempt is over.
func (u *upstream) peek() (now *generation, attempts uint64, err error, changed <-chan struct{}) { //nolint:revive // The error isn't this call's.
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.now != nil && !time.Now().Before(u.now.NotAfter) {
		if u.err == nil {
			return nil, u.attempts, failure.New(failure.Transient, "the certificate for application %q expired at %s, and there's no new one yet", u.now.App.Name, u.now.NotAfter.UTC().Format(time.RFC3339)), u.changed
		}
		return nil, u.attempts, u.err, u.changed
	}
	return u.now, u.attempts, u.err, u.changed
}

// last returns the certificate that was in use last, valid or not; nil: there
// was none.
func (u *upstream) last() *generation {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.now
}

// errStopping is what those are told who come or wait while everything stops.
func errStopping() error { return failure.New(failure.Transient, "the local proxy is stopping") }

// get returns the certificate in use. While the first one is being asked for it
// waits a little.
func (u *upstream) get(ctx context.Context) (*generation, error) {
	if now, _, _, _ := u.peek(); now != nil { //nolint:dogsled // Only the certificate matters.
		return now, nil // as nearly always, and without a timer
	}
	timer := time.NewTimer(u.patience)
	defer timer.Stop()
	for {
		now, attempts, err, changed := u.peek()
		switch {
		case now != nil:
			return now, nil
		case attempts > 0 && err != nil:
			return nil, err
		}
		select {
		case <-changed:
		case <-timer.C:
			if err == nil {
				err = errNotYet()
			}
			return nil, err
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func errNotYet() error {
	return failure.New(failure.Transient, "there's no certificate for the application yet: the bot is joining, or the cluster doesn't answer")
}

// after waits for the end of the attempt after those that were counted, at most
// until then, and returns the certificate that is in use by then.
func (u *upstream) after(ctx context.Context, attempts uint64, until time.Time) *generation {
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	for {
		now, counted, _, changed := u.peek()
		if counted > attempts {
			return now
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return now
		}
	}
}

// newTransport keeps connections that bear one certificate. They speak HTTP/1.1:
// Teleport 14's proxy chooses that of itself where a client offers HTTP/2 as well,
// and a WebSocket needs it. What dials asks for it by ALPN, so that a proxy that
// would choose the other isn't misunderstood.
func (u *upstream) newTransport(session Session) *http.Transport {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return u.dial(ctx, session.DialHTTP)
	}
	return &http.Transport{
		DialTLSContext:         dial,
		MaxIdleConnsPerHost:    u.idle,
		IdleConnTimeout:        idleTimeout,
		ExpectContinueTimeout:  time.Second,
		DisableCompression:     true, // what the client asks for is what it gets
		MaxResponseHeaderBytes: maxAnswerHeader,
	}
}

// dialTCP opens a connection to a TCP application.
func (u *upstream) dialTCP(ctx context.Context, g *generation) (net.Conn, error) {
	return u.dial(ctx, g.Session.DialTCP)
}

// dial opens a connection when it's its turn.
func (u *upstream) dial(ctx context.Context, open func(context.Context) (net.Conn, error)) (net.Conn, error) {
	return u.dialFor(ctx, ctx, open)
}

// dialFor is dial for somebody who waits for the turn alone, and not for the
// connection.
func (u *upstream) dialFor(waiting, ctx context.Context, open func(context.Context) (net.Conn, error)) (net.Conn, error) {
	if err := u.turn(waiting); err != nil {
		return nil, err
	}
	defer func() { <-u.dials }()
	conn, err := open(ctx)
	if err != nil {
		if ctx.Err() == nil {
			u.counts.dialFailed.Inc()
			u.noteTrouble()
		}
		return nil, err
	}
	u.opened.Store(time.Now().UnixNano())
	u.counts.dialled.Inc()
	return conn, nil
}

// turn waits for a place among the connections that are being opened; the
// caller gives it back.
func (u *upstream) turn(ctx context.Context) error {
	timer := time.NewTimer(dialQueueTime)
	defer timer.Stop()
	for {
		select {
		case u.dials <- struct{}{}:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		}
		left := dialQueueTime - time.Since(time.Unix(0, u.opened.Load()))
		if left <= 0 {
			u.counts.dialFailed.Inc()
			return failure.New(failure.Unreachable, "%d connections to the proxy are being opened, and none of them got on within %s: see whether the proxy answers", cap(u.dials), dialQueueTime)
		}
		timer.Reset(left) // it's slow, but it gets on
	}
}

// troubleTime is for how long after a failed connection the proxy's and the
// cluster's other parts may still be finding each other.
const troubleTime = 15 * time.Second

func (u *upstream) noteTrouble() { u.trouble.Store(time.Now().UnixNano()) }

// troubled says whether a connection to the proxy failed a short while ago.
func (u *upstream) troubled() bool {
	return time.Since(time.Unix(0, u.trouble.Load())) < troubleTime
}
