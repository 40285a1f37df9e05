package identity

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/gravitational/trace"

	"rollcall/cluster"
	"rollcall/diagnostics"
	"rollcall/failure"
	"rollcall/internal/pulse"
)

// Joiner gets identities from the cluster.
type Joiner interface {
	// Join exchanges a token for credentials.
	Join(ctx context.Context, req cluster.JoinRequest) (*cluster.Credentials, error)
	// Renew exchanges credentials for their next generation. It calls begin
	// just before the request is sent, and sends nothing if that fails.
	Renew(ctx context.Context, current *cluster.Credentials, ttl time.Duration, begin func() error) (*cluster.Credentials, error)
	// Generation returns the server's count for the bot; known is false where
	// it can't be read.
	Generation(ctx context.Context, current *cluster.Credentials) (generation uint64, known bool, err error)
}

// Options configure a Keeper.
type Options struct {
	Joiner   Joiner
	Store    Store
	Tokens   TokenSource
	Method   string
	TTL      time.Duration
	Interval time.Duration
	Reporter diagnostics.Reporter
	Log      *slog.Logger
	// Jitter returns a number in [0, 1).
	Jitter func() float64
	// OnRenewed, if set, is called after a new identity was published. It must
	// not block.
	OnRenewed func(*cluster.Credentials)
}

// Keeper keeps the bot's identity: it loads the stored one or joins, renews
// ahead of time, and publishes to whoever waits. An identity is durable before
// anyone sees it. Safe for concurrent use; Run or Once by one caller at a time.
type Keeper struct {
	opts  Options
	renew chan string
	pulse pulse.Pulse

	// The following belong to the goroutine that calls Run or Once.
	stored   Stored
	doubt    bool // the cluster may hold a later generation than stored has
	stale    bool // the cluster has said that it does
	unsaved  int  // how often storing the current identity failed; 0: it's stored
	failures int

	mu      sync.Mutex // protects the following
	current *cluster.Credentials
	changed chan struct{} // closed and replaced when current changes
	due     time.Time     // of the next attempt
	saveAt  time.Time     // of the next attempt to store; zero: nothing to store
}

// NewKeeper loads the stored identity, if any, and publishes it if it's still
// valid. Nothing is asked of the cluster.
func NewKeeper(opts Options) (*Keeper, error) {
	k := &Keeper{opts: opts, renew: make(chan string, 1), changed: make(chan struct{})}
	stored, intent, err := opts.Store.Load()
	if errors.Is(err, ErrEmpty) {
		if intent != nil {
			opts.Log.Warn("A join was cut off before the identity was stored. If the cluster had already answered, the token is spent: delete and recreate the bot, or give it a new token.",
				"since", intent.Since)
		}
		return k, nil
	}
	if err != nil {
		return nil, trace.Wrap(err)
	}
	k.stored = *stored
	if k.opts.Method == "" {
		// A file without an onboarding section is enough for a bot that has
		// joined: it goes on as it began.
		k.opts.Method = stored.JoinMethod
	}
	k.doubt = intent != nil && stored.Credentials.Renewable()
	k.stale = k.doubt && intent.Stale
	switch {
	case k.stale:
		opts.Log.Warn("The cluster has refused the stored identity for its generation; it isn't presented again unless the cluster holds the same one.",
			"generation", stored.Credentials.Generation(), "since", intent.Since)
	case k.doubt:
		opts.Log.Warn("A renewal was cut off before its reply was stored; the cluster is asked which generation it holds before this one is presented.",
			"generation", stored.Credentials.Generation(), "since", intent.Since)
	}
	if k.changedToken() {
		opts.Log.Info("The join token changed; the stored identity is discarded and the bot joins afresh.")
		return k, nil
	}
	if stored.JoinMethod != k.opts.Method {
		opts.Log.Info("The join method changed; the bot joins afresh.", "was", stored.JoinMethod, "is", k.opts.Method)
		return k, nil
	}
	k.publish(stored.Credentials, due(stored.Credentials, time.Now(), opts.Interval, opts.Jitter()))
	return k, nil
}

