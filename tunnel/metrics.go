package tunnel

import (
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// What came of a connection.
const (
	resultAccepted = "accepted"
	resultLimit    = "limit"
	resultPeer     = "peer"
	resultSuccess  = "success"
	resultFailure  = "failure"
)

// Metrics count what all tunnels of a process do. It's safe for concurrent use
// and satisfies prometheus.Collector.
type Metrics struct {
	open        *prometheus.GaugeVec
	connections *prometheus.CounterVec
	bytes       *prometheus.CounterVec
	requests    *prometheus.CounterVec
	latency     *prometheus.HistogramVec
	dials       *prometheus.CounterVec
}

// NewMetrics returns metrics that nobody shows yet.
func NewMetrics() *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, append([]string{"service"}, labels...))
	}
	return &Metrics{
		open: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "rollcall_tunnel_connections", Help: "Connections of clients that are open.",
		}, []string{"service"}),
		connections: counter("rollcall_tunnel_connections_total", "Connections of clients: accepted, or turned away because of the limit or of the client's user.", "result"),
		bytes:       counter("rollcall_tunnel_bytes_total", "Bytes of clients, sent to the application and received from it.", "direction"),
		requests:    counter("rollcall_tunnel_requests_total", "HTTP requests by the class of the answer's status; local_STATUS are answers of the tunnel itself.", "code"),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "rollcall_tunnel_upstream_seconds",
			Help:    "From sending a request to the header of the application's answer.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"service"}),
		dials: counter("rollcall_tunnel_dials_total", "Connections to Teleport's proxy.", "result"),
	}
}

func (m *Metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.open, m.connections, m.bytes, m.requests, m.latency, m.dials}
}

// Describe sends what there is.
func (m *Metrics) Describe(out chan<- *prometheus.Desc) {
	for _, c := range m.collectors() {
		c.Describe(out)
	}
}

// Collect sends the counts as they are now.
func (m *Metrics) Collect(out chan<- prometheus.Metric) {
	for _, c := range m.collectors() {
		c.Collect(out)
	}
}

// counts are the metrics of one service.
type counts struct {
	open                      prometheus.Gauge
	accepted, limited, denied prometheus.Counter
	sent, received            prometheus.Counter
	latency                   prometheus.Observer
	dialled, dialFailed       prometheus.Counter
	requests                  *prometheus.CounterVec
	service                   string
	// classes are the counters of the application's answers, by the first
	// digit of the status.
	classes [6]prometheus.Counter
}

// of returns the counts of one service; they exist at zero from then on.
func (m *Metrics) of(service string) *counts {
	c := &counts{
		open:       m.open.WithLabelValues(service),
		accepted:   m.connections.WithLabelValues(service, resultAccepted),
		limited:    m.connections.WithLabelValues(service, resultLimit),
		denied:     m.connections.WithLabelValues(service, resultPeer),
		sent:       m.bytes.WithLabelValues(service, "sent"),
		received:   m.bytes.WithLabelValues(service, "received"),
		latency:    m.latency.WithLabelValues(service),
		dialled:    m.dials.WithLabelValues(service, resultSuccess),
		dialFailed: m.dials.WithLabelValues(service, resultFailure),
		requests:   m.requests,
		service:    service,
	}
	for class := 1; class < len(c.classes); class++ {
		c.classes[class] = m.requests.WithLabelValues(service, fmt.Sprintf("%dxx", class))
	}
	return c
}

// answered counts a request by the status that the client got. own says that
// the answer is the tunnel's.
func (c *counts) answered(status int, own bool) {
	class := status / 100
	switch {
	case own && http.StatusText(status) != "":
		c.requests.WithLabelValues(c.service, fmt.Sprintf("local_%d", status)).Inc()
	case class >= 1 && class < len(c.classes):
		c.classes[class].Inc()
	default:
		c.requests.WithLabelValues(c.service, "other").Inc()
	}
}

func (c *counts) waited(since time.Time) { c.latency.Observe(time.Since(since).Seconds()) }
