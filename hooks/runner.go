package hooks

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/gravitational/trace"

	"rollcall/diagnostics"
	"rollcall/failure"
	"rollcall/internal/pulse"
)

// Reporter hears what the last run of an output's hooks came to; the output's
// entry on the board is one. A failed hook leaves the output ready.
type Reporter interface {
	Hook(err error, detail string)
}

// RunnerOptions are what a Runner works with.
type RunnerOptions struct {
	// Output is the output's name.
	Output string
	// Hooks run in their order.
	Hooks []Options
	// Directory holds programs that run after them, in the order of their
	// names; empty: none.
	Directory string
	// Interval is the time between two renewals; the retries fit into it.
	Interval time.Duration
	// Reporter may be nil.
	Reporter Reporter
	// Metrics may be shared by all runners; nil: nothing is counted.
	Metrics *Metrics
	// Getenv is the agent's own environment, of which PATH, HOME and LANG are
	// passed on.
	Getenv func(string) string
	// Units is shared by the runners of all outputs, so that a unit is reloaded
	// once for all of them; nil: each hook asks systemd itself.
	Units *Units
	// Ledger is shared by the runners of all outputs; nil: what was cut off is
	// forgotten.
	Ledger *Ledger
	// Current describes the set in place as if all of it had just changed; a
	// failure.NotFound if there's none. It goes with Ledger.
	Current func(ctx context.Context) (Change, error)
	Log     *slog.Logger
}

// Runner runs the hooks of one output after each change. It satisfies
// service.Service, service.Oncer and service.Prober. Changed is safe for concurrent use with
// all else; of Run, Once and Test only one runs at a time.
type Runner struct {
	options RunnerOptions
	log     *slog.Logger
	jobs    jobs
	pids    mainPIDs
	tasks   []task
	ending  ending
	// unended are programs that couldn't be ended, by their command. It belongs
	// to whoever runs hooks.
	unended map[string]<-chan struct{}
	pulse   pulse.Pulse
	// missed are the hooks that are made up for; they belong to Run.
	missed entry

	// wake holds one value while a change waits.
	wake chan struct{}
	// mu protects waiting, the change that hooks weren't told of yet.
	mu      sync.Mutex
	waiting *Change
}

// NewRunner returns a runner, or an error of kind failure.Configuration if this
// process lacks the rights that a hook needs for certain.
func NewRunner(options RunnerOptions) (*Runner, error) {
	r := &Runner{
		options: options, jobs: manager{}, pids: manager{},
		log:  options.Log.With("output", options.Output),
		wake: make(chan struct{}, 1),

		ending:  ending{kill: killGroup, patience: endPatience},
		unended: map[string]<-chan struct{}{},
	}
	if options.Units != nil {
		r.jobs = options.Units
	}
	for i, o := range options.Hooks {
		if err := o.Validate(); err != nil {
			return nil, failure.Wrap(failure.Configuration, err, "on_renewal[%d]: %s", i, err)
		}
		if o.User != "" && !mayChangeUser() {
			return nil, failure.New(failure.Configuration, "on_renewal[%d]: %s", i, userNeeds(o.User))
		}
		// Each run looks again and refuses it then: a hook that is in doubt keeps
		// nobody's credentials from being renewed.
		if _, err := checkPrivileged(o); err != nil && !errors.Is(err, os.ErrNotExist) {
			r.log.Warn("A hook won't be run as long as others could change it.", "hook", o.String(), "err", err)
		}
		r.tasks = append(r.tasks, task{label: o.String(), options: o})
	}
	if options.Directory != "" && !filepath.IsAbs(options.Directory) {
		return nil, failure.New(failure.Configuration, "hooks_dir is %q: give an absolute path", options.Directory)
	}
	if r.options.Metrics == nil {
		r.options.Metrics = NewMetrics()
	}
	for _, t := range r.tasks {
		r.options.Metrics.announce(options.Output, t)
	}
	return r, nil
}

// Name returns "hooks/OUTPUT".
func (r *Runner) Name() string { return "hooks/" + r.options.Output }

// Alive returns an error if the hooks take longer than all of their timeouts
// together: something that should have ended at its timeout hasn't.
func (r *Runner) Alive() error { return r.pulse.Alive() }

// Changed asks for a run. It doesn't block: changes that come before the hooks
// are run become one, with the facts of the last and the files of all.
func (r *Runner) Changed(change Change) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.waiting != nil {
		change = change.after(r.waiting.Files)
	}
	r.waiting = &change
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *Runner) take() (Change, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-r.wake:
	default:
	}
	if r.waiting == nil {
		return Change{}, false
	}
	change := *r.waiting
	r.waiting = nil
	return change, true
}

// Run runs the hooks after each change until ctx is cancelled; what runs then
// is killed, and made up for by the next Run. It returns nil.
func (r *Runner) Run(ctx context.Context) error {
	r.makeUp(ctx)
	// missed are the files that the failed hooks weren't told of.
	var missed []string
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.wake:
		}
		if change, ok := r.take(); ok {
			change = change.after(missed)
			missed = nil
			if !r.serve(ctx, change) {
				missed = change.Files
			}
		}
	}
}

// serve runs the hooks for one change, and those that fail again, until all
// have worked, the attempts are used up, or the next change is there. It says
// whether all have worked.
func (r *Runner) serve(ctx context.Context, change Change) bool {
	tasks, err := r.list()
	tasks = r.pending(tasks, change)
	failed := r.round(ctx, tasks, change, err)
	r.note(change, failed)
	for attempt := 1; len(failed.tasks) > 0 || failed.err != nil; attempt++ {
		if ctx.Err() != nil {
			return false
		}
		delay, again := retryDelay(attempt, r.options.Interval)
		r.complain(ctx, failed.err, attempt, delay, again)
		if !again || !r.pause(ctx, delay) {
			return false
		}
		if failed.unlisted {
			// The directory couldn't be read; what came before it may have
			// worked, and isn't run again.
			inDirectory, err := r.listDirectory()
			failed = r.round(ctx, append(failed.tasks, inDirectory...), change, err)
		} else {
			failed = r.round(ctx, failed.tasks, change, nil)
		}
		r.note(change, failed)
	}
	r.report(nil, "all hooks ran: "+change.Reason)
	return true
}

