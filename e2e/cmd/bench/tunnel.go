package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"rollcall/e2e/harness"
)

const (
	// atOnce is how many small requests are under way at a time.
	atOnce = 16
	// webApp is the application behind the tunnels.
	webApp = "bench-web"
)

// tunnelLoad is how much one round of the tunnel's measurements is.
type tunnelLoad struct {
	rounds, requests int
	body             int64
}

func (o options) tunnelLoad() tunnelLoad {
	// Many short rounds: what else the machine does is then in all of them. But each
	// figure takes about a second: less of it would be chance's.
	l := tunnelLoad{rounds: 18, requests: 3000, body: 256 << 20}
	if o.quick {
		l = tunnelLoad{rounds: 1, requests: 500, body: 32 << 20}
	}
	if o.repeat > 0 {
		l.rounds = o.repeat
	}
	return l
}

// way is one way to the application.
type way struct {
	name string
	load *load
	into **speed
	// pid is the local proxy's process, 0: there's none.
	pid  int
	runs []speed
}

// tunnel measures the same requests by several ways: directly with mutual TLS,
// through rollcall's application-tunnel, and through the official agent's
// local proxy. They take turns, so that what disturbs the machine disturbs all
// alike.
func (s *stage) tunnel() *tunnelReport {
	size := s.opts.tunnelLoad()
	r := &tunnelReport{AtOnce: atOnce, Requests: size.requests, BodyMiB: mib(size.body)}
	app := harness.NewWebApp(s.t)
	s.app = s.cluster.CreateApp(s.t, webApp, app.URL, map[string]string{"team": "bench"})
	dir, address, pid := s.startTunnel()
	ways := []*way{
		{name: "direct", load: s.direct(app, dir), into: &r.Direct},
		{name: "rollcall", load: newLoad(app, "http://"+address, address, nil), into: &r.Rollcall, pid: pid},
	}
	if s.opts.peer {
		peer, pid := s.startPeer(dir)
		ways = append(ways, &way{name: "tbot proxy app", load: newLoad(app, "http://"+peer, peer, nil), into: &r.Tbot, pid: pid})
	}
	for _, w := range ways {
		s.warmUp(w)
	}
	for round := range size.rounds {
		// Who follows whom changes: what one leaves behind, such as garbage of the
		// cluster's, another pays for.
		for _, i := range rand.New(rand.NewPCG(0, uint64(round))).Perm(len(ways)) {
			w := ways[i]
			s.calm()
			run := s.speed(w, size)
			w.runs = append(w.runs, run)
			s.say("tunnel, round %d of %d, %s: %.0f requests/s, p50 %.1f ms, p99 %.1f ms, down %.0f MiB/s, up %.0f MiB/s; CPU %.2f ms a request, %.2f s a GiB",
				round+1, size.rounds, w.name, run.PerSecond, run.P50, run.P99, run.Down, run.Up, run.CPU, run.LargeCPU)
		}
	}
	for _, w := range ways {
		middle := medianSpeed(w.runs)
		*w.into = &middle
	}
	return r
}

// startTunnel starts rollcall with the tunnel, and an output for the others.
func (s *stage) startTunnel() (dir, address string, pid int) {
	address = s.freeAddress()
	dir = s.suite.Dir(s.t)
	config := fmt.Sprintf(`version: v2
auth_server: %s
onboarding: {join_method: token, token: %s}
storage: {type: directory, path: %s}
outputs:
  - {type: application, app_name: %s, destination: {type: directory, path: %s}}
services:
  - {type: application-tunnel, app_name: %s, listen: "tcp://%s"}
`, s.cluster.Info().ProxyAddr, s.bot().Token, filepath.Join(dir, "storage"), webApp, filepath.Join(dir, "out"), webApp, address)
	p := s.cluster.Rollcall(s.t, "start", "-c", s.suite.WriteFile(s.t, "bench.yaml", config))
	out := filepath.Join(dir, "out")
	p.WaitFor(s.t, time.Minute, "the output and the tunnel", func() error {
		if _, err := os.Stat(filepath.Join(out, "tlscert")); err != nil {
			return err
		}
		return listens(address)
	})
	return out, address, p.PID
}

