//go:build rollcall_stuck

package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	"rollcall/destination"
)

// stuckAfter is short, so that the test of the watchdog is; and long enough for a
// join and an issue on a machine that is busy.
const stuckAfter = 15 * time.Second

// stickable returns a place whose next Write after SIGUSR2 never comes back, as
// on a file system whose server has gone.
func stickable(place destination.Destination) destination.Destination {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR2)
	return sticky{Destination: place, signals: signals}
}

type sticky struct {
	destination.Destination
	signals chan os.Signal
}

// Write hangs if the signal has come.
func (s sticky) Write(ctx context.Context, set destination.Set) (destination.Result, error) {
	select {
	case <-s.signals:
		select {}
	default:
		return s.Destination.Write(ctx, set)
	}
}
