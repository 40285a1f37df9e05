package tunnel

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"os"
	"sync"
	"time"

	"rollcall/failure"
)

// express carries plain requests, which nearly all are that programs make in
// quick succession, on the goroutine of the client's connection. It leaves out
// what makes http.Server, httputil.ReverseProxy and http.Transport take four
// times the processor's time for the same (BenchmarkCarry): three more goroutines
// that hand each request and answer on, a read beside each request to hear of a
// client that goes away, and timers. A simple request, and a short answer to which
// nothing is to be done, go on as they are; all else is parsed by net/http all the
// same.
//
// It has nothing of its own to say to a client: what isn't plain, and what
// doesn't go as usual before an answer has begun, is left to those, with the
// connection and the request from its first byte on. They send the request
// again, which GET allows.
type express struct {
	// permits are the tunnel's rules for requests; they may take out of a
	// header what isn't for the application.
	permits func(*http.Request) bool
	// permitsSimple are the rules as far as they concern a simple request, by the
	// host that it names; nil: each request has to show more.
	permitsSimple func(host string) bool
	carrier       *carrier
	counts        *counts
	log           *slog.Logger
	access        bool
}

// ride is the connection of one client, while its requests are plain. Where others
// are served as well, it takes turns with them. It belongs to one goroutine at a
// time: to the front's, and after queue.put to http.Server's. But for stop, none
// of its methods may be called by others.
type ride struct {
	*express
	ctx    context.Context //nolint:containedctx // The ride has its lifetime.
	client *client
	in     *bufio.Reader
	out    *bufio.Writer
	// head is a copy of the head of the request that is carried, sent is what the
	// application gets instead. host is what it named, origin the page of ours that
	// asks, if one does. request is nil if it's simple. plain and heads read heads.
	head         []byte
	sent         bytes.Buffer
	host, origin string
	request      *http.Request
	plain        plainHead
	heads        *bufio.Reader
	// received is what the client had received before.
	received int64
	// alarm is the deadline of the wait for requests.
	alarm time.Time
	// born is when the client came, carried says that it had a request since.
	born    time.Time
	carried bool
	// asked says that the request was sent, heard that something of the answer
	// has come.
	asked, heard bool
	watch        watch
	// lane carries the request; nil: none does.
	lane *lane

	// mu protects the following, which stop and serve agree by.
	mu       sync.Mutex
	waits    bool
	stopping bool
}

// firstChance is how long after it came a client may be about to send its first
// request.
const firstChance = 2 * time.Second

// headBuffer is the size of the buffer that heads are read from, in bytes; lines
// may be longer.
const headBuffer = 1 << 10

// course is what comes after a step.
type course int

const (
	// onward: the next step, or the next request.
	onward course = iota
	// aside: it isn't for the express.
	aside
	// away: the connection is closed.
	away
)

func newRide(ctx context.Context, x *express, c *client) *ride {
	in := io.Reader(c.Conn)
	if c.ahead != nil {
		in, c.ahead = c.ahead, nil
	}
	return &ride{
		express: x, ctx: ctx, client: c, born: time.Now(),
		in: bufio.NewReaderSize(in, laneBuffer), out: bufio.NewWriterSize(c, laneBuffer),
		heads: bufio.NewReaderSize(nil, headBuffer),
	}
}

// again prepares for another run, which begins with the next request.
func (v *ride) again() {
	v.client.ahead, v.alarm, v.carried = nil, time.Time{}, true
	v.client.unread.Store(false)
}

// run carries requests until one isn't plain: then it returns true, and the
// client's connection is to be served by others from that request on, and may
// have a deadline. Otherwise the connection is at its end, and is to be closed.
func (v *ride) run() (left bool) {
	for {
		switch v.next() {
		case aside:
			v.client.ahead = io.MultiReader(bytes.NewReader(v.head), v.in)
			return true
		case away:
			return false
		case onward:
			v.carried = true
			v.client.waited.Store(false)
		}
	}
}

// stop ends a wait for requests. Who has had one before is closed, as HTTP's
// clients expect of a connection that they don't use.
func (v *ride) stop() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.stopping = true
	if v.waits {
		_ = v.client.SetReadDeadline(longAgo())
	}
}

func (v *ride) ends() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.stopping
}

// longAgo is a deadline that has passed.
func longAgo() time.Time { return time.Unix(1, 0) }

// await waits for a request.
func (v *ride) await() course {
	v.head = v.head[:0]
	if v.in.Buffered() > 0 {
		return onward
	}
	if !v.begin() {
		return v.unused()
	}
	_, err := v.in.Peek(1)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.waits = false
	switch {
	case err == nil:
		return onward
	case v.stopping && isDeadline(err):
		return v.unused()
	default:
		return away
	}
}

// begin begins a wait, unless everything stops. It sets a deadline now and then:
// one for each request would cost more than it's worth.
func (v *ride) begin() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.stopping {
		return false
	}
	v.waits = true
	longest, precision := headerTimeout, time.Duration(0)
	if v.carried {
		longest, precision = clientIdleTimeout, headerTimeout
	}
	if now := time.Now(); v.alarm.Sub(now) < longest-precision {
		v.alarm = now.Add(longest)
		_ = v.client.SetReadDeadline(v.alarm)
	}
	return true
}

