package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gravitational/teleport/api/types"

	"rollcall/e2e/harness"
)

// discoveryFigures are what was measured of discovery. Times are seconds.
type discoveryFigures struct {
	// Rollcall and Example are the times from a container's start to its
	// application being listed by the Auth Service. Both watch the same
	// containers in the same run. Containers is 0 where no Engine answers.
	Containers int     `json:"containers"`
	Rollcall   latency `json:"rollcall"`
	Example    latency `json:"example_polling"`
	// Idle is what an agent uses that has nothing to do.
	Idle idleDiscovery `json:"idle"`
	// Comparison is a full comparison that finds nothing to do.
	Comparison comparison `json:"comparison"`
	// Convergence is the time for many new resources.
	Convergence convergence `json:"convergence"`
}

type latency struct {
	Median float64 `json:"median"`
	P99    float64 `json:"p99"`
	Max    float64 `json:"max"`
}

type idleDiscovery struct {
	Registered int     `json:"registered"`
	Seconds    float64 `json:"seconds"`
	CPU        float64 `json:"cpu"`
	// HourCPU is extrapolated, and PercentOfCore what that is of one core.
	HourCPU       float64 `json:"hour_cpu"`
	PercentOfCore float64 `json:"percent_of_core"`
	NowMiB        float64 `json:"now_mib"`
}

type convergence struct {
	Resources int `json:"resources"`
	// Default is rollcall with its default rate and concurrency; Unlimited has
	// 16 writes at once and no limit that matters.
	Default   float64 `json:"rollcall"`
	Unlimited float64 `json:"rollcall_unlimited"`
	// Serial and AtOnce are a bare loop of the API, one by one and 16 at once.
	Serial float64 `json:"bare_loop_serial"`
	AtOnce float64 `json:"bare_loop_16"`
}

// size is how much of discovery is measured.
type discoverySize struct {
	containers, idleResources, resources int
	idle                                 time.Duration
}

func (o options) discoverySize() discoverySize {
	if o.quick {
		return discoverySize{containers: 5, idleResources: 50, resources: 50, idle: 5 * time.Second}
	}
	return discoverySize{containers: 100, idleResources: 1000, resources: 1000, idle: 5 * time.Minute}
}

// discoveryStage is a cluster without an Application Service: nobody takes up
// what is registered, so that there can be more of it than one could bear.
type discoveryStage struct {
	*stage
	size discoverySize
	dir  string
	// token and storage are the agent's, config its file.
	token, storage, config string
}

// discovery measures everything about discovery.
func (s *stage) discovery() *discoveryFigures {
	own := *s
	own.cluster = s.suite.NewCluster(s.t, harness.ClusterOptions{Poll: poll, WithoutApps: true})
	own.apps = nil
	d := &discoveryStage{stage: &own, size: s.opts.discoverySize(), dir: s.suite.Dir(s.t)}
	d.token, d.storage = filepath.Join(d.dir, "token"), filepath.Join(d.dir, "storage")
	d.config = filepath.Join(d.dir, "rollcall.yaml")
	figures := &discoveryFigures{Containers: d.size.containers}
	figures.Comparison = d.comparison()
	figures.Convergence = d.converge()
	if harness.HasDocker(s.t.Context()) {
		figures.Rollcall, figures.Example = d.latencies()
	} else {
		figures.Containers = 0
		d.say("no Docker Engine answers at %s: the figures about containers are left out", harness.Engine)
	}
	figures.Idle = d.idle()
	return figures
}

// service is a discovery service in YAML.
func service(name string, lines ...string) string {
	return fmt.Sprintf("  - type: discovery\n    name: %s\n    %s\n", name, strings.Join(lines, "\n    "))
}

// configure writes the agent's configuration.
func (d *discoveryStage) configure(services ...string) {
	text := fmt.Sprintf(`version: v2
proxy_server: %s
onboarding: {join_method: token, token: %s}
storage: {type: directory, path: %s}
services:
%s`, d.cluster.Info().ProxyAddr, d.token, d.storage, strings.Join(services, ""))
	if err := os.WriteFile(d.config, []byte(text), 0o600); err != nil {
		d.t.Fatalf("configuration: %v", err)
	}
}

// employ makes a fresh bot with the roles that the services of the configuration
// need.
func (d *discoveryStage) employ(services ...string) {
	for _, path := range []string{d.storage, d.token} {
		if err := os.RemoveAll(path); err != nil {
			d.t.Fatalf("%s: %v", path, err)
		}
	}
	d.bots++
	bot := fmt.Sprintf("registrar-%d", d.bots)
	var roles []string
	for _, name := range services {
		p := d.cluster.Rollcall(d.t, "discovery", "roles", "-c", d.config, "--service", name, "--bot", bot, "--format", "json")
		p.Succeed(d.t)
		role := new(types.RoleV6)
		if err := json.Unmarshal([]byte(p.Stdout.String()), role); err != nil {
			d.t.Fatalf("the role that discovery roles prints: %v", err)
		}
		d.cluster.PutRole(d.t, role)
		roles = append(roles, role.GetName())
	}
	made := d.cluster.CreateBot(d.t, bot, roles...)
	if err := os.WriteFile(d.token, []byte(made.Token+"\n"), 0o600); err != nil {
		d.t.Fatalf("token: %v", err)
	}
}

// listed counts the registered applications whose names begin so.
func (d *discoveryStage) listed(prefix string) int {
	n := 0
	for _, app := range d.applications() {
		if strings.HasPrefix(app, prefix) {
			n++
		}
	}
	return n
}

func (d *discoveryStage) applications() []string {
	apps, err := d.cluster.Client(d.t).GetApps(d.t.Context())
	if err != nil {
		d.t.Fatalf("list applications: %v", err)
	}
	names := make([]string, 0, len(apps))
	for _, app := range apps {
		names = append(names, app.GetName())
	}
	return names
}

// clear deregisters everything. What was written just now may not be listed yet,
// and so be left by the first attempt.
func (d *discoveryStage) clear() {
	harness.Eventually(d.t, time.Minute, "an empty cluster", func() error {
		n := len(d.applications())
		if n == 0 {
			return nil
		}
		if err := d.cluster.Client(d.t).DeleteAllApps(d.t.Context()); err != nil {
			return err
		}
		return fmt.Errorf("%d are left", n)
	})
}

// inventory writes a file of so many applications, whole.
func (d *discoveryStage) inventory(path, prefix string, n int) {
	var b strings.Builder
	b.WriteString("resources:\n")
	for i := range n {
		fmt.Fprintf(&b, "  - {name: %s-%04d, uri: 'http://127.0.0.1:8080', labels: {env: bench}}\n", prefix, i)
	}
	if n == 0 {
		b.WriteString("  []\n")
	}
	temp := filepath.Join(d.dir, ".inventory")
	if err := os.WriteFile(temp, []byte(b.String()), 0o600); err != nil {
		d.t.Fatalf("inventory: %v", err)
	}
	if err := os.Rename(temp, path); err != nil {
		d.t.Fatalf("inventory: %v", err)
	}
}
