// Package footprint keeps the process small while it has nothing to do. It
// knows the Go runtime, and nothing of the agent.
package footprint

import (
	"context"
	"runtime/debug"
	"time"
)

const (
	// gcPercent is how much the heap may grow between two collections, in
	// percent of what is in use. Go's default is 100. The agent allocates
	// little; the collections that are more don't show in its CPU time.
	gcPercent = 50

	// firstRelease is how long after the start the first round of renewals is
	// usually over.
	firstRelease = 10 * time.Second
)

// Tune tells the garbage collector to keep the heap small, unless the user has
// set GOGC. It's for the start of a process.
func Tune(getenv func(string) string) {
	if getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}

// Release gives the free part of the heap back to the system once, when the
// first round, the largest of all, is over; later the runtime does so by
// itself. It returns then, or when ctx ends.
//
// What an idle agent still holds is mostly pages of the program file that only
// its start has used. They're the kernel's to drop when it needs them, and are
// left to it.
func Release(ctx context.Context) {
	timer := time.NewTimer(firstRelease)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
		debug.FreeOSMemory()
	}
}
