package discovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
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

// One bad resource blocks no other, and isn't tried in a loop.
func TestOneResourcesTroubleStaysOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, NewFakeSource(container("a"), container("denied"), container("z"), container("flaky")), NewFakeTeleport(), nil)
		var denied, flaky atomic.Int32
		r.teleport.fault = func(op, name string) error {
			switch {
			case name == "denied":
				denied.Add(1)
				return failure.New(failure.Refused, "the role lacks create on app")
			case name == "flaky" && flaky.Add(1) < 4:
				return failure.New(failure.Transient, "try again")
			}
			return nil
		}
		stop := r.start(t)
		after(4 * time.Minute)
		require.Equal(t, []string{"a", "flaky", "z"}, r.teleport.Names())
		require.Equal(t, int32(1), denied.Load(), "not before the next full comparison")
		status := r.status()
		require.True(t, status.Degraded)
		require.Contains(t, status.Message, "the role lacks create on app")
		after(5 * time.Minute)
		require.Equal(t, int32(2), denied.Load())

		r.source.Set(moved(container("denied"), "http://10.0.0.3:80"))
		after(time.Second)
		require.Equal(t, int32(3), denied.Load(), "or when something else is asked for")
		stop()
	})
}

// A write whose answer is lost was done: it's neither done again nor taken for
// somebody else's.
func TestALostAnswerIsNoTrouble(t *testing.T) {
	for _, kind := range []failure.Kind{failure.Unreachable, failure.Transient, failure.Other} {
		t.Run(kind.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, NewFakeSource(container("a")), NewFakeTeleport(), func(o *Options) { o.Guard = quickGuard() })
				lost := map[string]bool{}
				r.teleport.lost = func(op, _ string) error {
					if lost[op] {
						return nil
					}
					lost[op] = true
					return failure.New(kind, "the answer was lost")
				}
				stop := r.start(t)
				after(time.Minute)
				require.False(t, r.status().Degraded)
				r.source.Set(moved(container("a"), "http://10.0.0.2:80"))
				after(time.Minute)
				require.False(t, r.status().Degraded)
				r.source.Stop("a")
				after(time.Minute)
				require.False(t, r.status().Degraded)
				require.Equal(t, []string{"create a", "update a", "delete a"}, r.teleport.Writes())
				stop()
			})
		})
	}
}

// Where nobody answers, the rest isn't tried.
func TestNobodyAnswersStopsTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := NewFakeSource()
		for i := range 500 {
			source.Set(container(fmt.Sprintf("c%03d", i)))
		}
		r := newRig(t, source, NewFakeTeleport(), nil)
		var creates atomic.Int32
		r.teleport.delay = 5 * time.Second
		r.teleport.fault = func(op, _ string) error {
			if op == "create" {
				creates.Add(1)
				return failure.New(failure.Unreachable, "nobody answers")
			}
			return nil
		}
		began := time.Now()
		require.ErrorContains(t, r.Once(t.Context()), "nobody answers")
		require.Equal(t, int32(defaultConcurrency), creates.Load())
		require.Less(t, time.Since(began), 10*time.Second)
	})
}

// A name that is hidden from us is a conflict, and never a cue to update.
func TestAHiddenNameIsAConflict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		teleport := NewFakeTeleport(theirs("grafana"))
		teleport.sees = us
		r := newRig(t, NewFakeSource(container("grafana"), container("a")), teleport, nil)
		stop := r.start(t)
		after(time.Minute)
		require.Equal(t, []string{"create a"}, teleport.Writes())
		require.Equal(t, theirs("grafana"), teleport.All()["grafana"])
		require.Contains(t, r.status().Message, "somebody else")
		stop()
	})
}

// TestSafetyTableRereadStopsTheWrite: between the plan and the write somebody
// takes the resource over; only the reread stands there.
func TestSafetyTableRereadStopsTheWrite(t *testing.T) {
	for _, test := range []struct {
		name string
		do   func(*FakeSource)
	}{
		{"delete", func(s *FakeSource) { s.Stop("a") }},
		{"update", func(s *FakeSource) { s.Set(moved(container("a"), "http://10.0.0.9:80")) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, NewFakeSource(container("a")), NewFakeTeleport(), func(o *Options) { o.Guard = quickGuard() })
				stop := r.start(t)
				after(time.Second)
				taken := ours("a")
				taken.Labels = map[string]string{"team": "them"}
				r.teleport.fault = func(op, _ string) error {
					if op == "get" {
						r.teleport.things["a"] = taken
					}
					return nil
				}
				test.do(r.source)
				after(time.Second)
				require.Equal(t, taken, r.teleport.All()["a"])
				require.Contains(t, r.journal.Words(), test.name+" a changed")
				after(time.Hour)
				require.Equal(t, taken, r.teleport.All()["a"], "and never later")
				stop()
			})
		})
	}
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

