package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gravitational/teleport/api/client"
	"github.com/gravitational/teleport/api/types"

	"rollcall/e2e/harness"
)

// dockerHost is the Engine of this machine.
const dockerHost = harness.Engine

// examplePrefix begins the names that the example's polling registers, so that
// both can register the same containers side by side.
const examplePrefix = "example-"

// latencies starts containers one by one, and measures how long it takes until
// each is listed: by rollcall, and by polling as the guide's example does it.
func (d *discoveryStage) latencies() (rollcall, example latency) {
	engine := d.suite.Docker(d.t)
	image := engine.WebImage("bench")
	name := "bench-docker"
	d.configure(service(name, fmt.Sprintf("source: {type: docker, host: '%s', filters: {ancestor: ['%s']}, port: 15672}", dockerHost, image)))
	d.employ(name)
	p := d.cluster.Rollcall(d.t, "start", "-c", d.config)
	d.awaitService(p, name)

	ctx, cancel := context.WithCancel(d.t.Context())
	var background sync.WaitGroup
	poller := &examplePoller{admin: d.cluster.Client(d.t), image: image}
	background.Go(func() { poller.run(ctx) })
	watch := &listing{admin: d.cluster.Client(d.t), first: map[string]time.Time{}}
	background.Go(func() { watch.run(ctx) })
	defer background.Wait()
	defer cancel()

	prefix := harness.Unique(d.t, "bench")
	started := map[string]time.Time{}
	for i := range d.size.containers {
		// The times between two starts mustn't beat with the polling.
		if !pause(ctx, time.Duration(rand.IntN(200))*time.Millisecond) {
			d.t.FailNow()
		}
		c := engine.Start(harness.Container{Image: image, Name: fmt.Sprintf("%s-%03d", prefix, i)})
		begun, err := time.Parse(time.RFC3339Nano, c.Inspect("{{.State.StartedAt}}"))
		if err != nil {
			d.t.Fatalf("the container's start: %v", err)
		}
		started[c.Name] = begun
	}
	p.WaitFor(d.t, patience, "all containers", func() error {
		for name := range started {
			if !watch.has(name) || !watch.has(examplePrefix+name) {
				return fmt.Errorf("%s isn't there", name)
			}
		}
		return nil
	})
	var ours, theirs []float64
	for name, begun := range started {
		ours = append(ours, watch.at(name).Sub(begun).Seconds())
		theirs = append(theirs, watch.at(examplePrefix+name).Sub(begun).Seconds())
	}
	p.Terminate(d.t)
	d.clear()
	rollcall, example = summarizeLatency(ours), summarizeLatency(theirs)
	d.say("%d containers, start to listed: median %.0f ms, p99 %.0f ms; the example's polling: %.0f ms, %.0f ms",
		len(ours), rollcall.Median*1000, rollcall.P99*1000, example.Median*1000, example.P99*1000)
	return rollcall, example
}

func summarizeLatency(values []float64) latency {
	sorted := slices.Sorted(slices.Values(values))
	return latency{Median: median(sorted), P99: sorted[(len(sorted)*99-1)/100], Max: sorted[len(sorted)-1]}
}

// listing notes when the Auth Service lists an application first.
type listing struct {
	admin *client.Client

	mu    sync.Mutex // protects the following
	first map[string]time.Time
}

func (l *listing) run(ctx context.Context) {
	for pause(ctx, 10*time.Millisecond) {
		apps, err := l.admin.GetApps(ctx)
		if err != nil {
			continue // the next one may tell
		}
		now := time.Now()
		l.mu.Lock()
		for _, app := range apps {
			if _, known := l.first[app.GetName()]; !known {
				l.first[app.GetName()] = now
			}
		}
		l.mu.Unlock()
	}
}

func (l *listing) at(name string) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.first[name]
}

func (l *listing) has(name string) bool { return !l.at(name).IsZero() }

// examplePoller registers containers the way the example of Teleport's guide
// "Automatically register resources" does: every five seconds it lists the
// containers of an image, looks at each, lists what is registered, and registers
// what is missing. It's quicker than the example, which starts an Application
// Service container for each and waits for it to join; this one makes one call.
type examplePoller struct {
	admin *client.Client
	image string
}

// exampleInterval is the example's.
const exampleInterval = 5 * time.Second

func (e *examplePoller) run(ctx context.Context) {
	for pause(ctx, exampleInterval) {
		_ = e.poll(ctx) // the example panics here; the next poll tries again
	}
}

func (e *examplePoller) poll(ctx context.Context) error {
	filters, err := json.Marshal(map[string][]string{"ancestor": {e.image}, "status": {"running"}})
	if err != nil {
		return err
	}
	var containers []struct{ ID string }
	if err := e.docker(ctx, "/containers/json?filters="+url.QueryEscape(string(filters)), &containers); err != nil {
		return err
	}
	apps, err := e.admin.GetApps(ctx)
	if err != nil {
		return err
	}
	registered := map[string]bool{}
	for _, app := range apps {
		registered[app.GetName()] = true
	}
	for _, c := range containers {
		var found struct {
			Name            string
			NetworkSettings struct{ IPAddress string }
		}
		if err := e.docker(ctx, "/containers/"+c.ID+"/json", &found); err != nil {
			return err
		}
		name := examplePrefix + strings.TrimPrefix(found.Name, "/")
		if registered[name] {
			continue
		}
		app, err := types.NewAppV3(types.Metadata{Name: name}, types.AppSpecV3{URI: "http://" + found.NetworkSettings.IPAddress + ":15672"})
		if err != nil {
			return err
		}
		if err := e.admin.CreateApp(ctx, app); err != nil {
			return err
		}
	}
	return nil
}

// docker asks the Engine.
func (e *examplePoller) docker(ctx context.Context, path string, into any) error {
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", strings.TrimPrefix(dockerHost, "unix://"))
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://docker"+path, nil)
	if err != nil {
		return err
	}
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", path, response.Status)
	}
	return json.NewDecoder(response.Body).Decode(into)
}