// startPeer starts the official agent's local proxy with the output's files.
func (s *stage) startPeer(dir string) (address string, pid int) {
	address = s.freeAddress()
	_, port, _ := net.SplitHostPort(address)
	p := s.cluster.Run(s.t, harness.Command{
		Path: s.suite.Bin.Tbot,
		Args: []string{"proxy", "--destination-dir=" + dir, "--proxy=" + s.cluster.Info().ProxyAddr, "app", "--port=" + port, webApp},
		Env:  []string{"TSH=" + s.suite.Bin.Tsh},
	})
	p.WaitFor(s.t, time.Minute, "the official local proxy", func() error { return listens(address) })
	return address, p.PID
}

// direct is a Go client with the output's certificate.
func (s *stage) direct(app *harness.WebApp, dir string) *load {
	cert, err := tls.LoadX509KeyPair(filepath.Join(dir, "tlscert"), filepath.Join(dir, "key"))
	if err != nil {
		s.t.Fatalf("direct: %v", err)
	}
	ca, err := os.ReadFile(s.cluster.Info().ProxyCA)
	if err != nil {
		s.t.Fatalf("direct: %v", err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	_, port, _ := net.SplitHostPort(s.cluster.Info().ProxyAddr)
	return newLoad(app, "https://"+net.JoinHostPort(s.app.PublicAddr, port), net.JoinHostPort("127.0.0.1", port),
		&tls.Config{RootCAs: roots, Certificates: []tls.Certificate{cert}})
}

// warmUp makes the connections, and waits until the cluster knows the session.
func (s *stage) warmUp(w *way) {
	harness.Eventually(s.t, time.Minute, "the application by way of "+w.name, func() error {
		_, _, err := w.load.small(s.t.Context(), 10*atOnce)
		return err
	})
}

// speed takes all figures of one way once.
func (s *stage) speed(w *way, size tunnelLoad) speed {
	before := s.proxyTime(w)
	perSecond, took, err := w.load.small(s.t.Context(), size.requests)
	s.check(w, err)
	between := s.proxyTime(w)
	down, err := w.load.download(s.t.Context(), size.body)
	s.check(w, err)
	up, err := w.load.upload(s.t.Context(), size.body)
	s.check(w, err)
	after := s.proxyTime(w)
	return speed{
		PerSecond: perSecond, P50: percentile(took, 50), P99: percentile(took, 99), Down: down, Up: up,
		CPU:      (between - before).Seconds() * 1000 / float64(size.requests),
		LargeCPU: (after - between).Seconds() * 1024 / (2 * mib(size.body)),
	}
}

// proxyTime is the CPU time that a way's local proxy has used so far.
func (s *stage) proxyTime(w *way) time.Duration {
	if w.pid == 0 {
		return 0
	}
	total := time.Duration(0)
	for _, pid := range append(children(w.pid), w.pid) {
		total += s.cpuTime(pid)
	}
	return total
}

// children are the processes that a process has started, and that still run:
// the official agent leaves the work to one.
func children(pid int) []int {
	paths, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return nil
	}
	var all []int
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			continue // a thread that has ended
		}
		for word := range strings.FieldsSeq(string(content)) {
			if child, err := strconv.Atoi(word); err == nil {
				all = append(append(all, child), children(child)...)
			}
		}
	}
	return all
}

func (s *stage) check(w *way, err error) {
	if err != nil {
		s.t.Fatalf("%s: %v", w.name, err)
	}
}

// freeAddress is one that nobody listens at now.
func (s *stage) freeAddress() string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatalf("free port: %v", err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// listens says whether somebody takes connections.
func listens(address string) error {
	conn, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		return err
	}
	return conn.Close()
}
