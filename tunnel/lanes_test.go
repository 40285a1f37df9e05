package tunnel

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

// dialled is a session whose connections are made by a function, and tell that
// they're quiet.
type dialled struct {
	fakeSession
	dial func(ctx context.Context) (net.Conn, error)
}

func (d *dialled) DialHTTP(ctx context.Context) (net.Conn, error) { return d.dial(ctx) }

// piped is one end of a pipe. open counts those that aren't closed.
type piped struct {
	net.Conn
	open *atomic.Int64
	once sync.Once
}

func newPiped(open *atomic.Int64) net.Conn {
	near, _ := net.Pipe()
	open.Add(1)
	return &piped{Conn: near, open: open}
}

func (*piped) Quiet() (quiet, known bool) { return true, true }

func (p *piped) Close() error {
	p.once.Do(func() { p.open.Add(-1) })
	return p.Conn.Close()
}

func newTestLanes(t *testing.T, idle int, dial func(ctx context.Context) (net.Conn, error)) *lanes {
	t.Helper()
	s := newLanes(newUpstream(NewMetrics().of("test"), idle, startPatience), &dialled{dial: dial})
	t.Cleanup(s.close)
	return s
}

func opened(t *testing.T, s *lanes) *lane {
	t.Helper()
	l, err := s.open(t.Context())
	require.NoError(t, err)
	return l
}

// TestWhatComesFirstIsTaken has a dial that takes its time. Who waits for it
// gets what another gives back, and the new connection is for the next one.
func TestWhatComesFirstIsTaken(t *testing.T) {
	var open atomic.Int64
	begun, proceed := make(chan struct{}, 2), make(chan struct{}, 2)
	s := newTestLanes(t, 5, func(ctx context.Context) (net.Conn, error) {
		begun <- struct{}{}
		select {
		case <-proceed:
			return newPiped(&open), nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	})
	proceed <- struct{}{}
	first := opened(t, s)
	<-begun
	second := make(chan *lane, 1)
	go func() { second <- opened(t, s) }()
	<-begun // one that hasn't begun when nobody waits any more never does

	first.done(true)

	require.Same(t, first, <-second)
	proceed <- struct{}{}
	eventually(t, "the late one", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.unused) == 1
	})
	require.NotSame(t, first, s.spare())
	require.Empty(t, s.waiting)
}

