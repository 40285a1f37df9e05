package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"github.com/gravitational/teleport/api/types"
	"golang.org/x/sync/errgroup"

	"rollcall/e2e/harness"
)

// converge measures how long many new resources take, and the bare loop of the
// API beside it.
func (d *discoveryStage) converge() convergence {
	c := convergence{Resources: d.size.resources}
	c.Serial = d.bareCreates(1)
	c.AtOnce = d.bareCreates(16)
	c.Default = d.convergeOnce("default")
	c.Unlimited = d.convergeOnce("unlimited", "concurrency: 16", "rate: 5000")
	return c
}

// convergeOnce has an agent that runs find the resources in its inventory.
func (d *discoveryStage) convergeOnce(name string, more ...string) float64 {
	path := filepath.Join(d.dir, name+".yaml")
	d.inventory(path, name, 0)
	d.configure(service(name, append(more, fmt.Sprintf("source: {type: file, path: %s}", path))...))
	d.employ(name)
	p := d.cluster.Rollcall(d.t, "start", "-c", d.config)
	d.awaitService(p, name)
	d.calm()

	begun := time.Now()
	d.inventory(path, name, d.size.resources)
	p.WaitFor(d.t, patience, "all resources", func() error {
		if n := d.listed(name); n < d.size.resources {
			return fmt.Errorf("%d of %d", n, d.size.resources)
		}
		return nil
	})
	took := time.Since(begun).Seconds()
	p.Terminate(d.t)
	d.clear()
	d.say("%d new resources, %s: %.2f s", d.size.resources, name, took)
	return took
}

// awaitService waits until a service has compared once.
func (d *discoveryStage) awaitService(p *harness.Process, name string) {
	p.WaitFor(d.t, patience, "the service "+name, func() error {
		status := d.cluster.Rollcall(d.t, "status", "-c", d.config, "--format", "json")
		status.Wait(d.t)
		if !regexp.MustCompile(`"name": "` + name + `",\s+"kind": "[a-z]+",\s+"state": "ready"`).MatchString(status.Stdout.String()) {
			return errors.New("it isn't ready")
		}
		return nil
	})
}

// bareCreates creates the same resources by calls of the API and nothing else.
func (d *discoveryStage) bareCreates(atOnce int) float64 {
	admin := d.cluster.Client(d.t)
	d.calm()
	group, ctx := errgroup.WithContext(d.t.Context())
	group.SetLimit(atOnce)
	begun := time.Now()
	for i := range d.size.resources {
		group.Go(func() error {
			app, err := types.NewAppV3(types.Metadata{Name: fmt.Sprintf("bare-%04d", i), Labels: map[string]string{"env": "bench"}},
				types.AppSpecV3{URI: "http://127.0.0.1:8080"})
			if err != nil {
				return err
			}
			return admin.CreateApp(ctx, app)
		})
	}
	if err := group.Wait(); err != nil {
		d.t.Fatalf("bare loop: %v", err)
	}
	took := time.Since(begun).Seconds()
	d.say("%d new resources, bare loop, %d at once: %.2f s", d.size.resources, atOnce, took)
	d.clear()
	return took
}

// comparison is a full comparison of as many resources as wanted, all of which
// are as they should be, as the Go benchmark of discovery/plan measures it.
type comparison struct {
	Resources int     `json:"resources"`
	Millis    float64 `json:"milliseconds"`
	KiB       float64 `json:"kib"`
	Allocs    int     `json:"allocations"`
}

// benchmarkLine is what `go test -bench -benchmem` prints.
var benchmarkLine = regexp.MustCompile(`(?m)^` + comparisonBenchmark + `\S*\s+\d+\s+([\d.]+) ns/op\s.*?(\d+) B/op\s+(\d+) allocs/op`)

const (
	comparisonBenchmark = "BenchmarkNothingToDo"
	comparisonResources = 10_000
)

func (d *discoveryStage) comparison() comparison {
	args := []string{"test", "-run", "^$", "-bench", "^" + comparisonBenchmark + "$", "-benchmem", "./discovery/plan"}
	if d.opts.quick {
		args = append(args, "-benchtime", "1x")
	}
	cmd := exec.CommandContext(d.t.Context(), "go", args...)
	cmd.Dir = d.moduleRoot()
	out, err := cmd.CombinedOutput()
	if err != nil {
		d.t.Fatalf("go test -bench: %v\n%s", err, out)
	}
	found := benchmarkLine.FindSubmatch(out)
	if found == nil {
		d.t.Fatalf("go test -bench printed no figures:\n%s", out)
	}
	number := func(i int) float64 {
		n, _ := strconv.ParseFloat(string(found[i]), 64)
		return n
	}
	c := comparison{Resources: comparisonResources, Millis: number(1) / 1e6, KiB: number(2) / 1024, Allocs: int(number(3))}
	d.say("a comparison of %d resources, nothing to do: %.1f ms, %.0f KiB, %d allocations", c.Resources, c.Millis, c.KiB, c.Allocs)
	return c
}

// moduleRoot is where the agent's own module is.
func (d *discoveryStage) moduleRoot() string {
	dir, err := os.Getwd()
	if err != nil {
		d.t.Fatalf("the module: %v", err)
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "discovery", "plan")); err == nil {
			return dir
		}
	}
	d.t.Fatalf("the agent's module isn't above the working directory: run inside the repository")
	return ""
}

// idle measures an agent that has nothing to do: many registered applications of
// two files, and the events of the Docker Engine where one answers.
func (d *discoveryStage) idle() idleDiscovery {
	half := d.size.idleResources / 2
	var services []string
	for _, name := range []string{"idle-a", "idle-b"} {
		path := filepath.Join(d.dir, name+".yaml")
		d.inventory(path, name, half)
		services = append(services, service(name, fmt.Sprintf("source: {type: file, path: %s}", path)))
	}
	names := []string{"idle-a", "idle-b"}
	if harness.HasDocker(d.t.Context()) {
		names = append(names, "idle-docker")
		services = append(services, service("idle-docker", "source: {type: docker, host: '"+dockerHost+"'}"))
	}
	d.configure(services...)
	d.employ(names...)
	p := d.cluster.Rollcall(d.t, "start", "-c", d.config)
	p.WaitFor(d.t, patience, "all resources", func() error {
		if n := d.listed("idle-"); n < 2*half {
			return fmt.Errorf("%d of %d", n, 2*half)
		}
		return nil
	})
	for _, name := range names {
		d.awaitService(p, name)
	}
	d.calm()
	used, begun := d.cpuTime(p.PID), time.Now()
	d.say("%d registered applications, idle for %s", 2*half, d.size.idle)
	if !pause(d.t.Context(), d.size.idle) {
		d.t.FailNow()
	}
	result := idleDiscovery{Registered: 2 * half, Seconds: time.Since(begun).Seconds(), CPU: (d.cpuTime(p.PID) - used).Seconds()}
	result.HourCPU = result.CPU * 3600 / result.Seconds
	result.PercentOfCore = 100 * result.CPU / result.Seconds
	now, _ := p.Memory(d.t)
	result.NowMiB = mib(now)
	p.Terminate(d.t)
	d.clear()
	d.say("idle: CPU %.2f s in %.0f s, %.1f MiB", result.CPU, result.Seconds, result.NowMiB)
	return result
}
