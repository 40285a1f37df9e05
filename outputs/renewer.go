package outputs

import (
	"context"
	"log/slog"
	"time"

	"github.com/gravitational/trace"

	"rollcall/cluster"
	"rollcall/destination"
	"rollcall/diagnostics"
	"rollcall/failure"
	"rollcall/internal/pulse"
	"rollcall/internal/renewal"
)

// attemptTimeout bounds one attempt, so that a hanging request can't stop an
// output for good. It's long because outputs wait for each other in the issuer.
const attemptTimeout = 5 * time.Minute

// longestNap bounds a sleep, so that due times are met after the host was
// suspended or its clock was set: timers know of neither.
const longestNap = time.Minute

// recipe is what distinguishes one output from another.
type recipe struct {
	name, kind string
	want       expectation
	interval   time.Duration
	// produce asks the cluster for credentials and renders the set.
	produce func(ctx context.Context) (*cluster.Credentials, destination.Set, error)
}

// renewer keeps one set of files fresh. It's the machinery of every output and
// satisfies service.Service, service.Oncer and service.Renewer. Run and Once
// aren't for concurrent use; RenewNow and RetryNow are.
type renewer struct {
	recipe recipe
	deps   Dependencies
	log    *slog.Logger
	mail   *renewal.Mailbox
	pulse  pulse.Pulse

	// What follows belongs to the goroutine in Run or Once.

	// current is the lifetime of what the destination holds.
	current lifetime
	// next is when the next attempt is due, by the wall clock.
	next time.Time
	// failures counts the failed attempts in a row.
	failures  int
	failedLog failureLog
	// once is true if nothing follows a failed attempt.
	once bool
	// warnedCapped is true once the log has said that lives are cut short.
	warnedCapped bool
}

func newRenewer(r recipe, deps Dependencies) *renewer {
	log := deps.Log.With("output", r.name)
	return &renewer{recipe: r, deps: deps, log: log, mail: renewal.NewMailbox(), failedLog: failureLog{log: log}}
}

// Name returns the output's name.
func (r *renewer) Name() string { return r.recipe.name }

// RenewNow asks for a renewal whether it's due or not. It doesn't block;
// requests that come before the renewal begins become one, and one that comes
// while it's under way causes another.
func (r *renewer) RenewNow(reason string) { r.mail.Put(renewal.Request{Reason: reason}) }

// RetryNow asks for another attempt at once if the last one failed, and does
// nothing else: it's for the news that the cluster can be reached again. It
// doesn't block.
func (r *renewer) RetryNow(reason string) {
	r.mail.Put(renewal.Request{Reason: reason, OnlyFailed: true})
}

// Alive returns an error if an attempt hangs: a file system that doesn't answer
// can't be cancelled.
func (r *renewer) Alive() error { return r.pulse.Alive() }

// Run renews the set whenever it's due until ctx is cancelled, and then
// returns nil. It never gives up; failures are logged and reported.
func (r *renewer) Run(ctx context.Context) error {
	reason := r.resume(ctx)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		// Timers stand still while the host is suspended: due times are wall
		// clock times, and naps are short.
		timer.Reset(min(time.Until(r.next), longestNap))
		due := false
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
			due = !time.Now().Before(r.next)
		case <-r.mail.Full():
		}
		asked, ok := r.mail.Take()
		switch {
		case ok && (!asked.OnlyFailed || r.failures > 0):
			reason = asked.Reason
		case !due:
			continue
		}
		if ctx.Err() != nil {
			return nil
		}
		// The reason is logged and goes to hooks; a retry keeps the one that
		// the first attempt had.
		if err := r.attempt(ctx, reason); err == nil {
			reason = "due"
		}
	}
}

// Once renews the set one time, due or not.
func (r *renewer) Once(ctx context.Context) error {
	r.once = true
	r.current, _ = r.inspect(ctx)
	return trace.Wrap(r.attempt(ctx, "one-shot"))
}

// resume looks at what the destination holds and sets when the first attempt
// is due. It returns the reason of that attempt.
func (r *renewer) resume(ctx context.Context) string {
	now := time.Now()
	current, reason := r.inspect(ctx)
	r.current = current
	if reason == "" {
		r.next = renewal.Schedule(now, current.issued, current.notAfter, r.recipe.interval, r.jitter()).Round(0)
	}
	if !r.next.After(now) {
		r.next = now.Round(0)
		if reason == "" {
			reason = "due"
		}
		return reason
	}
	r.log.InfoContext(ctx, "The credentials in place aren't due yet.",
		"destination", r.deps.Destination.String(), "not_after", current.notAfter, "next", r.next)
	r.deps.Reporter.Report(diagnostics.Report{
		NotAfter: current.notAfter, Next: r.next, Unchanged: true, Detail: "the credentials in place aren't due yet",
	})
	return "due"
}

