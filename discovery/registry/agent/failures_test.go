package agent

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/docker/docker/api/types/container"
	"github.com/stretchr/testify/require"

	"rollcall/discovery/resource"
	"rollcall/failure"
)

// What isn't asked for doesn't grow: the hosted service never asks.
func TestFailuresDontGrow(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	f := failures{}
	for range 1000 {
		f.note("b", errors.New("b's"), now)
	}
	f.note("a", errors.New("a's"), now)
	require.Len(t, f, 2)
	require.EqualError(t, f.take(), "a's\nb's")
	require.NoError(t, f.take(), "each is told once")
	f.note("a", errors.New("again"), now)
	require.EqualError(t, f.take(), "again")
	f.note("a", nil, now)
	f.note("b", nil, now)
	require.Empty(t, f)
}

func TestFailuresRest(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	f := failures{}
	require.NoError(t, f.resting("a", now))
	for _, pause := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
		f.note("a", failure.New(failure.Transient, "it failed"), now)
		err := f.resting("a", now.Add(pause*time.Minute-time.Second))
		require.ErrorContains(t, err, "it failed; the next agent is started at 2027-")
		require.Equal(t, failure.Transient, failure.KindOf(err))
		require.NoError(t, f.resting("a", now.Add(pause*time.Minute)))
		require.NoError(t, f.resting("b", now))
	}
	f.note("a", nil, now)
	require.NoError(t, f.resting("a", now))
}

func TestTail(t *testing.T) {
	require.Equal(t, "short", tail("short"))
	long := tail(strings.Repeat("é", maxWords) + "x")
	require.LessOrEqual(t, len(long), maxWords+len("… "))
	require.True(t, utf8.ValidString(long))
	require.True(t, strings.HasSuffix(long, "éx"))
}

// cantJoin is an application whose agent has been given up.
func cantJoin(t *testing.T) *bench {
	t.Helper()
	b := newBench(t)
	b.opts.JoinTimeout = 20 * time.Millisecond
	b.engine.words = strings.Repeat("w", maxFile-100) + " the last word"
	require.NoError(t, b.Create(t.Context(), web("grafana")))
	return b
}

// TestJoinThatFailed is told as the failure of the write that would begin anew,
// and isn't begun anew at once, for ever.
func TestJoinThatFailed(t *testing.T) {
	b := cantJoin(t)
	err := b.Settle(t.Context())
	require.ErrorContains(t, err, "the last word")
	require.Less(t, len(err.Error()), 2*maxWords)
	require.Less(t, b.log.Len(), 4*maxWords)
	first := b.box(t, "grafana")
	require.Equal(t, container.StateExited, first.state)

	for range 3 {
		err = b.Update(t.Context(), web("grafana"))
		require.ErrorContains(t, err, "didn't register within")
		require.Equal(t, failure.Transient, failure.KindOf(err))
		require.Same(t, first, b.box(t, "grafana"), "no new one")
	}

	// Another is tried at once, and so is the same after its rest.
	changed := web("grafana")
	changed.Spec = resource.AppSpec{URI: "http://172.17.0.3:80"}
	require.NoError(t, b.Update(t.Context(), changed))
	require.Error(t, b.Settle(t.Context()))
	b.mu.Lock()
	b.failures["grafana"].until = time.Now()
	b.mu.Unlock()
	require.NoError(t, b.Update(t.Context(), changed))
	require.Error(t, b.Settle(t.Context()))
	require.Len(t, b.engine.boxes, 1)
	require.NoError(t, b.Delete(t.Context(), changed))
	require.Empty(t, b.engine.boxes)
	require.Empty(t, b.failures)
}

// TestContainerThatHangs takes no more of a write's time than the write has, and
// isn't an Engine that can't be reached: that would end the work on all others.
func TestContainerThatHangs(t *testing.T) {
	t.Run("while its agent is given up", func(t *testing.T) {
		b := cantJoin(t)
		t.Cleanup(func() { close(b.engine.free) })
		b.engine.mu.Lock()
		b.engine.stall = "stop"
		b.engine.mu.Unlock()
		require.Eventually(t, func() bool {
			b.mu.Lock()
			defer b.mu.Unlock()
			for _, k := range b.known {
				return k.failed && k.join != nil
			}
			return false
		}, 30*time.Second, time.Millisecond)
		deletesInTime(t, b)
	})
	t.Run("while it's stopped", func(t *testing.T) {
		b := newBench(t)
		t.Cleanup(func() { close(b.engine.free) })
		b.serving(t, "grafana")
		b.engine.mu.Lock()
		b.engine.stall = "stop"
		b.engine.mu.Unlock()
		deletesInTime(t, b)
	})
}

