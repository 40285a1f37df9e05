package tunnel

import (
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// served is a client's connection in the hands of http.Server. Whenever the
// server waits there for the next request, plain ones are carried without it,
// until one isn't plain: for the server that's a read which takes long. So a
// client that posts something now and then doesn't lose the express for all that
// comes after.
type served struct {
	*client
	stage atomic.Int32
	// riding says that plain requests are being carried.
	riding atomic.Bool
}

// The stages of a connection, as far as they matter here. http.Server tells of
// each wait for a request by StateIdle, sets a deadline for it next, and sets
// another one when it's over (net/http's conn.serve).
const (
	stageBusy int32 = iota
	stageIdle
	stageWaiting
)

// noteState is for http.Server's ConnState. A connection that is kept is one whose
// request's body has been read to its end, and one that is taken over has none.
func noteState(conn net.Conn, state http.ConnState) {
	if s, ok := conn.(*served); ok && state == http.StateIdle {
		s.stage.Store(stageIdle)
	}
	if state != http.StateIdle && state != http.StateHijacked {
		return
	}
	if c := clientBehind(conn); c != nil && !c.spent.Load() {
		c.unread.Store(false)
	}
}

// SetReadDeadline sets the client's deadline, and tells the beginning and the end
// of the server's waits.
func (s *served) SetReadDeadline(t time.Time) error {
	if !s.stage.CompareAndSwap(stageIdle, stageWaiting) {
		s.stage.Store(stageBusy)
	}
	return s.client.SetReadDeadline(t)
}

// Read carries what is plain of the requests that the server waits for, and reads
// the first that isn't.
func (s *served) Read(p []byte) (int, error) {
	if s.atBoundary(p) && !s.front.resume(s) {
		return 0, io.EOF
	}
	return s.client.Read(p)
}

// serverRead is the size of the buffer of net/http's server, in bytes, which it
// fills at a time where it looks for a request.
const serverRead = 4 << 10

// atBoundary says whether what comes next is the beginning of a request: the
// server waits for one, and has read nothing of it yet, or its buffer would have
// less room. On a spent connection no request begins any more.
func (s *served) atBoundary(p []byte) bool {
	return s.stage.Load() == stageWaiting && len(p) == serverRead && !s.spent.Load()
}

// Close closes the connection. While plain requests are carried, the server takes
// it for an unused one, and may close it: then it's closed after the request that
// is under way. What cuts a client off is client's own Close.
func (s *served) Close() error {
	if s.riding.Load() {
		s.ride.stop()
		return nil
	}
	return s.client.Close()
}