// unused is what becomes of a client that doesn't ask for anything when
// everything stops: one that has just come gets its chance.
func (v *ride) unused() course {
	if v.carried || time.Since(v.born) > firstChance {
		return away
	}
	return aside
}

// next carries one request.
func (v *ride) next() course {
	if step := v.await(); step != onward {
		return step
	}
	now, _, _, _ := v.carrier.upstream.peek() //nolint:dogsled // Only the certificate matters.
	if now == nil || now.App.TCP() || now.lanes.blind.Load() || v.carrier.upstream.troubled() {
		return aside
	}
	data, _ := v.in.Peek(v.in.Buffered())
	n := v.plain.read(data)
	if n == 0 {
		return aside
	}
	// From here on the request stands in the copies alone.
	v.head = append(v.head, data[:n]...)
	permitted := v.prepare(now.Session.PublicHost())
	_, _ = v.in.Discard(n)
	if !permitted {
		return aside
	}
	return v.carry(now, time.Now())
}

// prepare makes of the head that was read what the application is to get, and
// says whether the request is permitted.
func (v *ride) prepare(public string) bool {
	v.sent.Reset()
	v.request, v.origin = nil, ""
	if v.plain.simple && v.permitsSimple != nil && !v.access {
		if v.host != string(v.plain.host) {
			v.host = string(v.plain.host)
		}
		if !v.permitsSimple(v.host) {
			return false
		}
		v.plain.write(&v.sent, cmp.Or(public, unnamed))
		return true
	}
	v.heads.Reset(bytes.NewReader(v.head))
	r, err := http.ReadRequest(v.heads)
	if err != nil || !v.permits(r) {
		return false
	}
	v.request, v.host, v.origin = r, r.Host, v.carrier.origin(r)
	delete(r.Header, "Connection")
	rewriteRequest(&httputil.ProxyRequest{In: r, Out: r}, public, func(page string) bool { return v.carrier.ours(page, v.host) })
	writeRequest(&v.sent, r)
	return true
}

// writeRequest writes a request without a body.
func writeRequest(out *bytes.Buffer, r *http.Request) {
	out.WriteString("GET ")
	out.WriteString(r.URL.RequestURI())
	out.WriteString(" HTTP/1.1\r\nHost: ")
	out.WriteString(cmp.Or(r.Host, r.URL.Host))
	out.WriteString("\r\n")
	_ = r.Header.Write(out)
	out.WriteString("\r\n")
}

// carry sends the request on that was prepared, and answers it.
func (v *ride) carry(now *generation, began time.Time) course {
	v.received, v.asked, v.heard = v.client.received.Load(), false, false
	l, got, err := v.exchange(now)
	switch {
	case err != nil && v.watch.gone:
		v.note(statusGone, began)
		return away
	case err != nil:
		if v.asked || failure.KindOf(err) == failure.Unreachable {
			v.client.tried.Store(began.UnixNano())
		}
		return aside
	case got.resp != nil && v.unusual(got.resp, now):
		v.abandon()
		if v.watch.gone {
			v.note(statusGone, began)
			return away
		}
		return aside
	}
	v.counts.waited(began)
	status, reusable := http.StatusOK, true
	if got.resp == nil {
		_, err = v.client.Write(got.whole)
		_, _ = l.in.Discard(len(got.whole))
	} else {
		status, reusable = got.resp.StatusCode, !got.resp.Close
		rewriteResponse(got.resp.Header, now.Session.PublicHost(), now.App.URI, "http://"+v.host, v.origin)
		err = v.answer(got.resp, l)
	}
	v.settle()
	v.lane = nil
	l.done(err == nil && reusable && !v.watch.gone)
	v.note(status, began)
	if err != nil || v.watch.gone || v.ends() {
		return away
	}
	return onward
}

// unusual says whether an answer is one to be got again, because it's
// Teleport's own and may be another soon. Whatever it says of such an answer, it
// doesn't need its body any more.
func (v *ride) unusual(resp *http.Response, now *generation) bool {
	switch {
	case resp.StatusCode < http.StatusOK, asksForLogin(resp, now.ProxyHost, now.Session.PublicHost()):
		return true
	case v.carrier.upstream.troubled() && looksUnready(resp):
		return true
	case looksForbidden(resp):
		// Most of these are an application's own: only where a renewal is worth a
		// try is it asked twice.
		if newer, _, _, _ := v.carrier.upstream.peek(); newer != now { //nolint:dogsled // Only the certificate matters.
			return true
		}
		_, _, asked := v.carrier.keeper.suspect("403, as of a session that Teleport doesn't know", false)
		return asked
	}
	return false
}

// note counts the request, and logs it if asked to.
func (v *ride) note(status int, began time.Time) {
	sent := v.client.sent.Load()
	v.client.took(len(v.head))
	v.counts.answered(status, false)
	if v.access {
		v.request.Host = v.host
		logRequest(v.log, v.request, &recorder{status: status}, v.client, began, sent, v.received)
	}
}

func isDeadline(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
