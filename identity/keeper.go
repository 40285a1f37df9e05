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
	// Renew exchanges credentials for their next generation.
	Renew(ctx context.Context, current *cluster.Credentials, ttl time.Duration) (*cluster.Credentials, error)
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

	mu       sync.Mutex // protects the following
	current  *cluster.Credentials
	changed  chan struct{} // closed and replaced when current changes
	stored   Stored
	unsaved  bool
	doubt    bool
	failures int
	due      time.Time
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
	k.doubt = intent != nil && stored.Credentials.Renewable()
	if k.doubt {
		opts.Log.Warn("A renewal was cut off before its reply was stored; the cluster is asked which generation it holds before this one is presented.",
			"generation", stored.Credentials.Generation(), "since", intent.Since)
	}
	if k.changedToken() {
		opts.Log.Info("The join token changed; the stored identity is discarded and the bot joins afresh.")
		return k, nil
	}
	if stored.JoinMethod != opts.Method {
		opts.Log.Info("The join method changed; the bot joins afresh.", "was", stored.JoinMethod, "is", opts.Method)
		return k, nil
	}
	k.publish(stored.Credentials)
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
		timer := time.NewTimer(time.Until(k.next()))
		reason := "due"
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case reason = <-k.renew:
			timer.Stop()
		case <-timer.C:
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

