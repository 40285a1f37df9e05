package identity

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/gravitational/trace"

	"rollcall/cluster"
	"rollcall/internal/pulse"
)

// AuthoritySource tells the cluster's certificate authorities.
type AuthoritySource interface {
	// Authorities returns them as they are now.
	Authorities(ctx context.Context, creds *cluster.Credentials) (*cluster.Authorities, error)
	// WatchAuthorities calls changed when they may have changed, until ctx
	// ends or the stream breaks.
	WatchAuthorities(ctx context.Context, creds *cluster.Credentials, changed func()) error
}

const (
	// authorityPoll is how often the authorities are compared without any
	// event: events are lossy, and this is the net below them.
	authorityPoll = 5 * time.Minute
	// authoritySettle lets the authorities of one rotation step arrive
	// together: an operator rotates several kinds at once.
	authoritySettle = time.Second
	// watchRetry is the wait before a broken watch is opened again.
	watchRetry = 5 * time.Second
)

// Listeners are called by one goroutine; authorities are compared again when
// they return.
type Listeners struct {
	// Changed is called after each change, and at the start if the identity is
	// from before one.
	Changed func(ctx context.Context)
	// Same is called when the authorities were compared and are those of
	// before, at the start too: for whoever holds older ones all the same,
	// files from before a stop among them.
	Same func(ctx context.Context, authorities *cluster.Authorities)
}

// Follower notices when the cluster's certificate authorities change (each
// phase of a rotation that adds, swaps or removes a key) and says so.
type Follower struct {
	source    AuthoritySource
	keeper    *Keeper
	listeners Listeners
	log       *slog.Logger

	pulse pulse.Pulse

	last string // fingerprint of the authorities that were seen last
}

// NewFollower returns a Follower.
func NewFollower(source AuthoritySource, keeper *Keeper, listeners Listeners, log *slog.Logger) *Follower {
	return &Follower{source: source, keeper: keeper, listeners: listeners, log: log}
}

// Alive returns an error if a comparison, or what follows from it, hangs. The
// watch may be silent for any time: the comparison is the net below it.
func (f *Follower) Alive() error { return f.pulse.Alive() }

// Name is the follower's name among the agent's services.
func (f *Follower) Name() string { return "authorities" }

// Run follows until ctx is cancelled.
func (f *Follower) Run(ctx context.Context) error {
	hints := make(chan struct{}, 1)
	hint := func() {
		select {
		case hints <- struct{}{}:
		default:
		}
	}
	var watching sync.WaitGroup
	watching.Go(func() { f.watch(ctx, hint) })
	defer watching.Wait()

	poll := time.NewTicker(authorityPoll)
	defer poll.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-poll.C:
		case <-hints:
			if !sleep(ctx, authoritySettle) {
				return nil
			}
		}
		f.compare(ctx)
	}
}

// watch keeps an event stream open, with the identity that is current.
func (f *Follower) watch(ctx context.Context, hint func()) {
	for ctx.Err() == nil {
		creds, err := f.keeper.Wait(ctx)
		if err != nil {
			return
		}
		changed := f.keeper.Changed()
		if f.keeper.Current() != creds {
			continue // replaced in between, and changed tells of the next one
		}
		// A stream ends with the identity that opened it; the next one is
		// opened with the next identity, and looks again as it begins.
		streamCtx, cancel := context.WithCancel(ctx)
		var ender sync.WaitGroup
		ender.Go(func() {
			select {
			case <-changed:
				cancel()
			case <-streamCtx.Done():
			}
		})
		err = f.source.WatchAuthorities(streamCtx, creds, hint)
		cancel()
		ender.Wait()
		if err != nil && ctx.Err() == nil {
			f.log.Debug("The watch of the certificate authorities broke; it's opened again.", "err", err)
			sleep(ctx, watchRetry)
		}
	}
}

// compare fetches the authorities and speaks up if they differ from the last
// ones.
func (f *Follower) compare(ctx context.Context) {
	creds, err := f.keeper.Wait(ctx)
	if err != nil {
		return
	}
	f.pulse.Work("comparing certificate authorities", stuckAfter)
	defer f.pulse.Rest()
	authorities, err := f.source.Authorities(ctx, creds)
	if err != nil {
		f.log.Debug("The certificate authorities couldn't be compared.", "err", trace.Unwrap(err))
		return
	}
	last := f.last
	f.last = authorities.Fingerprint()
	switch {
	case last == "" && !creds.Trusts(authorities):
		// A rotation began while nobody watched.
	case last == "" || last == f.last:
		f.listeners.Same(ctx, authorities)
		return
	}
	f.log.Info("The cluster's certificate authorities changed; the identity and all outputs are renewed.")
	f.listeners.Changed(ctx)
}

// sleep waits, and says whether ctx is still alive.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
