package discovery

import (
	"context"
	"time"

	"golang.org/x/time/rate"

	"rollcall/diagnostics"
	"rollcall/discovery/resource"
)

const (
	// quiet is how long no hint must have come for the source to be read:
	// starting a container makes several events.
	quiet = 50 * time.Millisecond
	// longestQuiet bounds the wait where hints never cease.
	longestQuiet = 500 * time.Millisecond
	// firstRead is how long the first read waits for a subscription: Teleport's,
	// and then the source's.
	firstRead = 2 * time.Second
	// longestNap bounds a sleep, so that due times are met after the host was
	// suspended or its clock was set: timers know of neither.
	longestNap = time.Minute
	// frozenNap is how often approvals are looked for while deletions are
	// frozen.
	frozenNap = 2 * time.Second

	minRetry = time.Second
	maxRetry = time.Minute
)

// note is a place for one request; what comes while one waits is merged with
// it.
type note chan string

func (n note) put(reason string) {
	select {
	case n <- reason:
	default:
	}
}

// await waits for a request, for d or for ctx.
func (n note) await(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-n:
	}
}

// wakers are what wakes the loop, and watches those that wait after a failed
// watch of a kind. They're safe for concurrent use.
type wakers struct {
	hint, full, retry, change note
	watches                   map[resource.Kind]note
}

func newWakers() wakers {
	watches := map[resource.Kind]note{}
	for _, kind := range resource.Kinds() {
		watches[kind] = make(note, 1)
	}
	return wakers{hint: make(note, 1), full: make(note, 1), retry: make(note, 1), change: make(note, 1), watches: watches}
}

// look is what the loop does next.
type look struct {
	// full asks for everything in Teleport to be listed, and for what was
	// refused to be tried again.
	full   bool
	reason string
}

// schedule is when the loop looks by itself, by the wall clock.
type schedule struct {
	random   func() float64
	interval time.Duration

	// full is when the next full comparison is due.
	full time.Time
	// part is when time alone changes the plan; zero: never.
	part time.Time
	// failures counts failed cycles in a row; source says that it was the
	// source that failed last.
	failures int
	source   bool
	// unsure counts good cycles in a row after which what is registered wasn't
	// known.
	unsure int

	// listed is when the last full list was begun.
	listed time.Time
	// sift is when the changes that were heard are gone through; zero: none
	// were.
	sift time.Time
	// echo is when a full comparison is due because of one; zero: none is.
	echo time.Time
	// paced says how soon that may be.
	paced *rate.Limiter
}

// next returns when the loop looks next.
func (s *schedule) next() time.Time {
	next := s.full
	for _, at := range []time.Time{s.part, s.echo, s.sift} {
		next = earliest(next, at)
	}
	return next
}

// begin starts over: nothing is known of what is registered.
func (s *schedule) begin(now time.Time) {
	*s = schedule{
		random: s.random, interval: s.interval, full: now.Add(firstRead).Round(0),
		paced: rate.NewLimiter(rate.Every(pace), soonLooks),
	}
}

// hear has what was heard gone through soon.
func (s *schedule) hear(now time.Time) {
	if s.sift.IsZero() {
		s.sift = now.Add(gathering).Round(0)
	}
}

// changed asks for a full comparison: at once, if there weren't many of late.
func (s *schedule) changed(now time.Time) {
	if s.echo.IsZero() {
		s.echo = now.Add(s.paced.ReserveN(now, 1).DelayFrom(now)).Round(0)
	}
}

// bound brings what is due too late forward: the wall clock was set back
// meanwhile.
func (s *schedule) bound(now time.Time) {
	for _, due := range []struct {
		at      *time.Time
		longest time.Duration
	}{
		{&s.full, max(maxRetry, jittered(s.interval, 1))},
		{&s.echo, pace},
		{&s.sift, gathering},
	} {
		if !due.at.IsZero() {
			*due.at = earliest(*due.at, now.Add(due.longest).Round(0))
		}
	}
}

// worked sets the times after a good cycle.
func (s *schedule) worked(now time.Time, full bool, part time.Time) {
	s.failures = 0
	s.part = part.Round(0)
	if full {
		s.echo = time.Time{}
	}
	if full || !s.full.After(now) {
		s.full = now.Add(jittered(s.interval, s.random())).Round(0)
	}
}

