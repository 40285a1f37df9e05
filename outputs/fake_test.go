package outputs

import (
	"bytes"
	"context"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rollcall/cluster"
	"rollcall/destination"
	"rollcall/diagnostics"
)

// rig is an output's surroundings in a test: a cluster with one test CA, a
// destination in memory, and a record of all that the output says.
type rig struct {
	t   *testing.T
	ca  *testCA
	cas *cluster.Authorities

	mu sync.Mutex // protects the following
	// life is the life of issued certificates; zero: what was asked for.
	life time.Duration
	// down fails every request to the cluster.
	down error
	// slow is how long issuing takes; a hanging cluster has a large one.
	slow time.Duration
	// broken and full fail Prepare and Write.
	broken, full error
	// nop makes Write say that nothing changed.
	nop      bool
	set      destination.Set
	issued   []time.Time
	requests []cluster.CertRequest
	reports  []diagnostics.Report
	changes  []Change
	log      bytes.Buffer
}

func newRig(t *testing.T) *rig {
	return &rig{t: t, ca: newTestCA(t, testCluster), cas: testAuthorities(t)}
}

func (r *rig) dependencies() Dependencies {
	return Dependencies{
		Issuer: r, Destination: r, Reporter: r,
		Log: slog.New(slog.NewTextHandler(&locked{r}, nil)),
		TTL: time.Hour, Interval: 20 * time.Minute,
		AfterWrite: func(_ context.Context, c Change) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.changes = append(r.changes, c)
		},
		// The middle: no jitter, half of the back-off.
		Random: func() float64 { return 0.5 },
	}
}

func (r *rig) application() *Application {
	r.t.Helper()
	out, err := NewApplication(ApplicationOptions{AppName: "grafana"}, r.dependencies())
	require.NoError(r.t, err)
	return out
}

// with changes the surroundings.
func (r *rig) with(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
}

func (r *rig) issue(ctx context.Context, req cluster.CertRequest, spec certSpec) (*cluster.Credentials, error) {
	r.mu.Lock()
	slow := r.slow
	r.requests = append(r.requests, req)
	r.mu.Unlock()
	select {
	case <-time.After(slow):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.issued = append(r.issued, time.Now())
	if r.down != nil {
		return nil, r.down
	}
	spec.ttl, spec.roles = req.TTL, req.Roles
	if r.life != 0 {
		spec.ttl = r.life
	}
	return r.ca.issue(spec), nil
}

func (r *rig) Application(ctx context.Context, req cluster.ApplicationRequest) (*cluster.Credentials, error) {
	return r.issue(ctx, req.CertRequest, certSpec{app: req.AppName, route: testCluster})
}

func (r *rig) Identity(ctx context.Context, req cluster.IdentityRequest) (*cluster.Credentials, error) {
	return r.issue(ctx, req.CertRequest, certSpec{route: req.Cluster})
}

func (r *rig) Authorities(context.Context) (*cluster.Authorities, error) { return r.cas, nil }

func (r *rig) Info(context.Context) (*cluster.Info, error) {
	return &cluster.Info{ClusterName: testCluster, ProxyPublicAddr: "proxy.example.com:443"}, nil
}

func (r *rig) Prepare(context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.broken
}

func (r *rig) Write(_ context.Context, set destination.Set) (destination.Result, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.full != nil {
		return destination.Result{}, r.full
	}
	if r.nop {
		return destination.Result{}, nil
	}
	r.set = set
	return destination.Result{Changed: true, Files: slices.Sorted(maps.Keys(set))}, nil
}

func (r *rig) Read(_ context.Context, name string) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if data, ok := r.set[name]; ok {
		return data, nil
	}
	return nil, fs.ErrNotExist
}

func (r *rig) String() string { return "test memory" }

func (r *rig) Report(report diagnostics.Report) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reports = append(r.reports, report)
}

// attempts returns when the cluster was asked, relative to since.
func (r *rig) attempts(since time.Time) []time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []time.Duration
	for _, at := range r.issued {
		out = append(out, at.Sub(since).Round(time.Millisecond))
	}
	return out
}

func (r *rig) lastReport() diagnostics.Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	require.NotEmpty(r.t, r.reports)
	return r.reports[len(r.reports)-1]
}

// logged returns the log's lines that hold text.
func (r *rig) logged(text string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for line := range strings.Lines(r.log.String()) {
		if strings.Contains(line, text) {
			out = append(out, line)
		}
	}
	return out
}

// locked lets the log be read while it's written.
type locked struct{ rig *rig }

func (l *locked) Write(p []byte) (int, error) {
	l.rig.mu.Lock()
	defer l.rig.mu.Unlock()
	return l.rig.log.Write(p)
}

// count returns how often the cluster was asked.
func (r *rig) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.issued)
}

// place returns what the destination holds.
func (r *rig) place() destination.Set {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.set
}

// told returns what AfterWrite was called with.
func (r *rig) told() []Change {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.changes)
}

// everything returns the whole log.
func (r *rig) everything() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.String()
}
