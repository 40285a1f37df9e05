package discovery

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"rollcall/destination"
	"rollcall/discovery/plan"
	"rollcall/discovery/resource"
)

// crowd is a source with n workloads, and what they have registered.
func crowd(n int) (*FakeSource, *FakeTeleport) {
	source, teleport := NewFakeSource(), NewFakeTeleport()
	for i := range n {
		name := fmt.Sprintf("c%02d", i)
		source.wants[name] = container(name)
		teleport.things[name] = ours(name)
	}
	return source, teleport
}

func names(from, to int) []string {
	var all []string
	for i := from; i < to; i++ {
		all = append(all, fmt.Sprintf("c%02d", i))
	}
	return all
}

func TestFrozenDeletionsWaitForAPerson(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, teleport := crowd(20)
		r := newRig(t, source, teleport, nil)
		stop := r.start(t)
		after(time.Second)
		source.Stop(names(0, 15)...)
		source.Set(container("new"))
		after(10 * time.Minute)
		require.Equal(t, []string{"create new"}, teleport.Writes(), "creates go on, and nothing goes")
		status := r.status()
		require.True(t, status.Degraded)
		require.Contains(t, status.Message, "15 deletions are frozen")
		require.Equal(t, 1, strings.Count(r.log.String(), "Deletions are frozen"), "said once")

		hash := r.hash(t)
		require.Contains(t, status.Message, hash)
		r.store.Approve("0123456789ab")
		after(5 * time.Second)
		require.Len(t, teleport.Names(), 21, "the approval of another plan is none")
		r.store.Approve(hash)
		after(5 * time.Second)
		require.Equal(t, append(names(15, 20), "new"), teleport.Names())
		require.False(t, r.status().Degraded)
		stop()
	})
}

// hash returns the hash of what waits, as a preview shows it.
func (r *rig) hash(t *testing.T) string {
	t.Helper()
	preview := newRig(t, r.source, r.teleport, func(o *Options) { o.Store = r.store })
	p, err := preview.Plan(t.Context())
	require.NoError(t, err)
	require.True(t, p.Budget.Frozen)
	return p.Hash()
}

func TestAnAlarmEndsWhenEverythingIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, teleport := crowd(20)
		r := newRig(t, source, teleport, nil)
		stop := r.start(t)
		after(time.Second)
		source.Stop(names(0, 15)...)
		after(time.Minute)
		require.True(t, r.status().Degraded)
		r.store.Approve(r.hash(t) + "x") // nothing that counts
		for _, name := range names(0, 8) {
			source.Set(container(name))
		}
		after(time.Minute)
		require.True(t, r.status().Degraded, "seven would be within the budget, but the alarm stands")
		require.Empty(t, teleport.Writes())
		for _, name := range names(8, 15) {
			source.Set(container(name))
		}
		after(time.Minute)
		require.False(t, r.status().Degraded)
		source.Stop("c03")
		after(time.Minute)
		require.Equal(t, []string{"delete c03"}, teleport.Writes())
		stop()
	})
}

func TestAnApprovalBeforeTheAlarmIsNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, teleport := crowd(20)
		r := newRig(t, source, teleport, nil)
		stop := r.start(t)
		after(time.Second)
		source.Stop(names(0, 15)...)
		after(time.Minute)
		hash := r.hash(t)
		for _, name := range names(0, 15) {
			source.Set(container(name))
		}
		after(time.Minute)
		r.store.Approve(hash)
		source.Stop(names(0, 15)...)
		after(time.Hour)
		require.Len(t, teleport.Names(), 20)
		stop()
	})
}

// A process that crashes and restarts mustn't get a new budget each time.
func TestARestartDoesntResetTheBudget(t *testing.T) {
	for _, test := range []struct {
		name  string
		store StateStore
		most  int
	}{
		{"with a store", &MemoryStore{}, 10},
		// Nothing is known, so nothing goes for an hour each time.
		{"without one", nil, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				source, teleport := crowd(20)
				for i := range 20 { // one container dies every 150 s, and we restart each time
					r := newRig(t, source, teleport, func(o *Options) { o.Store = test.store })
					stop := r.start(t)
					after(time.Second)
					source.Stop(fmt.Sprintf("c%02d", i))
					after(149 * time.Second)
					stop()
				}
				require.LessOrEqual(t, len(teleport.Writes()), test.most)
				if test.store != nil {
					require.Len(t, teleport.Writes(), test.most)
				}
			})
		})
	}
}

func TestWithoutAStoreDeletionsWaitForAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, teleport := crowd(20)
		r := newRig(t, source, teleport, func(o *Options) { o.Store = nil })
		stop := r.start(t)
		after(time.Second)
		source.Stop(names(0, 4)...)
		after(59 * time.Minute)
		require.Empty(t, teleport.Writes())
		require.False(t, r.status().Degraded, "that's no alarm")
		after(2 * time.Minute)
		require.Len(t, teleport.Writes(), 4)
		stop()
	})
}

