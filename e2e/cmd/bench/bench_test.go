package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParse(t *testing.T) {
	good := func(args ...string) options {
		opts, err := parse(args, io.Discard)
		require.NoError(t, err, args)
		return opts
	}
	require.Equal(t, options{sizes: []int{1, 10, 50, 200}, peer: true, only: parts}, good())
	require.Equal(t, options{sizes: []int{1, 10}, repeat: 1, peer: true, quick: true, only: parts}, good("--quick"))
	require.Equal(t, options{sizes: []int{2, 7}, peer: false, json: true, only: parts}, good("--sizes", "7, 2,7", "--tbot=false", "--format", "json"))
	require.Equal(t, options{sizes: []int{1}, peer: true, only: []string{partTunnel}}, good("--only", "tunnel"))
	for want, args := range map[string][]string{
		`unknown argument "more"`:                                {"more"},
		`--only has "x", and takes outputs, tunnel, discovery`:   {"--only", "x"},
		`--format is "xml", and must be table or json`:           {"--format", "xml"},
		`--sizes has "0", and takes numbers from 1 to 800`:       {"--sizes", "0"},
		`--sizes has "many", and takes numbers from 1 to 800`:    {"--sizes", "1,many"},
		`--sizes has "801", and takes numbers from 1 to 800`:     {"--sizes", "801"},
		`--sizes has "", and takes numbers from 1 to 800`:        {"--sizes", ""},
		`--only has "tea", and takes outputs, tunnel, discovery`: {"--only", "tunnel,tea"},
		`flag: help requested`:                                   {"--what"},
	} {
		_, err := parse(args, io.Discard)
		require.EqualError(t, err, want)
	}
	var problems bytes.Buffer
	require.Equal(t, exitUsage, run(context.Background(), []string{"more"}, io.Discard, &problems))
	require.Equal(t, "bench: unknown argument \"more\"\n", problems.String())
}

func TestRuns(t *testing.T) {
	for _, c := range []struct {
		size, repeat int
		peer         bool
		want         int
	}{
		{1, 0, true, 7}, {10, 0, false, 5}, {50, 0, true, 3}, {200, 0, true, 1}, {200, 0, false, 3}, {200, 9, true, 9},
	} {
		require.Equal(t, c.want, options{repeat: c.repeat}.runs(c.size, c.peer), c)
	}
}

func TestSummarize(t *testing.T) {
	s := summarize([]sample{{3, 0.1, 10}, {1, 0.3, 30}, {2, 0.2, 20}})
	require.Equal(t, summary{sample: sample{2, 0.2, 20}, Runs: 3, MinWall: 1, MaxWall: 3}, s)
	require.InDelta(t, 2.5, median([]float64{4, 1, 3, 2}), 1e-9)
}

// exemplary is a report with figures that are easy to divide.
func exemplary() *report {
	of := func(wall, cpu, peak float64) summary {
		return summarize([]sample{{wall, cpu, peak}})
	}
	tbot := of(30, 8, 100)
	r := &report{
		Environment: environment{Time: "2026-01-02T03:04:05Z", Rollcall: "rollcall 1.0", Teleport: "14.2.3", Go: "go1.26", System: "linux/amd64", Cores: 2, Load: "0.1", PollMS: 50, Applications: 200},
		Oneshot: []row{
			{Outputs: 1, Rollcall: of(0.25, 0.1, 30), Settled: of(1.25, 0.1, 30), Bare: of(0.125, 0.05, 25), BareSerial: of(0.125, 0.05, 25)},
			{Outputs: 50, Rollcall: of(2, 0.5, 40), Settled: of(3, 0.5, 40), Tbot: &tbot, Bare: of(1.6, 0.1, 30), BareSerial: of(3, 0.1, 30)},
		},
		Renewal: renewal{Outputs: 50, First: 2, Renewed: 0.5, RenewalCPU: 0.25},
		Idle:    idle{AfterSeconds: 15, Rollcall: memory{30, 40}, Tbot: &memory{80, 90}},
		Binary:  binaries{Rollcall: 40e6, Tbot: 80e6},
		Tunnel: &tunnelReport{
			AtOnce: 16, Requests: 3000, BodyMiB: 256,
			Direct:   &speed{Rounds: 3, PerSecond: 1000, P50: 10, P99: 20, Down: 400, Up: 200},
			Rollcall: &speed{Rounds: 3, PerSecond: 950, P50: 11, P99: 22, Down: 320, Up: 200, CPU: 0.125, LargeCPU: 2},
			Tbot:     &speed{Rounds: 3, PerSecond: 500, P50: 20, P99: 44, Down: 160, Up: 100, CPU: 0.0625, LargeCPU: 2.5},
		},
		Discovery: &discoveryFigures{
			Containers: 100, Rollcall: latency{0.2, 0.3, 0.4}, Example: latency{2.5, 5, 5.1},
			Idle:        idleDiscovery{Registered: 1000, Seconds: 300, CPU: 0.3, HourCPU: 3.6, PercentOfCore: 0.1, NowMiB: 40},
			Comparison:  comparison{Resources: 10000, Millis: 2, KiB: 100, Allocs: 10},
			Convergence: convergence{Resources: 1000, Default: 5, Unlimited: 2, Serial: 4, AtOnce: 1},
		},
	}
	r.Aims = r.aims()
	return r
}

