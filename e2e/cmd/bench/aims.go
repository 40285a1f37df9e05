package main

import "fmt"

// aim is a figure that the project wants to reach.
type aim struct {
	What string `json:"what"`
	// Unit is s, times, MiB or MB.
	Unit  string  `json:"unit"`
	Limit float64 `json:"limit"`
	// AtLeast says that more is better.
	AtLeast bool    `json:"at_least,omitempty"`
	Got     float64 `json:"got"`
	Met     bool    `json:"met"`
}

// aims compares what was measured with what is wanted. What wasn't measured is
// left out.
func (r *report) aims() []aim {
	var all []aim
	add := func(what, unit string, limit, got float64, atLeast bool) {
		met := got <= limit
		if atLeast {
			met = got >= limit
		}
		all = append(all, aim{What: what, Unit: unit, Limit: limit, AtLeast: atLeast, Got: got, Met: met})
	}
	if len(r.Oneshot) > 0 {
		r.outputAims(add)
	}
	if r.Tunnel != nil {
		r.Tunnel.aims(add)
	}
	if r.Discovery != nil {
		r.Discovery.aims(add)
	}
	return all
}

// adder adds an aim.
type adder func(what, unit string, limit, got float64, atLeast bool)

// outputAims are those of an agent that writes files.
func (r *report) outputAims(add adder) {
	for _, row := range r.Oneshot {
		switch row.Outputs {
		case 1:
			add("1 output", "s", 0.2, row.Rollcall.Wall, false)
		case 50:
			if row.Tbot != nil {
				add("50 outputs, quicker than tbot", "times", 10, row.Tbot.Wall/row.Rollcall.Wall, true)
			}
			add("50 outputs, of the bare loop's time", "times", 1.3, row.Rollcall.Wall/row.Bare.Wall, false)
			add("50 outputs, peak memory", "MiB", 45, row.Rollcall.PeakMiB, false)
		case 200:
			if row.Tbot != nil {
				add("200 outputs, quicker than tbot", "times", 14, row.Tbot.Wall/row.Rollcall.Wall, true)
			}
			add("200 outputs, of the bare loop's time", "times", 1.3, row.Rollcall.Wall/row.Bare.Wall, false)
		}
	}
	if r.Renewal.Outputs == 200 {
		add("renewal of 200 outputs, quicker than their first issue", "times", 4, r.Renewal.First/r.Renewal.Renewed, true)
	}
	if r.Binary.Rollcall > 0 {
		add("idle memory", "MiB", 35, r.Idle.Rollcall.NowMiB, false)
		add("stripped binary", "MB", 40, float64(r.Binary.Rollcall)/1e6, false)
	}
}

// aims are those of the reconciler.
func (d *discoveryFigures) aims(add adder) {
	if d.Containers > 0 {
		add("container start to listed, median", "ms", 300, 1000*d.Rollcall.Median, false)
		add("container start to listed, quicker than the example's polling", "times", 5, d.Example.Median/d.Rollcall.Median, true)
	}
	add(fmt.Sprintf("idle with %d registered applications", d.Idle.Registered), "% of a core", 0.2, d.Idle.PercentOfCore, false)
}
