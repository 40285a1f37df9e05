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
	"os/signal"
	"syscall"

	"rollcall/e2e/harness/build"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if _, err := build.All(ctx, os.Stderr, os.Args[1:]...); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
