package cluster

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/gravitational/teleport/api/types"
	"github.com/gravitational/trace"

	"rollcall/failure"
)

// watchShare is for how much of what is left of its identity's life a watch
// lasts: nobody cuts one whose identity has ended, so it has to end by itself.
const watchShare = 0.9

// Watch tells of every change of the kind's resources, whoever makes it, until
// ctx or the identity ends (nil), or the stream breaks (an error). The role needs
// the verb read; the server doesn't ask for its labels here, so what List hides is
// told too. subscribed is called once, when nothing is missed any more; changed
// gets what was written, or false if it was deleted: then only the name is known.
// Neither may block. failure.Refused is a rule that the role lacks; any other
// refusal (a lock, an identity that a rotation has ended) passes, and is
// failure.Transient.
func (s *Store[R]) Watch(ctx context.Context, subscribed func(), changed func(name string, now R, there bool)) error {
	what := intent{op: "watching " + s.kind, kind: s.kind}
	return s.access.watch(ctx, what, subscribed, func(event types.Event) {
		if event.Resource == nil {
			return
		}
		now, there := event.Resource.(R)
		there = there && event.Type == types.OpPut
		if there || event.Type == types.OpDelete {
			changed(event.Resource.GetName(), now, there)
		}
	})
}

// watch holds a connection for as long as the stream lasts.
func (a *Access) watch(ctx context.Context, what intent, subscribed func(), told func(types.Event)) error {
	conn, err := a.connect(ctx)
	if err != nil {
		return temporary(err)
	}
	// No deadline, which the server would be told of: its timer may fire first, and
	// that would be an error.
	watching, cancel := context.WithCancel(ctx)
	defer cancel()
	end := time.AfterFunc(conn.lasts(time.Now()), cancel)
	defer end.Stop()
	err = follow(watching, conn, what.kind, subscribed, told)
	if watching.Err() != nil {
		conn.giveBack(nil)
		return nil
	}
	lacksRule := missingRule.MatchString(err.Error())
	err = explain(what, conn.roles, err)
	conn.giveBack(err)
	if lacksRule {
		return err
	}
	return temporary(err)
}

// lasts returns how long a watch may last from now on. It's the server that ends
// the identity, so its clock counts: this host's may be wrong.
func (l *lent) lasts(now time.Time) time.Duration {
	return time.Duration(float64(l.until.Sub(l.clock.time(now))) * watchShare)
}

// temporary takes a refusal for one that won't last.
func temporary(err error) error {
	if failure.KindOf(err) == failure.Refused {
		return failure.Wrap(failure.Transient, err, "%s", err)
	}
	return trace.Wrap(err)
}

// follow reads a stream of events until it ends, which is always an error.
func follow(ctx context.Context, conn *lent, kind string, subscribed func(), told func(types.Event)) error {
	stream, err := conn.NewWatcher(ctx, types.Watch{Name: "rollcall-" + kind, Kinds: []types.WatchKind{{Kind: kind}}})
	if err != nil {
		return trace.Wrap(err)
	}
	defer stream.Close()
	if err := awaitInit(ctx, stream); err != nil {
		return trace.Wrap(err)
	}
	subscribed()
	for {
		select {
		case event := <-stream.Events():
			told(event)
		case <-stream.Done():
			if err := stream.Error(); err != nil && !errors.Is(err, io.EOF) {
				return trace.Wrap(err)
			}
			return failure.New(failure.Transient, "watching %s: the server ended the stream", kind)
		}
	}
}
