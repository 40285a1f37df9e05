package hooks

import "time"

const (
	// maxAttempts is how often a hook is tried for one change.
	maxAttempts = 5
	// minWait and maxWait bound the first wait; each one after is growth times
	// the one before.
	minWait = 50 * time.Millisecond
	maxWait = 2 * time.Second
	growth  = 4
)

// retryDelay returns how long to wait after that many failed attempts (1 or
// more), or false if it was the last one. All attempts fit into the interval
// between two renewals: the waits add up to 85 times the first one. An interval
// of zero is as long as can be.
func retryDelay(failures int, interval time.Duration) (time.Duration, bool) {
	if failures >= maxAttempts {
		return 0, false
	}
	wait := maxWait
	if interval > 0 {
		wait = max(minWait, min(wait, interval/120))
	}
	for range failures - 1 {
		wait *= growth
	}
	return wait, true
}
