package identity

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"rollcall/cluster"
	"rollcall/failure"
)

// stubAuthorities is a cluster's authorities and their event streams.
type stubAuthorities struct {
	mu      sync.Mutex // protects the following
	now     cluster.Authorities
	err     error
	looks   int
	streams []*stubStream
}

// stubStream is one open watch.
type stubStream struct {
	creds  *cluster.Credentials
	hint   func()
	broken chan error
}

func (s *stubAuthorities) Authorities(context.Context, *cluster.Credentials) (*cluster.Authorities, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looks++
	if s.err != nil {
		return nil, s.err
	}
	now := s.now
	return &now, nil
}

func (s *stubAuthorities) WatchAuthorities(ctx context.Context, creds *cluster.Credentials, changed func()) error {
	stream := &stubStream{creds: creds, hint: changed, broken: make(chan error, 1)}
	s.mu.Lock()
	s.streams = append(s.streams, stream)
	s.mu.Unlock()
	changed() // the stream begins
	select {
	case <-ctx.Done():
		return nil
	case err := <-stream.broken:
		return err
	}
}

// rotate is one step of a rotation.
func (s *stubAuthorities) rotate(host ...cluster.Authority) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now.Host = host
}

func (s *stubAuthorities) opened() []*stubStream {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*stubStream{}, s.streams...)
}

type followed struct {
	*stage
	source        *stubAuthorities
	changed, same int
}

// follow runs a Follower with an identity that trusts what there is.
func follow(t *testing.T, keeper *stage) *followed {
	f := &followed{stage: keeper, source: &stubAuthorities{}}
	f.source.rotate(f.trusted())
	follower := NewFollower(f.source, keeper.keeper, Listeners{
		Changed: func(context.Context) { f.changed++ },
		Same:    func(context.Context, *cluster.Authorities) { f.same++ },
	}, keeper.log.logger())
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = follower.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	synctest.Wait()
	return f
}

// trusted is the authority that the keeper's identity has.
func (f *followed) trusted() cluster.Authority {
	return cluster.Authority{ClusterName: "teleport.example.com", TLSCerts: [][]byte{f.joiner.ca.pem}}
}

func TestFollowerNoticesARotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := follow(t, newStage(t).holds(5, 0, 24*time.Hour).start())
		f.pass(authoritySettle)
		require.Equal(t, 1, f.source.looks, "the stream's beginning is a reason to look")
		require.Zero(t, f.changed, "the first look only remembers")
		require.Equal(t, 1, f.same)

		streams := f.source.opened()
		require.Len(t, streams, 1)
		for range 5 {
			streams[0].hint()
		}
		f.pass(authoritySettle + time.Millisecond)
		require.Equal(t, 2, f.source.looks, "several events are one look")
		require.Zero(t, f.changed, "an event isn't a change")

		f.source.rotate(f.trusted(), cluster.Authority{ClusterName: "teleport.example.com"})
		streams[0].hint()
		f.pass(authoritySettle)
		require.Equal(t, 1, f.changed)
		streams[0].hint()
		f.pass(authoritySettle)
		require.Equal(t, 1, f.changed, "one change is told once")
	})
}

func TestFollowerPollsBelowTheEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := follow(t, newStage(t).holds(5, 0, 24*time.Hour).start())
		f.pass(authoritySettle)
		f.source.rotate(f.trusted(), cluster.Authority{ClusterName: "leaf"})
		f.pass(authorityPoll)
		require.Equal(t, 1, f.changed)
	})
}

func TestFollowerOpensABrokenStreamAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := follow(t, newStage(t).holds(5, 0, 24*time.Hour).start())
		f.pass(authoritySettle)
		f.source.rotate(f.trusted(), cluster.Authority{ClusterName: "leaf"})
		f.source.opened()[0].broken <- failure.New(failure.Unreachable, "cut")
		f.pass(watchRetry - time.Millisecond)
		require.Len(t, f.source.opened(), 1)
		f.pass(time.Millisecond)
		require.Len(t, f.source.opened(), 2)
		f.pass(authoritySettle)
		require.Equal(t, 1, f.changed, "what changed while nobody watched was missed")
	})
}

