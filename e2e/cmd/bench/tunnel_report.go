package main

import (
	"fmt"
	"io"
	"strings"
)

// tunnelReport is what was measured of the ways to an application.
type tunnelReport struct {
	// AtOnce is how many small requests were under way; Requests how many a
	// round had; BodyMiB is the size of the large bodies.
	AtOnce   int     `json:"at_once"`
	Requests int     `json:"requests"`
	BodyMiB  float64 `json:"body_mib"`
	// Direct is a Go client with mutual TLS. Tbot is nil if it wasn't measured.
	Direct   *speed `json:"direct"`
	Rollcall *speed `json:"rollcall"`
	Tbot     *speed `json:"tbot,omitempty"`
}

// speed is one way's, each figure of speed the median of the rounds by itself.
type speed struct {
	Rounds    int     `json:"rounds"`
	PerSecond float64 `json:"requests_per_second"`
	P50       float64 `json:"p50_ms"`
	P99       float64 `json:"p99_ms"`
	// Down and Up are MiB per second.
	Down float64 `json:"down_mib_per_second"`
	Up   float64 `json:"up_mib_per_second"`
	// CPU is what the local proxy used for one small request, in milliseconds,
	// and LargeCPU for a GiB of large bodies, in seconds. They're means, since
	// the kernel counts in hundredths of a second. Without a proxy they're zero.
	CPU      float64 `json:"cpu_ms_per_request,omitempty"`
	LargeCPU float64 `json:"cpu_seconds_per_gib,omitempty"`
}

func medianSpeed(runs []speed) speed {
	values := func(of func(speed) float64) []float64 {
		all := make([]float64, 0, len(runs))
		for _, run := range runs {
			all = append(all, of(run))
		}
		return all
	}
	column := func(of func(speed) float64) float64 { return median(values(of)) }
	mean := func(of func(speed) float64) float64 {
		sum := 0.0
		for _, value := range values(of) {
			sum += value
		}
		return sum / float64(len(runs))
	}
	return speed{
		Rounds:    len(runs),
		PerSecond: column(func(s speed) float64 { return s.PerSecond }),
		P50:       column(func(s speed) float64 { return s.P50 }),
		P99:       column(func(s speed) float64 { return s.P99 }),
		Down:      column(func(s speed) float64 { return s.Down }),
		Up:        column(func(s speed) float64 { return s.Up }),
		CPU:       mean(func(s speed) float64 { return s.CPU }),
		LargeCPU:  mean(func(s speed) float64 { return s.LargeCPU }),
	}
}

// aims of the tunnel: nearly as quick as without it, and quicker than the
// official one.
func (r *tunnelReport) aims(add adder) {
	for _, figure := range []struct {
		what string
		of   func(*speed) float64
	}{
		{"small requests", func(s *speed) float64 { return s.PerSecond }},
		{"download", func(s *speed) float64 { return s.Down }},
		{"upload", func(s *speed) float64 { return s.Up }},
	} {
		add("tunnel, "+figure.what+", of direct", "times", 0.9, figure.of(r.Rollcall)/figure.of(r.Direct), true)
		if r.Tbot != nil {
			add("tunnel, "+figure.what+", of the official one's", "times", 1, figure.of(r.Rollcall)/figure.of(r.Tbot), true)
		}
	}
}

func (r *tunnelReport) write(b *strings.Builder) {
	fmt.Fprintf(b, "\nTo an application: %d small requests, %d at once; bodies of %.0f MiB (medians)\n", r.Requests, r.AtOnce, r.BodyMiB)
	table := newTable(b)
	fmt.Fprintln(table, "way\trounds\trequests/s\tp50\tp99\tdown\tup\tCPU a request\ta GiB\t")
	writeSpeed(table, "direct mutual TLS", r.Direct)
	writeSpeed(table, "rollcall's tunnel", r.Rollcall)
	writeSpeed(table, "tbot proxy app", r.Tbot)
	writeSpeedRatio(table, "rollcall/direct", r.Rollcall, r.Direct)
	writeSpeedRatio(table, "rollcall/tbot", r.Rollcall, r.Tbot)
	table.Flush()
}

func writeSpeed(w io.Writer, way string, s *speed) {
	if s == nil {
		return
	}
	cpu, large := "-", "-"
	if s.CPU > 0 {
		cpu, large = fmt.Sprintf("%.3f ms", s.CPU), fmt.Sprintf("%.2f s", s.LargeCPU)
	}
	fmt.Fprintf(w, "%s\t%d\t%.0f\t%.1f ms\t%.1f ms\t%.0f MiB/s\t%.0f MiB/s\t%s\t%s\t\n", way, s.Rounds, s.PerSecond, s.P50, s.P99, s.Down, s.Up, cpu, large)
}

func writeSpeedRatio(w io.Writer, what string, a, b *speed) {
	if a == nil || b == nil {
		return
	}
	fmt.Fprintf(w, "%s\t\t%.2f\t%.2f\t%.2f\t%.2f\t%.2f\t\n", what,
		a.PerSecond/b.PerSecond, a.P50/b.P50, a.P99/b.P99, a.Down/b.Down, a.Up/b.Up)
}
