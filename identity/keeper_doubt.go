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
// doubtful renewal. A count beyond the identity's own is news at once; any
// other could be old, and is asked for again after generationSettle.
func (k *Keeper) heldGeneration(ctx context.Context, current *cluster.Credentials) (held uint64, known bool, err error) {
	held, known, err = k.opts.Joiner.Generation(ctx, current)
	if err != nil || !known || held > current.Generation() {
		return held, known, trace.Wrap(err)
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
		k.opts.Log.Info("The cut-off renewal hadn't reached the cluster; renewing as usual.", "generation", mine)
		k.doubt = false
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
	if at := presentAnyway(current, time.Now()); time.Now().Before(at) {
		return failure.New(failure.Transient,
			"the reply to a renewal was lost, and this cluster doesn't tell the bot's generation: the present identity serves until %s and is then presented, which locks the bot instance if the cluster had moved on; to be safe, give this host a new token before then",
			at.UTC().Format(time.RFC3339))
	}
	k.opts.Log.Warn("Presenting an identity whose generation may be behind: too little of its life is left to wait longer.", "generation", mine)
	k.doubt = false
	return nil
}
