package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"rollcall/e2e/harness"
)

// renewal starts a daemon with this many outputs, and measures their first
// issue (join included) and a renewal of all by SIGHUP. The application
// sessions have their default life; that's what a renewal saves.
func (s *stage) renewal(size int) renewal {
	var first, renewed, again []float64
	for range s.opts.runs(size, false) {
		f, r, a := s.renewOnce(size)
		first, renewed, again = append(first, f), append(renewed, r), append(again, a)
	}
	return renewal{Outputs: size, First: median(first), Renewed: median(renewed), RenewalCPU: median(again)}
}

// renewOnce returns the seconds of the first issue and of the renewal, and the
// CPU seconds of the renewal.
func (s *stage) renewOnce(size int) (first, renewed, cpu float64) {
	config, dir := s.config(size, unsettled)
	defer os.RemoveAll(dir)
	links := s.outputs(dir, "..data", size)
	s.calm()
	begun := time.Now()
	p := s.cluster.Rollcall(s.t, "start", "-c", config)
	before := s.versions(p, links, make([]string, size))
	first = time.Since(begun).Seconds()

	s.calm()
	used := s.cpuTime(p.PID)
	begun = time.Now()
	p.Signal(s.t, syscall.SIGHUP)
	s.versions(p, links, before)
	renewed = time.Since(begun).Seconds()
	cpu = (s.cpuTime(p.PID) - used).Seconds()
	p.Terminate(s.t)
	s.say("%d outputs, daemon: first issue %.2f s, renewal %.2f s, CPU of the renewal %.2f s", size, first, renewed, cpu)
	return first, renewed, cpu
}

// versions waits until every link leads to another version than before, and
// returns the versions. Only links that haven't changed yet are read again.
func (s *stage) versions(p *harness.Process, links, before []string) []string {
	after := make([]string, len(links))
	left := make([]int, len(links))
	for i := range links {
		left[i] = i
	}
	p.WaitFor(s.t, patience, "all outputs", func() error {
		left = slices.DeleteFunc(left, func(i int) bool {
			target, err := os.Readlink(links[i])
			after[i] = target
			return err == nil && target != before[i]
		})
		if len(left) > 0 {
			return fmt.Errorf("%d outputs are missing", len(left))
		}
		return nil
	})
	return after
}

// idle measures the memory of both agents as daemons with one output, some
// time after it was written.
func (s *stage) idle() idle {
	result := idle{AfterSeconds: 15}
	if s.opts.quick {
		result.AfterSeconds = 3
	}
	result.Rollcall = s.idleOf(s.suite.Bin.Rollcall, result.AfterSeconds)
	if s.opts.peer {
		tbot := s.idleOf(s.suite.Bin.Tbot, result.AfterSeconds)
		result.Tbot = &tbot
	}
	return result
}

func (s *stage) idleOf(path string, seconds int) memory {
	config, dir := s.config(1, "")
	p := s.cluster.Run(s.t, harness.Command{Path: path, Args: []string{"start", "-c", config}})
	p.WaitFor(s.t, patience, "the output", func() error {
		// The official agent writes the CAs last, ours all at once.
		for _, name := range []string{"tlscert", "teleport-database-ca.crt"} {
			info, err := os.Stat(filepath.Join(dir, "out", s.apps[0], name))
			if err != nil {
				return err
			}
			if info.Size() == 0 {
				return errors.New("empty")
			}
		}
		return nil
	})
	if !pause(s.t.Context(), time.Duration(seconds)*time.Second) {
		s.t.FailNow()
	}
	now, peak := p.Memory(s.t)
	p.Kill()
	s.say("idle, 1 output, %s: %.1f MiB, peak %.1f MiB", filepath.Base(path), mib(now), mib(peak))
	return memory{NowMiB: mib(now), PeakMiB: mib(peak)}
}
