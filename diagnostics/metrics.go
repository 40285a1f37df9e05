package diagnostics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"rollcall/failure"
)

// Build says which build of the agent this is, for rollcall_build_info.
type Build struct {
	Version   string
	Commit    string
	GoVersion string
}

// NewRegistry returns a registry with everything that /metrics shows: the
// board's services, the build, the Go runtime and the process.
func NewRegistry(board *Board, build Build) *prometheus.Registry {
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "rollcall_build_info",
		Help: "Always 1; the labels say which build is running.",
		ConstLabels: prometheus.Labels{
			"version": build.Version, "commit": build.Commit, "goversion": build.GoVersion,
		},
	})
	info.Set(1)
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		info,
		boardCollector{board},
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return registry
}

// metrics are what has to be counted as it happens; the gauges are computed
// from the board at each scrape, so that they can't lag behind it.
type metrics struct {
	renewals *prometheus.CounterVec
	failures *prometheus.CounterVec
	duration *prometheus.HistogramVec
}

func newMetrics() *metrics {
	return &metrics{
		renewals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rollcall_renewals_total",
			Help: "Renewals that succeeded.",
		}, []string{"service"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rollcall_renewal_failures_total",
			Help: "Attempts that failed, by the kind of failure.",
		}, []string{"service", "kind"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "rollcall_renewal_duration_seconds",
			Help:    "How long attempts took, failed ones included.",
			Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 10, 30},
		}, []string{"service"}),
	}
}

// announce makes a service's counters exist at zero, so that the first
// renewal shows as an increase.
func (m *metrics) announce(name string) {
	m.renewals.WithLabelValues(name)
	m.duration.WithLabelValues(name)
}

func (m *metrics) count(name string, report Report) {
	if report.Took > 0 && !report.Unchanged {
		m.duration.WithLabelValues(name).Observe(report.Took.Seconds())
	}
	switch {
	case report.Err != nil:
		m.failures.WithLabelValues(name, failure.KindOf(report.Err).String()).Inc()
	case !report.Unchanged:
		m.renewals.WithLabelValues(name).Inc()
	}
}

// boardCollector shows a board to Prometheus.
type boardCollector struct{ board *Board }

// Describe sends nothing: what there is depends on the configured services.
func (c boardCollector) Describe(chan<- *prometheus.Desc) {}

// Collect sends the counters and the board's state as it is now.
func (c boardCollector) Collect(out chan<- prometheus.Metric) {
	c.board.metrics.renewals.Collect(out)
	c.board.metrics.failures.Collect(out)
	c.board.metrics.duration.Collect(out)
	notAfter := prometheus.NewDesc("rollcall_certificate_not_after_timestamp_seconds",
		"When what the service provides ends, as a Unix time; absent: never, or nothing is there.", []string{"service"}, nil)
	consecutive := prometheus.NewDesc("rollcall_consecutive_failures",
		"Attempts that failed since the last success.", []string{"service"}, nil)
	ready := prometheus.NewDesc("rollcall_ready",
		"1 while what the service provides is there and valid.", []string{"service"}, nil)
	for _, status := range c.board.Snapshot() {
		if status.NotAfter != nil {
			out <- prometheus.MustNewConstMetric(notAfter, prometheus.GaugeValue, seconds(*status.NotAfter), status.Name)
		}
		out <- prometheus.MustNewConstMetric(consecutive, prometheus.GaugeValue, float64(status.ConsecutiveFailures), status.Name)
		out <- prometheus.MustNewConstMetric(ready, prometheus.GaugeValue, number(status.Ready), status.Name)
	}
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

func number(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