// booting is a source whose Engine can be restarted under it.
type booting struct {
	*FakeSource
	since atomic.Pointer[time.Time]
	lost  atomic.Bool
}

func (b *booting) Since() (at time.Time, lost bool) {
	if b.lost.Load() {
		return time.Now(), true
	}
	if since := b.since.Load(); since != nil {
		return *since, false
	}
	return time.Time{}, false
}

// A host is started: its containers come up one after the other, and the agent
// before most of them. Nothing is deregistered meanwhile, and what doesn't come
// back is in the end. So it is when only Docker is started anew, whether the
// source could be read all the time, or couldn't.
func TestABootDeletesNothing(t *testing.T) {
	for name, restart := range map[string]func(b *booting){
		"the agent begins":     func(*booting) {},
		"docker is restarted":  func(b *booting) { b.Fail(errors.New("no such socket")); after(5 * time.Second); b.Fail(nil) },
		"between two readings": func(b *booting) { now := time.Now(); b.since.Store(&now) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				teleport := NewFakeTeleport(ours("a"), ours("b"), ours("gone"))
				source := &booting{FakeSource: NewFakeSource(container("a"), container("b"), container("gone"))}
				r := newRig(t, source.FakeSource, teleport, func(o *Options) {
					o.Source, o.Guard.Settle = source, 30*time.Second
				})
				stop := r.start(t)
				if name != "the agent begins" {
					after(time.Hour)
				}
				source.Stop("a", "b", "gone")
				restart(source)
				after(15 * time.Second)
				source.Set(container("a"))
				after(10 * time.Second)
				source.Set(container("b"))
				require.Empty(t, teleport.Writes())
				after(time.Minute)
				require.Equal(t, []string{"delete gone"}, teleport.Writes())
				stop()
			})
		})
	}
}

// A source whose events are lost for good, or again and again, never settles, and so
// nothing is ever deleted. That's no state to be in without a word.
func TestASourceThatNeverSettlesIsTold(t *testing.T) {
	for told, lose := range map[string]func(b *booting){
		"lost, and can't be followed again": func(b *booting) { b.lost.Store(true) },
		"lost again and again":              func(b *booting) { now := time.Now(); b.since.Store(&now) },
	} {
		t.Run(told, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				teleport := NewFakeTeleport(ours("a"), ours("gone"))
				source := &booting{FakeSource: NewFakeSource(container("a"), container("gone"))}
				r := newRig(t, source.FakeSource, teleport, func(o *Options) {
					o.Source, o.Guard.Settle = source, 3*time.Minute
				})
				stop := r.start(t)
				after(time.Hour)
				source.Stop("gone")
				for range 14 {
					lose(source)
					after(time.Minute)
				}
				require.Contains(t, r.status().Message, "1 to be deleted once the source has settled")
				require.NotContains(t, r.log.String(), "Nothing is deregistered")
				for range 5 {
					lose(source)
					after(time.Minute)
				}
				require.Contains(t, r.status().Message, told)
				require.Equal(t, 1, strings.Count(r.log.String(), "Nothing is deregistered"))
				require.Empty(t, teleport.Writes())

				source.lost.Store(false)
				after(10 * time.Minute)
				require.Equal(t, []string{"delete gone"}, teleport.Writes())
				require.NotContains(t, r.status().Message, "settle")
				stop()
			})
		})
	}
}

