package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/gravitational/teleport/api/utils/pingconn"
	"github.com/gravitational/trace"

	"rollcall/failure"
	"rollcall/internal/records"
)

// Protocols that the proxy's web port tells apart (lib/srv/alpnproxy/common of
// Teleport 14). On a ping connection the proxy sends something now and then, so
// that load balancers don't take it for idle.
const (
	alpnHTTP    = "http/1.1"
	alpnTCP     = "teleport-tcp"
	alpnTCPPing = "teleport-tcp-ping"
)

const (
	// dialPatience is for how long a proxy that refuses or cuts connections is
	// asked again: a restart takes about a second.
	dialPatience = 3 * time.Second
	// firstDialPause doubles up to longestDialPause.
	firstDialPause   = 25 * time.Millisecond
	longestDialPause = 200 * time.Millisecond
	// sessionTickets is how many TLS sessions are kept for resumption.
	sessionTickets = 256
	// askPause is for how long the way that's known is used without a question
	// after one that wasn't answered.
	askPause = 30 * time.Second
)

// AppDialer opens connections to the proxy for the traffic of applications. It
// serves any number of certificates. Safe for concurrent use.
type AppDialer struct {
	cluster *Cluster
	buffers records.Pool

	// mu protects the following.
	mu sync.Mutex
	// known is the way that was found last.
	known *Endpoint
	// doubted says that a dial failed in a way that another way would explain.
	doubted bool
	// asking is the question that is under way, nil: none.
	asking *question
	// askAgain is when the proxy may be asked again after it didn't answer.
	askAgain time.Time
}

// question is one search for the way to the proxy, which many may wait for.
type question struct {
	// done is closed at its end; the rest is set by then.
	done  chan struct{}
	found Endpoint
	err   error
	// cut says that it ended because the one who asked went away.
	cut bool
}

// NewAppDialer returns an AppDialer. Nothing is dialled.
func NewAppDialer(c *Cluster) *AppDialer { return &AppDialer{cluster: c} }

// ProxyAddr returns the proxy's host:port as it's dialled; empty before anybody
// has asked.
func (d *AppDialer) ProxyAddr() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.known == nil {
		return withoutEmpty(d.cluster.opts.ProxyServer)
	}
	return d.known.Addr
}

func withoutEmpty(addr string) string {
	if addr == "" {
		return ""
	}
	return withPort(addr, defaultProxyPort)
}

// AppSession dials with one certificate. TLS sessions are resumed within it
// only, so that no connection speaks for an older certificate. Safe for
// concurrent use.
type AppSession struct {
	dialer  *AppDialer
	creds   *Credentials
	tickets tls.ClientSessionCache
	// publicAddr is the application's, as the certificate has it: looking it up
	// there for each request would be a part of what a request costs.
	publicAddr string
}

// Session returns an AppSession for credentials that are routed to an
// application.
func (d *AppDialer) Session(creds *Credentials) *AppSession {
	return &AppSession{
		dialer: d, creds: creds, tickets: tls.NewLRUClientSessionCache(sessionTickets),
		publicAddr: creds.App().PublicAddr,
	}
}

// Credentials returns what the session dials with.
func (s *AppSession) Credentials() *Credentials { return s.creds }

// PublicHost is how a browser would name the application: its public address,
// with the proxy's port where that isn't the usual one.
func (s *AppSession) PublicHost() string {
	host := s.publicAddr
	_, port, err := net.SplitHostPort(s.dialer.ProxyAddr())
	if err != nil || port == defaultProxyPort || host == "" {
		return host
	}
	return net.JoinHostPort(host, port)
}

// DialHTTP opens a connection for HTTP/1.1 requests to the application. HTTP/2
// isn't asked for: where both are offered, Teleport 14's proxy chooses HTTP/1.1,
// and a WebSocket couldn't use the other. While the proxy refuses or cuts
// connections it tries again for some seconds.
func (s *AppSession) DialHTTP(ctx context.Context) (net.Conn, error) {
	return s.dial(ctx, alpnHTTP)
}