func TestFollowerOpensTheStreamWithTheCurrentIdentity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := follow(t, newStage(t).holds(5, 0, time.Hour).start())
		f.pass(20 * time.Minute)
		streams := f.source.opened()
		require.Len(t, streams, 2)
		require.EqualValues(t, 5, streams[0].creds.Generation())
		require.EqualValues(t, 6, streams[1].creds.Generation())
	})
}

func TestFollowerWaitsForTheFirstIdentity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		s.joiner.joinErr = failure.New(failure.Unreachable, "down")
		f := follow(t, s.start())
		f.pass(10 * time.Minute)
		require.Empty(t, f.source.opened())
		s.joiner.set(func(j *stubJoiner) { j.joinErr = nil })
		f.pass(2 * time.Minute)
		require.Len(t, f.source.opened(), 1)
	})
}

// A rotation that began while the agent was stopped: the identity doesn't have
// the new authority.
func TestFollowerNoticesAnEarlierRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t).holds(5, 0, time.Hour).start()
		f := &followed{stage: s, source: &stubAuthorities{}}
		f.source.rotate(f.trusted(), cluster.Authority{ClusterName: "teleport.example.com", TLSCerts: [][]byte{newAuthority(t).pem}})
		follower := NewFollower(f.source, s.keeper, Listeners{
			Changed: func(context.Context) { f.changed++ },
			Same:    func(context.Context, *cluster.Authorities) { f.same++ },
		}, discard())
		follower.compare(t.Context())
		require.Equal(t, 1, f.changed)
		follower.compare(t.Context())
		require.Equal(t, 1, f.changed)
		require.Equal(t, 1, f.same)
	})
}

func TestFollowerForgivesAFailedLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := follow(t, newStage(t).holds(5, 0, 24*time.Hour).start())
		f.pass(authoritySettle)
		f.source.mu.Lock()
		f.source.err = errors.New("busy")
		f.source.mu.Unlock()
		f.pass(authorityPoll)
		require.Zero(t, f.changed, "an error isn't an empty list")
		f.source.mu.Lock()
		f.source.err = nil
		f.source.mu.Unlock()
		f.pass(authorityPoll)
		require.Zero(t, f.changed)
	})
}

// stubHeart takes heartbeats.
type stubHeart struct {
	beats     []cluster.Heartbeat
	at        []time.Time
	err       error
	supported bool
}

func (h *stubHeart) SubmitHeartbeat(_ context.Context, _ *cluster.Credentials, beat cluster.Heartbeat) (bool, error) {
	h.beats = append(h.beats, beat)
	h.at = append(h.at, time.Now())
	return h.supported, h.err
}

func TestHeartbeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t).holds(5, 0, 24*time.Hour).start()
		sender := &stubHeart{supported: true, err: errors.New("busy")}
		heart := NewHeart(sender, s.keeper, cluster.Heartbeat{Hostname: "h"}, discard())
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { require.NoError(t, heart.Run(ctx)) })
		synctest.Wait()
		require.Len(t, sender.beats, 1)
		sender.err = nil
		s.pass(heartbeatRetry)
		require.Len(t, sender.beats, 2)
		require.True(t, sender.beats[1].Startup, "the first one didn't arrive")
		s.pass(heartbeatInterval)
		require.Len(t, sender.beats, 3)
		require.False(t, sender.beats[2].Startup)
		require.Equal(t, heartbeatInterval+heartbeatRetry, sender.beats[2].Uptime)
		require.Equal(t, "h", sender.beats[2].Hostname)
		sender.supported = false
		s.pass(2 * heartbeatInterval)
		require.Len(t, sender.beats, 5, "an older server is asked no oftener")
		cancel()
		running.Wait()
	})
}
