package tunnel

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"syscall"
	"time"

	"rollcall/cluster"
	"rollcall/failure"
)

const (
	// replayLimit is up to which size, in bytes, the body of an idempotent
	// request is kept, so that it can be sent once more.
	replayLimit = 64 << 10
	// recovery is for how long an idempotent request is tried again while
	// Teleport comes back from a restart.
	recovery = 3 * time.Second
	// onceMore is until when it's tried again if it hasn't been: on a busy host
	// the first attempt alone may take longer than recovery.
	onceMore = 10 * time.Second
	// firstPause doubles up to longestPause.
	firstPause   = 25 * time.Millisecond
	longestPause = 200 * time.Millisecond
)

// errLogin is what a client hears where Teleport asks for a login.
var errLogin = errors.New("login")

// courier carries requests to one application and, where that can do no harm,
// carries them once more: with a new certificate if Teleport doesn't take the
// old one, and again and again for a moment while the proxy restarts.
type courier struct {
	upstream *upstream
	keeper   *keeper
	counts   *counts
}

// RoundTrip satisfies http.RoundTripper. The request's context has the
// certificate to begin with.
func (c *courier) RoundTrip(req *http.Request) (*http.Response, error) {
	began := time.Now()
	d := &delivery{courier: c, until: began.Add(recovery), once: began.Add(onceMore), pause: firstPause, on: passageOf(req.Context()).by}
	if first := triedBefore(req.Context()); !first.IsZero() {
		d.until, d.once = first.Add(recovery), time.Time{}
	}
	for {
		began := time.Now()
		resp, err := d.on.RoundTrip(req)
		if err == nil {
			c.counts.waited(began)
		} else if broken(err) {
			c.upstream.noteTrouble()
		}
		again, err := d.judge(req, resp, err)
		if !again {
			if err != nil {
				return nil, err
			}
			return resp, nil
		}
		if resp != nil {
			discard(resp)
		}
		if req, err = replay(req); err != nil {
			return nil, err
		}
	}
}

// triedBefore is when a request was tried to be carried as a plain one, zero: it
// wasn't.
func triedBefore(ctx context.Context) time.Time {
	first, _ := ctx.Value(triedKey{}).(time.Time)
	return first
}

type triedKey struct{}

// withTried notes with a request that it was tried before. It's to be called for
// each request of a client: what it finds holds for the next one alone.
func withTried(r *http.Request, c *client) *http.Request {
	first := c.tried.Swap(0)
	if first == 0 {
		return r
	}
	return r.WithContext(context.WithValue(r.Context(), triedKey{}, time.Unix(0, first)))
}

// delivery is one request on its way.
type delivery struct {
	*courier
	on    *generation
	until time.Time
	// once is until when it's tried for a second time; zero: it has been.
	once  time.Time
	pause time.Duration
	// renewed is true once a new certificate was asked for.
	renewed bool
}

// judge decides whether the request is carried again, and with which
// certificate. It returns the error that the client is told otherwise.
func (d *delivery) judge(req *http.Request, resp *http.Response, err error) (again bool, _ error) {
	ctx := req.Context()
	if ctx.Err() != nil {
		return false, err
	}
	switch {
	case err != nil && cluster.CertificateRefused(err):
		return d.withNew(ctx, "the proxy refused the certificate", true, replayable(req)), err
	case err != nil:
		return repeatable(req) && broken(err) && d.rest(ctx), err
	case asksForLogin(resp, d.on.ProxyHost, d.on.Session.PublicHost()):
		// Only Teleport leads to the launcher with the application's address: the
		// application hasn't seen the request, whatever its method is.
		if d.withNew(ctx, "Teleport asked for a login", true, replayable(req)) {
			return true, nil
		}
		discard(resp)
		return false, errLogin
	case d.upstream.troubled() && repeatable(req) && looksUnready(resp):
		return d.rest(ctx), nil
	case looksForbidden(resp):
		return d.withNew(ctx, "403, as of a session that Teleport doesn't know", false, repeatable(req)), nil
	case d.renewed:
		d.keeper.helped()
	}
	return false, nil
}

// withNew asks for a new certificate, at most once for each request, and says
// whether there is one to carry the request again with.
func (d *delivery) withNew(ctx context.Context, reason string, sure, wait bool) bool {
	if d.renewed {
		return false
	}
	if now, _, _, _ := d.upstream.peek(); now != nil && now != d.on && wait { //nolint:dogsled // Only the certificate matters.
		d.on, d.renewed = now, true
		return true
	}
	attempts, until, asked := d.keeper.suspect(reason, sure)
	if !asked || !wait {
		return false
	}
	now := d.upstream.after(ctx, attempts, until)
	if now == nil || now == d.on {
		return false
	}
	d.on, d.renewed = now, true
	return true
}

// rest waits before the next try, and says whether there is time for one. The
// certificate may have changed meanwhile.
func (d *delivery) rest(ctx context.Context) bool {
	if now := time.Now().Add(d.pause); now.After(d.until) && now.After(d.once) {
		return false
	}
	d.once = time.Time{}
	timer := time.NewTimer(d.pause)
	defer timer.Stop()
	d.pause = min(2*d.pause, longestPause)
	select {
	case <-timer.C:
	case <-ctx.Done():
		return false
	}
	if now, _, _, _ := d.upstream.peek(); now != nil { //nolint:dogsled // Only the certificate matters.
		d.on = now
	}
	return true
}

// keepBody makes a small idempotent request one that can be sent again.
func keepBody(req *http.Request) error {
	if req.GetBody != nil || !idempotent(req.Method) || req.ContentLength <= 0 || req.ContentLength > replayLimit || req.Header.Get("Expect") != "" {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(req.Body, req.ContentLength))
	if err != nil {
		return err
	}
	if int64(len(body)) != req.ContentLength {
		return &bodyError{cause: io.ErrUnexpectedEOF}
	}
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	req.Body, _ = req.GetBody()
	return nil
}

// replay returns the request with its body from the start.
func replay(req *http.Request) (*http.Request, error) {
	if req.Body == nil || req.Body == http.NoBody {
		return req, nil
	}
	body, err := req.GetBody()
	if err != nil {
		return nil, err
	}
	again := *req
	again.Body = body
	return &again, nil
}

func replayable(req *http.Request) bool {
	return req.Body == nil || req.Body == http.NoBody || req.GetBody != nil
}

// repeatable says whether a request may reach the application twice.
func repeatable(req *http.Request) bool { return replayable(req) && idempotent(req.Method) }

func idempotent(method string) bool {
	return safeMethod(method) || method == http.MethodPut || method == http.MethodDelete
}

// broken says whether a connection to the proxy failed or was cut.
func broken(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) ||
		errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNREFUSED) || failure.KindOf(err) == failure.Unreachable ||
		isClosedIdle(err)
}

// isClosedIdle knows the transport's word for a kept connection that the server
// closed; it has no value of its own outside the package.
func isClosedIdle(err error) bool {
	return err != nil && err.Error() == "http: server closed idle connection"
}

// discard reads what little is left of an answer, so that its connection can be
// used again.
func discard(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, replayLimit)
	_ = resp.Body.Close()
}