// changedToken says whether the configuration names a token other than the one
// that the stored identity came from. A token that is absent or unreadable is
// unchanged: operators delete spent tokens.
func (k *Keeper) changedToken() bool {
	if k.opts.Method != cluster.JoinMethodToken || k.stored.TokenHash == "" {
		return false
	}
	token, err := k.opts.Tokens.Token()
	return err == nil && HashToken(token) != k.stored.TokenHash
}

// Name is the keeper's name among the agent's services.
func (k *Keeper) Name() string { return "identity" }

// Current returns the identity, or nil before the first.
func (k *Keeper) Current() *cluster.Credentials {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.current
}

// Changed returns a channel that is closed when the identity changes next.
func (k *Keeper) Changed() <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.changed
}

// Wait returns the current identity, and waits for one that is valid.
func (k *Keeper) Wait(ctx context.Context) (*cluster.Credentials, error) {
	for {
		k.mu.Lock()
		current, changed := k.current, k.changed
		k.mu.Unlock()
		if current != nil && time.Now().Before(current.NotAfter()) {
			return current, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, failure.Wrap(failure.Transient, ctx.Err(), "the bot has no valid identity yet")
		}
	}
}

// RenewNow asks Run to renew without waiting for the due time. It doesn't
// block; several requests become one.
func (k *Keeper) RenewNow(reason string) {
	select {
	case k.renew <- reason:
	default:
	}
}

// Run renews until ctx is cancelled. It returns an error only if the bot has no
// identity and the cluster, or the configuration, says that it can't get one.
func (k *Keeper) Run(ctx context.Context) error {
	k.announce()
	for {
		reason, storing, ok := k.awaitDue(ctx)
		switch {
		case !ok:
			return nil
		case storing:
			k.storeAgain()
			continue
		}
		err := k.attempt(ctx, reason)
		switch {
		case err == nil:
		case k.hopeless(err):
			return trace.Wrap(err) // the caller says so, once
		default:
			k.logFailure(err, "next_attempt", k.next())
		}
	}
}

// longestNap bounds a sleep, so that due times are met after the host was
// suspended or its clock was set: timers know of neither.
const longestNap = time.Minute

// awaitDue waits until an attempt is due, or asked for, and says why; storing
// means that only storing is due. ok is false when ctx has ended.
func (k *Keeper) awaitDue(ctx context.Context) (reason string, storing, ok bool) {
	for ctx.Err() == nil {
		next, saveAt := k.times()
		now := time.Now()
		switch {
		case !now.Before(next):
			return "due", false, true
		case !saveAt.IsZero() && !now.Before(saveAt):
			return "", true, true
		case !saveAt.IsZero() && saveAt.Before(next):
			next = saveAt
		}
		timer := time.NewTimer(min(time.Until(next), longestNap))
		select {
		case <-ctx.Done():
		case reason := <-k.renew:
			timer.Stop()
			return reason, false, true
		case <-timer.C:
		}
		timer.Stop()
	}
	return "", false, false
}

// times returns when the next attempt is due, and when storing is.
func (k *Keeper) times() (next, saveAt time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.due, k.saveAt
}

// Once makes sure that there's an identity that isn't due for renewal.
func (k *Keeper) Once(ctx context.Context) error {
	if time.Now().Before(k.next()) {
		k.announce()
		return nil
	}
	err := k.attempt(ctx, "oneshot")
	switch {
	case err == nil && k.unsaved > 0:
		// The process ends soon, and with it the only copy.
		return k.saveAgain()
	case err == nil && !k.usable():
		return trace.Wrap(ctx.Err()) // stopped
	case err == nil:
		return nil
	}
	k.logFailure(err)
	if k.usable() {
		// The old identity still serves; the outputs may work with it.
		return nil
	}
	return trace.Wrap(err)
}

