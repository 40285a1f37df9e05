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
	"time"

	"rollcall/failure"
)

const (
	// laneBuffer is the size of the buffers that a lane's heads go through, in
	// bytes. Most answers that are short fit in one.
	laneBuffer = 4 << 10
	// silence is for how long, at least, an answer may be awaited before a look
	// at whether its client is still there; it may be twice as long.
	silence = 250 * time.Millisecond
)

// lane is a connection to Teleport's proxy that plain requests are carried on,
// one at a time. It belongs to one goroutine at a time.
type lane struct {
	conn  net.Conn
	lanes *lanes
	in    *bufio.Reader
	out   *bufio.Writer
	// budget is how many bytes may be read for the head that is awaited.
	budget int64
	// alarm is the deadline that reads have, zero: none.
	alarm time.Time
	// used says that it has carried a request, idle is when it last had.
	used bool
	idle time.Time
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

// send sends a request without a body; the connection is all that can fail.
func (l *lane) send(r *http.Request) error {
	_, _ = l.out.WriteString("GET ")
	_, _ = l.out.WriteString(r.URL.RequestURI())
	_, _ = l.out.WriteString(" HTTP/1.1\r\nHost: ")
	_, _ = l.out.WriteString(r.Host)
	_, _ = l.out.WriteString("\r\n")
	_ = r.Header.Write(l.out)
	_, _ = l.out.WriteString("\r\n")
	return l.out.Flush() // it has the first error
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

// unbounded is for bodies, which may have any length.
func (l *lane) unbounded() { l.budget = math.MaxInt64 }

// done gives the lane back, for the next request if it can be used.
func (l *lane) done(reusable bool) {
	if !reusable || l.in.Buffered() > 0 {
		l.close()
		return
	}
	l.used = true
	l.lanes.put(l)
}

// close closes the connection.
func (l *lane) close() { _ = l.conn.Close() }

// lanes are the unused connections with one certificate, the one that was used
// last in front, so that those that aren't needed get old. It's safe for
// concurrent use.
type lanes struct {
	// most is how many are kept, open opens one more, and dials has a place for
	// each that may be opened at a time.
	most  int
	open  func(context.Context) (net.Conn, error)
	dials chan struct{}

	// mu protects the following.
	mu     sync.Mutex
	unused []*lane
	// waiting get the next that becomes unused, in turn.
	waiting []chan *lane
	sweeper *time.Timer
	closed  bool
}

// take returns a lane; fresh wants one that was opened just now. If as many are
// being opened as may be, it waits for one of these or for one that becomes
// unused, at most for dialQueueTime.
func (s *lanes) take(ctx context.Context, fresh bool) (*lane, error) {
	var next chan *lane
	if !fresh {
		var l *lane
		if l, next = s.pop(); l != nil {
			return l, nil
		}
		defer s.forget(next)
	}
	select {
	case s.dials <- struct{}{}:
		return s.dial(ctx)
	default:
	}
	timer := time.NewTimer(dialQueueTime)
	defer timer.Stop()
	select {
	case l := <-next:
		return l, nil
	case s.dials <- struct{}{}:
		return s.dial(ctx)
	case <-timer.C:
		return nil, failure.New(failure.Unreachable, "%d connections to the proxy are being opened already", cap(s.dials))
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// pop returns an unused lane, or where the next one will come.
func (s *lanes) pop() (*lane, chan *lane) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if last := len(s.unused) - 1; last >= 0 {
		l := s.unused[last]
		s.unused[last] = nil
		s.unused = s.unused[:last]
		return l, nil
	}
	next := make(chan *lane, 1)
	s.waiting = append(s.waiting, next)
	return nil, next
}

// forget gives up a place among those that wait, and a lane that came there.
func (s *lanes) forget(next chan *lane) {
	s.mu.Lock()
	if i := slices.Index(s.waiting, next); i >= 0 {
		s.waiting = slices.Delete(s.waiting, i, i+1)
	}
	s.mu.Unlock()
	select {
	case l := <-next:
		s.put(l)
	default:
	}
}

// dial opens a lane, and gives back the place that the caller took for that.
func (s *lanes) dial(ctx context.Context) (*lane, error) {
	defer func() { <-s.dials }()
	conn, err := s.open(ctx)
	if err != nil {
		return nil, err
	}
	l := &lane{conn: conn, lanes: s}
	l.in, l.out = bufio.NewReaderSize(l, laneBuffer), bufio.NewWriterSize(conn, laneBuffer)
	return l, nil
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
	case s.closed:
		return false
	case len(s.waiting) > 0:
		s.waiting[0] <- l // it has room for the only one it gets
		s.waiting = s.waiting[1:]
		return true
	case len(s.unused) >= s.most:
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
	if s.sweeper != nil {
		s.sweeper.Stop()
	}
	s.mu.Unlock()
	s.drop()
}
