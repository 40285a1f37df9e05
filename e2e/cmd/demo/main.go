// Command demo shows the main job on a real Teleport cluster: it narrates what
// a user would type, does it, and says what came of it. It knows the harness
// and the agent's command line, and nothing of the agent's insides.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"rollcall/e2e/harness"
)

// Exit codes beside 0.
const (
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	// A second Ctrl-C kills; even then the cluster removes what it made.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run returns the exit code. The story goes to stdout, progress and trouble to
// stderr.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(stderr)
	wait := flags.Bool("wait", false, "keep everything running at the end, until Ctrl-C")
	if err := flags.Parse(args); err != nil || flags.NArg() > 0 {
		if err == nil {
			fmt.Fprintf(stderr, "demo: unknown argument %q\n", flags.Arg(0))
		}
		return exitUsage
	}
	err := play(ctx, *wait, stdout, stderr)
	switch {
	case err == nil:
		return 0
	case ctx.Err() != nil:
		fmt.Fprintln(stderr, "\ndemo: interrupted; what was started is stopped and removed")
		return exitInterrupted
	default:
		fmt.Fprintf(stderr, "\ndemo: failed: %v\n", err)
		return exitFailed
	}
}

// play builds what is needed, tells the story, and removes everything.
func play(ctx context.Context, wait bool, stdout, stderr io.Writer) error {
	suite, err := harness.Open(ctx, stderr, "rollcall", "cluster", "web")
	if err != nil {
		return err
	}
	defer suite.Close()
	return harness.Standalone(ctx, "demo", stderr, func(t harness.T) {
		s := &story{t: t, suite: suite, tell: newNarrator(stdout, os.Getenv("NO_COLOR"))}
		s.play(wait)
		if wait {
			fmt.Fprintln(stderr, "\nEverything keeps running until Ctrl-C.")
			<-ctx.Done()
		}
	})
}

// must ends the story on an error.
func must(t harness.T, what string, err error) {
	if err == nil {
		return
	}
	if errors.Is(err, context.Canceled) {
		t.FailNow()
	}
	t.Fatalf("%s: %v", what, err)
}
