package tunnel

import (
	"context"
	"log/slog"
	"time"

	"rollcall/diagnostics"
	"rollcall/failure"
	"rollcall/internal/pulse"
	"rollcall/internal/renewal"
)

const (
	// attemptTimeout bounds one attempt to get a certificate.
	attemptTimeout = 2 * time.Minute
	// longestNap bounds a sleep, so that due times are met after the host was
	// suspended or its clock was set.
	longestNap = time.Minute
	// longestRetry is the longest wait after a failure: an application that is
	// registered later is to be found soon.
	longestRetry = 15 * time.Second
	// nudgePause is the least time between attempts that clients cause.
	nudgePause = time.Second
	// barredPause is the time between attempts where certificates come, and
	// can't be used.
	barredPause = time.Minute
	// unprovenLife is how long a route without a certificate waits for somebody
	// to ask for it again.
	unprovenLife = time.Minute
)

// Source gives certificates for one application.
type Source interface {
	// Fetch returns a certificate: a new one, or the one that there is.
	Fetch(ctx context.Context) (Routed, error)
}

// doubter is a Source that keeps what certificates rest on from one to the next.
type doubter interface {
	// Doubt has certificates rest on nothing that's older than this moment: the last
	// one isn't taken. It's safe for concurrent use.
	Doubt()
}

// keeper keeps a certificate fresh for an upstream. Run is called once;
// everything else is safe for concurrent use.
type keeper struct {
	source   Source
	upstream *upstream
	interval time.Duration
	// polls says that a source that gives the same certificate again has to be
	// asked at each interval all the same.
	polls    bool
	reporter diagnostics.Reporter
	// log names the application in each line.
	log    *slog.Logger
	detail func() string
	random func() float64

	mail  *renewal.Mailbox
	pulse pulse.Pulse
	asked asking
	// unused is asked before a renewal that is due whether nobody has asked for
	// the application for that long; true ends the keeper. Nil: the certificate
	// is kept whether it's used or not.
	unused func(idle time.Duration) bool
	// usable says why a certificate can't be used here. Nil: all can be.
	usable func(Routed) error

	// What follows belongs to run.
	failures int
	lastErr  string
	repeated int
	notAfter time.Time
	next     time.Time
	// unknown says that there's no such application, and no certificate for it.
	unknown bool
}

// run gets certificates until ctx ends.
func (k *keeper) run(ctx context.Context) {
	reason := "start"
	timer := time.NewTimer(0)
	defer timer.Stop()
	defer func() {
		// Whoever waits for the first certificate waits in vain.
		if _, _, err, _ := k.upstream.peek(); err == nil && ctx.Err() != nil { //nolint:dogsled // What was said before stands.
			k.upstream.fail(errStopping())
		}
	}()
	for {
		timer.Reset(min(time.Until(k.next), longestNap))
		due := false
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			due = !time.Now().Before(k.next)
		case <-k.mail.Full():
		}
		asked, ok := k.mail.Take()
		switch {
		case ok && (!asked.OnlyFailed || k.failures > 0):
			reason = asked.Reason
		case !due:
			continue
		case k.unused != nil && k.unused(k.longestIdle()):
			return
		}
		if ctx.Err() != nil {
			return
		}
		if k.attempt(ctx, reason) {
			reason = "due"
		} else if k.unknown && k.unused != nil && k.unused(0) {
			return
		}
	}
}

// longestIdle is for how long a certificate that nobody uses is kept.
func (k *keeper) longestIdle() time.Duration {
	if k.notAfter.IsZero() {
		return min(k.interval, unprovenLife)
	}
	return k.interval
}

