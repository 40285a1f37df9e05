package cluster

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/gravitational/teleport/api/client"
	"github.com/gravitational/teleport/api/types"
	"github.com/gravitational/trace"
	"github.com/stretchr/testify/require"

	"rollcall/failure"
)

// tell sends an event to all who watch.
func (s *issuingStage) tell(t *testing.T, event types.Event) {
	t.Helper()
	sent, err := client.EventToGRPC(event)
	require.NoError(t, err)
	s.fake.publish(sent)
}

// watching watches the applications, and returns what is told as words, and what
// the watch ends with.
func watching(t *testing.T, ctx context.Context, access *Access) (words chan string, ended chan error) {
	t.Helper()
	words, ended = make(chan string, 10), make(chan error, 1)
	go func() {
		ended <- access.Apps().Watch(ctx, func() { words <- "subscribed" }, func(name string, now types.Application, there bool) {
			if there {
				name += " at " + now.GetURI()
			}
			words <- name
		})
	}()
	return words, ended
}

func TestWatchTellsOfChanges(t *testing.T) {
	s, access := newAccess(t)
	ctx, cancel := context.WithCancel(t.Context())
	words, ended := watching(t, ctx, access)
	require.Equal(t, "subscribed", <-words)

	app, err := types.NewAppV3(types.Metadata{Name: "grafana"}, types.AppSpecV3{URI: "http://localhost"})
	require.NoError(t, err)
	s.tell(t, types.Event{Type: types.OpPut, Resource: app})
	require.Equal(t, "grafana at http://localhost", <-words)
	s.tell(t, types.Event{Type: types.OpDelete, Resource: &types.ResourceHeader{Kind: types.KindApp, Metadata: types.Metadata{Name: "grafana"}}})
	require.Equal(t, "grafana", <-words)

	cancel()
	require.NoError(t, <-ended)
	_, err = access.Apps().List(t.Context())
	require.NoError(t, err)
	require.Equal(t, 2, s.connections(), "the connection is that of the calls")
}

// A role that lacks the verb is told by name; a stream that breaks is an error,
// which isn't taken for a missing right.
func TestWatchThatEnds(t *testing.T) {
	s, access := newAccess(t)
	s.fail("WatchEvents", trace.AccessDenied(`access denied to perform action "read" on "app"`))
	_, ended := watching(t, t.Context(), access)
	err := <-ended
	require.Equal(t, failure.Refused, failure.KindOf(err), "%v", err)
	require.ErrorContains(t, err, "watching app: the role registrar lacks the rule {resources: [app], verbs: [read]}")

	// What passes is no missing right: a lock, an identity that can't be had.
	for method, refusal := range map[string]string{
		"WatchEvents": "lock targeting User:\"bot-a\" is in force", "GenerateUserCerts": "access denied",
	} {
		s.issuer.Reset()
		s.fail(method, trace.AccessDenied("%s", refusal))
		_, ended := watching(t, t.Context(), access)
		err := <-ended
		require.Equal(t, failure.Transient, failure.KindOf(err), "%v", err)
	}

	s.fail("", errors.New("never"))
	words, ended := watching(t, t.Context(), access)
	require.Equal(t, "subscribed", <-words)
	s.fake.breakWatches()
	err = <-ended
	require.Error(t, err)
	require.NotEqual(t, failure.Refused, failure.KindOf(err), "%v", err)
}

// Nobody cuts a stream whose identity has ended: it ends by itself, and the next
// one is another identity's. It's the server's clock that counts, whatever this
// host's shows.
func TestWatchEndsWithItsIdentity(t *testing.T) {
	s, access := newAccess(t)
	s.fake.set(func(i *fakeIssuing) { i.longest = 4 * time.Second })
	connect, ahead := access.connect, time.Duration(0)
	access.connect = func(ctx context.Context) (*lent, error) {
		conn, err := connect(ctx)
		if err == nil {
			conn.until, conn.clock.shown = conn.until.Add(-ahead), conn.clock.shown.Add(-ahead)
		}
		return conn, err
	}
	began := 0
	for _, ahead = range []time.Duration{0, 2 * time.Hour, -2 * time.Hour} {
		for stood := false; !stood; {
			words, ended := watching(t, t.Context(), access)
			began++
			select {
			case err := <-ended:
				require.NoError(t, err)
			case <-time.After(30 * time.Second):
				require.FailNowf(t, "the watch outlives its identity", "this host's clock is ahead by %v", ahead)
			}
			// On a slow machine the identity may have ended before the watch stood.
			stood = len(words) > 0
			require.Less(t, began, 20, "no watch stands if this host's clock is ahead by %v", ahead)
		}
	}
	require.Equal(t, began, s.fake.called("GenerateUserCerts"))
}
