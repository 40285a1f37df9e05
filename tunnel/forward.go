package tunnel

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"

	"github.com/gravitational/trace"

	"rollcall/diagnostics"
	"rollcall/failure"
)

// Applications are those that a proxy's clients may ask for. It's safe for
// concurrent use.
type Applications interface {
	// Source gives certificates for the application of that name, which needn't
	// exist.
	Source(name string) Source
	// Find returns the name of the application with a public address, or a
	// failure.NotFound.
	Find(ctx context.Context, publicAddr string) (name string, err error)
}

// ProxyDependencies are what a proxy works with; Source isn't used.
type ProxyDependencies struct {
	Dependencies
	Applications Applications
}

// Proxy is an HTTP proxy for all applications that the bot may use, chosen by
// host name. It satisfies service.Service and service.Renewer. Bind and Run
// aren't for concurrent use; the rest is.
type Proxy struct {
	opts      ProxyOptions
	deps      ProxyDependencies
	log       *slog.Logger
	counts    *counts
	listening *listening
	routes    *routes
}

// NewProxy returns a proxy. Nothing is listened on and nothing dialled.
func NewProxy(opts ProxyOptions, deps ProxyDependencies) (*Proxy, error) {
	if err := opts.Validate(); err != nil {
		return nil, trace.Wrap(err)
	}
	if err := deps.complete(&opts.ListenOptions); err != nil {
		return nil, err
	}
	log := deps.Log.With(diagnostics.KeyService, opts.Name)
	p := &Proxy{
		opts: opts, deps: deps, log: log, counts: deps.Metrics.of(opts.Name),
		listening: &listening{opts: opts.ListenOptions, log: log, passed: deps.Listener, token: token{read: deps.Secret}},
	}
	p.routes = newRoutes(p)
	return p, nil
}

// Name returns the service's name.
func (p *Proxy) Name() string { return p.opts.Name }

// Bind listens already before Run. An error is no reason not to call Run,
// which tries again.
func (p *Proxy) Bind(ctx context.Context) error {
	_, _, err := p.listening.bind(ctx)
	return err
}

// Close stops listening for good, once Run has ended or if it was never called.
func (p *Proxy) Close() { p.listening.close() }

// RenewNow asks for new certificates for all applications in use, reads the
// bearer token anew, and forgets which applications there weren't. It doesn't
// block.
func (p *Proxy) RenewNow(reason string) {
	p.listening.reload()
	p.routes.unknown.clear()
	p.routes.each(func(k *keeper) { k.renewNow(reason) })
	// Whoever waits for the end of a reload hears of it.
	p.report()
}

// RetryNow asks for certificates where the last attempt failed.
func (p *Proxy) RetryNow(reason string) {
	p.routes.each(func(k *keeper) { k.retryNow(reason) })
}

// Alive returns an error if an attempt to renew hangs, for whichever application.
func (p *Proxy) Alive() error { return p.routes.alive() }

// Run serves the proxy until ctx is cancelled, and lets open connections end.
// It returns an error if it can't listen.
func (p *Proxy) Run(ctx context.Context) error {
	bound, peers, err := p.listening.bind(ctx)
	if err != nil {
		return err
	}
	defer p.listening.unbind()
	keeping, stop := context.WithCancel(ctx)
	p.routes.open(keeping)
	defer p.routes.close()
	defer stop()
	p.report()
	front := &front{
		log: p.log, counts: p.counts, peers: peers, limit: p.opts.MaxConnections, names: p.opts.Names,
		handler: observed(http.HandlerFunc(p.serve), p.counts, p.log, p.opts.AccessLog),
	}
	return front.serve(ctx, bound)
}

// report says that the proxy listens: it's ready whether or not an application
// is in use.
func (p *Proxy) report() {
	p.deps.Reporter.Report(diagnostics.Report{Unchanged: true, Detail: "listens on " + p.listening.address()})
}

