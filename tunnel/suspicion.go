package tunnel

import (
	"sync"
	"time"
)

const (
	// firstFutilePause doubles with each renewal that changed nothing.
	firstFutilePause = 10 * time.Second
	// longestFutilePause is for what an application may have answered itself,
	// longestSurePause for what only Teleport says.
	longestFutilePause = 10 * time.Minute
	longestSurePause   = time.Minute
	// suspicionsMost is how many renewals clients may cause within
	// suspicionsTime, whether they helped or not, before there's but one in
	// longestSurePause: each is a session in the cluster.
	suspicionsMost = 10
	suspicionsTime = 10 * time.Minute
	// surePatience is how long a request waits for a new certificate that it
	// caused, where it can't do without. unsurePatience is for where it probably
	// can.
	surePatience   = 10 * time.Second
	unsurePatience = 3 * time.Second
	// doubtsMost is how many renewals in a row that don't help rest on something
	// new each. After that it isn't what they rest on, until doubtAgain has passed:
	// an application that says 403 of its own all the time must not hide for good
	// that there's a fault by now.
	doubtsMost = 2
	doubtAgain = time.Hour
)

// asking is what clients caused. Its fields are protected by mu.
type asking struct {
	mu sync.Mutex
	// last is when a client last caused an attempt, attempts how many there
	// had been by then, suspected whether it was by suspect.
	last      time.Time
	attempts  uint64
	suspected bool
	// unsure and sure count renewals in a row that haven't been seen to help.
	unsure, sure futility
	// since is when the time began in which count renewals were caused.
	since time.Time
	count int
	// doubted is when a renewal last rested on something new.
	doubted time.Time
	// until is when certificates that can't be used may be asked for again.
	until time.Time
}

// futility counts renewals in a row that haven't been seen to change anything.
type futility struct {
	count int
	last  time.Time
}

// pause is the time that has to be between the last renewal and the next.
func (f *futility) pause(first, longest time.Duration) time.Duration {
	if f.count == 0 {
		return nudgePause
	}
	return min(first<<min(f.count-1, 10), longest)
}

// asks notes a renewal. One that comes long after the others has nothing to do
// with them.
func (f *futility) asks(now time.Time, longest time.Duration) {
	if now.Sub(f.last) > 2*longest {
		f.count = 0
	}
	f.count++
	f.last = now
}

// nudge asks for an attempt because a client needs one, at most once a second.
func (k *keeper) nudge(reason string) {
	now := time.Now()
	k.asked.mu.Lock()
	defer k.asked.mu.Unlock()
	if now.Sub(k.asked.last) >= nudgePause && now.After(k.asked.until) {
		k.asked.last = now
		k.retryNow(reason)
	}
}

// bar keeps clients for a while from causing attempts that would bring another
// certificate that can't be used.
func (k *keeper) bar() {
	k.asked.mu.Lock()
	defer k.asked.mu.Unlock()
	k.asked.until = time.Now().Add(barredPause)
}

func (a *asking) barred(now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return now.Before(a.until)
}

// suspect asks for a new certificate because the proxy seems not to take the
// one in use. It returns how many attempts there were before the one that
// answers and until when that's worth waiting for, or false if none will come.
//
// What looks like Teleport's answer, and surely isn't, can be an application's
// own, and what surely is Teleport's need not be the certificate's fault. So
// each renewal counts as futile until it's seen to help, and the more of them
// there are, the longer is the pause before the next one.
func (k *keeper) suspect(reason string, sure bool) (attempts uint64, until time.Time, ok bool) {
	_, attempts, _, _ = k.upstream.peek()
	now := time.Now()
	k.asked.mu.Lock()
	defer k.asked.mu.Unlock()
	a := &k.asked
	futile, first, longest, patience := &a.unsure, firstFutilePause, longestFutilePause, unsurePatience
	if sure {
		futile, first, longest, patience = &a.sure, nudgePause, longestSurePause, surePatience
	}
	if now.Sub(a.last) < nudgePause || now.Sub(futile.last) < futile.pause(first, longest) || !a.within(now) {
		// Another request has asked already, and the answer may be to come.
		until = a.last.Add(patience)
		return a.attempts, until, a.suspected && a.attempts == attempts && now.Before(until)
	}
	futile.asks(now, longest)
	a.count++
	a.last, a.attempts, a.suspected = now, attempts, true
	if source, ok := k.source.(doubter); ok && (futile.count <= doubtsMost || now.Sub(a.doubted) >= doubtAgain) {
		a.doubted = now
		source.Doubt()
	}
	k.renewNow(reason)
	return attempts, now.Add(patience), true
}

// within says whether one more renewal may be caused in this time.
func (a *asking) within(now time.Time) bool {
	if now.Sub(a.since) >= suspicionsTime {
		a.since, a.count = now, 0
	}
	return a.count < suspicionsMost || now.Sub(a.last) >= longestSurePause
}

// helped notes that a renewal that suspect asked for changed the answer.
func (k *keeper) helped() {
	k.asked.mu.Lock()
	defer k.asked.mu.Unlock()
	k.asked.sure.count, k.asked.unsure.count = 0, 0
}
