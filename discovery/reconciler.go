package discovery

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gravitational/trace"
	"golang.org/x/time/rate"

	"rollcall/diagnostics"
	"rollcall/discovery/plan"
	"rollcall/discovery/resource"
	"rollcall/failure"
	"rollcall/internal/pulse"
)

// What is used unless something else is asked for.
const (
	defaultInterval    = 5 * time.Minute
	defaultConcurrency = 8
	defaultRate        = 200
	defaultStuckAfter  = 10 * time.Minute
)

// Options is what a reconciler consists of.
type Options struct {
	// Name is the service's.
	Name string
	// Owner and SourceName are the values of the labels that mark what is ours.
	// Two services never have the same two.
	Owner, SourceName string
	// Source tells what is wanted.
	Source Source
	// Registries are where resources are registered, one a kind.
	Registries map[resource.Kind]Registry
	// Lease says whether we may write; nil: nobody shares the owner.
	Lease Lease
	// Policy says which changes are allowed.
	Policy plan.Policy
	// Guard limits deletions; what is zero gets its default.
	Guard plan.Guard
	// Interval is the time between full comparisons; zero: 5 minutes.
	Interval time.Duration
	// TTL is the life of a leased resource; zero: they don't expire.
	TTL time.Duration
	// Concurrency is how many writes run side by side; zero: 8.
	Concurrency int
	// Rate is how many calls a second Teleport gets from us; zero: 200.
	Rate float64
	// Store keeps what has to survive a restart; nil: nothing does, and what
	// was there at the start isn't deleted in the hour after it.
	Store StateStore
	// Reporter takes the state of the service; nil: nobody does.
	Reporter diagnostics.Reporter
	// Auditor is told of every write; nil: nobody is.
	Auditor Auditor
	// Metrics are shared by all services; nil: metrics that nobody shows.
	Metrics *Metrics
	// Log is where the service logs.
	Log *slog.Logger
	// Random returns numbers in [0,1), for jitter.
	Random func() float64
	// StuckAfter is how long one comparison may take before Alive says that it
	// hangs; zero: 10 minutes.
	StuckAfter time.Duration
}

// Reconciler keeps what is registered in agreement with what a source wants. It
// satisfies service.Service, Oncer, Renewer and Prober. RenewNow, RetryNow and
// Alive are safe for concurrent use; of the others one runs at a time.
type Reconciler struct {
	opts    Options
	log     *slog.Logger
	limiter *rate.Limiter
	pulse   pulse.Pulse
	wakers  wakers
	heard   heard

	// What follows belongs to the goroutine in Run, Once or a command.

	// seen is what is registered, as far as we know.
	seen registered
	// desired is the memory of the last good read, to be used again.
	desired []plan.Desired
	// goodReads counts them since the work began.
	goodReads int
	// readable is since when the source can be read without a failure; zero: it
	// can't, or that isn't known yet.
	readable time.Time
	absences map[resource.Key]plan.Absence
	items    items
	history  history
	// begun is true after the first plan since the work began.
	begun    bool
	schedule schedule
	said     said

	// failing is what the last comparison couldn't write. Anybody may read it.
	failing atomic.Pointer[[]Failure]
	// frozen is the hash of the deletions that waited for a person at the last
	// comparison. Anybody may read it.
	frozen atomic.Pointer[string]
	// settling is what Settling tells. Anybody may read it.
	settling atomic.Pointer[settling]
}

// Failing returns the writes that failed and haven't succeeded since, as of the
// last comparison: names that are taken and hidden from us are known by nothing
// else. It's safe for concurrent use.
func (r *Reconciler) Failing() []Failure {
	if failures := r.failing.Load(); failures != nil {
		return *failures
	}
	return nil
}

// Frozen returns the hash of the deletions that wait for a person, as of the last
// comparison; empty: none do, and an approval would be for nothing yet. It's safe
// for concurrent use.
func (r *Reconciler) Frozen() string {
	if hash := r.frozen.Load(); hash != nil {
		return *hash
	}
	return ""
}

// Settling says whether something waits for the source to settle, as of the last
// comparison, and when it will have at the earliest; zero: not before its events
// are followed again. It's safe for concurrent use.
func (r *Reconciler) Settling() (waits bool, until time.Time) {
	if at := r.settling.Load(); at != nil {
		return at.waits, at.until
	}
	return false, time.Time{}
}

