package tunnel

import (
	"bufio"
	"bytes"
	"context"
	"math"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"rollcall/failure"
)

const (
	// laneBuffer is the size of the buffers that heads go through, in bytes. Most
	// answers that are short fit in one.
	laneBuffer = 4 << 10
	// silence is for how long, at least, an answer may be awaited before a look
	// at whether its client is still there; it may be twice as long.
	silence = 250 * time.Millisecond
)

// lane is a connection to Teleport's proxy that plain requests are carried on,
// one at a time. But for close, it belongs to one goroutine at a time.
type lane struct {
	conn  net.Conn
	lanes *lanes
	in    *bufio.Reader
	// budget is how many bytes may be read for the head that is awaited.
	budget int64
	// alarm is the deadline that reads have, zero: none.
	alarm time.Time
	// used says that it has carried a request, idle is when it last had.
	used bool
	idle time.Time
}

// teller is a connection that says whether all that has come was read, and that
// it hasn't ended. known is false if it can't tell.
type teller interface {
	Quiet() (quiet, known bool)
}

// Read reads what the proxy sends, within the budget.
func (l *lane) Read(p []byte) (int, error) {
	if l.budget <= 0 {
		return 0, failure.New(failure.Other, "the header of the application's answer has more than %d bytes", maxAnswerHeader)
	}
	n, err := l.conn.Read(p)
	l.budget -= int64(n)
	return n, err
}

// expect makes reads of the next answer end when it has been awaited for a
// while. A deadline serves many answers: setting one for each would cost more
// than most of them take.
func (l *lane) expect(now time.Time) {
	l.budget = maxAnswerHeader
	if l.alarm.Sub(now) < silence {
		l.alarm = now.Add(2 * silence)
		_ = l.conn.SetReadDeadline(l.alarm)
	}
}

// patient makes reads wait for as long as it takes.
func (l *lane) patient() {
	l.alarm = time.Time{}
	_ = l.conn.SetReadDeadline(l.alarm)
}

// wholeAnswer returns an answer that has come whole, and with nothing after it, if
// it can be passed on as it is. It's valid until the next read.
func (l *lane) wholeAnswer() []byte {
	data, _ := l.in.Peek(l.in.Buffered())
	if head, body, ok := plainAnswer(data); ok && head+body == len(data) {
		return data
	}
	return nil
}

// hasHead says whether the head of an answer has come, and can be read without
// waiting.
func (l *lane) hasHead() bool {
	data, _ := l.in.Peek(l.in.Buffered())
	return bytes.Contains(data, []byte("\r\n\r\n"))
}

// hasBody says the same of the body of an answer whose head was read.
func (l *lane) hasBody(resp *http.Response) bool {
	return resp.ContentLength >= 0 && resp.ContentLength <= int64(l.in.Buffered())
}

// hasChunks guesses the same of a body in chunks. It's for what should go out
// together, and for nothing that depends on it.
func (l *lane) hasChunks() bool {
	data, _ := l.in.Peek(l.in.Buffered())
	return bytes.HasSuffix(data, []byte("0\r\n\r\n"))
}

// unbounded is for bodies, which may have any length.
func (l *lane) unbounded() { l.budget = math.MaxInt64 }

// done gives the lane back, for the next request if it can be used.
func (l *lane) done(reusable bool) {
	if !reusable {
		l.close()
		return
	}
	l.used = true
	l.lanes.put(l)
}

// clean says whether nothing has come since the last answer, nor with it, and
// the connection hasn't ended: the next client must not take that for its own
// answer. Nobody reads an unused lane.
func (l *lane) clean() bool {
	if l.in.Buffered() > 0 {
		return false
	}
	conn, ok := l.conn.(teller)
	if !ok {
		return false
	}
	quiet, _ := conn.Quiet()
	return quiet
}

// close closes the connection.
func (l *lane) close() { _ = l.conn.Close() }

// lanes are the unused connections with one certificate, the one that was used
// last in front, so that those that aren't needed get old. It's safe for
// concurrent use.
type lanes struct {
	upstream *upstream
	session  Session
	// dials are those that are under way.
	dials sync.WaitGroup

	// mu protects the following.
	mu sync.Mutex
	// ctx ends the dials that are under way.
	ctx    context.Context //nolint:containedctx // Dials outlive those who asked for them.
	cancel context.CancelFunc
	unused []*lane
	// waiting get the next that becomes unused, in turn.
	waiting []*wish
	sweeper *time.Timer
	closed  bool

	// blind says that connections can't tell whether they're clean, as those in
	// another TLS connection can't: none can be used again, so there's no use in
	// any.
	blind atomic.Bool
}

// wish is somebody's wait for a lane. Each channel has room for what may come.
type wish struct {
	lane chan *lane
	err  chan error
}