// DialTCP opens a connection whose bytes are the application's own, as
// DialHTTP does. It has CloseWrite.
func (s *AppSession) DialTCP(ctx context.Context) (net.Conn, error) {
	conn, err := s.dial(ctx, alpnTCPPing, alpnTCP)
	if err != nil {
		return nil, err
	}
	if conn.ConnectionState().NegotiatedProtocol == alpnTCPPing {
		return pingconn.NewTLS(conn.Conn), nil
	}
	return conn, nil
}

func (s *AppSession) dial(ctx context.Context, protocols ...string) (*records.Conn, error) {
	if ended := s.creds.NotAfter(); time.Now().After(ended) {
		return nil, failure.New(failure.Refused, "the certificate for application %q expired at %s", s.creds.App().Name, ended.UTC().Format(time.RFC3339))
	}
	until := time.Now().Add(dialPatience)
	pause := firstDialPause
	for {
		conn, err := s.dialOnce(ctx, protocols)
		if err == nil {
			return conn, nil
		}
		if !passing(err) || time.Now().Add(pause).After(until) || sleepUntil(ctx, time.Now().Add(pause)) != nil {
			return nil, err
		}
		pause = min(2*pause, longestDialPause)
	}
}

// passing says whether a dial failed in a way that a restart of the proxy
// explains.
func passing(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET) ||
		errors.Is(err, syscall.EPIPE) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

func (s *AppSession) dialOnce(ctx context.Context, protocols []string) (*records.Conn, error) {
	found, err := s.dialer.endpoint(ctx)
	if err != nil {
		return nil, err
	}
	op := "connecting to the proxy " + found.Addr
	ctx, cancel := context.WithTimeout(ctx, s.dialer.cluster.timeout)
	defer cancel()
	conn, err := s.dialProxy(ctx, found, protocols)
	if err != nil {
		s.dialer.failed(err)
		return nil, translate(op, err)
	}
	if negotiated := conn.ConnectionState().NegotiatedProtocol; !slices.Contains(protocols, negotiated) && (negotiated != "" || protocols[0] != alpnHTTP) {
		_ = conn.Close() // what is wrong is said below
		s.dialer.failed(nil)
		return nil, failure.New(failure.Configuration,
			"%s: it doesn't speak %s: a TCP application needs a proxy with TLS routing (proxy_listener_mode: multiplex); if a load balancer ends TLS in front of it, set the environment variable TELEPORT_TLS_ROUTING_CONN_UPGRADE=yes", op, strings.Join(protocols, " or "))
	}
	return conn, nil
}

// dialProxy opens TLS with the proxy itself, in a connection upgrade where
// something in front of it ends TLS.
func (s *AppSession) dialProxy(ctx context.Context, found Endpoint, protocols []string) (*records.Conn, error) {
	config, err := s.config(found, protocols)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	var conn net.Conn
	if found.ConnUpgrade {
		conn, err = s.dialer.cluster.dialUpgraded(ctx, found.Addr)
	} else {
		conn, err = s.dialer.cluster.dialer(ctx).DialContext(ctx, "tcp", found.Addr)
	}
	if err != nil {
		return nil, trace.Wrap(err)
	}
	tlsConn := s.dialer.buffers.Client(conn, config)
	if err := tlsConn.HandshakeContext(ctx); err != nil {
		_ = conn.Close() // the failed handshake is what matters
		return nil, trace.Wrap(err)
	}
	return tlsConn, nil
}

