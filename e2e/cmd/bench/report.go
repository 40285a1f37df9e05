package main

import (
	"encoding/json"
	"io"
	"slices"

	"rollcall/e2e/harness"
)

// report is everything that was measured. Times are seconds. What wasn't
// measured (--only) is left out.
type report struct {
	Environment environment   `json:"environment"`
	Oneshot     []row         `json:"oneshot,omitempty"`
	Renewal     renewal       `json:"renewal,omitzero"`
	Idle        idle          `json:"idle,omitzero"`
	Binary      binaries      `json:"binary_bytes,omitzero"`
	Tunnel      *tunnelReport `json:"tunnel,omitempty"`
	// Discovery is nil if it wasn't measured.
	Discovery *discoveryFigures `json:"discovery,omitempty"`
	Aims      []aim             `json:"aims"`
}

type environment struct {
	Time     string `json:"time"`
	Rollcall string `json:"rollcall"`
	Teleport string `json:"teleport"`
	Go       string `json:"go"`
	System   string `json:"system"`
	Cores    int    `json:"cores"`
	// Load is the machine's load average over a minute, at the beginning.
	Load         string `json:"load"`
	PollMS       int64  `json:"backend_poll_ms"`
	Applications int    `json:"applications"`
}

// row is one number of outputs.
type row struct {
	Outputs  int     `json:"outputs"`
	Rollcall summary `json:"rollcall"`
	// Settled is rollcall with its default settle time.
	Settled summary `json:"rollcall_settled"`
	// Tbot is nil if it wasn't measured.
	Tbot *summary `json:"tbot,omitempty"`
	// Bare is the bare loop with four requests at once.
	Bare       summary `json:"bare_loop"`
	BareSerial summary `json:"bare_loop_serial"`
}

// sample is one run.
type sample struct {
	Wall    float64 `json:"wall"`
	CPU     float64 `json:"cpu"`
	PeakMiB float64 `json:"peak_mib"`
}

// summary is the median of some runs, each column by itself, and the extremes
// of their wall times.
type summary struct {
	sample
	Runs    int     `json:"runs"`
	MinWall float64 `json:"min_wall"`
	MaxWall float64 `json:"max_wall"`
}

// renewal is a daemon's first issue against its renewal.
type renewal struct {
	Outputs    int     `json:"outputs"`
	First      float64 `json:"first_issue"`
	Renewed    float64 `json:"renewal"`
	RenewalCPU float64 `json:"renewal_cpu"`
}

// idle is a daemon's memory some seconds after its output was written.
type idle struct {
	AfterSeconds int     `json:"after_seconds"`
	Rollcall     memory  `json:"rollcall"`
	Tbot         *memory `json:"tbot,omitempty"`
}

type memory struct {
	NowMiB  float64 `json:"now_mib"`
	PeakMiB float64 `json:"peak_mib"`
}

type binaries struct {
	Rollcall int64 `json:"rollcall"`
	Tbot     int64 `json:"tbot"`
}

func newSample(r harness.Result) sample {
	return sample{Wall: r.Wall.Seconds(), CPU: r.CPU().Seconds(), PeakMiB: mib(r.MaxRSS)}
}

func summarize(samples []sample) summary {
	column := func(of func(sample) float64) []float64 {
		values := make([]float64, 0, len(samples))
		for _, s := range samples {
			values = append(values, of(s))
		}
		return values
	}
	walls := column(func(s sample) float64 { return s.Wall })
	return summary{
		Runs: len(samples), MinWall: slices.Min(walls), MaxWall: slices.Max(walls),
		sample: sample{
			Wall:    median(walls),
			CPU:     median(column(func(s sample) float64 { return s.CPU })),
			PeakMiB: median(column(func(s sample) float64 { return s.PeakMiB })),
		},
	}
}

// median of at least one value.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }

func (r *report) writeJSON(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(r)
}
