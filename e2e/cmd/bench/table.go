package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// writeTables prints everything for people.
func (r *report) writeTables(w io.Writer) error {
	var b strings.Builder
	e := r.Environment
	fmt.Fprintf(&b, "%s\nTeleport %s with %d applications, sqlite backend with %d ms poll; %d cores, %s, %s, load %s, %s\n",
		e.Rollcall, e.Teleport, e.Applications, e.PollMS, e.Cores, e.System, e.Go, e.Load, e.Time)
	if len(r.Oneshot) > 0 {
		r.writeOneshot(&b)
		r.writeRatios(&b)
		r.writeOthers(&b)
	}
	if r.Tunnel != nil {
		r.Tunnel.write(&b)
	}
	if r.Discovery != nil {
		r.Discovery.write(&b)
	}
	r.writeAims(&b)
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *report) writeOneshot(b *strings.Builder) {
	b.WriteString("\nOne-shot: token join, empty storage, every output written once (medians; min and max of the wall time)\n")
	table := newTable(b)
	fmt.Fprintln(table, "outputs\twho\truns\twall\tmin … max\tCPU\tpeak\t")
	for _, row := range r.Oneshot {
		writeSummary(table, row.Outputs, "rollcall, no settle time", &row.Rollcall)
		writeSummary(table, row.Outputs, "rollcall", &row.Settled)
		writeSummary(table, row.Outputs, "tbot", row.Tbot)
		writeSummary(table, row.Outputs, "bare loop, 4 at once", &row.Bare)
		writeSummary(table, row.Outputs, "bare loop, one by one", &row.BareSerial)
	}
	table.Flush()
}

func writeSummary(w io.Writer, outputs int, who string, s *summary) {
	if s == nil {
		return
	}
	fmt.Fprintf(w, "%d\t%s\t%d\t%.2f s\t%.2f … %.2f\t%.2f s\t%.1f MiB\t\n",
		outputs, who, s.Runs, s.Wall, s.MinWall, s.MaxWall, s.CPU, s.PeakMiB)
}

func (r *report) writeRatios(b *strings.Builder) {
	b.WriteString("\nRatios (rollcall without settle time, which tbot and the bare loop don't have)\n")
	table := newTable(b)
	fmt.Fprintln(table, "outputs\ttbot/rollcall wall\tCPU\tpeak\trollcall/bare loop wall\tsettle time adds\t")
	for _, row := range r.Oneshot {
		wall, cpu, peak := "-", "-", "-"
		if t := row.Tbot; t != nil {
			wall = fmt.Sprintf("%.1f", t.Wall/row.Rollcall.Wall)
			cpu = fmt.Sprintf("%.1f", t.CPU/row.Rollcall.CPU)
			peak = fmt.Sprintf("%.1f", t.PeakMiB/row.Rollcall.PeakMiB)
		}
		fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%.2f\t%.2f s\t\n", row.Outputs, wall, cpu, peak,
			row.Rollcall.Wall/row.Bare.Wall, row.Settled.Wall-row.Rollcall.Wall)
	}
	table.Flush()
}

func (r *report) writeOthers(b *strings.Builder) {
	n := r.Renewal
	fmt.Fprintf(b, "\nRenewal of %d outputs by SIGHUP (sessions of the default life are shared): %.2f s, CPU %.2f s; first issue %.2f s; ratio %.1f\n",
		n.Outputs, n.Renewed, n.RenewalCPU, n.First, n.First/n.Renewed)
	i := r.Idle
	fmt.Fprintf(b, "Idle with 1 output after %d s: rollcall %.1f MiB (peak %.1f)", i.AfterSeconds, i.Rollcall.NowMiB, i.Rollcall.PeakMiB)
	if i.Tbot != nil {
		fmt.Fprintf(b, "; tbot %.1f MiB (peak %.1f); ratio %.1f", i.Tbot.NowMiB, i.Tbot.PeakMiB, i.Tbot.NowMiB/i.Rollcall.NowMiB)
	}
	fmt.Fprintf(b, "\nStripped binary: rollcall %.1f MB; tbot %.1f MB; ratio %.1f\n",
		float64(r.Binary.Rollcall)/1e6, float64(r.Binary.Tbot)/1e6, float64(r.Binary.Tbot)/float64(r.Binary.Rollcall))
}

func (d *discoveryFigures) write(b *strings.Builder) {
	if d.Containers > 0 {
		d.writeLatencies(b)
	} else {
		b.WriteString("\nDiscovery: no Docker Engine answered, so that nothing is known of containers\n")
	}
	i := d.Idle
	fmt.Fprintf(b, "Idle with %d registered applications for %.0f s: CPU %.2f s, %.3f %% of a core, %.1f s an hour; %.1f MiB\n",
		i.Registered, i.Seconds, i.CPU, i.PercentOfCore, i.HourCPU, i.NowMiB)
	c := d.Comparison
	fmt.Fprintf(b, "A full comparison of %d applications with nothing to do: %.2f ms, %.0f KiB in %d allocations\n", c.Resources, c.Millis, c.KiB, c.Allocs)
	v := d.Convergence
	fmt.Fprintf(b, "%d new resources: rollcall %.2f s, with rate: 5000 and concurrency: 16 %.2f s; bare loop %.2f s one by one, %.2f s with 16 at once\n",
		v.Resources, v.Default, v.Unlimited, v.Serial, v.AtOnce)
}

func (d *discoveryFigures) writeLatencies(b *strings.Builder) {
	fmt.Fprintf(b, "\nDiscovery: from a container's start to its application being listed by auth, %d containers\n", d.Containers)
	table := newTable(b)
	fmt.Fprintln(table, "who\tmedian\tp99\tmax\t")
	for _, row := range []struct {
		who string
		l   latency
	}{{"rollcall", d.Rollcall}, {"the guide's example: polling every 5 s (without its agent's start)", d.Example}} {
		fmt.Fprintf(table, "%s\t%.0f ms\t%.0f ms\t%.0f ms\t\n", row.who, 1000*row.l.Median, 1000*row.l.P99, 1000*row.l.Max)
	}
	table.Flush()
}

func (r *report) writeAims(b *strings.Builder) {
	b.WriteString("\nAims\n")
	table := newTable(b)
	for _, a := range r.Aims {
		sign, met := "<=", "met"
		if a.AtLeast {
			sign = ">="
		}
		if !a.Met {
			met = "MISSED"
		}
		fmt.Fprintf(table, "%s\t%s %g %s\t%.2f\t%s\t\n", a.What, sign, a.Limit, a.Unit, a.Got, met)
	}
	table.Flush()
}

func newTable(w io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(w, 0, 0, 2, ' ', 0) }
