package harness

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"time"

	"github.com/gorilla/websocket"
)

// WebApp is an HTTP application that does all that the local proxy has to
// carry: it's there to be reached through the cluster. Its paths:
//
//	/echo       the request as the application saw it (Echo, as JSON)
//	/count      the body's length and hash (Count, as JSON)
//	/discard    reads the body, and says nothing
//	/bytes?n=N  N bytes
//	/events     server-sent events: what Emit is given, one by one
//	/ws         a WebSocket that answers each message with itself
//	/trailers   the request's trailers as the answer's
//	/slow?ms=N  "slow" after N milliseconds, the headers at once
//	/redirect?to=URL  a redirect
//	/cookie?domain=D  sets the cookie "flavour", for the domain if there is one
//
// Every answer has the header Webapp with the application's name.
type WebApp struct {
	// URL is where it listens on loopback.
	URL string
	// Name is nobody else's.
	Name string

	events chan string
}

// Echo is a request as the application saw it.
type Echo struct {
	Method, Host, URI string
	Header            http.Header
}

// Count is what was posted.
type Count struct {
	Bytes  int64
	SHA256 string
}

// Filler is what /bytes answers with, over and over.
const Filler = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.\n"

// NewWebApp starts an application. It ends with the test.
func NewWebApp(t T) *WebApp {
	t.Helper()
	a := &WebApp{Name: unique(t, "web"), events: make(chan string)}
	mux := http.NewServeMux()
	mux.HandleFunc("/echo", a.echo)
	mux.HandleFunc("/count", a.count)
	mux.HandleFunc("/discard", a.discard)
	mux.HandleFunc("/bytes", a.bytes)
	mux.HandleFunc("/events", a.stream)
	mux.HandleFunc("/ws", a.webSocket)
	mux.HandleFunc("/trailers", a.trailers)
	mux.HandleFunc("/slow", a.slow)
	mux.HandleFunc("/redirect", a.redirect)
	mux.HandleFunc("/cookie", a.cookie)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Webapp", a.Name)
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		// Streams and upgraded connections don't end by themselves.
		server.CloseClientConnections()
		server.Close()
	})
	a.URL = server.URL
	return a
}

// Emit hands an event to whoever listens to /events, and waits until the
// application has sent it.
func (a *WebApp) Emit(t T, event string) {
	t.Helper()
	select {
	case a.events <- event:
	case <-time.After(waitTimeout):
		t.Fatalf("nobody listens to the application's events")
	}
}

func (a *WebApp) echo(w http.ResponseWriter, r *http.Request) {
	answerJSON(w, Echo{Method: r.Method, Host: r.Host, URI: r.RequestURI, Header: r.Header})
}

func (a *WebApp) count(w http.ResponseWriter, r *http.Request) {
	hash := sha256.New()
	n, err := io.Copy(hash, r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	answerJSON(w, Count{Bytes: n, SHA256: hex.EncodeToString(hash.Sum(nil))})
}

func (a *WebApp) discard(w http.ResponseWriter, r *http.Request) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
	}
}

func (a *WebApp) bytes(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.ParseInt(r.FormValue("n"), 10, 64)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
	_, _ = io.CopyN(w, &Endless{}, n) // the client is gone
}

func (a *WebApp) stream(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	flush := http.NewResponseController(w)
	w.WriteHeader(http.StatusOK)
	for flush.Flush() == nil {
		select {
		case event := <-a.events:
			fmt.Fprintf(w, "data: %s\n\n", event)
		case <-r.Context().Done():
			return
		}
	}
}

func (a *WebApp) webSocket(w http.ResponseWriter, r *http.Request) {
	conn, err := (&websocket.Upgrader{CheckOrigin: ownOrigin}).Upgrade(w, r, http.Header{"Webapp": {a.Name}})
	if err != nil {
		return // it has answered
	}
	defer conn.Close()
	for {
		kind, message, err := conn.ReadMessage()
		if err != nil || conn.WriteMessage(kind, message) != nil {
			return
		}
	}
}

// ownOrigin takes only pages of the application's own, as careful applications
// behind a proxy do: Teleport makes Host the application's address on the
// inside, and X-Forwarded-Host the one that the client asked for.
func ownOrigin(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	return origin == "" || origin == "https://"+r.Header.Get("X-Forwarded-Host")
}

func (a *WebApp) trailers(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	_, _ = w.Write(body)
	_ = http.NewResponseController(w).Flush() // else the answer isn't chunked
	for name, values := range r.Trailer {
		for _, value := range values {
			w.Header().Add(http.TrailerPrefix+name, value)
		}
	}
	w.Header().Set(http.TrailerPrefix+"Received", strconv.Itoa(len(body)))
}

func (a *WebApp) slow(w http.ResponseWriter, r *http.Request) {
	ms, err := strconv.Atoi(r.FormValue("ms"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.WriteHeader(http.StatusOK)
	_ = http.NewResponseController(w).Flush()
	select {
	case <-time.After(time.Duration(ms) * time.Millisecond):
		_, _ = io.WriteString(w, "slow")
	case <-r.Context().Done():
	}
}

func (a *WebApp) redirect(w http.ResponseWriter, r *http.Request) {
	// Not http.Redirect, which makes relative paths absolute.
	w.Header().Set("Location", r.FormValue("to"))
	w.WriteHeader(http.StatusFound)
}

func (a *WebApp) cookie(w http.ResponseWriter, r *http.Request) {
	http.SetCookie(w, &http.Cookie{Name: "flavour", Value: "vanilla", Path: "/", Domain: r.FormValue("domain"), HttpOnly: true})
}

func answerJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the client is gone
}

// Endless reads Filler without end.
type Endless struct{ at int }

// Read fills all of p.
func (e *Endless) Read(p []byte) (int, error) {
	for n := 0; n < len(p); {
		copied := copy(p[n:], Filler[e.at:])
		e.at = (e.at + copied) % len(Filler)
		n += copied
	}
	return len(p), nil
}
