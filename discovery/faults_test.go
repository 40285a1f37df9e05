package discovery

import (
	"errors"
	"fmt"
	"slices"
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

// These are the faults of the guide's example program that can be shown without
// a cluster; each test fails on what the program does.

// Fault 2: whatever isn't in Docker is pruned, everybody's applications included.
func TestFault02ForeignResourcesStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		other := ours("b")
		other.Labels[resource.LabelOwner] = "bot/other/rabbit"
		file := ours("c")
		file.Labels[resource.LabelSource] = "file/rabbit"
		teleport := NewFakeTeleport(theirs("grafana"), other, file)
		before := teleport.All()
		r := newRig(t, NewFakeSource(), teleport, func(o *Options) { o.Guard = quickGuard() })
		stop := r.start(t)
		after(24 * time.Hour)
		stop()
		require.Equal(t, before, teleport.All())
		require.Empty(t, teleport.Writes())
	})
}

// Fault 3: a container is its address. One that gets another's address gets its
// name, and a restart is a deletion and a creation.
func TestFault03AnAddressIsNoIdentity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const first, second = "http://172.17.0.2:80", "http://172.17.0.3:80"
		source := NewFakeSource(moved(container("a"), first), moved(container("b"), second))
		r := newRig(t, source, NewFakeTeleport(), nil)
		stop := r.start(t)
		after(time.Second)
		// Restarted with another address: an update.
		source.Stop("a")
		after(2 * time.Second)
		source.Set(moved(container("a"), "http://172.17.0.4:80"))
		after(time.Minute)
		require.Equal(t, []string{"create a", "create b", "update a"}, sorted(r.teleport.Writes()))

		// Both are restarted, and Docker gives each an address that the other had.
		source.Stop("a", "b")
		after(2 * time.Second)
		source.Set(moved(container("b"), "http://172.17.0.4:80"))
		after(time.Second)
		require.NotContains(t, r.teleport.Names(), "a", "a's users mustn't reach b")
		source.Set(moved(container("a"), second))
		after(time.Hour)
		stop()
		require.Equal(t, resource.AppSpec{URI: second}, r.teleport.All()["a"].Spec)
		require.Equal(t, resource.AppSpec{URI: "http://172.17.0.4:80"}, r.teleport.All()["b"].Spec)
		require.NotContains(t, r.teleport.Writes(), "delete b")
	})
}

func sorted(words []string) []string {
	slices.Sort(words)
	return words
}

// The mirror image: a resource that stays for whatever reason leads its users to
// whoever has its address next. That's told, loudly.
func TestAStaleAddressOfAnotherIsAnAlarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const address = "http://172.17.0.2:80"
		source := NewFakeSource(moved(container("a"), address))
		r := newRig(t, source, NewFakeTeleport(), func(o *Options) { o.Policy = plan.PolicyUpsertOnly })
		stop := r.start(t)
		after(time.Second)
		source.Stop("a")
		after(time.Minute)
		require.False(t, r.status().Degraded)
		source.Set(moved(container("b"), address))
		after(time.Minute)
		require.True(t, r.status().Degraded)
		require.Contains(t, r.status().Message, `its address 172.17.0.2:80 is that of "b" now`)
		require.Equal(t, 1, strings.Count(r.log.String(), "Users of a resource reach another workload"))
		stop()
	})
}

// Fault 4: what was started and isn't registered yet is started again and again.
func TestFault04NothingIsStartedTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, teleport := NewFakeSource(container("a")), NewFakeTeleport()
		teleport.delay = 12 * time.Second
		var creates atomic.Int32
		teleport.fault = func(op, _ string) error {
			if op == "create" {
				creates.Add(1)
			}
			return nil
		}
		r := newRig(t, source, teleport, nil)
		stop := r.start(t)
		for range 50 {
			source.Set(container("a")) // an event, and another
			after(time.Second)
		}
		stop()
		require.Equal(t, int32(1), creates.Load())
	})
}

// Fault 6: any error is a panic.
func TestFault06NoErrorEndsTheService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, teleport := NewFakeSource(container("a"), container("b")), NewFakeTeleport(ours("old"))
		var calls atomic.Int32
		kinds := []failure.Kind{
			failure.Other, failure.Configuration, failure.Refused, failure.Unreachable,
			failure.Transient, failure.NotFound, failure.Trust, failure.Conflict,
		}
		teleport.fault = func(string, string) error {
			if n := calls.Add(1); n < 60 {
				return failure.New(kinds[int(n)%len(kinds)], "fault %d", n)
			}
			return nil
		}
		source.Fail(errors.New("Docker is away"))
		r := newRig(t, source, teleport, nil)
		stop := r.start(t)
		after(10 * time.Minute)
		require.Equal(t, diagnostics.StateFailing, r.status().State)
		source.Fail(nil)
		after(3 * time.Hour)
		require.NoError(t, r.Alive())
		require.Equal(t, []string{"a", "b"}, teleport.Names())
		require.Equal(t, diagnostics.StateReady, r.status().State)
		stop()
	})
}

// Fault 9: a deletion that failed is forgotten.
func TestFault09AFailedDeletionIsToldAndTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, teleport := NewFakeSource(container("a")), NewFakeTeleport()
		var fails atomic.Bool
		fails.Store(true)
		teleport.fault = func(op, _ string) error {
			if op == "delete" && fails.Load() {
				return failure.New(failure.Transient, "the backend is busy")
			}
			return nil
		}
		r := newRig(t, source, teleport, nil)
		stop := r.start(t)
		after(time.Second)
		source.Stop("a")
		after(10 * time.Minute)
		require.Equal(t, []string{"a"}, teleport.Names())
		require.Contains(t, r.status().Message, "the backend is busy")
		require.Contains(t, r.journal.Words(), "delete a failed")
		fails.Store(false)
		after(2 * time.Minute)
		require.Empty(t, teleport.Names())
		require.False(t, r.status().Degraded)
		stop()
	})
}

// Fault 9, too: after a crash nobody knows any more what was started.
func TestFault09ARestartFindsWhatIsOurs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, teleport := NewFakeSource(container("a"), container("b")), NewFakeTeleport(theirs("grafana"))
		r := newRig(t, source, teleport, nil)
		stop := r.start(t)
		after(time.Second)
		stop()
		source.Stop("b") // while we're away
		again := newRig(t, source, teleport, nil)
		stop = again.start(t)
		after(time.Minute)
		stop()
		require.Equal(t, []string{"a", "grafana"}, teleport.Names())
	})
}

// Fault 10: there's no dry run.
func TestFault10APlanWritesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, teleport := crowd(5)
		source.Stop("c00", "c01")
		source.Set(container("new"))
		source.Set(moved(container("c02"), "http://10.0.0.9:80"))
		before := teleport.All()
		r := newRig(t, source, teleport, nil)
		p, err := r.Plan(t.Context())
		require.NoError(t, err)
		require.Equal(t, 2, p.ExitCode())
		words := ""
		for _, a := range p.Actions {
			words += fmt.Sprintf("%s %s; ", a.Op, a.Key.Name)
		}
		require.Equal(t, "create new; update c02; delete c00; delete c01; nothing c03; nothing c04; ", words)
		require.Equal(t, before, teleport.All())
		require.Zero(t, r.store.saves)
		require.Empty(t, r.journal.Words())
	})
}
