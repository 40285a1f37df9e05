package identity

import (
	"context"
	"time"

	"github.com/gravitational/trace"

	"rollcall/cluster"
	"rollcall/failure"
)

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
	if current != nil && k.usable() && current.Renewable() {
		return k.renewal(ctx, current)
	}
	creds, err := k.join(ctx, current)
	if err != nil && current != nil && k.opts.Method == cluster.JoinMethodToken && failure.KindOf(err) == failure.Refused {
		return nil, failure.Wrap(failure.Refused, err,
			"the bot's identity expired at %s and its token can't be used again (%s): delete and recreate the bot, or give it a new token",
			current.NotAfter().UTC().Format(time.RFC3339), err)
	}
	return creds, trace.Wrap(err)
}

// join exchanges the token for an identity.
func (k *Keeper) join(ctx context.Context, previous *cluster.Credentials) (*cluster.Credentials, error) {
	req, hash, err := k.joinRequest(previous)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	intent := Intent{TokenHash: hash, Since: time.Now()}
	if k.doubt {
		// One record holds both: a join that fails doesn't end the doubt.
		intent.Generation = k.stored.Credentials.Generation()
	}
	if err := k.opts.Store.Begin(intent); err != nil {
		return nil, trace.Wrap(err)
	}
	sending, cancel := finishing(ctx)
	defer cancel()
	creds, err := k.opts.Joiner.Join(sending, req)
	if err != nil {
		// After a stop nobody knows whether the token is spent, and the record
		// tells the next run.
		if !k.doubt && ctx.Err() == nil {
			k.abandon()
		}
		return nil, trace.Wrap(err)
	}
	if creds.Renewable() && k.opts.Method != cluster.JoinMethodToken {
		// Old servers go by the token's own method and don't compare.
		k.opts.Log.Warn("The join token is of the method token, and nothing else was checked. Set onboarding.join_method: token, or give onboarding.token the name of a token of the other method.",
			"join_method", k.opts.Method)
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
	begun := false
	begin := func() error {
		err := k.opts.Store.Begin(Intent{Generation: current.Generation(), Since: time.Now()})
		begun = err == nil
		return trace.Wrap(err)
	}
	sending, cancel := finishing(ctx)
	defer cancel()
	creds, err := k.opts.Joiner.Renew(sending, current, k.opts.TTL, begin)
	if cluster.Uncertain(err) {
		k.doubt = true
		if cluster.Mismatched(err) {
			k.markStale(current)
		}
		return nil, err
	}
	if err != nil {
		if begun {
			k.abandon()
		}
		return nil, trace.Wrap(err)
	}
	k.keep(creds, k.tokenHash())
	return creds, nil
}

// tokenHash is the hash that goes with a renewed identity. An imported one may
// lack it: the token that is configured now counts as the one that it came
// from, so that a later change is noticed.
func (k *Keeper) tokenHash() string {
	if k.stored.TokenHash != "" || k.opts.Method != cluster.JoinMethodToken {
		return k.stored.TokenHash
	}
	token, err := k.opts.Tokens.Token()
	if err != nil {
		return ""
	}
	return HashToken(token)
}

// finishTime is what a request that can't be made twice gets to come to its end
// when the agent is told to stop. It's well within the time that all services
// get to stop.
const finishTime = 2 * time.Second

// finishing returns a context that ends finishTime after ctx does.
func finishing(ctx context.Context) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		sleep(longer, finishTime)
		cancel()
	})
	return longer, func() {
		stop()
		cancel()
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