// attempt asks for a certificate once.
func (k *keeper) attempt(ctx context.Context, reason string) bool {
	k.pulse.Work("renewing", attemptTimeout+time.Minute)
	defer k.pulse.Rest()
	began := time.Now()
	bounded, cancel := context.WithTimeoutCause(ctx, attemptTimeout, failure.New(failure.Unreachable,
		"nothing came of it within %s: the bot has no identity yet, or the cluster doesn't answer", attemptTimeout))
	defer cancel()
	routed, err := k.source.Fetch(bounded)
	switch {
	case ctx.Err() != nil:
		return false // stopping isn't a failure
	case err != nil && bounded.Err() != nil:
		err = context.Cause(bounded)
	case err == nil && !time.Now().Before(routed.NotAfter):
		err = failure.New(failure.Transient, "the certificate had expired before it came: check this host's clock")
	case err == nil && k.usable != nil:
		if err = k.usable(routed); err != nil {
			k.bar()
		}
	}
	took := time.Since(began)
	if err != nil {
		k.failed(ctx, err, took)
		return false
	}
	k.succeeded(ctx, routed, reason, took)
	return true
}

func (k *keeper) succeeded(ctx context.Context, routed Routed, reason string, took time.Duration) {
	now := time.Now()
	current, _, _, _ := k.upstream.peek() //nolint:dogsled // Only the certificate matters.
	same := current != nil && current.Serial == routed.Serial
	k.failures, k.lastErr, k.repeated, k.unknown, k.notAfter = 0, "", 0, false, routed.NotAfter
	k.next = now.Add(k.interval).Round(0)
	if !k.polls {
		k.next = renewal.Schedule(now, now, routed.NotAfter, k.interval, 2*k.random()-1).Round(0)
	}
	if k.next.After(routed.NotAfter) {
		k.next = routed.NotAfter.Round(0) // why there's no other is to be known by then
	}
	report := diagnostics.Report{NotAfter: routed.NotAfter, Next: k.next, Took: took, Detail: k.detail(), Unchanged: same}
	if same {
		k.upstream.same()
		k.reporter.Report(report)
		return
	}
	k.upstream.set(routed)
	k.log.InfoContext(ctx, "The tunnel has a new certificate.", "reason", reason,
		"not_after", routed.NotAfter, "next", k.next, "took", took.Round(time.Millisecond))
	k.reporter.Report(report)
}

func (k *keeper) failed(ctx context.Context, err error, took time.Duration) {
	now := time.Now()
	k.failures++
	delay := renewal.RetryDelay(k.failures, k.notAfter.Sub(now), k.random())
	k.next = now.Add(min(delay, longestRetry)).Round(0)
	if k.polls {
		k.next = now.Add(min(k.interval, longestRetry)).Round(0)
	}
	if k.asked.barred(now) {
		k.next = now.Add(barredPause).Round(0)
	}
	k.unknown = failure.KindOf(err) == failure.NotFound && !now.Before(k.notAfter)
	k.upstream.fail(err)
	k.logFailure(ctx, err, now)
	k.reporter.Report(diagnostics.Report{Err: err, NotAfter: k.notAfter, Next: k.next, Took: took})
}

// logFailure logs a new failure, and a repeated one now and then.
func (k *keeper) logFailure(ctx context.Context, err error, now time.Time) {
	if err.Error() != k.lastErr {
		k.lastErr, k.repeated = err.Error(), 0
	}
	k.repeated++
	level := slog.LevelWarn
	if n := k.repeated; n > 1 && (n < 8 || n&(n-1) != 0) {
		level = slog.LevelDebug
	}
	message := "The tunnel has no certificate."
	if now.Before(k.notAfter) {
		message = "Renewing the tunnel's certificate failed; the one in use is still valid."
	}
	k.log.Log(ctx, level, message, diagnostics.KeyErr, err, "kind", failure.KindOf(err).String(),
		"retry_in", k.next.Sub(now).Round(time.Millisecond), "repeated", k.repeated)
}

// renewNow asks for a new certificate; it doesn't block.
func (k *keeper) renewNow(reason string) { k.mail.Put(renewal.Request{Reason: reason}) }

// retryNow asks for another attempt if the last one failed; it doesn't block.
func (k *keeper) retryNow(reason string) {
	k.mail.Put(renewal.Request{Reason: reason, OnlyFailed: true})
}