func newLanes(u *upstream, session Session) *lanes {
	s := &lanes{upstream: u, session: session}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// spare returns an unused lane; nil: there's none.
func (s *lanes) spare() *lane {
	for {
		l := s.pop()
		if l == nil || l.clean() {
			return l
		}
		l.close()
	}
}

func (s *lanes) pop() *lane {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := len(s.unused) - 1
	if last < 0 {
		return nil
	}
	l := s.unused[last]
	s.unused[last] = nil
	s.unused = s.unused[:last]
	return l
}

// open returns a new lane, or one that becomes unused before that is there.
func (s *lanes) open(ctx context.Context) (*lane, error) {
	for {
		l, err := s.openOnce(ctx)
		if err != nil || !l.used || l.clean() {
			return l, err
		}
		l.close()
	}
}

func (s *lanes) openOnce(ctx context.Context) (*lane, error) {
	ctx, served := context.WithCancel(ctx)
	defer served()
	w, err := s.want(ctx)
	if err != nil {
		return nil, err
	}
	defer s.forget(w)
	select {
	case l := <-w.lane:
		return l, nil
	case err := <-w.err:
		return nil, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// want waits from now on, and has a connection opened. What comes of that is the
// wish's own, unless it was served before: so each is answered.
func (s *lanes) want(ctx context.Context) (*wish, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errStopping()
	}
	w := &wish{lane: make(chan *lane, 1), err: make(chan error, 1)}
	s.waiting = append(s.waiting, w)
	lifetime := s.ctx
	s.dials.Go(func() {
		l, err := s.dial(ctx, lifetime)
		switch {
		case err != nil:
			w.err <- err
		case !s.deliver(w, l):
			s.put(l)
		}
	})
	return w, nil
}

// deliver gives a lane to a wish, if that still waits.
func (s *lanes) deliver(w *wish, l *lane) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.waiting, w)
	if i < 0 {
		return false
	}
	s.waiting = slices.Delete(s.waiting, i, i+1)
	w.lane <- l
	return true
}

// dial opens a lane when it's its turn, unless ctx has ended by then: nobody
// waits for it any more. A dial that has begun goes on, since somebody will.
func (s *lanes) dial(ctx, lifetime context.Context) (*lane, error) {
	turn, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(lifetime, cancel)()
	conn, err := s.upstream.dialFor(turn, lifetime, s.session.DialHTTP)
	if err != nil {
		return nil, err
	}
	quiet, known := false, false
	if told, ok := conn.(teller); ok {
		quiet, known = told.Quiet()
	}
	if known && !quiet {
		_ = conn.Close()
		return nil, failure.New(failure.Transient, "the proxy said something, or ended the connection, before it was asked")
	}
	if !known {
		s.blind.Store(true)
	}
	l := &lane{conn: conn, lanes: s}
	l.in = bufio.NewReaderSize(l, laneBuffer)
	return l, nil
}

// forget gives up a wish, and passes on what came for it.
func (s *lanes) forget(w *wish) {
	s.mu.Lock()
	if i := slices.Index(s.waiting, w); i >= 0 {
		s.waiting = slices.Delete(s.waiting, i, i+1)
	}
	s.mu.Unlock()
	select {
	case l := <-w.lane:
		s.put(l)
	default:
	}
}

// put takes a lane that became unused: for one who waits, or to keep it.
func (s *lanes) put(l *lane) {
	if !s.keep(l) {
		l.close()
	}
}

// keep is put, and says whether the lane is kept.
func (s *lanes) keep(l *lane) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case len(s.waiting) > 0:
		s.waiting[0].lane <- l // it has room for the only one it gets
		s.waiting = s.waiting[1:]
		return true
	case s.closed:
		return false
	case len(s.unused) >= s.upstream.idle:
		return false
	}
	l.idle = time.Now()
	s.unused = append(s.unused, l)
	if s.sweeper == nil {
		s.sweeper = time.AfterFunc(idleTimeout, s.sweep)
	}
	return true
}

// sweep closes what has been unused for long.
func (s *lanes) sweep() {
	for _, l := range s.old() {
		l.close()
	}
}

// old takes out what has been unused for long, and sees to the next sweep.
func (s *lanes) old() []*lane {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for n < len(s.unused) && time.Since(s.unused[n].idle) >= idleTimeout {
		n++
	}
	old := slices.Clone(s.unused[:n])
	s.unused = slices.Delete(s.unused, 0, n)
	s.sweeper = nil
	if len(s.unused) > 0 {
		s.sweeper = time.AfterFunc(idleTimeout-time.Since(s.unused[0].idle), s.sweep)
	}
	return old
}

// drop closes what is unused now.
func (s *lanes) drop() {
	s.mu.Lock()
	dropped := s.unused
	s.unused = nil
	s.mu.Unlock()
	for _, l := range dropped {
		l.close()
	}
}

// close keeps no more lanes. Those in use are closed when they're given back.
func (s *lanes) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.pause()
}

// pause closes what is unused, and waits for the end of the dials that are under
// way.
func (s *lanes) pause() {
	s.mu.Lock()
	s.cancel()
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if s.sweeper != nil {
		s.sweeper.Stop()
		s.sweeper = nil
	}
	s.mu.Unlock()
	s.dials.Wait()
	s.drop()
}
