package tunnel

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"rollcall/cluster"
	"rollcall/diagnostics"
)

// tooShort is within which time a connection that ends without a byte from the
// application makes its certificate suspect: Teleport just closes those that
// it doesn't take.
const tooShort = 2 * time.Second

// streamer carries TCP connections to one application.
type streamer struct {
	upstream *upstream
	keeper   *keeper
	buffers  *buffers
	log      *slog.Logger
	access   bool
	// unserved are connections without a certificate, unreached those without a
	// way to the application.
	unserved, unreached occasionally
}

// serve carries one connection until its end. A certificate that changes
// meanwhile is no matter to it.
func (s *streamer) serve(ctx context.Context, c *client) {
	began := time.Now()
	now, err := s.upstream.get(ctx)
	if err != nil {
		s.keeper.nudge("a client asks for the application")
		if n := s.unserved.next(denialPause); n > 0 {
			s.log.WarnContext(ctx, "A connection is closed: there's no certificate for the application.", diagnostics.KeyErr, err, "connections", n)
		}
		return
	}
	far, err := s.upstream.dialTCP(ctx, now)
	if err != nil {
		if cluster.CertificateRefused(err) {
			s.keeper.suspect("the proxy refused the certificate", true)
		}
		if n := s.unreached.next(denialPause); n > 0 {
			s.log.WarnContext(ctx, "A connection is closed: the application can't be reached.", diagnostics.KeyErr, err, "connections", n)
		}
		return
	}
	defer far.Close()
	stop := context.AfterFunc(ctx, func() { _, _ = c.Close(), far.Close() })
	defer stop()
	s.join(c, far, func(err error, first bool) { s.farEnded(c, began, err, first) })
	if s.access {
		s.logConnection(c, began)
	}
}

// farEnded looks at how the application's side ended, for whether Teleport
// still takes the certificate; first says that the client's hadn't by then.
func (s *streamer) farEnded(c *client, began time.Time, err error, first bool) {
	switch {
	case cluster.CertificateRefused(err):
		s.keeper.suspect("the proxy refused the certificate", true)
	case c.received.Load() > 0:
		s.keeper.helped()
	case first && time.Since(began) < tooShort:
		s.keeper.suspect("the application's side ended a connection at once", false)
	}
}

// join copies both ways. When one side has sent its last byte, the other is
// told so, and may go on sending. ended is called when the application's side
// has.
func (s *streamer) join(c *client, far net.Conn, ended func(err error, first bool)) {
	var clientEnded atomic.Bool
	up := make(chan struct{})
	go func() {
		defer close(up)
		_ = s.copy(far, c, func() { clientEnded.Store(true) }) // a broken client's own affair
	}()
	first := false
	err := s.copy(c, far, func() { first = !clientEnded.Load() })
	ended(err, first)
	if err != nil {
		// The application's side is broken: what the client still sends is lost.
		_, _ = c.Close(), far.Close()
	}
	<-up
}

// copy copies until from ends, calls ended, and passes the end on. If to can't take any
// more, both are closed, so that the other direction ends as well.
func (s *streamer) copy(to, from net.Conn, ended func()) error {
	buf := s.buffers.Get()
	defer s.buffers.Put(buf)
	// Without their ReadFrom and WriteTo, which would take buffers of their own.
	_, err := io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, buf)
	ended()
	if err != nil {
		_, _ = to.Close(), from.Close()
		return err
	}
	if err := closeWrite(to); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

func (s *streamer) logConnection(c *client, began time.Time) {
	args := []any{"sent", c.sent.Load(), "received", c.received.Load(), "took", time.Since(began).Round(time.Millisecond)}
	if c.user >= 0 {
		args = append(args, "peer_uid", c.user)
	}
	s.log.Info("Connection.", args...)
}
