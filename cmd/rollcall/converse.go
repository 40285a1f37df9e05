package main

import (
	"context"
	"os"
	"syscall"
	"time"

	"rollcall/diagnostics"
)

const (
	// roundTimeout is how long systemd is kept waiting for the end of a round.
	// It's well below the unit's TimeoutStartSec: a cluster that swallows
	// packets must not have the agent killed.
	roundTimeout = 45 * time.Second
	// statusPause bounds how often systemd is told of changes.
	statusPause = 100 * time.Millisecond
	// prerequisite is the keeper's name among the services.
	prerequisite = "identity"
)

// converse answers signals and keeps systemd informed until ctx ends: ready
// after the first round, reloading and ready again around one that SIGHUP asks
// for, and the state in one line all the time.
func (a *agent) converse(ctx context.Context, signals <-chan os.Signal) {
	round, pending, ready := diagnostics.FirstRound(), true, false
	deadline := time.NewTimer(roundTimeout)
	defer deadline.Stop()
	shown := ""
	for {
		changed := a.board.Changed()
		all := a.board.Snapshot()
		text := diagnostics.Summary(all)
		switch {
		case pending && round.Over(all, prerequisite):
			a.notifier.Ready(text)
			pending, ready = false, true
		case text != shown:
			a.notifier.Status(text)
		}
		shown = text
		select {
		case <-ctx.Done():
			a.notifier.Stopping()
			return
		case <-changed:
			pause(ctx, statusPause)
		case <-deadline.C:
			if pending {
				a.log.Warn("Not every service has come to an end of its first attempt; systemd is told to go on.", "waited", roundTimeout)
				a.notifier.Ready(text)
				pending, ready = false, true
			}
		case got := <-signals:
			// Until it's ready, systemd knows of no reloads.
			if got == syscall.SIGHUP && ready {
				// Before the word is out: what's reported after it counts.
				round, pending = diagnostics.NextRound(a.board.Snapshot()), true
				a.notifier.Reloading()
				deadline.Reset(roundTimeout)
			}
			a.host.RenewAll("signal " + got.String())
		}
	}
}

// pause waits for d, or for ctx.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
