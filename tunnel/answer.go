package tunnel

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"rollcall/failure"
)

// headerKind says in one word what the tunnel's own answer is about, so that
// it can be told from the application's.
const headerKind = "X-Rollcall-Error"

// The kinds.
const (
	kindHost        = "host"
	kindPeer        = "peer"
	kindToken       = "token"
	kindPath        = "path"
	kindLimit       = "limit"
	kindUnavailable = "unavailable"
	kindLogin       = "login"
	kindUpstream    = "upstream"
	kindBody        = "body"
	kindGone        = "gone"
	kindMethod      = "method"
	kindUnknown     = "unknown"
)

// statusGone is what the log says of a request whose client went away.
const statusGone = 499

// refuse answers a request in the tunnel's own name, with one sentence.
func refuse(w http.ResponseWriter, status int, kind, format string, args ...any) {
	if r, ok := w.(*recorder); ok {
		r.own = true
	}
	h := w.Header()
	for _, name := range []string{"Content-Length", "Content-Encoding", "Etag", "Last-Modified", "Set-Cookie"} {
		h.Del(name)
	}
	h.Set("Content-Type", plainText)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	h.Set(headerKind, kind)
	text := fmt.Sprintf("rollcall: "+format+"\n", args...)
	h.Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
}

// unavailable answers a request for which there is no certificate.
func unavailable(w http.ResponseWriter, err error) {
	w.Header().Set("Retry-After", "1")
	refuse(w, http.StatusServiceUnavailable, kindUnavailable, "%s", err)
}

// explain answers a request that couldn't be carried.
func explain(w http.ResponseWriter, r *http.Request, app string, err error) {
	var body *bodyError
	switch {
	case r.Context().Err() != nil, errors.Is(err, context.Canceled):
		goneAway(w)
	case errors.As(err, &body):
		w.Header().Set("Connection", "close") // nobody knows where the next request begins
		refuse(w, http.StatusBadRequest, kindBody, "%s", body)
	case errors.Is(err, errLogin):
		refuse(w, http.StatusBadGateway, kindLogin, "Teleport doesn't take the certificate for application %q and asks for a login, after a renewal too or before one that is possible: see the agent's log, and look for a lock on the bot (tctl get locks)", app)
	default:
		refuse(w, http.StatusBadGateway, kindUpstream, "application %q can't be reached: %s", app, sentence(err))
	}
}

// goneAway answers a client whose connection has ended, or half of it: by that
// net/http takes it for gone, and only a client that goes on reading sees this.
func goneAway(w http.ResponseWriter) {
	rec, ok := w.(*recorder)
	if ok {
		rec.status = statusGone
	}
	refuse(w, http.StatusBadGateway, kindGone, "the client ended its side of the connection before the answer came: keep it open until then")
	if ok {
		rec.own = false // it counts by the status that the log has
	}
}

// sentence is what an error says to people.
func sentence(err error) string {
	var told *failure.Error
	if errors.As(err, &told) {
		return told.Sentence
	}
	return err.Error()
}

// fullAnswer and deniedAnswer are whole answers to clients that aren't served.
func fullAnswer(limit int, names Names) string {
	return wholeAnswer(http.StatusServiceUnavailable, kindLimit, "Retry-After: 1\r\n",
		fmt.Sprintf("all %d connections of this tunnel are in use; try again, or raise %s", limit, names.Of("max_connections")))
}

func deniedAnswer(names Names) string {
	return wholeAnswer(http.StatusForbidden, kindPeer, "", fmt.Sprintf("your user may not use this tunnel: %s doesn't name it", names.Of("peer_users")))
}

func wholeAnswer(status int, kind, header, text string) string {
	text = "rollcall: " + text + "\n"
	return fmt.Sprintf("HTTP/1.1 %d %s\r\nContent-Type: %s\r\nX-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n%s: %s\r\n%sConnection: close\r\nContent-Length: %d\r\n\r\n%s",
		status, http.StatusText(status), plainText, headerKind, kind, header, len(text), text)
}

// recorder notes what was answered.
type recorder struct {
	http.ResponseWriter
	status int
	// own says that the answer is the tunnel's.
	own bool
}

// WriteHeader notes the status of the answer; informational ones come before.
func (r *recorder) WriteHeader(status int) {
	if r.status == 0 && (status >= http.StatusOK || status == http.StatusSwitchingProtocols) {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

// Write sends a part of the body.
func (r *recorder) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return r.ResponseWriter.Write(p)
}

// Hijack gives the connection to whoever speaks another protocol on it.
func (r *recorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := http.NewResponseController(r.ResponseWriter).Hijack()
	if err == nil && r.status == 0 {
		r.status = http.StatusSwitchingProtocols
	}
	if err == nil && buffered.Reader.Buffered() > 0 {
		// httputil.ReverseProxy takes the connection alone.
		conn = &hasty{Conn: conn, in: buffered.Reader}
	}
	return conn, buffered, err
}

// Unwrap is for http.ResponseController.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// observed counts the requests that a handler serves, and logs them if asked
// to.
func observed(next http.Handler, counts *counts, log *slog.Logger, access bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		rec := &recorder{ResponseWriter: w}
		c := clientOf(r.Context())
		if c != nil {
			r = withTried(r, c)
		}
		var sent, received int64
		if access && c != nil {
			sent, received = c.sent.Load(), c.received.Load()
		}
		// Also where ReverseProxy panics to cut an answer off.
		defer func() {
			counts.answered(rec.status, rec.own)
			if access {
				logRequest(log, r, rec, c, began, sent, received)
			}
		}()
		next.ServeHTTP(rec, r)
	})
}

func logRequest(log *slog.Logger, r *http.Request, rec *recorder, c *client, began time.Time, sent, received int64) {
	args := []any{"method", r.Method, "host", r.Host, "path", r.URL.Path, "status", rec.status, "took", time.Since(began).Round(time.Microsecond)}
	if c != nil {
		// What is still in buffers counts for the next request.
		args = append(args, "sent", c.sent.Load()-sent, "received", c.received.Load()-received)
		if c.user >= 0 {
			args = append(args, "peer_uid", c.user)
		}
	}
	log.Info("Request.", args...)
}
