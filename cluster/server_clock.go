package cluster

import "time"

// serverClock tells what the Auth Service's clock shows, from a certificate that
// it dated. It runs on by this host's monotonic clock, so that a wrong or
// changed wall clock doesn't matter. The zero value shows this host's time.
type serverClock struct {
	// shown is what the server's clock showed (whole seconds, rounded down)
	// when our request, sent at asked, was served.
	shown, asked time.Time
}

// closeClocks is how far two clocks that are kept by NTP can seem apart: what
// was learned is up to a second too early, and ages.
const closeClocks = 5 * time.Second

// newServerClock learns from a certificate that was asked for at that time.
func newServerClock(creds *Credentials, asked time.Time) serverClock {
	return serverClock{shown: creds.NotBefore().Add(backdated), asked: asked}
}

// time is what the server's clock shows at now, at most a second less than it
// really does. Where both clocks seem to be right, the later one is taken: a
// lease that ends late harms nobody.
func (c serverClock) time(now time.Time) time.Time {
	if c.shown.IsZero() {
		return now.UTC()
	}
	learned := c.shown.Add(now.Sub(c.asked))
	wall := now.Round(0)
	if apart := wall.Sub(learned); apart > 0 && apart <= closeClocks {
		return wall.UTC()
	}
	return learned.UTC()
}