func deletesInTime(t *testing.T, b *bench) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	began := time.Now()
	err := b.Delete(ctx, web("grafana"))
	require.Equal(t, failure.Transient, failure.KindOf(err), "%v", err)
	require.Less(t, time.Since(began), cleanupTimeout/2)
	_, err = b.List(t.Context())
	require.NoError(t, err)
}

// TestEngineThatHangs is one that can't be reached.
func TestEngineThatHangs(t *testing.T) {
	b := newBench(t)
	t.Cleanup(func() { close(b.engine.free) })
	b.engine.stall = listVerb
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := b.List(ctx)
	require.Equal(t, failure.Unreachable, failure.KindOf(err), "%v", err)
}

// An application is registered when its agent's record is there, and not before:
// after a restart of ours it isn't either. Whoever waits for that is told, and told
// too if it will never be.
func TestPendingUntilTheRecordIsThere(t *testing.T) {
	b := newBench(t)
	told := make(chan struct{}, 10)
	b.Tell(func() { told <- struct{}{} })
	require.NoError(t, b.Create(t.Context(), web("grafana")))
	require.Equal(t, map[string]bool{"grafana": true}, b.Pending())
	listed := func() map[string]bool {
		t.Helper()
		all, err := b.List(t.Context())
		require.NoError(t, err)
		require.Len(t, all, 1, "whatever it is, it's listed: nobody starts another")
		return b.Pending()
	}
	require.Equal(t, map[string]bool{"grafana": true}, listed())
	require.Empty(t, told)

	b.cluster.registered(t, b.box(t, "grafana").name, web("grafana"))
	require.NoError(t, b.Settle(t.Context()))
	<-told
	require.Empty(t, b.Pending())
	require.Empty(t, listed())

	// Replaced by another, it's served meanwhile by the first.
	changed := web("grafana")
	changed.Spec = resource.AppSpec{URI: "http://172.17.0.3:80"}
	b.mu.Lock()
	b.opts.JoinTimeout = 20 * time.Millisecond
	b.mu.Unlock()
	require.NoError(t, b.Update(t.Context(), changed))
	require.Empty(t, b.Pending())
	require.Error(t, b.Settle(t.Context()))
	<-told
	require.Empty(t, listed())

	// Away, it isn't registered, whatever the container does.
	b.cluster.mu.Lock()
	b.cluster.servers = nil
	b.cluster.mu.Unlock()
	b.restarted()
	require.Equal(t, map[string]bool{"grafana": false}, listed(), "it was registered")
	require.NoError(t, b.Delete(t.Context(), changed))
	require.Empty(t, b.Pending())
}

