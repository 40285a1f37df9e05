package cluster

import (
	"context"
	"time"

	"github.com/gravitational/teleport/api/types"
	"github.com/gravitational/trace"

	"rollcall/failure"
)

// watchRetry is the pause after a watch that couldn't be opened or broke.
const watchRetry = 5 * time.Second

// Watch calls hint whenever a resource of one of the kinds may have changed,
// until ctx ends; it then returns nil. It hints once each time that it has
// begun to watch, so that who reads after a hint misses nothing, and it begins
// anew by itself when the watch breaks. hint mustn't block. The identity needs
// the verb read for each kind; what the cluster refuses is returned.
func (a *Access) Watch(ctx context.Context, kinds []string, hint func()) error {
	for ctx.Err() == nil {
		err := a.watch(ctx, kinds, hint)
		switch failure.KindOf(err) {
		case failure.Refused, failure.Configuration, failure.Trust:
			return err
		}
		if ctx.Err() == nil {
			a.log.DebugContext(ctx, "The watch ended; beginning anew.", "err", err)
		}
		_ = sleepUntil(ctx, time.Now().Add(watchRetry)) // the loop's condition tells
	}
	return nil
}

// watch is one watch, until it breaks or its identity is about to end.
func (a *Access) watch(ctx context.Context, kinds []string, hint func()) error {
	what := intent{op: "watching the registered resources"}
	conn, err := a.connect(ctx)
	if err != nil {
		return trace.Wrap(err)
	}
	ctx, cancel := context.WithDeadline(ctx, conn.until)
	defer cancel()
	err = explain(what, conn.roles, follow(ctx, conn, kinds, hint))
	conn.giveBack(err)
	return err
}

// follow turns events into hints.
func follow(ctx context.Context, conn *lent, kinds []string, hint func()) error {
	watch := types.Watch{Name: "rollcall"}
	for _, kind := range kinds {
		watch.Kinds = append(watch.Kinds, types.WatchKind{Kind: kind})
	}
	watcher, err := conn.NewWatcher(ctx, watch)
	if err != nil {
		return trace.Wrap(err)
	}
	defer watcher.Close()
	for {
		select {
		case <-watcher.Events():
			hint()
		case <-watcher.Done():
			return trace.Wrap(watcher.Error())
		}
	}
}
