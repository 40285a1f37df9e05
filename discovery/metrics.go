package discovery

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rollcall/discovery/plan"
)

// Metrics are those of all discovery services of an agent. Their labels are
// bounded: the service, and words of ours. It's safe for concurrent use and
// satisfies prometheus.Collector.
type Metrics struct {
	discovered, registered, drift           *prometheus.GaugeVec
	conflicts, misleading, frozen, lastSync *prometheus.GaugeVec
	blocked                                 *prometheus.GaugeVec
	writes, rereads                         *prometheus.CounterVec
	duration                                *prometheus.HistogramVec
}

// NewMetrics returns metrics that nobody shows yet.
func NewMetrics() *Metrics {
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "rollcall_discovery_" + name, Help: help}, append([]string{"service"}, labels...))
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "rollcall_discovery_" + name, Help: help}, append([]string{"service"}, labels...))
	}
	return &Metrics{
		discovered: gauge("discovered", "Workloads that ask for a resource."),
		registered: gauge("registered", "Registered resources that belong to the service."),
		drift:      gauge("drift", "Changes that the last comparison found to be due."),
		conflicts:  gauge("conflicts", "Workloads whose name or public address is taken, or claimed by another, too."),
		misleading: gauge("misleading", "Registered resources that stay although another workload has their address now, or another resource their public address."),
		frozen:     gauge("deletions_frozen", "1 while the deletion budget waits for an approval."),
		lastSync:   gauge("last_good_sync_timestamp_seconds", "When the last comparison was completed, as a Unix time."),
		blocked:    gauge("blocked_deletions", "Resources that nobody asks for and that a gate protects, by the gate.", "gate"),
		writes:     counter("writes_total", "Writes to Teleport, by operation and what came of them.", "op", "outcome"),
		rereads:    counter("reread_stops_total", "Writes that weren't done because the resource had changed since it was listed."),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "rollcall_discovery_plan_duration_seconds", Help: "How long making a plan took, without reading and applying.",
			Buckets: []float64{.0001, .0005, .001, .005, .01, .05, .1, .5, 1},
		}, []string{"service"}),
	}
}

func (m *Metrics) all() []prometheus.Collector {
	return []prometheus.Collector{
		m.discovered, m.registered, m.drift, m.conflicts, m.misleading, m.frozen, m.lastSync, m.blocked, m.writes, m.rereads, m.duration,
	}
}

// Describe sends what there is.
func (m *Metrics) Describe(out chan<- *prometheus.Desc) {
	for _, c := range m.all() {
		c.Describe(out)
	}
}

// Collect sends the values as they are now.
func (m *Metrics) Collect(out chan<- prometheus.Metric) {
	for _, c := range m.all() {
		c.Collect(out)
	}
}

// announce makes a service's counters exist at zero.
func (m *Metrics) announce(service string) {
	for _, op := range []plan.Op{plan.OpCreate, plan.OpUpdate, plan.OpDelete} {
		for _, word := range words() {
			m.writes.WithLabelValues(service, string(op), word)
		}
	}
	for _, gate := range deletionGates() {
		m.blocked.WithLabelValues(service, string(gate))
	}
	m.rereads.WithLabelValues(service)
	m.frozen.WithLabelValues(service)
}

// deletionGates are the gates that a plan counts; the reread has a counter of
// its own.
func deletionGates() []plan.Gate {
	gates := plan.Gates()
	return gates[:len(gates)-1]
}

func (m *Metrics) planned(service string, p plan.Plan, took time.Duration) {
	m.discovered.WithLabelValues(service).Set(float64(p.Wanted))
	m.registered.WithLabelValues(service).Set(float64(p.Owned - p.Pending))
	m.drift.WithLabelValues(service).Set(float64(p.Count(plan.OpCreate) + p.Count(plan.OpUpdate) + p.Count(plan.OpDelete)))
	m.conflicts.WithLabelValues(service).Set(float64(p.Conflicts()))
	m.misleading.WithLabelValues(service).Set(float64(p.Misleading()))
	for _, gate := range deletionGates() {
		m.blocked.WithLabelValues(service, string(gate)).Set(float64(p.Blocked[gate]))
	}
	frozen := 0.0
	if p.Budget.Frozen {
		frozen = 1
	}
	m.frozen.WithLabelValues(service).Set(frozen)
	m.duration.WithLabelValues(service).Observe(took.Seconds())
}

// applied notes what is registered after a good cycle.
func (m *Metrics) applied(service string, p plan.Plan, result Result, pending int, at time.Time) {
	m.registered.WithLabelValues(service).Set(float64(p.Owned + result.Created - result.Deleted - pending))
	m.conflicts.WithLabelValues(service).Set(float64(p.Conflicts() + len(result.taken())))
	m.lastSync.WithLabelValues(service).Set(float64(at.UnixMilli()) / 1000)
}

func (m *Metrics) wrote(service string, op plan.Op, word string) {
	m.writes.WithLabelValues(service, string(op), word).Inc()
}

func (m *Metrics) reread(service string) { m.rereads.WithLabelValues(service).Inc() }
