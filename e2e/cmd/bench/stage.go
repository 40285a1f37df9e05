package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"rollcall/e2e/harness"
)

const (
	// poll is the backend's: how far the cluster's caches lag.
	poll = 50 * time.Millisecond
	// patience is how long one run may take. The official agent with 200
	// outputs needs more than two minutes.
	patience = 15 * time.Minute
	role     = "bench-access"
)

// stage is the cluster with its applications, and what was asked for.
type stage struct {
	t        harness.T
	suite    *harness.Suite
	cluster  *harness.Cluster
	opts     options
	progress io.Writer
	apps     []string
	// app is the one behind the tunnels.
	app  harness.App
	bots int
}

// newStage starts a cluster with as many applications as the largest run needs.
func newStage(t harness.T, suite *harness.Suite, opts options, progress io.Writer) *stage {
	s := &stage{t: t, suite: suite, opts: opts, progress: progress}
	s.cluster = suite.NewCluster(t, harness.ClusterOptions{Poll: poll})
	if slices.Equal(opts.only, []string{partDiscovery}) {
		return s
	}
	for i := range opts.sizes[len(opts.sizes)-1] {
		s.apps = append(s.apps, fmt.Sprintf("bench-%03d", i))
	}
	s.say("a cluster with %d applications", len(s.apps))
	s.cluster.CreateApps(t, s.apps, harness.SampleApp(t).URL, map[string]string{"team": "bench"})
	s.cluster.CreateAppRole(t, role, map[string]string{"team": "bench"})
	return s
}

func (s *stage) say(format string, args ...any) {
	fmt.Fprintf(s.progress, "bench: "+format+"\n", args...)
}

// bot makes a fresh bot: a token joins once.
func (s *stage) bot() harness.Bot {
	s.bots++
	return s.cluster.CreateBot(s.t, fmt.Sprintf("bench-%d", s.bots), role)
}

// config is a configuration of either agent, with a fresh bot and a fresh
// directory that's returned with it. extra are further lines.
func (s *stage) config(size int, extra string) (path, dir string) {
	dir = s.suite.Dir(s.t)
	var b strings.Builder
	fmt.Fprintf(&b, `version: v2
auth_server: %s
onboarding: {join_method: token, token: %s}
storage: {type: directory, path: %s}
%soutputs:
`, s.cluster.Info().ProxyAddr, s.bot().Token, filepath.Join(dir, "storage"), extra)
	for _, app := range s.apps[:size] {
		fmt.Fprintf(&b, "  - {type: application, app_name: %s, destination: {type: directory, path: %s}}\n",
			app, filepath.Join(dir, "out", app))
	}
	return s.suite.WriteFile(s.t, "bench.yaml", b.String()), dir
}

// outputs are the paths of one file of every output below dir.
func (s *stage) outputs(dir, name string, size int) []string {
	paths := make([]string, 0, size)
	for _, app := range s.apps[:size] {
		paths = append(paths, filepath.Join(dir, "out", app, name))
	}
	return paths
}

// written fails unless every output below dir has its certificate.
func (s *stage) written(dir string, size int) {
	for _, path := range s.outputs(dir, "tlscert", size) {
		if info, err := os.Stat(path); err != nil || info.Size() == 0 {
			s.t.Fatalf("an output wasn't written: %v", err)
		}
	}
}

// calm waits until the cluster has nothing to do: it makes RSA keys in advance
// after they were used, and a run must not pay for the one before it.
func (s *stage) calm() {
	pid := s.cluster.Process().PID
	const span = 200 * time.Millisecond
	deadline := time.Now().Add(20 * time.Second)
	for before := s.cpuTime(pid); ; {
		if !pause(s.t.Context(), span) {
			s.t.FailNow()
		}
		now := s.cpuTime(pid)
		if now-before <= span/10 || time.Now().After(deadline) {
			return
		}
		before = now
	}
}

// clockTick is the unit of times in /proc: USER_HZ is 100 on Linux.
const clockTick = 10 * time.Millisecond

// cpuTime is what a process has used so far.
func (s *stage) cpuTime(pid int) time.Duration {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		s.t.Fatalf("the cluster's CPU time: %v", err)
	}
	_, rest, _ := strings.Cut(string(content), ") ")
	fields := strings.Fields(rest) // from field 3 on: user is 14, system 15
	if len(fields) < 13 {
		s.t.Fatalf("the cluster's CPU time: %q", content)
	}
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * clockTick
}

// pause sleeps, and says whether ctx still lives.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// environment describes the machine and the cluster.
func (s *stage) environment() environment {
	pong, err := s.cluster.Client(s.t).Ping(s.t.Context())
	if err != nil {
		s.t.Fatalf("ping the cluster: %v", err)
	}
	e := environment{
		Teleport: pong.ServerVersion, Go: runtime.Version(), Cores: runtime.NumCPU(),
		System: runtime.GOOS + "/" + runtime.GOARCH, PollMS: poll.Milliseconds(), Applications: len(s.apps),
		Time: time.Now().UTC().Format(time.RFC3339),
	}
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		e.Load, _, _ = strings.Cut(string(load), " ")
	}
	version := s.suite.Start(s.t, harness.Command{Path: s.suite.Bin.Rollcall, Args: []string{"version"}})
	version.Succeed(s.t)
	e.Rollcall = strings.TrimSpace(version.Stdout.String())
	return e
}

// binaries are the sizes of the stripped binaries.
func (s *stage) binaries() binaries {
	size := func(path string) int64 {
		info, err := os.Stat(path)
		if err != nil {
			s.t.Fatalf("size: %v", err)
		}
		return info.Size()
	}
	return binaries{Rollcall: size(s.suite.Bin.Rollcall), Tbot: size(s.suite.Bin.Tbot)}
}
