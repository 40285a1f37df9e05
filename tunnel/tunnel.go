package tunnel

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gravitational/trace"

	"rollcall/diagnostics"
	"rollcall/failure"
	"rollcall/internal/passed"
	"rollcall/internal/renewal"
)

// Dependencies are what a tunnel works with.
type Dependencies struct {
	// Source gives certificates.
	Source Source
	// Interval is the time between renewals.
	Interval time.Duration
	// Polls says that Source is to be asked at each interval, since it gives
	// the certificate that somebody else renews.
	Polls    bool
	Reporter diagnostics.Reporter
	Log      *slog.Logger
	Metrics  *Metrics
	// Secret reads the bearer token; nil if the options name none.
	Secret func() (string, error)
	// Listener is a socket that was passed in place of the one to make; nil:
	// none. Close closes it; a Run that ends leaves it for the next one.
	Listener net.Listener
	// TCP says which protocol is spoken until the first certificate has told:
	// true for TCP.
	TCP bool
	// Random returns numbers in [0,1) for jitter; nil: math/rand/v2.
	Random func() float64
}

func (d *Dependencies) complete(opts *ListenOptions) error {
	if d.Reporter == nil || d.Log == nil || d.Metrics == nil || d.Interval <= 0 {
		return trace.Wrap(errors.New("a tunnel needs a reporter, a logger, metrics and an interval"))
	}
	if (opts.BearerToken != "") != (d.Secret != nil) {
		return trace.Wrap(errors.New("a tunnel needs what reads its bearer token, if it has one"))
	}
	if d.Random == nil {
		d.Random = rand.Float64
	}
	return nil
}

// listening is what tunnels and proxies have in common: a bound address, and
// who may use it. Its methods are safe for concurrent use.
type listening struct {
	opts  ListenOptions
	log   *slog.Logger
	token token

	// mu protects the following.
	mu       sync.Mutex
	passed   net.Listener
	endpoint *endpoint
	peers    peers
}

// bind listens, unless it does already, and says who may connect. What would keep
// clients from being served is found out before: an address that listens, and
// that nobody serves, would keep them waiting.
func (l *listening) bind(ctx context.Context) (*endpoint, peers, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.endpoint != nil {
		return l.endpoint, l.peers, nil
	}
	if err := l.token.load(); err != nil {
		return nil, peers{}, err
	}
	allowed, err := newPeers(l.opts.PeerUsers, l.opts.AccessLog, l.opts.Names)
	if err != nil {
		return nil, peers{}, err
	}
	bound, err := l.open(ctx)
	if err != nil {
		return nil, peers{}, err
	}
	l.endpoint, l.peers = bound, allowed
	l.log.InfoContext(ctx, "The tunnel listens.", "listen", bound.display)
	if bound.remote && l.opts.BearerToken == "" {
		l.log.WarnContext(ctx, "The tunnel listens on an address that other hosts may reach, and wants no bearer token: whoever can connect uses the application with the bot's rights.", "listen", bound.display)
	}
	return bound, allowed, nil
}

// open makes the socket, or takes the one that was passed: not itself, which
// nobody could make again, but another listener on it.
func (l *listening) open(ctx context.Context) (*endpoint, error) {
	if l.passed == nil {
		return bind(ctx, l.opts, nil)
	}
	another, err := passed.Again(l.passed)
	if errors.Is(err, passed.ErrNoDescriptor) {
		another, err = l.passed, nil // systemd's have one
	}
	if err != nil {
		return nil, failure.Wrap(failure.Configuration, err, "the socket that systemd passed can't be listened on: %s", systemCause(err))
	}
	return bind(ctx, l.opts, another)
}

// unbind closes the address; the next bind opens it again.
func (l *listening) unbind() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.endpoint != nil {
		_ = l.endpoint.Close() // it may be closed already
		l.endpoint = nil
	}
}

// close is unbind for good: what was passed is given up as well.
func (l *listening) close() {
	l.unbind()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.passed != nil {
		_ = l.passed.Close() // it may be closed already
	}
}