// Once makes sure that there's an identity that isn't due for renewal.
func (k *Keeper) Once(ctx context.Context) error {
	if time.Now().Before(k.next()) {
		k.announce()
		return nil
	}
	err := k.attempt(ctx, "oneshot")
	if err != nil {
		k.logFailure(err)
	}
	if err != nil && k.usable() {
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
	began := time.Now()
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
	k.opts.Log.Info("The identity was renewed.", "reason", reason, "bot", creds.Username(), "generation", creds.Generation(),
		"not_after", creds.NotAfter(), "next_renewal", k.next())
	if k.opts.OnRenewed != nil {
		k.opts.OnRenewed(creds)
	}
	return nil
}

// settle publishes the outcome and computes when the next attempt is due.
func (k *Keeper) settle(creds *cluster.Credentials, err error) {
	if err == nil {
		k.publish(creds)
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.failures++
	var left time.Duration
	if k.current != nil {
		left = time.Until(k.current.NotAfter())
	}
	k.due = time.Now().Add(retryIn(k.failures, left, k.opts.Jitter()))
}

// publish makes an identity current and wakes those who wait.
func (k *Keeper) publish(creds *cluster.Credentials) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.failures = 0
	k.current = creds
	k.due = due(creds, time.Now(), k.opts.Interval, k.opts.Jitter())
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

// obtain gets the next identity and stores it.
func (k *Keeper) obtain(ctx context.Context) (*cluster.Credentials, error) {
	current := k.Current()
	if err := k.saveAgain(); err != nil {
		return nil, trace.Wrap(err)
	}
	if current != nil && k.changedToken() {
		creds, err := k.join(ctx, current)
		if err == nil {
			return creds, nil
		}
		k.opts.Log.Error("The join token was replaced, but joining with it failed; the present identity stays.", "err", err)
	}
	if current != nil && k.usable() && current.Renewable() && k.opts.Method == cluster.JoinMethodToken {
		return k.renewal(ctx, current)
	}
	creds, err := k.join(ctx, current)
	if err != nil && current != nil && k.opts.Method == cluster.JoinMethodToken {
		return nil, failure.Wrap(failure.KindOf(err), err,
			"the bot's identity expired at %s and its token can't be used again (%s): delete and recreate the bot, or give it a new token",
			current.NotAfter().UTC().Format(time.RFC3339), err)
	}
	return creds, trace.Wrap(err)
}

// saveAgain tries to store an identity that an earlier attempt received, but
// couldn't store. Until that works, another one isn't asked for.
func (k *Keeper) saveAgain() error {
	if !k.unsaved {
		return nil
	}
	if err := k.opts.Store.Save(k.stored); err != nil {
		return failure.Wrap(failure.Transient, err,
			"the current identity couldn't be stored in %s (%s): make room or mend the file system before the agent stops, or the bot must join again", k.opts.Store, cause(err))
	}
	k.unsaved = false
	return nil
}

// join exchanges the token for an identity.
func (k *Keeper) join(ctx context.Context, previous *cluster.Credentials) (*cluster.Credentials, error) {
	req, hash, err := k.joinRequest(previous)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	if err := k.opts.Store.Begin(Intent{TokenHash: hash, Since: time.Now()}); err != nil {
		return nil, trace.Wrap(err)
	}
	creds, err := k.opts.Joiner.Join(ctx, req)
	if err != nil {
		k.abandon()
		return nil, trace.Wrap(err)
	}
	k.keep(creds, hash)
	return creds, nil
}

func (k *Keeper) joinRequest(previous *cluster.Credentials) (cluster.JoinRequest, string, error) {
	token, err := k.opts.Tokens.Token()
	if err != nil {
		return cluster.JoinRequest{}, "", trace.Wrap(err)
	}
	key, err := cluster.NewKey()
	if err != nil {
		return cluster.JoinRequest{}, "", trace.Wrap(err)
	}
	req := cluster.JoinRequest{Method: k.opts.Method, Token: token, Key: key, TTL: k.opts.TTL}
	if k.opts.Method == cluster.JoinMethodKubernetes {
		if req.IDToken, err = k.opts.Tokens.ServiceAccountToken(); err != nil {
			return cluster.JoinRequest{}, "", trace.Wrap(err)
		}
		if previous != nil && time.Now().Before(previous.NotAfter()) {
			req.Previous = previous
		}
	}
	return req, HashToken(token), nil
}

// renewal exchanges the identity for its next generation.
func (k *Keeper) renewal(ctx context.Context, current *cluster.Credentials) (*cluster.Credentials, error) {
	if err := k.resolveDoubt(ctx, current); err != nil {
		return nil, trace.Wrap(err)
	}
	if err := k.opts.Store.Begin(Intent{Generation: current.Generation(), Since: time.Now()}); err != nil {
		return nil, trace.Wrap(err)
	}
	creds, err := k.opts.Joiner.Renew(ctx, current, k.opts.TTL)
	if cluster.Uncertain(err) {
		k.doubt = true
		return nil, err
	}
	if err != nil {
		k.abandon()
		return nil, trace.Wrap(err)
	}
	k.keep(creds, k.stored.TokenHash)
	return creds, nil
}

// keep stores an identity that the cluster has issued. If it can't be stored
// it's used all the same, since the one before it is spent; saveAgain keeps
// trying.
func (k *Keeper) keep(creds *cluster.Credentials, tokenHash string) {
	k.stored = Stored{Credentials: creds, JoinMethod: k.opts.Method, TokenHash: tokenHash}
	k.doubt = false
	if err := k.opts.Store.Save(k.stored); err != nil {
		k.unsaved = true
		k.opts.Log.Error("The new identity couldn't be stored. It's used, and storing is tried again; if the agent stops before that works, the bot must join again.",
			"storage", k.opts.Store.String(), "err", err)
	}
	k.checkClock(creds)
}

// abandon ends the intent after a clear no.
func (k *Keeper) abandon() {
	if err := k.opts.Store.Abandon(); err != nil {
		k.opts.Log.Warn("The record of the attempt couldn't be removed; the next start will be careful for nothing.",
			"storage", k.opts.Store.String(), "err", err)
	}
}

// checkClock compares this host's clock with the one that dated the
// certificate: lifetimes are asked for by ours and judged by theirs.
func (k *Keeper) checkClock(creds *cluster.Credentials) {
	skew := time.Until(creds.NotBefore().Add(backdated)).Round(time.Second)
	if skew.Abs() > maxSkew {
		k.opts.Log.Warn("This host's clock and the cluster's differ: certificates will seem to begin or end at the wrong time. Check time synchronisation.",
			"cluster_is_ahead_by", skew.String())
	}
}

// resolveDoubt finds out, after a renewal whose reply was lost, whether the
// server has moved on, before the stored generation is presented: a stale one
// makes the server lock the bot.
func (k *Keeper) resolveDoubt(ctx context.Context, current *cluster.Credentials) error {
	if !k.doubt {
		return nil
	}
	held, known, err := k.opts.Joiner.Generation(ctx, current)
	if err != nil {
		return trace.Wrap(err)
	}
	mine := current.Generation()
	switch {
	case known && held == mine:
		k.opts.Log.Info("The cut-off renewal hadn't reached the cluster; renewing as usual.", "generation", mine)
		k.doubt = false
		return nil
	case known:
		return failure.New(failure.Refused,
			"the reply to a renewal was lost: the cluster holds generation %d of %s, this host %d, and presenting it would lock the bot; certificates are issued until %s. Delete and recreate the bot and give this host its new token before then",
			held, current.Username(), mine, current.NotAfter().UTC().Format(time.RFC3339))
	}
	if at := presentAnyway(current, time.Now()); time.Now().Before(at) {
		return failure.New(failure.Transient,
			"the reply to a renewal was lost, and this cluster doesn't tell the bot's generation: the present identity serves until %s and is then presented, which locks the bot instance if the cluster had moved on; to be safe, give this host a new token before then",
			at.UTC().Format(time.RFC3339))
	}
	k.opts.Log.Warn("Presenting an identity whose generation may be behind: too little of its life is left to wait longer.", "generation", mine)
	k.doubt = false
	return nil
}
