package service

import "time"

const (
	// minDelay and maxDelay bound the wait before a restart.
	minDelay = time.Second
	maxDelay = time.Minute
	// jitter is the share of a wait that is left to chance, so that services
	// that fail together don't come back together.
	jitter = 0.2
	// healthy is how long a service must run for its earlier failures to be
	// forgotten.
	healthy = 2 * time.Minute
)

// backoff is the series of waits between restarts of one service. The zero
// value is ready.
type backoff struct {
	step time.Duration
}

// next returns the wait after a run that lasted ran: it doubles from minDelay
// to maxDelay, and starts over after a healthy run. random is in [0,1) and
// takes up to a fifth off.
func (b *backoff) next(ran time.Duration, random float64) time.Duration {
	if b.step == 0 || ran >= healthy {
		// The first step is larger, so that even the shortest wait is minDelay.
		b.step = time.Duration(float64(minDelay) / (1 - jitter))
	} else {
		b.step = min(2*b.step, maxDelay)
	}
	return b.step - time.Duration(jitter*random*float64(b.step))
}
