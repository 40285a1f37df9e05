package identity

import (
	"time"

	"rollcall/cluster"
	"rollcall/diagnostics"
	"rollcall/failure"
)

// keep stores an identity that the cluster has issued. If it can't be stored
// it's used all the same, since the one before it is spent; saveAgain keeps
// trying.
func (k *Keeper) keep(creds *cluster.Credentials, tokenHash string) {
	k.unsaved = 0
	k.stored = Stored{Credentials: creds, JoinMethod: k.opts.Method, TokenHash: tokenHash}
	k.doubt, k.stale = false, false
	if err := k.opts.Store.Save(k.stored); err != nil {
		k.saveLater()
		k.opts.Log.Error("The new identity couldn't be stored. It's used, and storing is tried again; if the agent stops before that works, the bot must join again.",
			"storage", k.opts.Store.String(), "err", err)
	}
	k.checkClock(creds)
}

// saveAgain tries to store an identity that an earlier attempt received, but
// couldn't store. Until that works, another one isn't asked for.
func (k *Keeper) saveAgain() error {
	if k.unsaved == 0 {
		return nil
	}
	if err := k.opts.Store.Save(k.stored); err != nil {
		k.saveLater()
		return failure.Wrap(failure.Transient, err,
			"the current identity couldn't be stored in %s (%s): make room or mend the file system before the agent stops, or the bot must join again", k.opts.Store, cause(err))
	}
	k.unsaved = 0
	k.mu.Lock()
	k.saveAt = time.Time{}
	k.mu.Unlock()
	k.opts.Log.Info("The identity is stored now.", "storage", k.opts.Store.String(), "generation", k.stored.Credentials.Generation())
	return nil
}

// saveLater notes that the current identity isn't stored, and when to try next.
func (k *Keeper) saveLater() {
	k.unsaved++
	k.mu.Lock()
	defer k.mu.Unlock()
	k.saveAt = time.Now().Add(retryIn(k.unsaved, 0, k.opts.Jitter())).Round(0)
}

// storeAgain is an attempt of its own to store, between two renewals.
func (k *Keeper) storeAgain() {
	k.pulse.Work("storing the identity", stuckAfter)
	defer k.pulse.Rest()
	err := k.saveAgain()
	next, saveAt := k.times()
	if err != nil {
		next = saveAt
		k.opts.Log.Error("The identity still couldn't be stored.", "err", err, "next_attempt", next)
	}
	k.opts.Reporter.Report(diagnostics.Report{Err: err, Unchanged: true, NotAfter: k.stored.Credentials.NotAfter(), Next: next, Detail: k.detail(k.stored.Credentials)})
}

// abandon ends the intent after a clear no.
func (k *Keeper) abandon() {
	if err := k.opts.Store.Abandon(); err != nil {
		k.opts.Log.Warn("The record of the attempt couldn't be removed; the next start will be careful for nothing.",
			"storage", k.opts.Store.String(), "err", err)
	}
}