// address is where it listens, or what the options say.
func (l *listening) address() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.endpoint == nil {
		return l.opts.Listen
	}
	return l.endpoint.display
}

// reload reads the bearer token anew.
func (l *listening) reload() {
	if err := l.token.load(); err != nil {
		l.log.Error("The bearer token can't be read anew; the one before stays.", diagnostics.KeyErr, err)
	}
}

// Tunnel is a local address of one application. It satisfies service.Service,
// service.Renewer and service.Prober. Bind and Run aren't for concurrent use;
// the rest is.
type Tunnel struct {
	opts      Options
	log       *slog.Logger
	counts    *counts
	listening *listening
	upstream  *upstream
	keeper    *keeper
	buffers   *buffers
	tcpFirst  bool
}

// New returns a tunnel. Nothing is listened on and nothing dialled.
func New(opts Options, deps Dependencies) (*Tunnel, error) {
	if err := opts.Validate(); err != nil {
		return nil, trace.Wrap(err)
	}
	if err := deps.complete(&opts.ListenOptions); err != nil {
		return nil, err
	}
	if deps.TCP && opts.BearerToken != "" {
		return nil, tokenless(opts.AppName, opts.Names)
	}
	log := deps.Log.With(diagnostics.KeyService, opts.Name)
	counts := deps.Metrics.of(opts.Name)
	t := &Tunnel{
		opts: opts, log: log, counts: counts,
		listening: &listening{opts: opts.ListenOptions, log: log, passed: deps.Listener, token: token{read: deps.Secret}},
		upstream:  newUpstream(counts, opts.MaxConnections, startPatience),
		buffers:   newBuffers(copyBuffer),
		tcpFirst:  deps.TCP,
	}
	t.keeper = &keeper{
		source: deps.Source, upstream: t.upstream, interval: deps.Interval, polls: deps.Polls,
		reporter: deps.Reporter, log: log.With("app", opts.AppName), random: deps.Random, mail: renewal.NewMailbox(),
		detail: func() string { return "listens on " + t.listening.address() },
	}
	if opts.BearerToken != "" {
		t.keeper.usable = func(routed Routed) error {
			if routed.App.TCP() {
				return tokenless(routed.App.Name, opts.Names)
			}
			return nil
		}
	}
	return t, nil
}

// tokenless says why a TCP application isn't served to those who show a token.
func tokenless(app string, names Names) error {
	return failure.New(failure.Configuration, "%q is a TCP application, whose clients can't be asked for a bearer token: leave %s out, and use %s or a unix socket", app, names.Of("bearer_token"), names.Of("peer_users"))
}

// Name returns the service's name.
func (t *Tunnel) Name() string { return t.opts.Name }

// Bind listens already before Run, so that clients can connect from the start.
// An error is no reason not to call Run, which tries again.
func (t *Tunnel) Bind(ctx context.Context) error {
	_, _, err := t.listening.bind(ctx)
	return err
}

// Close stops listening for good, once Run has ended or if it was never called.
func (t *Tunnel) Close() { t.listening.close() }

// Address is where the tunnel listens, tcp://127.0.0.1:1234.
func (t *Tunnel) Address() string { return t.listening.address() }

// Ready waits for the first certificate and returns what it's for, or why
// there's none.
func (t *Tunnel) Ready(ctx context.Context) (Routed, error) {
	now, err := t.upstream.get(ctx)
	if err != nil {
		return Routed{}, err
	}
	return now.Routed, nil
}

// RenewNow asks for a new certificate, and reads the bearer token anew. Open
// connections stay. It doesn't block.
func (t *Tunnel) RenewNow(reason string) {
	t.listening.reload()
	t.keeper.renewNow(reason)
}

// RetryNow asks for a certificate at once if the last attempt failed: the
// cluster answers again. It doesn't block.
func (t *Tunnel) RetryNow(reason string) { t.keeper.retryNow(reason) }

// Alive returns an error if an attempt to renew hangs.
func (t *Tunnel) Alive() error { return t.keeper.pulse.Alive() }