func TestTables(t *testing.T) {
	var b strings.Builder
	require.NoError(t, exemplary().writeTables(&b))
	require.Equal(t, `rollcall 1.0
Teleport 14.2.3 with 200 applications, sqlite backend with 50 ms poll; 2 cores, linux/amd64, go1.26, load 0.1, 2026-01-02T03:04:05Z

One-shot: token join, empty storage, every output written once (medians; min and max of the wall time)
outputs  who                       runs  wall     min … max      CPU     peak
1        rollcall, no settle time  1     0.25 s   0.25 … 0.25    0.10 s  30.0 MiB
1        rollcall                  1     1.25 s   1.25 … 1.25    0.10 s  30.0 MiB
1        bare loop, 4 at once      1     0.12 s   0.12 … 0.12    0.05 s  25.0 MiB
1        bare loop, one by one     1     0.12 s   0.12 … 0.12    0.05 s  25.0 MiB
50       rollcall, no settle time  1     2.00 s   2.00 … 2.00    0.50 s  40.0 MiB
50       rollcall                  1     3.00 s   3.00 … 3.00    0.50 s  40.0 MiB
50       tbot                      1     30.00 s  30.00 … 30.00  8.00 s  100.0 MiB
50       bare loop, 4 at once      1     1.60 s   1.60 … 1.60    0.10 s  30.0 MiB
50       bare loop, one by one     1     3.00 s   3.00 … 3.00    0.10 s  30.0 MiB

Ratios (rollcall without settle time, which tbot and the bare loop don't have)
outputs  tbot/rollcall wall  CPU   peak  rollcall/bare loop wall  settle time adds
1        -                   -     -     2.00                     1.00 s
50       15.0                16.0  2.5   1.25                     1.00 s

Renewal of 50 outputs by SIGHUP (sessions of the default life are shared): 0.50 s, CPU 0.25 s; first issue 2.00 s; ratio 4.0
Idle with 1 output after 15 s: rollcall 30.0 MiB (peak 40.0); tbot 80.0 MiB (peak 90.0); ratio 2.7
Stripped binary: rollcall 40.0 MB; tbot 80.0 MB; ratio 2.0

To an application: 3000 small requests, 16 at once; bodies of 256 MiB (medians)
way                rounds  requests/s  p50      p99      down       up         CPU a request  a GiB
direct mutual TLS  3       1000        10.0 ms  20.0 ms  400 MiB/s  200 MiB/s  -              -
rollcall's tunnel  3       950         11.0 ms  22.0 ms  320 MiB/s  200 MiB/s  0.125 ms       2.00 s
tbot proxy app     3       500         20.0 ms  44.0 ms  160 MiB/s  100 MiB/s  0.062 ms       2.50 s
rollcall/direct            0.95        1.10     1.10     0.80       1.00
rollcall/tbot              1.90        0.55     0.50     2.00       2.00

Discovery: from a container's start to its application being listed by auth, 100 containers
who                                                                 median   p99      max
rollcall                                                            200 ms   300 ms   400 ms
the guide's example: polling every 5 s (without its agent's start)  2500 ms  5000 ms  5100 ms
Idle with 1000 registered applications for 300 s: CPU 0.30 s, 0.100 % of a core, 3.6 s an hour; 40.0 MiB
A full comparison of 10000 applications with nothing to do: 2.00 ms, 100 KiB in 10 allocations
1000 new resources: rollcall 5.00 s, with rate: 5000 and concurrency: 16 2.00 s; bare loop 4.00 s one by one, 1.00 s with 16 at once

Aims
1 output                                                       <= 0.2 s            0.25    MISSED
50 outputs, quicker than tbot                                  >= 10 times         15.00   met
50 outputs, of the bare loop's time                            <= 1.3 times        1.25    met
50 outputs, peak memory                                        <= 45 MiB           40.00   met
idle memory                                                    <= 35 MiB           30.00   met
stripped binary                                                <= 40 MB            40.00   met
tunnel, small requests, of direct                              >= 0.9 times        0.95    met
tunnel, small requests, of the official one's                  >= 1 times          1.90    met
tunnel, download, of direct                                    >= 0.9 times        0.80    MISSED
tunnel, download, of the official one's                        >= 1 times          2.00    met
tunnel, upload, of direct                                      >= 0.9 times        1.00    met
tunnel, upload, of the official one's                          >= 1 times          2.00    met
container start to listed, median                              <= 300 ms           200.00  met
container start to listed, quicker than the example's polling  >= 5 times          12.50   met
idle with 1000 registered applications                         <= 0.2 % of a core  0.10    met
`, trimLines(b.String()))
}

// trimLines removes the spaces at the ends of lines, which tables have.
func trimLines(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = strings.TrimRight(line, " ")
	}
	return strings.Join(lines, "\n")
}

func TestJSONIsWhole(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, exemplary().writeJSON(&b))
	var back report
	require.NoError(t, json.Unmarshal(b.Bytes(), &back))
	require.Equal(t, exemplary(), &back)
}