// New checks the options and returns a reconciler that hasn't begun. Nothing is
// asked of anybody.
func New(opts Options) (*Reconciler, error) {
	switch {
	case opts.Owner == "" || opts.SourceName == "":
		return nil, failure.New(failure.Configuration, "the discovery service %q has no owner or no source to mark its resources with", opts.Name)
	case opts.Source == nil || len(opts.Registries) == 0:
		return nil, failure.New(failure.Configuration, "the discovery service %q has no source, or no kind to register", opts.Name)
	case opts.Log == nil || opts.Random == nil:
		return nil, failure.New(failure.Other, "the discovery service %q was built without a log or randomness", opts.Name)
	}
	if err := opts.Policy.Validate(); err != nil {
		return nil, failure.Wrap(failure.Configuration, err, "discovery service %q: %s", opts.Name, err)
	}
	opts = withDefaults(opts)
	return &Reconciler{
		opts:     opts,
		log:      opts.Log.With(diagnostics.KeyService, opts.Name),
		limiter:  rate.NewLimiter(rate.Limit(opts.Rate), max(1, int(opts.Rate/4))),
		wakers:   newWakers(),
		items:    items{random: opts.Random},
		history:  history{store: opts.Store},
		schedule: schedule{random: opts.Random, interval: opts.Interval},
	}, nil
}

func withDefaults(opts Options) Options {
	opts.Guard = opts.Guard.WithDefaults()
	if opts.Lease == nil {
		opts.Lease = NoLease{}
	}
	if opts.Interval <= 0 {
		opts.Interval = defaultInterval
	}
	if opts.Concurrency <= 0 {
		opts.Concurrency = defaultConcurrency
	}
	if opts.Rate <= 0 {
		opts.Rate = defaultRate
	}
	if opts.StuckAfter <= 0 {
		opts.StuckAfter = defaultStuckAfter
	}
	if opts.Auditor == nil {
		opts.Auditor = noAuditor{}
	}
	if opts.Metrics == nil {
		opts.Metrics = NewMetrics()
	}
	opts.Metrics.announce(opts.Name)
	return opts
}

// Name returns the service's name.
func (r *Reconciler) Name() string { return r.opts.Name }

// RenewNow asks for a full comparison now. It doesn't block.
func (r *Reconciler) RenewNow(reason string) { r.wakers.full.put(reason) }

// Changed tells of a change of what is registered that a registry knows by itself.
// It's followed as one that was heard of is: however many there are, it's a few
// full comparisons. It doesn't block.
func (r *Reconciler) Changed() {
	r.heard.gap(time.Now())
	r.wakers.change.put("")
}

// RetryNow says that the cluster answers again: what failed is tried at once.
// It doesn't block.
func (r *Reconciler) RetryNow(reason string) {
	r.wakers.retry.put(reason)
	for _, watch := range r.wakers.watches {
		watch.put(reason)
	}
}

// Alive returns an error if a comparison hangs.
func (r *Reconciler) Alive() error { return r.pulse.Alive() }

// Run reconciles until ctx ends, and then returns nil. It never gives up;
// failures are logged and reported.
func (r *Reconciler) Run(ctx context.Context) error {
	if _, alone := r.opts.Lease.(NoLease); alone {
		return trace.Wrap(r.opts.Lease.Hold(ctx, r.work))
	}
	if lease, ok := r.opts.Lease.(interface{ Tell(f func(err error)) }); ok {
		lease.Tell(r.waiting)
	}
	r.standBy()
	return trace.Wrap(r.opts.Lease.Hold(ctx, func(working context.Context, until func() time.Time) error {
		err := r.work(working, until)
		if ctx.Err() == nil {
			r.standBy()
		}
		return err
	}))
}

// standBy says that another agent may be at work.
func (r *Reconciler) standBy() {
	r.report(diagnostics.Report{Detail: "standing by: another agent may hold the lease", Unchanged: true})
}

// waiting reports why the lease can't be had; nil: another has it.
func (r *Reconciler) waiting(err error) {
	if err == nil {
		r.standBy()
		return
	}
	r.report(diagnostics.Report{Err: err, Detail: "the lease can't be had, so nothing is written: " + err.Error()})
}

// work reconciles while the lease is held.
func (r *Reconciler) work(ctx context.Context, until func() time.Time) error {
	r.begin(ctx, until)
	ctx, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() { r.watch(ctx) })
	begun := make(chan struct{})
	watching.Go(func() { r.hear(ctx, begun) })
	defer func() {
		cancel()
		watching.Wait()
	}()
	// Who subscribes first and lists then misses nothing, and lists once.
	first := time.NewTimer(firstRead)
	defer first.Stop()
	select {
	case <-begun:
	case <-first.C:
	case <-ctx.Done():
	}
	r.loop(ctx, until)
	return nil
}

// begin forgets what may have changed while we didn't hold the lease.
func (r *Reconciler) begin(ctx context.Context, until func() time.Time) {
	r.seen = registered{}
	r.absences = nil
	r.goodReads = 0
	r.readable = time.Time{}
	r.said.unsettled = unsettled{}
	r.begun = false
	r.items.forget()
	// With a lease, another may have deleted in the last hour.
	shared := !until().IsZero()
	if err := r.history.load(time.Now(), shared); err != nil {
		r.log.WarnContext(ctx, "What was deleted in the last hour isn't known, so none is done for an hour.", diagnostics.KeyErr, err)
	}
}

func (r *Reconciler) report(report diagnostics.Report) {
	if r.opts.Reporter != nil {
		r.opts.Reporter.Report(report)
	}
}