func (r *renewer) inspect(ctx context.Context) (lifetime, string) {
	return inspect(time.Now(), r.recipe.want, func(name string) ([]byte, error) {
		return r.deps.Destination.Read(ctx, name)
	})
}

// attempt renews once, and logs, reports and schedules what comes next.
func (r *renewer) attempt(ctx context.Context, reason string) error {
	r.pulse.Work("renewing", r.deps.StuckAfter)
	defer r.pulse.Rest()
	began := time.Now()
	creds, result, err := r.renew(ctx)
	took := time.Since(began)
	if ctx.Err() != nil && err != nil {
		// Stopping isn't a failure.
		return trace.Wrap(ctx.Err())
	}
	if err != nil {
		r.failed(ctx, err, took)
		return err
	}
	now, notAfter := time.Now(), creds.NotAfter()
	r.current = lifetime{issued: now, notAfter: notAfter}
	r.failures = 0
	r.failedLog.worked()
	r.next = later(renewal.Schedule(now, now, notAfter, r.recipe.interval, r.jitter()), now.Add(renewal.MinRetry)).Round(0)
	r.log.InfoContext(ctx, "Credentials renewed.", "reason", reason, "destination", r.deps.Destination.String(),
		"not_after", notAfter, "next", r.next, "took", took.Round(time.Millisecond))
	r.warnCapped(ctx, notAfter.Sub(began))
	r.deps.Reporter.Report(diagnostics.Report{NotAfter: notAfter, Next: r.next, Took: took, Detail: "renewed: " + reason})
	r.tell(ctx, creds, result, reason)
	return nil
}

// renew gets new credentials and puts them in place. The destination is
// prepared first, so that nothing is issued that then has nowhere to go.
func (r *renewer) renew(ctx context.Context) (*cluster.Credentials, destination.Result, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, attemptTimeout, failure.New(failure.Unreachable,
		"nothing came of it within %s: the bot has no identity yet, or the cluster or the destination doesn't answer", attemptTimeout))
	defer cancel()
	fail := func(err error) (*cluster.Credentials, destination.Result, error) {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, destination.Result{}, trace.Wrap(err)
	}
	if err := r.deps.Destination.Prepare(ctx); err != nil {
		return fail(err)
	}
	creds, set, err := r.recipe.produce(ctx)
	if err != nil {
		return fail(err)
	}
	if err := checkIssued(time.Now(), creds.NotAfter()); err != nil {
		return fail(err)
	}
	result, err := r.deps.Destination.Write(ctx, set)
	if err != nil {
		return fail(err)
	}
	return creds, result, nil
}

// failed notes a failure and sets when the next attempt is due.
func (r *renewer) failed(ctx context.Context, err error, took time.Duration) {
	r.failures++
	now := time.Now()
	if !r.once {
		r.next = now.Add(renewal.RetryDelay(r.failures, r.current.left(now), r.deps.Random())).Round(0)
	}
	r.failedLog.failed(ctx, err, r.current, r.next)
	r.deps.Reporter.Report(diagnostics.Report{Err: err, NotAfter: r.current.notAfter, Next: r.next, Took: took})
}

// warnCapped says once that certificates are shorter than was asked for.
func (r *renewer) warnCapped(ctx context.Context, life time.Duration) {
	if r.warnedCapped || life >= r.recipe.want.ttl*9/10 {
		return
	}
	r.warnedCapped = true
	r.log.WarnContext(ctx, "The cluster issues certificates with a shorter life than was asked for; renewing after two thirds of it at the latest. The roles' max_session_ttl may be the cause.",
		"asked", r.recipe.want.ttl, "got", life.Round(time.Second))
}

// tell calls AfterWrite if something changed.
func (r *renewer) tell(ctx context.Context, creds *cluster.Credentials, result destination.Result, reason string) {
	if r.deps.AfterWrite == nil || !result.Changed {
		return
	}
	r.pulse.Work("telling programs of the change", r.deps.StuckAfter)
	r.deps.AfterWrite(ctx, Change{
		Output: r.recipe.name, Type: r.recipe.kind,
		Destination: r.deps.Destination.String(), DirectoryPath: r.deps.DirectoryPath,
		Files: result.Files, NotAfter: creds.NotAfter(), Serial: serial(creds.X509), Reason: reason,
	})
}

// jitter returns a number in [-1,1).
func (r *renewer) jitter() float64 { return 2*r.deps.Random() - 1 }

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
