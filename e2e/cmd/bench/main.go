// Command bench measures the agent beside the official one and beside a bare
// loop of the same requests, in one run against one real Teleport cluster, and
// says which of the aims are met. It knows the harness and both agents' command
// lines; of the agent's insides it knows nothing.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"rollcall/e2e/harness"
)

// Exit codes beside 0. An aim that's missed isn't a failure: figures depend on
// the machine.
const (
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130
)

// Parts of the benchmark.
const (
	partOutputs   = "outputs"
	partTunnel    = "tunnel"
	partDiscovery = "discovery"
)

// parts are all of them.
var parts = []string{partOutputs, partTunnel, partDiscovery}

// maxSize is the largest number of outputs: one Application Service holds about
// 900 dynamic applications.
const maxSize = 800

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	context.AfterFunc(ctx, stop)
	args := os.Args[1:]
	if len(args) > 0 && args[0] == bareCommand {
		os.Exit(runBare(ctx, os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(run(ctx, args, os.Stdout, os.Stderr))
}

// run returns the exit code. The figures go to stdout, progress to stderr.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	opts, err := parse(args, stderr)
	if err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintf(stderr, "bench: %v\n", err)
		}
		return exitUsage
	}
	report, err := measure(ctx, opts, stderr)
	switch {
	case ctx.Err() != nil:
		fmt.Fprintln(stderr, "bench: interrupted; what was started is stopped and removed")
		return exitInterrupted
	case err == nil && opts.profile != "":
	case err == nil && opts.json:
		err = report.writeJSON(stdout)
	case err == nil:
		err = report.writeTables(stdout)
	}
	if err != nil {
		fmt.Fprintf(stderr, "bench: %v\n", err)
		return exitFailed
	}
	return 0
}

// options are what the command line says.
type options struct {
	// sizes are the numbers of outputs, in rising order.
	sizes []int
	// repeat bounds the runs of one measurement; 0: by size.
	repeat int
	// peer says whether the official agent is measured.
	peer bool
	// quick shortens what waits for calm.
	quick bool
	json  bool
	// only are the parts to measure.
	only []string
	// profile is where profiles go; empty: none.
	profile string
}

func parse(args []string, stderr io.Writer) (options, error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	sizes := flags.String("sizes", "1,10,50,200", "`numbers` of application outputs, at most 800 each")
	repeat := flags.Int("repeat", 0, "`runs` of each measurement (default 7 for a few outputs, fewer for many); the median counts")
	peer := flags.Bool("tbot", true, "measure the official agent, too (it takes minutes with 200 outputs)")
	quick := flags.Bool("quick", false, "1 and 10 outputs, once each, and little of discovery")
	only := flags.String("only", strings.Join(parts, ","), "which `parts` to measure")
	profile := flags.String("profile", "", "keep pprof profiles of the largest size in this `directory`, and measure nothing")
	format := flags.String("format", "table", "print as `table or json`")
	if err := flags.Parse(args); err != nil {
		return options{}, flag.ErrHelp // Parse has said what is wrong
	}
	opts := options{repeat: *repeat, peer: *peer, quick: *quick, json: *format == "json", profile: *profile}
	switch {
	case flags.NArg() > 0:
		return opts, fmt.Errorf("unknown argument %q", flags.Arg(0))
	case *format != "table" && *format != "json":
		return opts, fmt.Errorf("--format is %q, and must be table or json", *format)
	}
	if opts.quick {
		*sizes, opts.repeat = "1,10", 1
	}
	for word := range strings.SplitSeq(*sizes, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(word))
		if err != nil || n < 1 || n > maxSize {
			return opts, fmt.Errorf("--sizes has %q, and takes numbers from 1 to %d", word, maxSize)
		}
		opts.sizes = append(opts.sizes, n)
	}
	for word := range strings.SplitSeq(*only, ",") {
		part := strings.TrimSpace(word)
		if !slices.Contains(parts, part) {
			return opts, fmt.Errorf("--only has %q, and takes %s", word, strings.Join(parts, ", "))
		}
		opts.only = append(opts.only, part)
	}
	if !slices.Contains(opts.only, partOutputs) {
		opts.sizes = []int{1}
	}
	slices.Sort(opts.sizes)
	opts.sizes = slices.Compact(opts.sizes)
	return opts, nil
}

// runs is how often one measurement is repeated. The official agent with many
// outputs takes minutes: once.
func (o options) runs(size int, peer bool) int {
	if o.repeat > 0 {
		return o.repeat
	}
	switch {
	case size <= 1:
		return 7
	case size <= 10:
		return 5
	case peer && size > 50:
		return 1
	default:
		return 3
	}
}

// measure builds what is needed, takes all figures, and removes everything.
func measure(ctx context.Context, opts options, progress io.Writer) (*report, error) {
	suite, err := harness.Open(ctx, progress, opts.binaries()...)
	if err != nil {
		return nil, err
	}
	defer suite.Close()
	result := &report{}
	err = harness.Standalone(ctx, "bench", progress, func(t harness.T) {
		s := newStage(t, suite, opts, progress)
		largest := opts.sizes[len(opts.sizes)-1]
		if opts.profile != "" {
			s.profile(largest, opts.profile)
			return
		}
		result.Environment = s.environment()
		if slices.Contains(opts.only, partOutputs) {
			for _, size := range opts.sizes {
				result.Oneshot = append(result.Oneshot, s.oneshot(size))
			}
			result.Renewal = s.renewal(largest)
			result.Idle = s.idle()
			result.Binary = s.binaries()
		}
		if slices.Contains(opts.only, partTunnel) {
			result.Tunnel = s.tunnel()
		}
		if slices.Contains(opts.only, partDiscovery) {
			result.Discovery = s.discovery()
		}
		result.Aims = result.aims()
	})
	return result, err
}

// binaries are the names of those that are needed. The official local proxy
// needs a tsh, which nothing else does.
func (o options) binaries() []string {
	names := []string{"measure", "rollcall", "tbot", "cluster"}
	if o.peer && slices.Contains(o.only, partTunnel) && o.profile == "" {
		names = append(names, "tsh")
	}
	return names
}