// announce reports a stored identity that isn't due.
func (k *Keeper) announce() {
	current := k.Current()
	if current == nil || !time.Now().Before(k.next()) {
		return
	}
	k.opts.Reporter.Report(diagnostics.Report{Unchanged: true, NotAfter: current.NotAfter(), Next: k.next(), Detail: k.detail(current)})
	k.opts.Log.Info("The stored identity is valid.", "bot", current.Username(), "generation", current.Generation(),
		"not_after", current.NotAfter(), "next_renewal", k.next())
}

func (k *Keeper) detail(creds *cluster.Credentials) string {
	return "bot " + creds.Username() + " of " + creds.ClusterName + ", join method " + k.opts.Method
}

// hopeless says whether trying again makes no sense until someone changes
// something, and nothing valid is left to serve.
func (k *Keeper) hopeless(err error) bool {
	if k.usable() {
		return false
	}
	switch failure.KindOf(err) {
	case failure.Refused, failure.Configuration, failure.Trust:
		return true
	default:
		return false
	}
}

func (k *Keeper) usable() bool {
	current := k.Current()
	return current != nil && time.Now().Before(current.NotAfter())
}

// next is when the next attempt is due.
func (k *Keeper) next() time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.due
}

// stuckAfter is how long an attempt may take before Alive says that it hangs:
// more than all the time limits of its calls together.
const stuckAfter = 10 * time.Minute

// Alive returns an error if an attempt hangs.
func (k *Keeper) Alive() error { return k.pulse.Alive() }

// attempt renews or joins, once, and reports. The caller logs the error.
func (k *Keeper) attempt(ctx context.Context, reason string) error {
	k.pulse.Work("getting an identity", stuckAfter)
	defer k.pulse.Rest()
	began, previous := time.Now(), k.Current()
	creds, err := k.obtain(ctx)
	if ctx.Err() != nil && err != nil {
		return nil // stopping; the intent, if any, tells the next run
	}
	k.settle(creds, err)
	report := diagnostics.Report{Err: err, Took: time.Since(began), Next: k.next()}
	if current := k.Current(); current != nil {
		report.NotAfter, report.Detail = current.NotAfter(), k.detail(current)
	}
	k.opts.Reporter.Report(report)
	if err != nil {
		return err
	}
	message := "The identity was renewed."
	if previous == nil {
		message = "The bot joined the cluster."
	}
	k.opts.Log.Info(message, "reason", reason, "bot", creds.Username(), "generation", creds.Generation(),
		"not_after", creds.NotAfter(), "next_renewal", k.next())
	if k.opts.OnRenewed != nil {
		k.opts.OnRenewed(creds)
	}
	return nil
}

// settle publishes the outcome and computes when the next attempt is due.
func (k *Keeper) settle(creds *cluster.Credentials, err error) {
	if err == nil {
		k.failures = 0
		k.publish(creds, dueAfter(creds, time.Now(), k.opts.Interval, k.opts.Jitter()))
		return
	}
	k.failures++
	k.mu.Lock()
	defer k.mu.Unlock()
	var left time.Duration
	if k.current != nil {
		left = time.Until(k.current.NotAfter())
	}
	k.due = time.Now().Add(retryIn(k.failures, left, k.opts.Jitter())).Round(0)
}

// publish makes an identity current and wakes those who wait.
func (k *Keeper) publish(creds *cluster.Credentials, next time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.current = creds
	k.due = next.Round(0) // by the wall clock: the other one stands still in a suspended host
	close(k.changed)
	k.changed = make(chan struct{})
}

func (k *Keeper) logFailure(err error, attrs ...any) {
	attrs = append([]any{"err", err, "kind", failure.KindOf(err)}, attrs...)
	current := k.Current()
	switch {
	case current == nil:
		k.opts.Log.Error("The bot couldn't join.", attrs...)
	case !k.usable():
		k.opts.Log.Error("The bot's identity has expired and couldn't be renewed.", append(attrs, "expired", current.NotAfter())...)
	default:
		k.opts.Log.Warn("The identity couldn't be renewed; the current one serves on.", append(attrs, "not_after", current.NotAfter())...)
	}
}
