package main

import (
	"context"

	"github.com/gravitational/trace"

	"rollcall/discovery"
	"rollcall/discovery/plan"
)

// finish applies, waits for what that has begun, and applies again what had to wait
// for it: a public address is only free when the agent that served it has gone. It
// returns the last plan, the sum of what was done, and the last error of applying; or
// unsettled, which says why what was begun has failed.
func (s *discoveryService) finish(ctx context.Context) (p plan.Plan, sum discovery.Result, err, unsettled error) {
	return finish(ctx, s.Apply, s.settle)
}

func finish(ctx context.Context, apply func(context.Context) (plan.Plan, discovery.Result, error), settle func(context.Context) error) (p plan.Plan, sum discovery.Result, err, unsettled error) {
	for {
		made, result, failed := apply(ctx)
		wrote := result.Created+result.Updated+result.Deleted > 0
		result.Created += sum.Created
		result.Updated += sum.Updated
		result.Deleted += sum.Deleted
		p, sum, err = made, result, failed
		if settle == nil || ctx.Err() != nil {
			return p, sum, err, nil
		}
		if unsettled = settle(ctx); unsettled != nil {
			return p, sum, err, trace.Wrap(unsettled)
		}
		if !p.Follows || !wrote || sum.Fatal != nil {
			return p, sum, err, nil
		}
	}
}
