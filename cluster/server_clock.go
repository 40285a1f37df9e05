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

const (
	// steadyClocks is how far this host's two clocks may move apart for a reading
	// to count still: those that NTP disciplines run alike.
	steadyClocks = time.Second
	// freshClock is for how long what was learned isn't doubted, whatever the
	// server says: that it's learned anew with each request would help nobody.
	freshClock = 10 * time.Second
)

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

// moved says whether this host was suspended or its wall clock was set since the
// clock was learned: the one stands still for the monotonic clock, and the other
// is a jump of the wall clock, and which of them it was nobody can tell. After a
// suspension the server's clock is taken for one that is behind.
func (c serverClock) moved(now time.Time) bool {
	if c.shown.IsZero() {
		return false
	}
	apart := now.Round(0).Sub(c.asked.Round(0)) - now.Sub(c.asked)
	return apart.Abs() > steadyClocks
}

// doubtful says whether it may be wrong although neither clock shows it: a
// virtual machine that was paused knows nothing of that.
func (c serverClock) doubtful(now time.Time) bool {
	return !c.shown.IsZero() && over(now, c.asked.Add(freshClock))
}
