package diagnostics

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/gravitational/trace"
	"github.com/prometheus/client_golang/prometheus"

	"rollcall/failure"
	"rollcall/internal/passed"
	"rollcall/internal/pulse"
)

// shutdownTimeout is how long requests get to end once the agent stops. It's
// well below what the host gives to everything together.
const shutdownTimeout = 2 * time.Second

// ServerOptions say where a Server listens and what it shows.
type ServerOptions struct {
	// Addr is host:port. It's bound as it is: an empty host means every
	// interface.
	Addr string
	// Setting is what the user calls Addr; empty: diag_addr.
	Setting string
	// Listener is used in place of Addr if it isn't nil. Run closes it at the end
	// of its ctx; after an error it's there for the next Run, if it's the kernel's
	// own socket.
	Listener net.Listener
	// Name is the service's name; empty: diagnostics.
	Name string
	// Agent tells who the agent is, for /status; nil: /status isn't served.
	Agent func() Agent
	// Board and Registry are what is shown.
	Board    *Board
	Registry *prometheus.Registry
	Log      *slog.Logger
	// Pprof adds /debug/pprof/. It shows memory contents to whoever can
	// connect, so it's only for debugging.
	Pprof bool
	// More are further questions that are answered, by their patterns as
	// http.ServeMux has them. What changes anything belongs only on a socket
	// that others can't use (ListenLocal).
	More map[string]http.Handler
	// MoreWithin is how long an answer of one of these may take before the
	// server counts as stuck; zero: as long as any other.
	MoreWithin time.Duration
}

// stuckAfter is how long an answer may take before the server counts as stuck.
// Nothing slow is done for one (but see MoreWithin), and a client that doesn't read is cut off by the
// write timeout, which is two minutes at most.
const stuckAfter = 10 * time.Minute

// Server answers /livez, /readyz, /metrics and /status. It satisfies
// service.Service and service.Prober.
type Server struct {
	options ServerOptions
	// bound is a listener that Run hasn't taken yet.
	bound net.Listener
	// answers are the requests that are being answered.
	answers pulse.Many
}

// NewServer returns a server; nothing is bound before Run.
func NewServer(options ServerOptions) *Server {
	return &Server{options: options}
}

// Name returns "diagnostics", or what the options say.
func (s *Server) Name() string { return cmp.Or(s.options.Name, "diagnostics") }

// Alive returns an error if an answer hangs.
func (s *Server) Alive() error { return s.answers.Alive() }

// watched has Alive know of the requests that a handler answers, each within
// limit.
func (s *Server) watched(handler http.Handler, limit time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer s.answers.Work("answering a request", limit)()
		handler.ServeHTTP(w, r)
	})
}

// Bind listens before Run does, so that whoever is told that the agent is ready
// finds it answering. If it fails, Run tries again. It isn't for concurrent use
// with Run.
func (s *Server) Bind(ctx context.Context) error {
	listener, err := s.listen(ctx)
	if err != nil {
		return err
	}
	s.bound = listener
	return nil
}

// Close gives back what Bind took, if Run has never been called.
func (s *Server) Close() error {
	defer s.giveUp()
	if s.bound == nil {
		return nil
	}
	return s.bound.Close()
}

// giveUp closes what was passed.
func (s *Server) giveUp() {
	if s.options.Listener != nil {
		_ = s.options.Listener.Close() // it may be closed already
	}
}

// Run serves until ctx is cancelled, and then ends what is open within two
// seconds. A busy or impossible address is a failure.Configuration.
func (s *Server) Run(ctx context.Context) error {
	listener, err := s.listen(ctx)
	if err != nil {
		return trace.Wrap(err)
	}
	s.warnIfOpen(ctx, listener.Addr())
	server := &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      s.writeTimeout(),
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(s.options.Log.Handler(), slog.LevelDebug),
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	s.options.Log.InfoContext(ctx, "Diagnostics are served.", "address", listener.Addr().String())
	select {
	case err := <-served:
		return failure.Wrap(failure.Transient, err, "the diagnostics server on %s ended: %v", listener.Addr(), err)
	case <-ctx.Done():
	}
	s.shutdown(server)
	<-served
	s.giveUp()
	return nil
}

func (s *Server) listen(ctx context.Context) (net.Listener, error) {
	if s.bound != nil {
		bound := s.bound
		s.bound = nil
		return bound, nil
	}
	if s.options.Listener != nil {
		another, err := passed.Again(s.options.Listener)
		if errors.Is(err, passed.ErrNoDescriptor) {
			return s.options.Listener, nil
		}
		return another, failure.Wrap(failure.Configuration, err, "the socket that was passed for the diagnostics can't be listened on: %s", rootCause(err))
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", s.options.Addr)
	return listener, failure.Wrap(failure.Configuration, err,
		"%s %q can't be listened on (%s); free the port or choose another address", cmp.Or(s.options.Setting, "diag_addr"), s.options.Addr, rootCause(err))
}

// shutdown lets requests end, and then ends them.
func (s *Server) shutdown(server *http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		s.options.Log.DebugContext(ctx, "Open diagnostics requests are cut off.", "err", err)
		_ = server.Close()
	}
}

// writeTimeout leaves pprof the 30 s that a CPU profile takes by default.
func (s *Server) writeTimeout() time.Duration {
	if s.options.Pprof {
		return 2 * time.Minute
	}
	return 15 * time.Second
}

func (s *Server) warnIfOpen(ctx context.Context, addr net.Addr) {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok || tcp.IP.IsLoopback() {
		return
	}
	s.options.Log.WarnContext(ctx, "The diagnostics address can be reached from other machines: anyone who can connect sees service names, error messages and expiry times. Use 127.0.0.1 unless that is wanted.",
		"address", addr.String())
}

// rootCause returns the innermost text: "address already in use" says it, the
// layers around it repeat the address.
func rootCause(err error) string {
	if err == nil {
		return ""
	}
	for next := errors.Unwrap(err); next != nil; next = errors.Unwrap(err) {
		err = next
	}
	return sentence(err)
}
