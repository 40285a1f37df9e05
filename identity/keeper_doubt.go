package identity

import (
	"context"
	"time"

	"github.com/gravitational/trace"

	"rollcall/cluster"
	"rollcall/failure"
)

// generationSettle lies between two answers about the generation, the second of
// which is believed. The Auth Service answers from a cache, which lags behind
// its backend by a second or a few, and a request that was cut off may still
// wait in a server that was stuck (lib/auth/auth_with_roles.go of Teleport 14:
// GetUser reads the cache, the generation check past it).
const generationSettle = 10 * time.Second

// heldGeneration returns the server's count for the bot as of after the
// doubtful renewal. The first answer shows only that the server answers: it
// can be too low, and, where the bot was just recreated, too high.
func (k *Keeper) heldGeneration(ctx context.Context, current *cluster.Credentials) (held uint64, known bool, err error) {
	_, known, err = k.opts.Joiner.Generation(ctx, current)
	if err != nil || !known {
		return 0, false, trace.Wrap(err)
	}
	k.opts.Log.Info("Asking the cluster again for the generation before it's believed: its caches may lag.", "in", generationSettle.String())
	if !sleep(ctx, generationSettle) {
		return 0, false, trace.Wrap(ctx.Err())
	}
	held, known, err = k.opts.Joiner.Generation(ctx, current)
	return held, known, trace.Wrap(err)
}

// resolveDoubt finds out, after a renewal whose reply was lost, whether the
// server has moved on, before the stored generation is presented: a stale one
// makes the server lock the bot.
func (k *Keeper) resolveDoubt(ctx context.Context, current *cluster.Credentials) error {
	if !k.doubt {
		return nil
	}
	held, known, err := k.heldGeneration(ctx, current)
	if err != nil {
		return trace.Wrap(err)
	}
	mine := current.Generation()
	switch {
	case known && held == mine:
		k.opts.Log.Info("The cluster holds the generation that this host has; renewing as usual.", "generation", mine)
		k.doubt, k.stale = false, false
		return nil
	case known && held > mine:
		return failure.New(failure.Refused,
			"the reply to a renewal was lost: the cluster holds generation %d of %s, this host %d, and presenting it would lock the bot; certificates are issued until %s. Delete and recreate the bot and give this host its new token before then",
			held, current.Username(), mine, current.NotAfter().UTC().Format(time.RFC3339))
	case known:
		return failure.New(failure.Refused,
			"the bot was recreated or its cluster restored: the cluster holds generation %d of %s, this host %d, and presenting it would lock the bot; certificates are issued until %s. Give this host a new token of the bot before then",
			held, current.Username(), mine, current.NotAfter().UTC().Format(time.RFC3339))
	}
	if k.stale {
		return failure.New(failure.Refused,
			"the cluster has refused this identity's generation %d, and presenting it again would lock the bot again; certificates are issued until %s unless a lock forbids it. Give this host a new token",
			mine, current.NotAfter().UTC().Format(time.RFC3339))
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

// markStale remembers, beyond this run, that the cluster has refused the
// identity for its generation. An operator who removes the lock before giving
// the host a new token must not be met by the next lock.
func (k *Keeper) markStale(current *cluster.Credentials) {
	k.stale = true
	intent := Intent{Generation: current.Generation(), Stale: true, Since: time.Now()}
	if err := k.opts.Store.Begin(intent); err != nil {
		k.opts.Log.Warn("That the cluster refused the identity couldn't be recorded: don't restart the agent before it has a new token.", "err", err)
	}
}