// While events are lost time alone opens nothing: the source isn't read again and
// again, and the alarm comes when it's due all the same. One that ended with a failure
// of the source is told anew the next time.
func TestLostEventsAreWaitedForInPeace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		teleport := NewFakeTeleport(ours("a"), ours("gone"))
		source := &booting{FakeSource: NewFakeSource(container("a"), container("gone"))}
		r := newRig(t, source.FakeSource, teleport, func(o *Options) {
			o.Source, o.Guard.Settle = source, time.Second
		})
		stop := r.start(t)
		after(time.Hour)
		source.lost.Store(true)
		source.Stop("gone")
		before := source.Reads()
		after(10*time.Minute - time.Second)
		require.Contains(t, r.status().Message, "1 to be deleted once the source has settled")
		after(2 * time.Second)
		require.Contains(t, r.status().Message, "can't be followed again")
		require.Contains(t, r.status().Message, "where there's no network bridge (Podman, or Docker without it), each stream of events must stay open")
		after(50 * time.Minute)
		require.Less(t, source.Reads()-before, 30)

		source.Fail(errors.New("no such socket"))
		r.RenewNow("now")
		after(time.Minute)
		source.Fail(nil)
		after(5 * time.Minute)
		require.Equal(t, 1, strings.Count(r.log.String(), "Nothing is deregistered"))
		after(10 * time.Minute)
		require.Equal(t, 2, strings.Count(r.log.String(), "Nothing is deregistered"))
		require.Empty(t, teleport.Writes())
		stop()
	})
}

// What waited for the source to settle, and doesn't any more, isn't counted on because
// something else was wrong when it ended.
func TestAnotherTroubleHidesNoSettling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		teleport := NewFakeTeleport(ours("a"), ours("gone"))
		source := &booting{FakeSource: NewFakeSource(container("a"), container("gone"))}
		r := newRig(t, source.FakeSource, teleport, func(o *Options) {
			o.Source, o.Guard.Settle = source, time.Minute
		})
		stop := r.start(t)
		after(time.Hour)
		source.lost.Store(true)
		source.Stop("gone")
		after(time.Minute)
		teleport.fault = func(op, name string) error {
			if op == "create" && name == "b" {
				return failure.New(failure.Refused, "no rule for it")
			}
			return nil
		}
		source.Set(container("b"))
		after(time.Minute)
		source.lost.Store(false)
		after(3 * time.Hour)
		require.Equal(t, []string{"delete gone"}, teleport.Writes())
		require.Contains(t, r.status().Message, "no rule for it")

		source.lost.Store(true)
		source.Stop("a")
		after(time.Second)
		teleport.fault = nil
		r.RenewNow("now")
		after(time.Minute)
		require.Equal(t, []string{"delete gone", "create b"}, teleport.Writes())
		require.Contains(t, r.status().Message, "1 to be deleted once the source has settled")
		require.NotContains(t, r.status().Message, "have waited since")
		require.NotContains(t, r.log.String(), "Nothing is deregistered")
		stop()
	})
}

// A source that couldn't be read for long has only begun to settle when it can be
// again.
func TestAnOutageIsNoSettling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		teleport := NewFakeTeleport(ours("a"), ours("gone"))
		source := NewFakeSource(container("a"))
		r := newRig(t, source, teleport, func(o *Options) { o.Guard.Settle = 3 * time.Minute })
		stop := r.start(t)
		after(time.Minute)
		source.Fail(errors.New("no such socket"))
		r.RenewNow("now")
		after(time.Hour)
		source.Fail(nil)
		after(2 * time.Minute)
		require.Contains(t, r.status().Message, "1 to be deleted once the source has settled")
		require.NotContains(t, r.log.String(), "Nothing is deregistered")
		after(10 * time.Minute)
		require.Equal(t, []string{"delete gone"}, teleport.Writes())
		stop()
	})
}

// A second workload asks for a name that the first has: what is registered isn't
// touched, not even while the first's own list is read in another order, and both
// are told. When the first is gone, the second gets the name, after the gates.
func TestADisputeTouchesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		teleport := NewFakeTeleport()
		source := NewFakeSource(named("m", "x"))
		r := newRig(t, source, teleport, nil)
		stop := r.start(t)
		after(time.Minute)
		before := teleport.All()["x"]
		source.Set(named("a", "x")) // which is read before it
		source.Set(named("z", "x")) // and behind
		after(time.Hour)
		require.Equal(t, []string{"create x"}, teleport.Writes())
		require.Equal(t, before, teleport.All()["x"])
		for _, workload := range []string{"a", "m", "z"} {
			require.Contains(t, r.log.String(), "workload="+workload+" reason=")
		}
		require.Contains(t, r.log.String(), "What a workload has registered is asked for by another; it stays.")
		require.Contains(t, r.status().Message, "2 in conflict")

		source.Set(moved(named("m", "x"), "http://elsewhere.test:80"))
		after(time.Minute)
		require.Equal(t, []string{"create x", "update x"}, teleport.Writes(), "its own changes are followed")
		require.Equal(t, "m", teleport.All()["x"].Workload())

		source.Stop("m", "z")
		after(time.Minute)
		require.Equal(t, "a", teleport.All()["x"].Workload())
		stop()
	})
}