func (p *Proxy) serve(w http.ResponseWriter, r *http.Request) {
	switch {
	case !p.listening.token.admitProxy(r.Header):
		w.Header().Set("Proxy-Authenticate", `Bearer realm="rollcall"`)
		w.Header().Add("Proxy-Authenticate", `Basic realm="rollcall"`)
		refuse(w, http.StatusProxyAuthRequired, kindToken, "this proxy wants a token, in Proxy-Authorization (Bearer, or Basic with the token as the password)")
		return
	case r.Method == http.MethodConnect:
		refuse(w, http.StatusMethodNotAllowed, kindMethod, "CONNECT isn't possible: TLS would have to end in the application, which has none of its own here; ask for http://%s/, and the way from here on is encrypted all the same", hostname(r.Host))
		return
	case r.URL.Scheme != "" && r.URL.Scheme != "http":
		refuse(w, http.StatusBadRequest, kindMethod, "ask for http://%s/, not %s://: the way from here on is encrypted all the same", r.Host, r.URL.Scheme)
		return
	case teleportsOwn(r.URL.Path):
		refuseOwn(w, r.URL.Path, "proxy")
		return
	case asksProxyItself(r):
		refuse(w, http.StatusBadRequest, kindMethod, "this is an HTTP proxy, and was asked for its own address: use it as http_proxy, and ask for http://APPLICATION/ by an application's name or public address")
		return
	}
	host := hostname(r.Host)
	if !(hosts{}).permitsOrigin(r, "") {
		refuse(w, http.StatusForbidden, kindHost, "a web page of another site (%q) may not do this", asker(r))
		return
	}
	route, err := p.routes.find(r.Context(), host)
	switch {
	case err == nil:
		route.carrier.serve(w, r)
	case r.Context().Err() != nil:
		explain(w, r, host, err)
	case failure.KindOf(err) == failure.NotFound:
		refuse(w, http.StatusNotFound, kindUnknown, "%s", sentence(err))
	default:
		unavailable(w, err)
	}
}

// asksProxyItself says whether a request is for the proxy's own address, as of a
// browser that shows it, or of a program that uses the proxy for that as well. No
// application has an IP address for a name. A request that isn't in the form for
// proxies may name an application in Host; for one called localhost there's the
// other form.
func asksProxyItself(r *http.Request) bool {
	host := hostname(r.Host)
	_, err := netip.ParseAddr(host)
	return err == nil || r.URL.Host == "" && host == "localhost"
}

// nameIn returns the application's name in a host, or false if the host can
// only be a public address.
func (p *Proxy) nameIn(host string) (string, bool) {
	for _, domain := range p.opts.Domains {
		if name, ok := strings.CutSuffix(host, "."+strings.ToLower(domain)); ok && !strings.Contains(name, ".") {
			return name, true
		}
	}
	return host, !strings.Contains(host, ".")
}

// newKeeper returns what keeps the certificate of one application.
func (p *Proxy) newKeeper(name string, u *upstream) *keeper {
	return &keeper{
		source:   p.deps.Applications.Source(name),
		upstream: u, interval: p.deps.Interval, random: p.deps.Random,
		reporter: unreported{}, log: p.log.With("app", name),
		detail: func() string { return "" },
	}
}

// lookUp returns the name of the application with a public address. Why that
// can't be said is often said of something else, such as the bot.
func (p *Proxy) lookUp(ctx context.Context, publicAddr string) (string, error) {
	name, err := p.deps.Applications.Find(ctx, publicAddr)
	if kind := failure.KindOf(err); err != nil && kind != failure.NotFound {
		return "", failure.Wrap(kind, err, "which application has the public address %q can't be found out: %s", publicAddr, sentence(err))
	}
	return name, err
}

// unreported is for certificates that are no service of their own.
type unreported struct{}

// Report forgets.
func (unreported) Report(diagnostics.Report) {}
