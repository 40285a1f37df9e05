package discovery

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"rollcall/failure"
)

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