// TestDialsThatHangHoldUpNobodyElse has as many clients as connections, and one
// more that waits for a dial.
func TestDialsThatHangHoldUpNobodyElse(t *testing.T) {
	f := newFakeTeleport(t, hello)
	var hang atomic.Bool
	r := run(t, f.Listener.Addr().String(), func(_ *Options, d *Dependencies, s *fakeSource) {
		d.Source = &slowDials{s, &hang}
	})
	l := r.connect(t)
	require.Equal(t, "serial-1", l.get(t, "/").body)
	hang.Store(true)
	block := f.handle.Load()
	slow, release := make(chan struct{}), make(chan struct{})
	answer := func(w http.ResponseWriter, req *http.Request, serial string) {
		if req.URL.Path == "/slow" {
			close(slow)
			<-release
		}
		(*block)(w, req, serial)
	}
	f.handle.Store(&answer)
	busy, waiting := r.connect(t), r.connect(t)
	busy.send(t, "GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
	<-slow
	waiting.send(t, "GET /waiting HTTP/1.1\r\nHost: localhost\r\n\r\n")
	gone := r.connect(t)
	gone.send(t, "GET /gone HTTP/1.1\r\nHost: localhost\r\n\r\n")
	eventually(t, "both waits", func() bool {
		now := r.upstream.last()
		now.lanes.mu.Lock()
		defer now.lanes.mu.Unlock()
		return len(now.lanes.waiting) == 2
	})

	require.NoError(t, gone.Close())
	eventually(t, "the end of the one whose client has gone", func() bool {
		return r.metric("connections", prometheus.Labels{}) == 3
	})
	close(release)

	require.Equal(t, "serial-1", busy.answer(t).body)
	require.Equal(t, "serial-1", waiting.answer(t).body, "with the other's connection")
	require.EqualValues(t, 1, f.conns.Load())
}

// slowDials gives sessions whose dials hang when they're told to.
type slowDials struct {
	*fakeSource
	hang *atomic.Bool
}

func (s *slowDials) Fetch(ctx context.Context) (Routed, error) {
	routed, err := s.fakeSource.Fetch(ctx)
	if err != nil {
		return routed, err
	}
	inner := routed.Session.(*fakeSession)
	routed.Session = &dialled{fakeSession: fakeSession{addr: inner.addr, serial: inner.serial}, dial: func(ctx context.Context) (net.Conn, error) {
		if s.hang.Load() {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return inner.DialHTTP(ctx)
	}}
	return routed, nil
}

func TestWhoDoesntWaitAnyMoreIsForgotten(t *testing.T) {
	s := newTestLanes(t, 5, func(ctx context.Context) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()

	_, err := s.open(cancelled)

	require.ErrorIs(t, err, context.Canceled)
	require.Empty(t, s.waiting)
}

// TestNobodyWaitsForATurnOfRetiredLanes: a renewal must not wait for those who
// wait for others' dials.
func TestNobodyWaitsForATurnOfRetiredLanes(t *testing.T) {
	s := newTestLanes(t, 5, func(context.Context) (net.Conn, error) { return nil, errTest })
	for range cap(s.upstream.dials) {
		s.upstream.dials <- struct{}{} // others dial
	}
	ended := make(chan error, 1)
	go func() {
		_, err := s.open(t.Context())
		ended <- err
	}()
	eventually(t, "the wait", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.waiting) == 1
	})
	began := time.Now()

	s.close()

	require.Error(t, <-ended)
	require.Less(t, time.Since(began), dialQueueTime/2)
}

// TestWhatWasTriedIsTriedOnceMore has a proxy that answers a plain request by
// cutting the connection, always: the application is asked no more often than
// it would be without the short way, and the next request has its own time.
func TestWhatWasTriedIsTriedOnceMore(t *testing.T) {
	var asked atomic.Int64
	var whole atomic.Bool
	f := newFakeTeleport(t, func(w http.ResponseWriter, r *http.Request, serial string) {
		if whole.Load() {
			hello(w, r, serial)
			return
		}
		if asked.Add(1) == 1 {
			time.Sleep(recovery + 100*time.Millisecond) // so that only once more is left
		}
		panic(http.ErrAbortHandler)
	})
	r := run(t, f.Listener.Addr().String(), nil)
	l := r.connect(t)

	require.Equal(t, http.StatusBadGateway, l.get(t, "/").status)

	require.EqualValues(t, 2, asked.Load())
	whole.Store(true)
	require.Equal(t, "serial-1", l.get(t, "/").body)
}

func TestTriedHoldsForOneRequest(t *testing.T) {
	c := &client{}
	c.tried.Store(time.Now().UnixNano())
	r := request(t, http.MethodGet, "/", nil)
	require.False(t, triedBefore(withTried(r, c).Context()).IsZero())
	require.True(t, triedBefore(withTried(r, c).Context()).IsZero())
}

func TestAFailedDialIsTold(t *testing.T) {
	s := newTestLanes(t, 5, func(context.Context) (net.Conn, error) { return nil, errTest })
	_, err := s.open(t.Context())
	require.ErrorIs(t, err, errTest)
	require.True(t, s.upstream.troubled(), "others go the other way meanwhile")
}

func TestLanesAreClosed(t *testing.T) {
	var open atomic.Int64
	s := newTestLanes(t, 1, func(context.Context) (net.Conn, error) { return newPiped(&open), nil })
	first, second, third := opened(t, s), opened(t, s), opened(t, s)

	first.done(true)
	require.EqualValues(t, 3, open.Load(), "one is kept")
	second.done(true)
	require.EqualValues(t, 2, open.Load(), "no more than that")
	s.close()
	require.EqualValues(t, 1, open.Load(), "what is unused is closed")
	third.done(true)
	require.Zero(t, open.Load(), "and what becomes it later")
	_, err := s.open(t.Context())
	require.Error(t, err)
}

func TestLanesThatNobodyUsesGetOld(t *testing.T) {
	var open atomic.Int64
	s := newTestLanes(t, 5, func(context.Context) (net.Conn, error) { return newPiped(&open), nil })
	old, young := opened(t, s), opened(t, s)
	old.done(true)
	young.done(true)
	s.mu.Lock()
	old.idle = time.Now().Add(-idleTimeout)
	s.mu.Unlock()

	s.sweep()

	require.Equal(t, []*lane{young}, s.unused)
	require.EqualValues(t, 1, open.Load())
	require.NotNil(t, s.sweeper)
}

// TestConnectionsThatCantTellAreNotUsedAgain: what came on them meanwhile would
// be taken for an answer.
func TestConnectionsThatCantTellAreNotUsedAgain(t *testing.T) {
	s := newTestLanes(t, 5, func(context.Context) (net.Conn, error) {
		near, _ := net.Pipe()
		return near, nil
	})
	opened(t, s).done(true)
	require.Nil(t, s.spare())
	require.True(t, s.blind.Load())
}

// TestWholeAnswers: an answer goes on as it is if nothing is missing of it, and
// nothing came with it.
func TestWholeAnswers(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\n" + date + "Content-Length: "
	for name, c := range map[string]struct {
		came string
		want bool
	}{
		"whole":                     {head + "5\r\n\r\nhello", true},
		"a byte is missing":         {head + "5\r\n\r\nhell", false},
		"a byte too many":           {head + "5\r\n\r\nhello!", false},
		"another answer":            {head + "5\r\n\r\nhello" + head + "0\r\n\r\n", false},
		"no body":                   {head + "0\r\n\r\n", true},
		"no body, and something":    {head + "0\r\n\r\n!", false},
		"the head isn't whole":      {head + "0\r\n", false},
		"it isn't one to be passed": {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false},
		"nothing":                   {"", false},
	} {
		t.Run(name, func(t *testing.T) {
			l := &lane{in: bufio.NewReader(strings.NewReader(c.came))}
			_, _ = l.in.Peek(1)

			whole := l.wholeAnswer()

			require.Equal(t, c.want, whole != nil)
			if c.want {
				require.Equal(t, c.came, string(whole))
			}
		})
	}
}