// Run serves the tunnel until ctx is cancelled, and lets open connections end.
// It returns an error if it can't listen.
func (t *Tunnel) Run(ctx context.Context) error {
	bound, peers, err := t.listening.bind(ctx)
	if err != nil {
		return err
	}
	defer t.listening.unbind()

	keeping, stop := context.WithCancel(ctx)
	var kept sync.WaitGroup
	kept.Go(func() { t.keeper.run(keeping) })
	defer kept.Wait()
	defer stop()
	defer t.upstream.close()
	return t.front(bound, peers).serve(ctx, bound)
}

func (t *Tunnel) front(bound *endpoint, peers peers) *front {
	_, name, _ := parseListen(t.opts.Listen) // it was validated
	names := newHosts(bound, name, t.opts.AllowedHosts)
	streamer := &streamer{upstream: t.upstream, keeper: t.keeper, buffers: t.buffers, log: t.log, access: t.opts.AccessLog}
	carrier := newCarrier(t.upstream, t.keeper, names.ours, t.buffers, t.log)
	return &front{
		log: t.log, counts: t.counts, peers: peers, limit: t.opts.MaxConnections, names: t.opts.Names,
		handler: observed(t.guarded(names, carrier), t.counts, t.log, t.opts.AccessLog),
		express: &express{
			permits:       func(r *http.Request) bool { return t.permits(names, r) },
			permitsSimple: t.permitsSimple(names),
			carrier:       carrier, counts: t.counts, log: t.log, access: t.opts.AccessLog,
		},
		stream: streamer.serve,
		kind:   t.kind,
		learn:  func(ctx context.Context) { _, _ = t.upstream.get(ctx) },
	}
}

// kind says what the next connection is for.
func (t *Tunnel) kind() kind {
	last := t.upstream.last()
	switch {
	case last == nil && t.tcpFirst, last != nil && last.App.TCP():
		return kindTCP
	case last == nil:
		return kindUnsure
	default:
		return kindHTTP
	}
}

// guarded checks each request before it's carried.
func (t *Tunnel) guarded(names hosts, carrier *carrier) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodConnect:
			refuse(w, http.StatusBadRequest, kindMethod, "this address is the application %q itself, and no HTTP proxy: ask for http://%s/ without a proxy, or use a service of type %s", t.opts.AppName, r.Host, TypeProxy)
		case !names.permits(r.Host):
			refuse(w, http.StatusForbidden, kindHost, "the host name %q isn't one of this tunnel's: use localhost, or add the name to %s", r.Host, t.opts.Names.Of("allowed_hosts"))
		case !names.permitsOrigin(r, t.public(r)):
			refuse(w, http.StatusForbidden, kindHost, "a web page of another site (%q) may not do this; add its host to %s if it may", asker(r), t.opts.Names.Of("allowed_hosts"))
		case !t.listening.token.admit(r.Header):
			w.Header().Set("Www-Authenticate", `Bearer realm="rollcall"`)
			refuse(w, http.StatusUnauthorized, kindToken, "this tunnel wants a bearer token, in Proxy-Authorization or Authorization")
		case teleportsOwn(r.URL.Path):
			refuseOwn(w, r.URL.Path, "tunnel")
		default:
			carrier.serve(w, r)
		}
	})
}

// permits says whether guarded lets a request pass.
func (t *Tunnel) permits(names hosts, r *http.Request) bool {
	return names.permits(r.Host) && names.permitsOrigin(r, t.public(r)) && t.listening.token.admit(r.Header) && !teleportsOwn(r.URL.Path)
}

// permitsSimple is permits for a simple request, of which no web page asks and no
// token is shown. It's nil if one has to be.
func (t *Tunnel) permitsSimple(names hosts) func(host string) bool {
	if t.listening.token.read != nil {
		return nil
	}
	return names.permits
}

// public is the application's public host, once it's known, for a request that
// names the page it comes from; others have nothing to compare it with.
func (t *Tunnel) public(r *http.Request) string {
	if r.Header.Get("Origin") == "" {
		return ""
	}
	if last := t.upstream.last(); last != nil {
		return last.Session.PublicHost()
	}
	return ""
}
