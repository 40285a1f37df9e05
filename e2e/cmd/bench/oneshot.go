package main

import (
	"encoding/json"
	"os"
	"strings"

	"rollcall/e2e/harness"
)

// Lines that the configuration of a rollcall run has more than tbot's.
const (
	// unsettled publishes at once, as the official agent and the bare loop do.
	unsettled = "settle_time: -1s\n"
	settled   = ""
)

// oneshot measures everybody with this many outputs: a token join of a fresh
// bot with an empty storage, all outputs written once, the end. The runs take
// turns, so that what disturbs the machine disturbs all alike.
func (s *stage) oneshot(size int) row {
	type contestant struct {
		name string
		runs int
		run  func(size int) sample
		into *summary
	}
	r := row{Outputs: size}
	contestants := []contestant{
		{"rollcall", s.opts.runs(size, false), func(n int) sample { return s.agent(s.suite.Bin.Rollcall, n, unsettled) }, &r.Rollcall},
		{"rollcall with settle time", s.opts.runs(size, false), func(n int) sample { return s.agent(s.suite.Bin.Rollcall, n, settled) }, &r.Settled},
		{"bare loop, 4 at once", s.opts.runs(size, false), func(n int) sample { return s.bare(n, 4) }, &r.Bare},
		{"bare loop, one by one", s.opts.runs(size, false), func(n int) sample { return s.bare(n, 1) }, &r.BareSerial},
	}
	if s.opts.peer {
		r.Tbot = &summary{}
		contestants = append(contestants, contestant{"tbot", s.opts.runs(size, true),
			func(n int) sample { return s.agent(s.suite.Bin.Tbot, n, "") }, r.Tbot})
	}
	samples := make([][]sample, len(contestants))
	for round := 0; ; round++ {
		busy := false
		for i, c := range contestants {
			if round >= c.runs {
				continue
			}
			busy = true
			s.calm()
			took := c.run(size)
			samples[i] = append(samples[i], took)
			s.say("%d outputs, run %d of %d, %s: %.2f s, CPU %.2f s, peak %.1f MiB",
				size, round+1, c.runs, c.name, took.Wall, took.CPU, took.PeakMiB)
		}
		if !busy {
			break
		}
	}
	for i, c := range contestants {
		*c.into = summarize(samples[i])
	}
	return r
}

// agent runs one of the two agents once.
func (s *stage) agent(path string, size int, extra string) sample {
	config, dir := s.config(size, extra)
	defer os.RemoveAll(dir)
	p := s.cluster.Run(s.t, harness.Command{Path: path, Args: []string{"start", "-c", config, "--oneshot"}, Measured: true})
	result := p.WaitAtMost(s.t, patience)
	if result.ExitCode != 0 {
		s.t.Fatalf("%s ended with exit code %d, want 0", path, result.ExitCode)
	}
	s.written(dir, size)
	return newSample(result)
}

// bare runs the bare loop once, as a process of its own.
func (s *stage) bare(size, atOnce int) sample {
	info := s.cluster.Info()
	bot := s.bot()
	work, err := json.Marshal(bareWork{
		Proxy: info.ProxyAddr, ProxyCA: info.ProxyCA, Cluster: info.ClusterName,
		Token: bot.Token, User: bot.User, Role: role, Apps: s.apps[:size], AtOnce: atOnce,
	})
	if err != nil {
		s.t.Fatalf("bare loop: %v", err)
	}
	self, err := os.Executable()
	if err != nil {
		s.t.Fatalf("bare loop: %v", err)
	}
	p := s.cluster.Run(s.t, harness.Command{
		Path: self, Args: []string{bareCommand}, Stdin: strings.NewReader(string(work)), Measured: true,
	})
	result := p.WaitAtMost(s.t, patience)
	if result.ExitCode != 0 {
		s.t.Fatalf("the bare loop ended with exit code %d, want 0", result.ExitCode)
	}
	return newSample(result)
}