// list returns what there is to do. An error is about the directory alone; the
// hooks before it are returned.
func (r *Runner) list() ([]task, error) {
	inDirectory, err := r.listDirectory()
	return append(slices.Clip(r.tasks), inDirectory...), err
}

func (r *Runner) listDirectory() ([]task, error) {
	if r.options.Directory == "" {
		return nil, nil
	}
	r.pulse.Work("reading "+r.options.Directory, roundSlack)
	defer r.pulse.Rest()
	tasks, err := programsIn(r.options.Directory)
	if err != nil {
		return nil, failure.Wrap(failure.KindOf(err), err, "hooks_dir: %s", err)
	}
	return tasks, nil
}

// failures are what is to be done again after a round.
type failures struct {
	tasks []task
	// unlisted says that the directory couldn't be read.
	unlisted bool
	// err is the first failure; nil: there was none.
	err error
}

// round runs tasks one after the other. One that fails doesn't keep the others
// from running: the failure of one stays the failure of one.
func (r *Runner) round(ctx context.Context, tasks []task, change Change, listing error) failures {
	r.pulse.Work("running hooks", roundLimit(tasks))
	defer r.pulse.Rest()
	var failed failures
	for i, t := range tasks {
		if ctx.Err() != nil {
			return failures{tasks: append(failed.tasks, tasks[i:]...), unlisted: listing != nil, err: ctx.Err()}
		}
		if result := r.runOne(ctx, t, change); result.Err != nil {
			failed.tasks = append(failed.tasks, t)
			if failed.err == nil {
				failed.err = failure.Wrap(failure.KindOf(result.Err), result.Err, "%s: %s", t.label, result.Err)
			}
		}
	}
	if listing != nil {
		failed.unlisted = true
		if failed.err == nil {
			failed.err = listing
		}
	}
	return failed
}

// roundSlack is for what isn't bounded by a hook's timeout, above all files that
// are looked at.
const roundSlack = time.Minute

// roundLimit is how long a round may take before the runner counts as stuck.
func roundLimit(tasks []task) time.Duration {
	limit := roundSlack
	for _, t := range tasks {
		limit += t.options.Timeout + endPatience + pipePatience
	}
	return limit
}

// runOne runs one task, and logs and counts it.
func (r *Runner) runOne(ctx context.Context, t task, change Change) Result {
	result := r.do(ctx, t, change)
	if result.Err != nil && ctx.Err() != nil {
		return result // stopping isn't a failure
	}
	r.options.Metrics.count(r.options.Output, result)
	log := r.log.With("hook", t.label)
	for _, line := range result.Output {
		log.InfoContext(ctx, "A hook printed.", "line", line)
	}
	if result.Err != nil {
		log.WarnContext(ctx, "A hook failed; the credentials are in place.",
			diagnostics.KeyErr, result.Err, "took", result.Took.Round(time.Millisecond))
		return result
	}
	log.InfoContext(ctx, "A hook ran.", "reason", change.Reason, "took", result.Took.Round(time.Millisecond))
	return result
}

// complain reports a failed round, and logs the last one.
func (r *Runner) complain(ctx context.Context, err error, attempt int, delay time.Duration, again bool) {
	if again {
		r.log.DebugContext(ctx, "Hooks are tried again.", "attempt", attempt, "retry_in", delay)
		r.report(err, fmt.Sprintf("attempt %d of %d; the next one in %s", attempt, maxAttempts, delay))
		return
	}
	r.log.ErrorContext(ctx, "Hooks failed for the last time; they run again after the next change.", diagnostics.KeyErr, err, "attempts", attempt)
	r.report(err, fmt.Sprintf("given up after %d attempts, until the next change", attempt))
}

func (r *Runner) report(err error, detail string) {
	if r.options.Reporter != nil {
		r.options.Reporter.Hook(err, detail)
	}
}

// pause waits for delay. It returns false if the next change comes first, which
// is left for Run to take, or the end.
func (r *Runner) pause(ctx context.Context, delay time.Duration) bool {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	case <-r.wake:
		// Put back, unless another change has done so meanwhile.
		select {
		case r.wake <- struct{}{}:
		default:
		}
		return false
	}
}

// Once runs the hooks one time if a change waits, and returns the first
// failure.
func (r *Runner) Once(ctx context.Context) error {
	change, ok := r.take()
	if !ok {
		return nil
	}
	tasks, err := r.list()
	failed := r.round(ctx, tasks, change, err)
	r.report(failed.err, change.Reason)
	r.note(change, failed)
	if failed.err == nil {
		return nil
	}
	return trace.Wrap(failure.Wrap(failure.KindOf(failed.err), failed.err,
		"the credentials are in place, but a hook failed: %s", failed.err))
}

// Test runs all hooks one time, whether anything changed or not, and returns a
// result each. An error means that the directory of hooks can't be used.
func (r *Runner) Test(ctx context.Context, change Change) ([]Result, error) {
	tasks, err := r.list()
	var results []Result
	for _, t := range tasks {
		if ctx.Err() != nil {
			return results, errors.Join(err, trace.Wrap(ctx.Err()))
		}
		results = append(results, r.do(ctx, t, change))
	}
	return results, err
}
