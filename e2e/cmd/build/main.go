// Command build builds what the end-to-end tests, the demo and the benchmark
// need, just as the tests themselves do it, so that they find it done:
//
//	go run ./cmd/build             # all that the tests need
//	go run ./cmd/build demo        # one program
package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"rollcall/e2e/harness/build"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run builds what is named, or all that the tests need: as root, who can boot a
// systemd, what is needed for that too.
func run(ctx context.Context, names []string) error {
	if _, err := build.All(ctx, os.Stderr, names...); err != nil || len(names) > 0 || os.Geteuid() != 0 {
		return err
	}
	if _, err := exec.LookPath("debootstrap"); err != nil {
		return nil //nolint:nilerr // the tests that need it say so
	}
	if _, err := build.SystemdRoot(ctx, os.Stderr); err != nil {
		return err
	}
	// Else it would be linked while the tests run.
	_, err := build.All(ctx, os.Stderr, "rollcall-stuck")
	return err
}
