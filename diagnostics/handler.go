package diagnostics

import (
	"cmp"
	"encoding/json"
	"io"
	"net/http"
	"net/http/pprof"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const index = `rollcall diagnostics
/livez         200 while the process answers
/readyz        200 while every service is ready, else 503; JSON by service
/readyz/NAME   the same for one service
/metrics       Prometheus metrics
`

const statusIndex = `/status        who the agent is and what each service does; JSON
`

// readiness is the JSON of /readyz.
type readiness struct {
	Ready    bool              `json:"ready"`
	Services map[string]Status `json:"services"`
}

// handler answers everything, and has Alive know of each request.
func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", s.watched(s.own(), stuckAfter))
	for pattern, handler := range s.options.More {
		mux.Handle(pattern, s.watched(handler, cmp.Or(s.options.MoreWithin, stuckAfter)))
	}
	return mux
}

// own answers what every server does.
func (s *Server) own() http.Handler {
	mux := http.NewServeMux()
	contents := index
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { plain(w, "ok\n") })
	if s.options.Agent != nil {
		mux.HandleFunc("GET /status", s.status)
		contents += statusIndex
	}
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { plain(w, contents) })
	mux.HandleFunc("GET /readyz", s.ready)
	mux.HandleFunc("GET /readyz/{name...}", s.readyOne)
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.options.Registry, promhttp.HandlerOpts{MaxRequestsInFlight: 8}))
	if s.options.Pprof {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return mux
}

// ready answers 200 only if there is at least one service and all are ready:
// an agent that hasn't registered anything yet isn't ready.
func (s *Server) ready(w http.ResponseWriter, _ *http.Request) {
	all := s.options.Board.Snapshot()
	answer := readiness{Ready: len(all) > 0, Services: make(map[string]Status, len(all))}
	for _, status := range all {
		answer.Services[status.Name] = status
		answer.Ready = answer.Ready && status.Ready
	}
	reply(w, readyCode(answer.Ready), answer)
}

func (s *Server) readyOne(w http.ResponseWriter, r *http.Request) {
	status, ok := s.options.Board.Status(r.PathValue("name"))
	if !ok {
		reply(w, http.StatusNotFound, map[string]string{"error": "there is no service of that name; /readyz lists them"})
		return
	}
	reply(w, readyCode(status.Ready), status)
}

// status answers 200 whatever the state: the answer says it.
func (s *Server) status(w http.ResponseWriter, _ *http.Request) {
	all := s.options.Board.Snapshot()
	reply(w, http.StatusOK, Overview{Agent: s.options.Agent(), Healthy: Healthy(all), Services: all})
}

func readyCode(ready bool) int {
	if ready {
		return http.StatusOK
	}
	return http.StatusServiceUnavailable
}

func reply(w http.ResponseWriter, code int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	// Whoever asked has gone: there is nobody left to tell.
	_ = encoder.Encode(value)
}

func plain(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, text)
}