// confirm has the loop look again soon where what is registered isn't known: less
// and less soon if that stays so.
func (s *schedule) confirm(now time.Time, sure bool) {
	if sure {
		s.unsure = 0
		return
	}
	s.unsure++
	s.part = earliest(s.part, now.Add(retryDelay(s.unsure, s.random())).Round(0))
}

// failed sets the times after a failed one: exponential, with jitter, for ever.
func (s *schedule) failed(now time.Time, source bool) {
	s.failures++
	s.source = source
	s.full = now.Add(retryDelay(s.failures, s.random())).Round(0)
	s.part, s.echo = time.Time{}, time.Time{}
}

// retryDelay returns the wait after so many failures in a row (1 or more), with
// random in [0,1).
func retryDelay(failures int, random float64) time.Duration {
	ceiling := maxRetry
	if doublings := failures - 1; doublings < 10 {
		ceiling = min(ceiling, 2*minRetry<<doublings)
	}
	return minRetry + time.Duration(random*float64(ceiling-minRetry))
}

// watch has the source's hints wake the loop until ctx ends. A source
// reconnects by itself; one that gives up is started again.
func (r *Reconciler) watch(ctx context.Context) {
	for failures := 1; ctx.Err() == nil; failures++ {
		began := time.Now()
		err := r.opts.Source.Watch(ctx, func() { r.wakers.hint.put("") })
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > maxRetry {
			failures = 1
		}
		wait := retryDelay(failures, r.opts.Random())
		r.log.WarnContext(ctx, "The source can't be watched; until it can, changes are seen at the next full comparison.",
			diagnostics.KeyErr, err, "retry_in", wait.Round(time.Millisecond))
		pause(ctx, wait)
	}
}

// loop looks whenever there's a reason to, until ctx ends.
func (r *Reconciler) loop(ctx context.Context, until func() time.Time) {
	// The first look waits for the subscription's own hint, so that nothing
	// that happens between the two is missed.
	r.schedule.begin(time.Now())
	for ctx.Err() == nil {
		look, ok := r.wait(ctx)
		if ok && ctx.Err() == nil {
			r.cycle(ctx, until, look)
		}
	}
}

// wait sleeps until there may be something to do, and returns false if there
// isn't after all.
func (r *Reconciler) wait(ctx context.Context) (look, bool) {
	r.schedule.bound(time.Now())
	nap := longestNap
	if r.history.frozen() {
		nap = frozenNap
	}
	timer := time.NewTimer(max(0, min(time.Until(r.schedule.next()), nap)))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return look{}, false
	case reason := <-r.wakers.full:
		return look{full: true, reason: reason}, true
	case reason := <-r.wakers.retry:
		return look{full: true, reason: reason}, r.schedule.failures > 0 || r.items.any()
	case <-r.wakers.hint:
		if r.schedule.failures > 0 && !r.schedule.source {
			return look{}, false // it's Teleport that failed, and the retry reads everything
		}
		r.debounce(ctx)
		// The first look is a full one. Later, what is registered is listed if it
		// isn't known, but what was refused isn't tried again because of that.
		return look{full: r.schedule.listed.IsZero(), reason: "the source changed"}, true
	case <-r.wakers.change:
		r.schedule.hear(time.Now())
		return look{}, false
	case <-timer.C:
	}
	now := time.Now()
	if !r.schedule.sift.IsZero() && !now.Before(r.schedule.sift) {
		r.sift(now)
	}
	switch {
	case r.history.frozen() && r.history.approved(r.log):
		return look{reason: "deletions were approved"}, true
	case !now.Before(r.schedule.full):
		return look{full: true, reason: "full comparison"}, true
	case !r.schedule.echo.IsZero() && !now.Before(r.schedule.echo):
		return look{full: true, reason: "what is registered was changed"}, true
	case !now.Before(r.schedule.next()):
		return look{reason: "due"}, true
	}
	return look{}, false
}

// debounce waits until hints have ceased.
func (r *Reconciler) debounce(ctx context.Context) {
	last, pause := time.NewTimer(longestQuiet), time.NewTimer(quiet)
	defer last.Stop()
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-last.C:
			return
		case <-pause.C:
			return
		case <-r.wakers.hint:
			pause.Reset(quiet)
		}
	}
}
