package tunnel

import (
	"context"
	"fmt"
	"sync"
	"time"

	"rollcall/failure"
	"rollcall/internal/renewal"
)

// lookups bounds how many hosts are looked up at a time: clients may ask for
// any.
const lookups = 8

// routes are the applications that a proxy keeps certificates for. It's safe for
// concurrent use.
type routes struct {
	proxy   *Proxy
	buffers *buffers
	slots   chan struct{}
	unknown unknown

	// mu protects the following.
	mu sync.Mutex
	// ctx ends all keepers; nil: not open.
	ctx    context.Context //nolint:containedctx // It's the life of the keepers that requests cause.
	byName map[string]*route
	byHost map[string]string // public address to name, for those in byName
	kept   sync.WaitGroup
}

// route is the way to one application.
type route struct {
	name     string
	upstream *upstream
	keeper   *keeper
	carrier  *carrier
	stop     context.CancelFunc
	// host is the public address; protected by routes.mu.
	host string
	// used is when a request last asked for it; protected by routes.mu.
	used time.Time
	// users counts the requests in find; protected by routes.mu.
	users int
}

func newRoutes(p *Proxy) *routes {
	return &routes{
		proxy: p, buffers: newBuffers(copyBuffer), slots: make(chan struct{}, lookups),
		byName: make(map[string]*route), byHost: make(map[string]string),
	}
}

// open lets certificates be kept until ctx ends.
func (r *routes) open(ctx context.Context) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ctx = ctx
}

// close waits for the keepers, whose context has ended.
func (r *routes) close() {
	r.mu.Lock()
	r.ctx = nil
	for name := range r.byName {
		r.dropLocked(name)
	}
	r.mu.Unlock()
	r.kept.Wait()
}

func (r *routes) each(do func(*keeper)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, route := range r.byName {
		do(route.keeper)
	}
}

// alive returns an error if a keeper hangs, with its application's name.
func (r *routes) alive() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, route := range r.byName {
		if err := route.keeper.pulse.Alive(); err != nil {
			return fmt.Errorf("%w the certificate of %s", err, name)
		}
	}
	return nil
}

// find returns the way to the application of a host, with a certificate. It
// waits for the first one. A failure.NotFound says that there's no such
// application.
func (r *routes) find(ctx context.Context, host string) (*route, error) {
	switch {
	case host == "":
		return nil, failure.New(failure.NotFound, "the request names no host, and so no application: ask for http://APPLICATION/")
	case len(host) > longestHost:
		return nil, failure.New(failure.NotFound, "the host has %d characters, and no application has so long a name or address", len(host))
	}
	if err := r.unknown.recall(host); err != nil {
		return nil, err
	}
	age := r.unknown.age()
	found, err := r.look(ctx, host)
	// What was only remembered isn't remembered for longer because of that.
	if failure.KindOf(err) == failure.NotFound && r.unknown.recall(host) == nil {
		r.unknown.note(age, host, err)
	}
	return found, err
}

// look is find for a host of which nothing is known to be missing.
func (r *routes) look(ctx context.Context, host string) (*route, error) {
	// One patience for all: a public address is looked up before a certificate is
	// waited for, and waits for its turn before that.
	ctx, cancel := context.WithTimeoutCause(ctx, issuePatience, errNotYet())
	defer cancel()
	name, err := r.nameOf(ctx, host)
	if err != nil {
		return nil, err
	}
	route, err := r.acquire(name)
	if err != nil {
		return nil, err
	}
	defer r.release(route)
	_, err = route.upstream.get(ctx)
	if failure.KindOf(err) == failure.NotFound {
		// Names that nothing stands behind take no place.
		r.forget(route)
	}
	return route, err
}

// nameOf returns the application's name of a host.
func (r *routes) nameOf(ctx context.Context, host string) (string, error) {
	if name, ok := r.proxy.nameIn(host); ok {
		return name, nil
	}
	r.mu.Lock()
	name, known := r.byHost[host]
	r.mu.Unlock()
	if known {
		return name, nil
	}
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
	if err := r.unknown.recall(host); err != nil {
		return "", err // somebody has asked the same meanwhile
	}
	return r.proxy.lookUp(ctx, host)
}

// acquire returns the route of an application, a new one if there's none, and
// keeps it from being dropped.
func (r *routes) acquire(name string) (*route, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ctx == nil {
		return nil, errStopping()
	}
	found := r.byName[name]
	if found == nil && r.ctx.Err() != nil {
		return nil, errStopping() // nobody would ask for its certificate any more
	}
	if found == nil {
		if len(r.byName) >= r.proxy.opts.MaxApplications && !r.dropOldestLocked() {
			return nil, failure.New(failure.Transient, "certificates for %d applications are in use already, which is max_applications; try again, or raise it", len(r.byName))
		}
		found = r.startLocked(name)
	}
	found.used = time.Now()
	found.users++
	return found, nil
}

func (r *routes) release(route *route) {
	r.mu.Lock()
	defer r.mu.Unlock()
	route.users--
	now, _, _, _ := route.upstream.peek() //nolint:dogsled // Only the certificate matters.
	if now == nil || r.byName[route.name] != route {
		return
	}
	host := hostname(now.App.PublicAddr)
	if route.host != host {
		r.unhostLocked(route)
		route.host = host
	}
	r.byHost[host] = route.name
}

// unhostLocked forgets the public address of a route.
func (r *routes) unhostLocked(route *route) {
	if r.byHost[route.host] == route.name {
		delete(r.byHost, route.host)
	}
}

// startLocked makes a route and begins to keep its certificate.
func (r *routes) startLocked(name string) *route {
	ctx, stop := context.WithCancel(r.ctx)
	u := newUpstream(r.proxy.counts, r.proxy.opts.MaxConnections, issuePatience)
	k := r.proxy.newKeeper(name, u)
	k.mail = renewal.NewMailbox()
	made := &route{name: name, upstream: u, keeper: k, stop: stop, used: time.Now()}
	k.unused = func(idle time.Duration) bool { return r.dropUnused(made, idle) }
	made.carrier = newCarrier(u, k, hosts{}.ours, r.buffers, r.proxy.log)
	r.byName[name] = made
	r.kept.Go(func() { k.run(ctx) })
	return made
}

// dropOldestLocked drops the route that was used longest ago, if one can be.
func (r *routes) dropOldestLocked() bool {
	var oldest *route
	for _, candidate := range r.byName {
		if candidate.users == 0 && (oldest == nil || candidate.used.Before(oldest.used)) {
			oldest = candidate
		}
	}
	if oldest == nil {
		return false
	}
	r.dropLocked(oldest.name)
	return true
}

// dropUnused drops a route that nobody has asked for for that long, and says
// whether it did.
func (r *routes) dropUnused(route *route, idle time.Duration) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byName[route.name] != route || route.users > 0 || time.Since(route.used) < idle {
		return false
	}
	r.dropLocked(route.name)
	return true
}

// forget drops a route for which there's no application.
func (r *routes) forget(route *route) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byName[route.name] == route {
		r.dropLocked(route.name)
	}
}

// dropLocked ends a route's keeper. Requests and connections that use its
// certificate go on.
func (r *routes) dropLocked(name string) {
	dropped := r.byName[name]
	delete(r.byName, name)
	r.unhostLocked(dropped)
	dropped.stop()
	dropped.upstream.close()
}