// What we've made ourselves since the start can't be what others began to
// delete.
func TestWithoutAStoreWhatWeMadeGoesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, _ := crowd(20)
		teleport := NewFakeTeleport()
		r := newRig(t, source, teleport, func(o *Options) { o.Store = nil })
		stop := r.start(t)
		after(time.Second)
		source.Stop(names(0, 4)...)
		after(time.Minute)
		require.Len(t, teleport.Names(), 16)
		stop()
	})
}

func TestNothingIsDeletedThatCantBeWrittenDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, teleport := crowd(3)
		r := newRig(t, source, teleport, nil)
		stop := r.start(t)
		after(time.Second)
		r.store.mu.Lock()
		r.store.fault = errors.New("no space left on device")
		r.store.mu.Unlock()
		source.Stop("c00")
		source.Set(container("new"))
		after(time.Minute)
		require.Equal(t, []string{"create new"}, teleport.Writes())
		require.Contains(t, r.status().Message, "no space left")
		stop()
	})
}

func TestADamagedStateCountsAsUnknown(t *testing.T) {
	h := history{store: &MemoryStore{data: []byte("{")}}
	require.Error(t, h.load(time.Now(), false))
	require.False(t, h.Since.IsZero())
}

func TestDeletionsAreWrittenDownBeforeTheyBegin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, teleport := crowd(20)
		r := newRig(t, source, teleport, func(o *Options) { o.Guard = quickGuard() })
		source.Stop(names(0, 3)...)
		ctx, crash := context.WithCancel(t.Context())
		teleport.lost = func(string, string) error { crash(); return nil }
		_ = r.Once(ctx)
		var again history
		again.store = r.store
		require.NoError(t, again.load(time.Now(), false))
		require.GreaterOrEqual(t, len(again.Deleted), len(teleport.Writes()))
		require.NotEmpty(t, again.Deleted)
	})
}

func TestDeletionsThatWerentTriedDontCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, teleport := crowd(20)
		r := newRig(t, source, teleport, func(o *Options) { o.Guard = quickGuard() })
		stop := r.start(t)
		after(time.Second)
		teleport.fault = func(op, _ string) error {
			if op == "get" {
				return errors.New("broken for now")
			}
			return nil
		}
		source.Stop(names(0, 9)...)
		after(30 * time.Minute)
		require.False(t, r.history.frozen())
		require.Empty(t, r.history.Deleted)
		stop()
	})
}

// someHash is the hash of a plan with a deletion.
func someHash() string {
	return plan.Purge(plan.Input{Owner: us, Actual: []resource.Resource{ours("a")}}).Hash()
}

func TestStateDirectory(t *testing.T) {
	path, hash := t.TempDir(), someHash()
	s, err := OpenStateDirectory(path, destination.SymlinksSecure, "web/rabbit")
	require.NoError(t, err)
	defer s.Close()
	data, err := s.Load()
	require.NoError(t, err)
	require.Nil(t, data, "nothing yet")
	require.NoError(t, s.Save([]byte(`{"deleted":["2026-01-02T12:00:00Z"]}`)))

	other, err := OpenStateDirectory(path, destination.SymlinksSecure, "web")
	require.NoError(t, err)
	defer other.Close()
	again, err := OpenStateDirectory(path, destination.SymlinksSecure, "web/rabbit")
	require.NoError(t, err)
	defer again.Close()
	data, err = again.Load()
	require.NoError(t, err)
	require.JSONEq(t, `{"deleted":["2026-01-02T12:00:00Z"]}`, string(data))

	require.ErrorContains(t, again.Approve("../../etc/passwd"), "isn't the hash of a plan")
	require.NoError(t, again.Approve(hash))
	hashes, err := other.TakeApprovals()
	require.NoError(t, err)
	require.Empty(t, hashes, "another service's")
	hashes, err = s.TakeApprovals()
	require.NoError(t, err)
	require.Equal(t, []string{hash}, hashes)
	hashes, err = s.TakeApprovals()
	require.NoError(t, err)
	require.Empty(t, hashes, "it counts once")
}

func TestHistorySurvivesAsJSON(t *testing.T) {
	h := history{store: &MemoryStore{}}
	now := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	require.NoError(t, h.save(plan.History{
		Deleted: []plan.Deletion{{Key: resource.Key{Kind: "app", Name: "gone"}, At: now}}, Frozen: now, Since: now, Acknowledged: []resource.Key{{Kind: "app", Name: "a/b"}},
	}))
	var again history
	again.store = h.store
	require.NoError(t, again.load(now, false))
	require.Equal(t, h.History, again.History)
}