// TestAnAnswerOlderThanOurWrite: Teleport answers reads from a cache. What we
// have just written isn't taken for somebody else's, nor written twice.
func TestAnAnswerOlderThanOurWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, NewFakeSource(), NewFakeTeleport(), func(o *Options) { o.Guard = quickGuard() })
		r.teleport.lag = func() time.Duration { return 20 * time.Second }
		stop := r.start(t)
		after(time.Second)

		r.source.Set(container("a"))
		after(time.Second)
		r.RenewNow("a full comparison reads the old list")
		after(time.Second)
		r.source.Set(moved(container("a"), "http://10.0.0.9:80"))
		after(time.Second)
		r.RenewNow("and so does this")
		after(time.Second)
		r.source.Stop("a")
		after(time.Minute)

		require.Equal(t, []string{"create a", "update a", "delete a"}, r.teleport.Writes())
		require.Equal(t, []string{"create a ok", "update a ok", "delete a ok"}, r.journal.Words())
		stop()
	})
}

// TestSomebodysWriteAfterOurs: what is neither as we left it nor as it was before
// is somebody else's doing, at once; and what was never seen is written again.
func TestSomebodysWriteAfterOurs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, NewFakeSource(), NewFakeTeleport(), nil)
		r.teleport.lag = func() time.Duration { return 20 * time.Second }
		stop := r.start(t)
		r.source.Set(container("a"))
		r.source.Set(container("b"))
		after(time.Second)

		r.teleport.Put(theirs("a"))
		r.teleport.Drop("b")
		r.RenewNow("look")
		after(time.Second)
		require.Contains(t, r.status().Message, "1 in conflict")
		after(time.Minute)

		require.Equal(t, theirs("a"), r.teleport.All()["a"])
		require.Equal(t, []string{"a", "b"}, r.teleport.Names(), "what was deleted behind our back is back")
		stop()
	})
}

// TestOurOwnWriteFromBeforeARestart: a name that is taken, by something that
// can't be read yet, may be our own.
func TestOurOwnWriteFromBeforeARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		teleport := NewFakeTeleport()
		teleport.lag = func() time.Duration { return 3 * time.Second }
		source := NewFakeSource(container("a"))
		first := newRig(t, source, teleport, nil)
		stop := first.start(t)
		after(time.Second)
		stop()
		source.Set(moved(container("a"), "http://10.0.0.9:80"))

		second := newRig(t, source, teleport, nil)
		stop = second.start(t)
		after(30 * time.Second)

		require.Equal(t, []string{"create a", "update a"}, teleport.Writes())
		require.NotContains(t, second.status().Message, "conflict")
		stop()
	})
}

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

// A role whose labels were narrowed doesn't see what is ours any more. What was to
// be deleted is told as refused; it isn't gone.
func TestWhatIsHiddenIsntGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, teleport := NewFakeSource(container("a"), container("b")), NewFakeTeleport()
		r := newRig(t, source, teleport, func(o *Options) { o.Guard = quickGuard() })
		r.begin(t.Context(), forEver)
		_, _, err := r.reconcile(t.Context(), forEver, look{full: true})
		require.NoError(t, err)
		source.Stop("b")
		require.NoError(t, r.read(t.Context()))
		p, err := r.plan(t.Context(), true)
		require.NoError(t, err)
		teleport.mu.Lock()
		teleport.sees = "another"
		teleport.mu.Unlock()
		result := r.applying(forEver).apply(t.Context(), p)
		require.Zero(t, result.Deleted)
		require.Len(t, result.Failures, 1)
		require.Equal(t, failure.Refused, failure.KindOf(result.Failures[0].Err))
		require.ErrorContains(t, result.Failures[0].Err, "is registered, but the role may not see it")
		require.Equal(t, []string{"a", "b"}, teleport.Names())
	})
}