// config is the TLS configuration for the proxy's web port. Within a
// connection upgrade the proxy shows a certificate of the cluster's own
// authority, and is checked against that.
func (s *AppSession) config(found Endpoint, protocols []string) (*tls.Config, error) {
	config, err := s.dialer.cluster.proxyTLS()
	if err != nil {
		return nil, trace.Wrap(err)
	}
	if found.ConnUpgrade {
		own, err := credentialsTLS(s.creds)
		if err != nil {
			return nil, trace.Wrap(err)
		}
		config.RootCAs, config.InsecureSkipVerify = own.RootCAs, false
	}
	config.ServerName = hostOf(found.Addr)
	config.NextProtos = protocols
	// Shown whatever authorities the proxy names: a certificate of one that it
	// doesn't know any more is to be refused in so many words. Without any, we'd
	// be taken for a browser that isn't logged in.
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &s.creds.TLS, nil }
	config.ClientSessionCache = s.tickets
	return config, nil
}

// endpoint returns the way to the proxy. One dial at a time asks for it; the
// others use what's known meanwhile, unless that is in doubt. While the proxy is
// away, what was known of it before is good enough.
func (d *AppDialer) endpoint(ctx context.Context) (Endpoint, error) {
	for {
		q, lead, found := d.consult()
		switch {
		case q == nil:
			return found, nil
		case lead:
			d.ask(ctx, q)
		default:
			select {
			case <-q.done:
			case <-ctx.Done():
				return Endpoint{}, trace.Wrap(ctx.Err())
			}
		}
		if lead || !q.cut {
			return q.found, q.err
		}
		// The one who asked has gone; its question says nothing.
	}
}

// consult returns what is known of the way to the proxy, or the question to
// wait for. lead says that the caller is the one to ask it.
func (d *AppDialer) consult() (q *question, lead bool, found Endpoint) {
	fresh, ok := d.cluster.knownEndpoint()
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case ok && fresh.Proxy:
		d.known, d.doubted = &fresh, false
		return nil, false, fresh
	case d.known != nil && time.Now().Before(d.askAgain), d.known != nil && d.asking != nil && !d.doubted:
		return nil, false, *d.known
	case d.asking != nil:
		return d.asking, false, Endpoint{}
	}
	d.asking = &question{done: make(chan struct{})}
	return d.asking, true, Endpoint{}
}

// ask asks the proxy what it is.
func (d *AppDialer) ask(asker context.Context, q *question) {
	ctx := asker
	if d.isKnown() {
		// There's a way without an answer, so it's not worth a long wait.
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(asker, d.cluster.timeout)
		defer cancel()
	}
	found, err := d.cluster.Endpoint(ctx)
	if err == nil && !found.Proxy {
		err = failure.New(failure.Configuration,
			"%s isn't a proxy, and applications are reached through one: set proxy_server to the proxy's web address", found.Addr)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	defer close(q.done)
	d.asking = nil
	switch {
	case err == nil:
		d.known, d.doubted, d.askAgain = &found, false, time.Time{}
		q.found = found
	case asker.Err() != nil:
		q.err, q.cut = trace.Wrap(asker.Err()), true
	case d.known != nil && failure.KindOf(err) != failure.Configuration:
		d.askAgain = time.Now().Add(askPause)
		q.found = *d.known
	default:
		q.err = trace.Wrap(err)
	}
}

func (d *AppDialer) isKnown() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.known != nil
}

// failed makes the next dial ask the proxy anew what it is, unless it just
// isn't there.
func (d *AppDialer) failed(err error) {
	if err != nil && passing(err) {
		return
	}
	d.cluster.forgetEndpoint()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.doubted = true
}

// CertificateRefused says whether a connection failed because the proxy didn't
// take the client's certificate: with TLS 1.3 that shows at the first read.
func CertificateRefused(err error) bool {
	return err != nil && isTLSAlert(err) && !errors.As(err, new(x509.UnknownAuthorityError)) &&
		(strings.Contains(err.Error(), "certificate") || strings.Contains(err.Error(), "unknown certificate authority"))
}

// Find looks for the proxy, unless it's known already.
func (d *AppDialer) Find(ctx context.Context) error {
	_, err := d.endpoint(ctx)
	return err
}
