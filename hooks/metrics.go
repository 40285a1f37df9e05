package hooks

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// Results, as metrics have them.
const (
	resultSuccess = "success"
	resultFailure = "failure"
	resultTimeout = "timeout"
)

// Metrics count the runs of all hooks of an agent. It's safe for concurrent use
// and satisfies prometheus.Collector.
type Metrics struct {
	runs     *prometheus.CounterVec
	duration *prometheus.HistogramVec
}

// NewMetrics returns metrics that nobody shows yet.
func NewMetrics() *Metrics {
	return &Metrics{
		runs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rollcall_hook_runs_total",
			Help: "Runs of hooks, by what came of them: success, failure or timeout.",
		}, []string{"output", "hook", "result"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "rollcall_hook_duration_seconds",
			Help:    "How long hooks took, failed ones included.",
			Buckets: []float64{.01, .05, .1, .5, 1, 5, 10, 30, 120},
		}, []string{"output", "hook"}),
	}
}

// Describe sends what there is.
func (m *Metrics) Describe(out chan<- *prometheus.Desc) {
	m.runs.Describe(out)
	m.duration.Describe(out)
}

// Collect sends the counts as they are now.
func (m *Metrics) Collect(out chan<- prometheus.Metric) {
	m.runs.Collect(out)
	m.duration.Collect(out)
}

// announce makes a hook's counters exist at zero.
func (m *Metrics) announce(output string, t task) {
	for _, result := range []string{resultSuccess, resultFailure, resultTimeout} {
		m.runs.WithLabelValues(output, t.label, result)
	}
}

func (m *Metrics) count(output string, r Result) {
	m.runs.WithLabelValues(output, r.Hook, r.word()).Inc()
	m.duration.WithLabelValues(output, r.Hook).Observe(r.Took.Seconds())
}

func (r Result) word() string {
	switch {
	case r.Err == nil:
		return resultSuccess
	case errors.Is(r.Err, errTimeout):
		return resultTimeout
	default:
		return resultFailure
	}
}