// TestWhatIsRefusedCausesNoStorm: a deletion that waits for an update, both of
// which are refused, is tried with the full comparisons and not all the time; nor
// does each event have everything listed because of it.
func TestWhatIsRefusedCausesNoStorm(t *testing.T) {
	for _, kind := range []failure.Kind{failure.Refused, failure.Configuration} {
		t.Run(kind.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, NewFakeSource(named("a", "old")), NewFakeTeleport(), func(o *Options) { o.Guard = quickGuard() })
				stop := r.start(t)
				after(time.Second)
				tries := 0
				r.teleport.fault = func(op, _ string) error {
					if op == "update" || op == "delete" {
						tries++
						return failure.New(kind, "no %s", op)
					}
					return nil
				}
				r.source.Set(named("a", "new"))
				after(time.Second)
				r.source.Set(moved(named("a", "new"), "http://10.0.0.9:80"))
				after(time.Second)
				r.RenewNow("a full comparison tries all of it again")
				after(time.Second)
				lists, reads := r.teleport.lists, r.source.Reads()
				tries = 0

				const events = 30
				for range events {
					after(20 * time.Second)
					r.source.Set(container("b"))
				}

				require.Less(t, r.source.Reads()-reads, 2*events, "one look for an event, and a few by itself")
				require.Less(t, r.teleport.lists-lists, events/2, "full comparisons only")
				require.Less(t, tries, events/2)
				stop()
			})
		})
	}
}

// TestAChainOfNamesMovesInOrder: b has to have its new name before a gets the one
// that b gives up; if b doesn't get it, a doesn't either.
func TestAChainOfNamesMovesInOrder(t *testing.T) {
	for _, failing := range []bool{false, true} {
		t.Run(fmt.Sprint("failing ", failing), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				source := NewFakeSource(named("a", "one"), named("b", "two"), named("c", "three"))
				r := newRig(t, source, NewFakeTeleport(), func(o *Options) { o.Guard = quickGuard() })
				stop := r.start(t)
				after(time.Second)
				require.Equal(t, []string{"one", "three", "two"}, r.teleport.Names())
				r.teleport.fault = func(op, name string) error {
					if failing && op == "update" && name == "three" {
						return failure.New(failure.Refused, "no")
					}
					return nil
				}
				source.change(func() {
					delete(source.wants, "c")
					source.wants["b"] = named("b", "three")
					source.wants["a"] = named("a", "two")
				})
				after(time.Minute)

				holders := map[string]string{}
				for name, registered := range r.teleport.All() {
					holders[name] = registered.Workload()
				}
				if failing {
					require.Equal(t, "b", holders["two"], "b keeps its name: %v", holders)
				} else {
					require.Equal(t, map[string]string{"two": "a", "three": "b"}, holders)
				}
				stop()
			})
		})
	}
}

// What the role doesn't see any more isn't listed, and the name turns out to be
// taken. What the cluster says of that is told, since it names what to change; and
// that nobody answers isn't taken for a conflict.
func TestWhyATakenNameCantBeSeen(t *testing.T) {
	for name, test := range map[string]struct {
		get  error // nil: it's hidden
		kind failure.Kind
		told string
		word string
	}{
		"hidden":      {nil, failure.Conflict, "is registered, but the role may not see it", "create a conflict"},
		"cached":      {failure.New(failure.NotFound, "there's none"), failure.Conflict, "exists already, and we may not see it", "create a conflict"},
		"unreachable": {failure.New(failure.Unreachable, "nobody answers"), failure.Unreachable, "whose it is can't be read: nobody answers", "create a unreachable"},
		"failed":      {failure.New(failure.Transient, "try again"), failure.Transient, "whose it is can't be read: try again", "create a failed"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				teleport, journal := NewFakeTeleport(ours("a")), &Journal{}
				teleport.sees = "another"
				teleport.fault = func(op, _ string) error {
					if op == "get" {
						return test.get
					}
					return nil
				}
				r := newRig(t, NewFakeSource(container("a")), teleport, func(o *Options) { o.Auditor = journal })
				r.begin(t.Context(), forEver)
				_, result, _ := r.reconcile(t.Context(), forEver, look{full: true})

				require.Equal(t, []string{test.word}, journal.Words())
				require.Len(t, result.Failures, 1)
				require.Equal(t, test.kind, failure.KindOf(result.Failures[0].Err))
				require.ErrorContains(t, result.Failures[0].Err, test.told)
				require.Equal(t, []string{"a"}, teleport.Names())
			})
		})
	}
}