// Agents that nobody waits for, since they were on their way before a restart of ours
// or were away, are looked for all the same: whoever wants to know is told when they
// have registered, or when their time is over.
func TestExpectsWhatAListFound(t *testing.T) {
	heard := func(t *testing.T, told <-chan struct{}) {
		t.Helper()
		select {
		case <-told:
		case <-time.After(30 * time.Second):
			require.Fail(t, "nobody was told")
		}
	}
	// restart is the registry after a restart of ours, which has listed.
	restart := func(t *testing.T, b *bench) <-chan struct{} {
		t.Helper()
		before := b.Registry
		before.Close()
		next, err := build(before.engine.docker, b.cluster, before.opts, testOwner, before.seals.key, before.log)
		require.NoError(t, err)
		t.Cleanup(next.Close)
		next.poll, next.opts.JoinTimeout = before.poll, time.Hour
		told := make(chan struct{}, 10)
		next.Tell(func() { told <- struct{}{} })
		b.Registry = next
		_, err = b.List(t.Context())
		require.NoError(t, err)
		return told
	}
	// again is one with an agent that has been started.
	again := func(t *testing.T) (*bench, <-chan struct{}) {
		t.Helper()
		b := newBench(t)
		require.NoError(t, b.Create(t.Context(), web("grafana")))
		told := restart(t, b)
		require.Equal(t, map[string]bool{"grafana": true}, b.Pending())
		return b, told
	}
	t.Run("it registers", func(t *testing.T) {
		b, told := again(t)
		b.cluster.registered(t, "elsewhere", web("grafana"))
		b.cluster.registered(t, b.box(t, "grafana").name, web("other"))
		looks := b.cluster.lookUps()
		require.Eventually(t, func() bool { return b.cluster.lookUps() > looks+2 }, 30*time.Second, time.Millisecond)
		require.Empty(t, told, "other records are none of its own")
		b.cluster.registered(t, b.box(t, "grafana").name, web("grafana"))
		heard(t, told)
		_, err := b.List(t.Context())
		require.NoError(t, err)
		require.Empty(t, b.Pending())

		b.cluster.mu.Lock()
		records := b.cluster.servers
		b.cluster.servers = nil
		b.cluster.mu.Unlock()
		_, err = b.List(t.Context())
		require.NoError(t, err)
		require.Empty(t, told)
		b.cluster.mu.Lock()
		b.cluster.servers = records
		b.cluster.mu.Unlock()
		heard(t, told)
	})
	t.Run("it replaces another", func(t *testing.T) {
		b := newBench(t)
		_, fresh, changed := b.replacing(t)
		told := restart(t, b)
		require.Empty(t, b.Pending())
		looks := b.cluster.lookUps()
		require.Eventually(t, func() bool { return b.cluster.lookUps() > looks+2 }, 30*time.Second, time.Millisecond)
		require.Empty(t, told, "the record of the one that serves is no news")
		b.cluster.registered(t, fresh.name, changed)
		heard(t, told)
		all, err := b.List(t.Context())
		require.NoError(t, err)
		require.Equal(t, troubleToken, all[0].Labels[LabelState], "so there's an update, and then")
		require.NoError(t, b.Update(t.Context(), changed))
		require.Len(t, b.engine.boxes, 1)
		require.Empty(t, b.cluster.tokens)
		require.Empty(t, b.Outgoing())
	})
	t.Run("it doesn't in time", func(t *testing.T) {
		b, _ := again(t)
		b.engine.mu.Lock()
		for _, made := range b.engine.boxes {
			made.created -= 7200
		}
		b.engine.mu.Unlock()
		groups, settings, err := b.look(t.Context(), "")
		require.NoError(t, err)
		require.True(t, b.awaitAny(t.Context(), map[string]*group{"grafana": groups[0]}, settings))
		all, err := b.List(t.Context())
		require.NoError(t, err)
		require.Equal(t, troubleJoin, all[0].Labels[LabelState])
		b.mu.Lock()
		defer b.mu.Unlock()
		require.Nil(t, b.expecting, "what is in trouble is mended, and not waited for")
	})
}

// TestLooksOnceMore: an agent that registers while nobody looks, shortly before its
// time is over, has registered.
func TestLooksOnceMore(t *testing.T) {
	b := newBench(t)
	b.opts.JoinTimeout, b.poll = 20*time.Millisecond, time.Hour
	b.engine.started = func(made *box) { b.cluster.registered(t, made.name, web("grafana")) }
	require.NoError(t, b.Create(t.Context(), web("grafana")))
	require.NoError(t, b.Settle(t.Context()))
	require.Equal(t, container.StateRunning, b.box(t, "grafana").state)
	require.Empty(t, b.Pending())
}

// TestPollsLessAndLess: an agent that takes its time is looked for less often.
func TestPollsLessAndLess(t *testing.T) {
	b := newBench(t)
	b.opts.JoinTimeout = 500 * time.Millisecond
	require.NoError(t, b.Create(t.Context(), web("grafana")))
	before := b.cluster.lookUps()
	require.Error(t, b.Settle(t.Context()))
	require.Less(t, b.cluster.lookUps()-before, 20, "a steady poll would be 100")
}
