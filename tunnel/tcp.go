package tunnel

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
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
}

// serve carries one connection until its end. A certificate that changes
// meanwhile is no matter to it.
func (s *streamer) serve(ctx context.Context, c *client) {
	began := time.Now()
	now, err := s.upstream.get(ctx)
	if err != nil {
		s.keeper.nudge("a client asks for the application")
		s.log.WarnContext(ctx, "A connection is closed: there's no certificate for the application.", diagnostics.KeyErr, err)
		return
	}
	far, err := s.upstream.dialTCP(ctx, now)
	if err != nil {
		if cluster.CertificateRefused(err) {
			s.keeper.suspect("the proxy refused the certificate", true)
		}
		s.log.WarnContext(ctx, "A connection is closed: the application can't be reached.", diagnostics.KeyErr, err)
		return
	}
	defer far.Close()
	stop := context.AfterFunc(ctx, func() { _, _ = c.Close(), far.Close() })
	defer stop()
	farFirst, err := s.join(c, far)
	switch {
	case cluster.CertificateRefused(err):
		s.keeper.suspect("the proxy refused the certificate", true)
	case c.received.Load() > 0:
		s.keeper.helped()
	case farFirst && time.Since(began) < tooShort:
		s.keeper.suspect("the application's side ended a connection at once", false)
	}
	if s.access {
		s.logConnection(c, began)
	}
}

// join copies both ways. When one side has sent its last byte, the other is
// told so, and may go on sending. farFirst says that the application's side
// ended first.
func (s *streamer) join(c *client, far net.Conn) (farFirst bool, err error) {
	up := make(chan error, 1)
	go func() { up <- s.copy(far, c) }()
	down := s.copy(c, far)
	farFirst = len(up) == 0
	if down != nil {
		// The application's side is broken: what the client still sends is lost.
		_, _ = c.Close(), far.Close()
	}
	return farFirst, errors.Join(down, <-up)
}

// copy copies until from ends, and passes the end on. If to can't take any
// more, both are closed, so that the other direction ends as well.
func (s *streamer) copy(to, from net.Conn) error {
	buf := s.buffers.Get()
	defer s.buffers.Put(buf)
	// Without their ReadFrom and WriteTo, which would take buffers of their own.
	_, err := io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, buf)
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
