package discovery

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"rollcall/discovery/resource"
)

// starting is a Teleport whose writes take long and begin something: what is
// written is registered later.
type starting struct {
	*FakeTeleport
	pending  atomic.Pointer[map[string]bool]
	outgoing atomic.Pointer[[]resource.Resource]
}

func (s *starting) WriteTimeout() time.Duration { return time.Minute }

func (s *starting) Outgoing() []resource.Resource {
	if all := s.outgoing.Load(); all != nil {
		return *all
	}
	return nil
}

func (s *starting) Pending() map[string]bool {
	if names := s.pending.Load(); names != nil {
		return *names
	}
	return nil
}

// Many agents register one after the other. Each is told of; the first few are looked
// at at once, and the others together.
func TestManyThatWereBegunAreFewLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		teleport := &starting{FakeTeleport: NewFakeTeleport()}
		r := newRig(t, NewFakeSource(container("a")), teleport.FakeTeleport, func(o *Options) {
			o.Registries = map[resource.Kind]Registry{resource.KindApp: teleport}
			o.Interval = time.Hour
		})
		defer r.start(t)()
		after(10 * time.Second)
		lists := func() int { n, _ := teleport.Reads(); return n }
		before := lists()
		r.Changed()
		after(time.Second)
		require.Equal(t, 1, lists()-before)
		for range 200 {
			r.Changed()
			after(600 * time.Millisecond)
		}
		after(time.Minute)
		require.LessOrEqual(t, lists()-before, soonLooks+int(3*time.Minute/pace)+1)
		require.Greater(t, lists()-before, soonLooks)
		before = lists()
		after(10 * time.Minute)
		require.Equal(t, before, lists(), "the last was looked at, too")
	})
}

// What was only begun isn't registered yet; and it may take longer to begin than a
// call to the cluster.
func TestWhatWasBegunIsntRegistered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		teleport := &starting{FakeTeleport: NewFakeTeleport()}
		teleport.delay = 40 * time.Second
		r := newRig(t, NewFakeSource(container("a"), container("b")), teleport.FakeTeleport, func(o *Options) {
			o.Registries = map[resource.Kind]Registry{resource.KindApp: teleport}
		})
		teleport.pending.Store(&map[string]bool{"b": true})
		stop := r.start(t)
		after(time.Minute)
		require.ElementsMatch(t, []string{"create a", "create b"}, teleport.Writes())
		require.Contains(t, r.status().Message, "2 workloads, 1 registered, 1 whose agent hasn't registered yet")
		p, err := newRig(t, r.source, r.teleport, func(o *Options) { o.Registries = r.opts.Registries }).Plan(t.Context())
		require.NoError(t, err)
		require.Equal(t, 1, p.Unchanged)
		require.Equal(t, 1, p.Pending)
		require.Equal(t, 2, p.ExitCode(), "time alone will do the rest")

		teleport.pending.Store(&map[string]bool{"b": false})
		r.RenewNow("an agent went away")
		after(time.Second)
		require.Contains(t, r.status().Message, "2 workloads, 1 registered, 1 whose agent is away")
		p, err = newRig(t, r.source, r.teleport, func(o *Options) { o.Registries = r.opts.Registries }).Plan(t.Context())
		require.NoError(t, err)
		require.Equal(t, 1, p.Unchanged)
		require.Zero(t, p.ExitCode(), "there's nothing to do about it")
		require.Contains(t, p.Actions[1].Reason, "is away")

		teleport.pending.Store(nil)
		r.RenewNow("an agent has registered")
		after(time.Second)
		require.Contains(t, r.status().Message, "2 workloads, 2 registered")
		require.NotContains(t, r.status().Message, "hasn't registered")
		stop()
	})
}
