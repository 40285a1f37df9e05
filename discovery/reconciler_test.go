package discovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"rollcall/diagnostics"
	"rollcall/discovery/plan"
	"rollcall/discovery/resource"
	"rollcall/failure"
)

// rig is a reconciler between a fake source and a fake Teleport.
type rig struct {
	*Reconciler
	source   *FakeSource
	teleport *FakeTeleport
	store    *MemoryStore
	journal  *Journal
	board    *diagnostics.Board
	log      *journalText
}

// newRig builds one; it has to be called inside a bubble, since it reads the
// time.
func newRig(t *testing.T, source *FakeSource, teleport *FakeTeleport, change func(*Options)) *rig {
	t.Helper()
	r := &rig{source: source, teleport: teleport, store: &MemoryStore{}, journal: &Journal{}, log: &journalText{}}
	r.board = diagnostics.NewBoard(time.Now)
	opts := Options{
		Name: "rabbit", Owner: us, SourceName: fromHere,
		Source: source, Registries: map[resource.Kind]Registry{resource.KindApp: teleport},
		Store: r.store, Auditor: r.journal, Reporter: r.board.Reporter("rabbit", "discovery"),
		Log:    slog.New(slog.NewTextHandler(r.log, nil)),
		Random: func() float64 { return 0.5 },
	}
	if change != nil {
		change(&opts)
	}
	var err error
	r.Reconciler, err = New(opts)
	require.NoError(t, err)
	return r
}

// start runs the reconciler and returns what stops it.
func (r *rig) start(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	return func() {
		t.Helper()
		cancel()
		require.NoError(t, <-done)
	}
}

func (r *rig) status() diagnostics.Status { return r.board.Snapshot()[0] }

// after waits in the bubble's time.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestContainersComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, NewFakeSource(container("a")), NewFakeTeleport(theirs("grafana")), nil)
		stop := r.start(t)
		after(100 * time.Millisecond)
		require.Equal(t, []string{"a", "grafana"}, r.teleport.Names(), "registered soon after the start")

		r.source.Set(container("b"))
		after(51 * time.Millisecond)
		require.Equal(t, []string{"a", "b", "grafana"}, r.teleport.Names(), "an event is enough")
		require.Equal(t, 1, r.teleport.lists, "and needs no list of everything")

		r.source.Set(moved(container("b"), "http://10.0.0.2:80"))
		after(51 * time.Millisecond)
		require.Equal(t, "http://10.0.0.2:80", r.teleport.All()["b"].Spec.(resource.AppSpec).URI)
		require.Equal(t, []string{"create a", "create b", "update b"}, r.teleport.Writes(), "a new address is an update")

		r.source.Stop("a")
		after(9 * time.Second)
		require.Contains(t, r.teleport.Names(), "a", "it may only be restarted")
		after(2 * time.Second)
		require.Equal(t, []string{"b", "grafana"}, r.teleport.Names())
		stop()
		require.Equal(t, []string{"create a ok", "create b ok", "update b ok", "delete a ok"}, r.journal.Words())
		require.Equal(t, []string{"b", "grafana"}, r.teleport.Names(), "stopping deregisters nothing")
	})
}

func TestARestartedContainerIsNoDeletion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, NewFakeSource(container("a")), NewFakeTeleport(), nil)
		stop := r.start(t)
		after(time.Second)
		r.source.Stop("a")
		after(5 * time.Second)
		r.source.Set(moved(container("a"), "http://10.0.0.7:80"))
		after(time.Minute)
		stop()
		require.Equal(t, []string{"create a", "update a"}, r.teleport.Writes())
	})
}

func TestHintsAreGathered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, NewFakeSource(), NewFakeTeleport(), nil)
		stop := r.start(t)
		after(time.Second)
		before := r.source.Reads()
		for i := range 20 { // twenty events within 400 ms
			r.source.Set(container(fmt.Sprint("c", i)))
			after(20 * time.Millisecond)
		}
		after(100 * time.Millisecond)
		require.Equal(t, before+1, r.source.Reads())
		for i := range 100 { // and some that don't cease for two seconds
			r.source.Set(moved(container("c1"), fmt.Sprint("http://10.0.0.1:", i+1)))
			after(20 * time.Millisecond)
		}
		require.InDelta(t, before+5, r.source.Reads(), 1, "half a second is the longest wait")
		stop()
	})
}

func TestIdleCostsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, NewFakeSource(container("a")), NewFakeTeleport(), nil)
		stop := r.start(t)
		after(time.Hour)
		stop()
		require.InDelta(t, 12, r.source.Reads(), 2, "one read every five minutes")
		require.Equal(t, []string{"create a"}, r.teleport.Writes())
		require.Zero(t, r.teleport.gets)
	})
}

func TestDriftIsMended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, NewFakeSource(container("a")), NewFakeTeleport(), nil)
		stop := r.start(t)
		after(time.Second)
		changed := ours("a")
		changed.Spec = resource.AppSpec{URI: "http://elsewhere"}
		r.teleport.Put(changed)
		after(6 * time.Minute)
		require.Equal(t, "http://a.test:80", r.teleport.All()["a"].Spec.(resource.AppSpec).URI)
		r.teleport.Drop("a")
		r.RenewNow("SIGHUP")
		after(time.Second)
		require.Equal(t, []string{"a"}, r.teleport.Names(), "a full comparison on request")
		stop()
	})
}

func TestASourceThatFailsChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, NewFakeSource(container("a"), container("b")), NewFakeTeleport(), func(o *Options) { o.Guard = quickGuard() })
		stop := r.start(t)
		after(time.Second)
		r.source.Fail(failure.New(failure.Unreachable, "Docker doesn't answer"))
		after(time.Hour)
		require.ElementsMatch(t, []string{"create a", "create b"}, r.teleport.Writes())
		status := r.status()
		require.True(t, status.Degraded)
		require.Contains(t, status.Message, "Docker doesn't answer")
		require.Contains(t, status.Message, "last good comparison")
		require.Less(t, r.source.Reads(), 150, "with a back-off")

		r.source.Fail(nil)
		r.source.Stop("b")
		after(2 * time.Minute)
		require.Equal(t, []string{"a"}, r.teleport.Names())
		require.False(t, r.status().Degraded)
		stop()
	})
}

func TestAClusterThatFailsIsAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, NewFakeSource(container("a"), container("b"), container("c")), NewFakeTeleport(), nil)
		var down atomic.Bool
		down.Store(true)
		var calls atomic.Int32
		r.teleport.fault = func(string, string) error {
			calls.Add(1)
			if down.Load() {
				return failure.New(failure.Unreachable, "nobody answers")
			}
			return nil
		}
		stop := r.start(t)
		after(10 * time.Minute)
		require.Equal(t, diagnostics.StateFailing, r.status().State)
		require.Less(t, calls.Load(), int32(40), "with a back-off")
		down.Store(false)
		r.RetryNow("the cluster answers again")
		after(time.Second)
		require.Equal(t, []string{"a", "b", "c"}, r.teleport.Names(), "at once")
		require.Equal(t, diagnostics.StateReady, r.status().State)
		stop()
	})
}

func TestARenameWhoseNewNameFailsKeepsTheOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, NewFakeSource(container("a")), NewFakeTeleport(), func(o *Options) { o.Guard = quickGuard() })
		var fails atomic.Bool
		fails.Store(true)
		r.teleport.fault = func(op, name string) error {
			if name == "new" && fails.Load() {
				return failure.New(failure.Transient, "not now")
			}
			return nil
		}
		stop := r.start(t)
		after(time.Second)
		r.source.Set(named("a", "new"))
		after(time.Hour)
		require.Equal(t, []string{"a"}, r.teleport.Names(), "a rename is no outage")
		fails.Store(false)
		after(2 * time.Minute)
		require.Equal(t, []string{"new"}, r.teleport.Names())
		require.Equal(t, []string{"create a", "create new", "delete a"}, r.teleport.Writes())
		stop()
	})
}

func TestLeasedResourcesAreRefreshedAndVanishWithUs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, NewFakeSource(container("a")), NewFakeTeleport(), func(o *Options) { o.TTL = 30 * time.Minute })
		stop := r.start(t)
		after(3 * time.Hour)
		require.Equal(t, []string{"a"}, r.teleport.Names())
		require.InDelta(t, 18, len(r.teleport.Writes()), 2, "a write every ten minutes")
		r.source.Fail(errors.New("Docker is away"))
		after(3 * time.Hour)
		require.Equal(t, []string{"a"}, r.teleport.Names(), "a source that fails is no reason to vanish")
		stop()
		after(31 * time.Minute)
		require.Empty(t, r.teleport.Names())
	})
}

func TestManyAreWrittenSideBySideAndNotTooFast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := NewFakeSource()
		for i := range 1000 {
			source.Set(container(fmt.Sprintf("c%04d", i)))
		}
		r := newRig(t, source, NewFakeTeleport(), nil)
		r.teleport.delay = 10 * time.Millisecond
		began := time.Now()
		require.NoError(t, r.Once(t.Context()))
		took := time.Since(began)
		require.Len(t, r.teleport.Names(), 1000)
		require.Greater(t, took, 4*time.Second, "at most 200 a second after the first 50")
		require.Less(t, took, 6*time.Second)
	})
}

func TestNewSaysWhatIsMissing(t *testing.T) {
	full := Options{
		Name: "rabbit", Owner: us, SourceName: fromHere, Source: NewFakeSource(),
		Registries: map[resource.Kind]Registry{resource.KindApp: NewFakeTeleport()},
		Log:        slog.New(slog.DiscardHandler), Random: func() float64 { return 0 },
	}
	_, err := New(full)
	require.NoError(t, err)
	for told, change := range map[string]func(*Options){
		"no owner":      func(o *Options) { o.Owner = "" },
		"no source":     func(o *Options) { o.Source = nil },
		"no kind":       func(o *Options) { o.Registries = nil },
		"without a log": func(o *Options) { o.Log = nil },
		"no policy":     func(o *Options) { o.Policy = plan.Policy("mirror") },
	} {
		opts := full
		change(&opts)
		_, err := New(opts)
		require.ErrorContains(t, err, told)
	}
}
