package discovery

import (
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"rollcall/failure"
)

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
