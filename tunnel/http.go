package tunnel

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"time"
)

const (
	// copyBuffer is the size of the buffers that bodies go through, in bytes.
	copyBuffer = 32 << 10
	// bulkBuffer is that of those for what is larger and has a length, which no
	// connection keeps while it waits for something that may never come.
	bulkBuffer = 64 << 10
)

// flushAfter is how long a part of an answer whose length is known may wait for
// more of it. Most answers are whole by then, and go out in one piece: flushing
// each part at once, the header for itself, is a second write here and a second
// read in the client. Answers without a length, as of streams, are
// flushed part by part (httputil.ReverseProxy sees to that), and so are long
// ones, for which nothing is gained by waiting.
const flushAfter = 2 * time.Millisecond

// buffers are shared by all copying; it satisfies httputil.BufferPool.
type buffers struct{ pool sync.Pool }

func newBuffers(size int) *buffers {
	return &buffers{pool: sync.Pool{New: func() any {
		b := make([]byte, size)
		return &b
	}}}
}

// Get returns a buffer.
func (b *buffers) Get() []byte { return *b.pool.Get().(*[]byte) } //nolint:forcetypeassert // Put takes nothing else.

// Put gives a buffer back.
func (b *buffers) Put(buf []byte) { b.pool.Put(&buf) }

// carrier is a reverse proxy to one application.
type carrier struct {
	upstream *upstream
	keeper   *keeper
	// ours says whether the host of a page is the one that a request names, or
	// stands for it.
	ours    func(page, asked string) bool
	proxy   *httputil.ReverseProxy
	buffers *buffers
}

func newCarrier(u *upstream, k *keeper, ours func(page, asked string) bool, bufs *buffers, log *slog.Logger) *carrier {
	c := &carrier{upstream: u, keeper: k, ours: ours, buffers: bufs}
	c.proxy = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			rewriteRequest(r, passageOf(r.In.Context()).by.Session.PublicHost(), func(page string) bool { return ours(page, r.In.Host) })
		},
		Transport:     &courier{upstream: u, keeper: k, counts: u.counts},
		FlushInterval: flushAfter,
		BufferPool:    bufs,
		ErrorLog:      slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ModifyResponse: func(resp *http.Response) error {
			if p := passageOf(resp.Request.Context()); p.in != nil {
				rewriteResponse(resp.Header, p.by.Session.PublicHost(), p.by.App.URI, "http://"+p.in.Host, c.origin(p.in))
			}
			if resp.ContentLength > copyBuffer {
				// For ReverseProxy it's a stream. The client gets the header, which
				// still has the length.
				resp.ContentLength = -1
			}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if failedHere(err) {
				log.DebugContext(r.Context(), "A request couldn't be carried.", "err", err)
			}
			explain(w, r, passageOf(r.Context()).by.App.Name, err)
		},
	}
	return c
}

// origin is the page that asks, if it's one of ours.
func (c *carrier) origin(in *http.Request) string {
	origin := in.Header.Get("Origin")
	if origin == "" {
		return ""
	}
	if u, err := url.Parse(origin); err != nil || !c.ours(u.Host, in.Host) {
		return ""
	}
	return origin
}

// serve carries one request. The caller has checked that it may be.
func (c *carrier) serve(w http.ResponseWriter, r *http.Request) {
	now, err := c.certificate(r.Context())
	if err != nil {
		c.keeper.nudge("a client asks for the application")
		unavailable(w, err)
		return
	}
	if now.App.TCP() {
		refuse(w, http.StatusBadGateway, kindUnavailable, "%q is a TCP application, which isn't spoken to in HTTP: use a tunnel of type %s, and connect anew", now.App.Name, TypeTunnel)
		return
	}
	r = withClientBody(r)
	if err := keepBody(r); err != nil {
		explain(w, r, now.App.Name, err)
		return
	}
	body := bothWays(r)
	if body == nil {
		defer noteRead(r) // also where ReverseProxy panics to cut an answer off
		c.proxy.ServeHTTP(w, withPassage(r, now))
		return
	}
	serveBothWays(w, r, body, func() { c.proxy.ServeHTTP(w, withPassage(r, now)) })
}

// certificate waits for the first one, unless the client has waited already.
func (c *carrier) certificate(ctx context.Context) (*generation, error) {
	client := clientOf(ctx)
	if client == nil || !client.waited.Swap(false) {
		return c.upstream.get(ctx)
	}
	now, _, err, _ := c.upstream.peek()
	if now == nil && err == nil {
		err = errNotYet()
	}
	return now, err
}

// passage is what the reverse proxy's steps need to know of a request: how the
// client sent it, and the certificate to begin with.
type passage struct {
	in *http.Request
	by *generation
}

type passageKey struct{}

func withPassage(r *http.Request, g *generation) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), passageKey{}, passage{in: r, by: g}))
}

func passageOf(ctx context.Context) passage {
	p, _ := ctx.Value(passageKey{}).(passage)
	return p
}

// failedHere says whether an error is one to log: not a client that went away.
func failedHere(err error) bool { return !errors.Is(err, context.Canceled) }
