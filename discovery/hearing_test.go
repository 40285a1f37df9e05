package discovery

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"rollcall/discovery/resource"
	"rollcall/failure"
)

// loudTeleport is a FakeTeleport that tells those who watch of every change,
// hidden or not, as Teleport does.
type loudTeleport struct {
	*FakeTeleport

	// mu protects the following.
	mu       sync.Mutex
	listener func(resource.Key, *resource.Resource)
	cut      chan struct{}
	// refuse is what a watch is answered with.
	refuse error
	// ends has a watch return nil before it stands, and breaks just after that.
	ends, breaks bool
	// slow is how long it takes to subscribe.
	slow time.Duration
	// watches counts them.
	watches int
}

func newLoudTeleport(things ...resource.Resource) *loudTeleport {
	return &loudTeleport{FakeTeleport: NewFakeTeleport(things...)}
}

func (l *loudTeleport) Watch(ctx context.Context, subscribed func(), changed func(resource.Key, *resource.Resource)) error {
	pause(ctx, l.slow)
	l.mu.Lock()
	l.watches++
	if err := l.refuse; err != nil {
		l.mu.Unlock()
		return err
	}
	if l.ends {
		l.mu.Unlock()
		return nil
	}
	cut := make(chan struct{})
	l.listener, l.cut = changed, cut
	subscribed()
	if l.breaks {
		close(cut)
	}
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.listener = nil
	}()
	select {
	case <-ctx.Done():
		return nil
	case <-cut:
		return errors.New("the stream was cut")
	}
}

// Watches returns how often somebody began to watch.
func (l *loudTeleport) Watches() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.watches
}

// Lists returns how often everything was listed.
func (l *loudTeleport) Lists() int {
	lists, _ := l.Reads()
	return lists
}

// tell tells what is there of a name now.
func (l *loudTeleport) tell(name string) {
	var now *resource.Resource
	if r, there := l.All()[name]; there {
		now = &r
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.listener != nil {
		l.listener(resource.Key{Kind: resource.KindApp, Name: name}, now)
	}
}

func (l *loudTeleport) Put(r resource.Resource) { l.FakeTeleport.Put(r); l.tell(r.Name) }
func (l *loudTeleport) Drop(name string)        { l.FakeTeleport.Drop(name); l.tell(name) }

func (l *loudTeleport) Create(ctx context.Context, r resource.Resource) error {
	defer l.tell(r.Name)
	return l.FakeTeleport.Create(ctx, r)
}

func (l *loudTeleport) Update(ctx context.Context, r resource.Resource) error {
	defer l.tell(r.Name)
	return l.FakeTeleport.Update(ctx, r)
}

func (l *loudTeleport) Delete(ctx context.Context, r resource.Resource) error {
	defer l.tell(r.Name)
	return l.FakeTeleport.Delete(ctx, r)
}

// newLoudRig is a rig whose Teleport tells of changes, and whose full comparisons
// are an hour apart.
func newLoudRig(t *testing.T, source *FakeSource, teleport *loudTeleport, change func(*Options)) *rig {
	t.Helper()
	return newRig(t, source, teleport.FakeTeleport, func(o *Options) {
		o.Registries = map[resource.Kind]Registry{resource.KindApp: teleport}
		o.Interval = time.Hour
		if change != nil {
			change(o)
		}
	})
}

// What others do to our resources is mended at once, and not at the next full
// comparison.
func TestOthersChangesAreMendedAtOnce(t *testing.T) {
	for name, do := range map[string]func(*loudTeleport){
		"deleted": func(l *loudTeleport) { l.Drop("a") },
		"changed": func(l *loudTeleport) { l.Put(at(ours("a"), "http://elsewhere")) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				teleport := newLoudTeleport()
				r := newLoudRig(t, NewFakeSource(container("a")), teleport, nil)
				stop := r.start(t)
				after(5 * time.Second)
				do(teleport)
				after(3 * time.Second)
				require.Equal(t, ours("a"), teleport.All()["a"])
				stop()
			})
		})
	}
}

func at(r resource.Resource, uri string) resource.Resource {
	r.Spec = resource.AppSpec{URI: uri}
	return r
}

// What is deleted right after we made it isn't taken for an answer that is older
// than our write.
func TestADeletionAfterOurWriteIsMendedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		teleport := newLoudTeleport()
		r := newLoudRig(t, NewFakeSource(), teleport, nil)
		stop := r.start(t)
		after(5 * time.Second)
		r.source.Set(container("a"))
		after(time.Second)
		teleport.Drop("a")
		after(time.Second)
		require.Equal(t, []string{"a"}, teleport.Names())
		r.source.Set(moved(container("a"), "http://10.0.0.2:80"))
		after(100 * time.Millisecond) // before anything that was told is looked at
		teleport.Put(ours("a"))
		after(2 * time.Second)
		require.Equal(t, "http://10.0.0.2:80", teleport.All()["a"].Spec.(resource.AppSpec).URI, "even if it's put back as it was")
		stop()
	})
}

// A resource whose mark is taken away isn't ours any more: that's told, and it's
// left alone.
func TestALostMarkIsToldAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		teleport := newLoudTeleport()
		r := newLoudRig(t, NewFakeSource(container("a")), teleport, nil)
		stop := r.start(t)
		after(5 * time.Second)
		teleport.Put(theirs("a"))
		after(3 * time.Second)
		require.Equal(t, theirs("a"), teleport.All()["a"])
		require.Contains(t, r.status().Message, "conflict")
		stop()
	})
}

// A name that somebody had, and that we weren't even allowed to see, is taken as
// soon as it's free.
func TestAFreedNameIsTakenAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		teleport := newLoudTeleport(theirs("a"))
		teleport.sees = us
		r := newLoudRig(t, NewFakeSource(container("a")), teleport, nil)
		stop := r.start(t)
		after(10 * time.Minute)
		require.Equal(t, theirs("a"), teleport.All()["a"])
		teleport.Drop("a")
		after(3 * time.Second)
		require.Equal(t, ours("a"), teleport.All()["a"])
		stop()
	})
}

// What somebody gives to us, labels and all, is ours from then on.
func TestWhatBecomesOursIsMendedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		teleport := newLoudTeleport(theirs("a"))
		r := newLoudRig(t, NewFakeSource(container("a")), teleport, nil)
		stop := r.start(t)
		after(5 * time.Second)
		teleport.Put(at(ours("a"), "http://elsewhere"))
		after(3 * time.Second)
		require.Equal(t, ours("a"), teleport.All()["a"])
		stop()
	})
}

// Another service may have our owner: what it registers is none of our business.
func TestAnotherServiceOfOurOwnerIsNoHint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		elses := ours("b")
		elses.Labels[resource.LabelSource] = "file/other"
		teleport := newLoudTeleport(elses)
		r := newLoudRig(t, NewFakeSource(container("a")), teleport, nil)
		stop := r.start(t)
		after(5 * time.Second)
		lists := teleport.Lists()
		for i := range 100 {
			teleport.Put(at(elses, fmt.Sprint("http://", i)))
			more := elses
			more.Name = fmt.Sprint("c", i)
			teleport.Put(more)
			after(time.Second)
		}
		teleport.Drop("b")
		after(time.Minute)
		require.Equal(t, lists, teleport.Lists())
		stop()
	})
}

// Of what isn't ours nothing is kept that could be a secret.
func TestOthersSpecsAreNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, NewFakeSource(), NewFakeTeleport(), nil)
		mine, foreign := ours("a"), theirs("b")
		require.Nil(t, r.needed(nil))
		require.Equal(t, &mine, r.needed(&mine))
		require.Nil(t, r.needed(&foreign).Spec)
		require.Equal(t, foreign.Key(), r.needed(&foreign).Key())
	})
}

// Our own writes are told as well, and lead to nothing.
func TestOwnWritesAreNoHints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		teleport := newLoudTeleport()
		r := newLoudRig(t, NewFakeSource(), teleport, func(o *Options) { o.Guard = quickGuard(); o.TTL = 30 * time.Minute })
		stop := r.start(t)
		after(5 * time.Second)
		before := teleport.Lists()
		for i := range 50 {
			r.source.Set(container(fmt.Sprint("c", i)))
			after(100 * time.Millisecond)
			r.source.Set(moved(container(fmt.Sprint("c", i)), "http://10.0.0.2:80"))
			after(100 * time.Millisecond)
		}
		after(50 * time.Minute) // the leases are refreshed meanwhile
		require.Equal(t, before, teleport.Lists())
		r.source.Stop("c1", "c2", "c3")
		after(5 * time.Minute)
		require.Equal(t, before+1, teleport.Lists(), "a deletion is decided on a fresh list")
		require.Greater(t, len(teleport.Writes()), 150)
		stop()
	})
}

// Whatever others do to what isn't ours costs no call, however much of it there
// is.
func TestOthersResourcesAreNoHints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		teleport := newLoudTeleport(theirs("grafana"))
		r := newLoudRig(t, NewFakeSource(container("a")), teleport, nil)
		stop := r.start(t)
		after(5 * time.Second)
		lists, reads := teleport.Lists(), r.source.Reads()
		for i := range 3000 {
			teleport.Put(theirs(fmt.Sprint("t", i%500)))
			teleport.Put(at(theirs("grafana"), fmt.Sprint("http://", i)))
			after(10 * time.Millisecond)
		}
		teleport.Drop("grafana")
		after(time.Minute)
		require.Equal(t, lists, teleport.Lists())
		require.Equal(t, reads, r.source.Reads())
		_, gets := teleport.Reads()
		require.Zero(t, gets)
		stop()
	})
}

// More changes than are remembered are one look.
func TestABurstOfChangesIsOneLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		teleport := newLoudTeleport()
		r := newLoudRig(t, NewFakeSource(container("a")), teleport, nil)
		stop := r.start(t)
		after(5 * time.Second)
		before := teleport.Lists()
		teleport.mu.Lock()
		for i := range 3 * mostHeard {
			teleport.listener(resource.Key{Kind: resource.KindApp, Name: fmt.Sprint("t", i)}, nil)
		}
		teleport.mu.Unlock()
		after(time.Minute)
		require.Equal(t, before+1, teleport.Lists())
		stop()
	})
}

// Who fights with us is answered now and then.
func TestAStormOfChangesIsPaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		teleport := newLoudTeleport()
		r := newLoudRig(t, NewFakeSource(container("a")), teleport, nil)
		stop := r.start(t)
		after(5 * time.Second)
		before := teleport.Lists()
		for i := range 36000 { // an hour
			teleport.Put(at(ours("a"), fmt.Sprint("http://10.0.0.1:", i+1)))
			after(100 * time.Millisecond)
		}
		require.InDelta(t, 180+soonLooks, teleport.Lists()-before, 5)
		after(soonLooks * pace)
		teleport.Drop("a")
		after(time.Second)
		require.Contains(t, teleport.Names(), "a", "after a calm it's at once again")
		stop()
	})
}

// What happened while the watch was cut is found when it stands again.
func TestACutWatchMissesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		teleport := newLoudTeleport()
		r := newLoudRig(t, NewFakeSource(container("a")), teleport, nil)
		stop := r.start(t)
		after(30 * time.Minute)
		close(teleport.cut)
		after(10 * time.Millisecond)
		teleport.Drop("a")
		after(5 * time.Second)
		require.Equal(t, []string{"a"}, teleport.Names())
		stop()
		require.NotContains(t, r.log.String(), "can't be watched", "a stream that is cut once is no news")
	})
}

// Without the right to watch everything goes on as before, only later; that's
// said once, and tried again now and then.
func TestWithoutTheRightToWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		teleport := newLoudTeleport()
		teleport.refuse = failure.New(failure.Refused, "the role lacks read on app")
		r := newLoudRig(t, NewFakeSource(container("a")), teleport, nil)
		stop := r.start(t)
		after(5 * time.Hour)
		require.InDelta(t, 30, teleport.Watches(), 3)
		require.InDelta(t, 6, teleport.Lists(), 1)
		require.False(t, r.status().Degraded)

		teleport.mu.Lock()
		teleport.refuse = nil
		teleport.mu.Unlock()
		after(2 * refusedRetry)
		teleport.Drop("a")
		after(3 * time.Second)
		require.Equal(t, []string{"a"}, teleport.Names())
		stop()
		require.Equal(t, 1, strings.Count(r.log.String(), "Changes in Teleport can't be watched"))
		require.Contains(t, r.log.String(), "the role lacks read on app")
	})
}

// A watch that never stands, or falls at once, is tried again soon, and told
// once, whatever it says of itself.
func TestAWatchThatNeverStands(t *testing.T) {
	for name, spoil := range map[string]func(*loudTeleport){
		"unreachable":          func(l *loudTeleport) { l.refuse = failure.New(failure.Unreachable, "no answer") },
		"ends before it tells": func(l *loudTeleport) { l.ends = true },
		"breaks at once":       func(l *loudTeleport) { l.breaks = true },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				teleport := newLoudTeleport()
				spoil(teleport)
				r := newLoudRig(t, NewFakeSource(container("a")), teleport, nil)
				stop := r.start(t)
				after(2 * time.Hour)
				require.InDelta(t, 240, teleport.Watches(), 20)
				stop()
				require.Equal(t, 1, strings.Count(r.log.String(), "Changes in Teleport can't be watched"))
			})
		})
	}
}

// When the cluster answers again nobody waits for what was refused before.
func TestRetryNowWakesTheWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		teleport := newLoudTeleport()
		teleport.refuse = failure.New(failure.Refused, "the role lacks read on app")
		r := newLoudRig(t, NewFakeSource(container("a")), teleport, nil)
		stop := r.start(t)
		after(time.Minute)
		teleport.mu.Lock()
		teleport.refuse = nil
		teleport.mu.Unlock()
		r.RetryNow("the cluster answers again")
		after(time.Second)
		teleport.Drop("a")
		after(3 * time.Second)
		require.Equal(t, []string{"a"}, teleport.Names())
		stop()
	})
}

// A start lists once, even if it takes a while to subscribe; it doesn't wait for
// long.
func TestAStartListsOnce(t *testing.T) {
	for _, slow := range []time.Duration{0, time.Second, time.Minute} {
		t.Run(slow.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				teleport := newLoudTeleport()
				teleport.slow = slow
				r := newLoudRig(t, NewFakeSource(container("a")), teleport, nil)
				stop := r.start(t)
				after(firstRead + 100*time.Millisecond)
				require.Equal(t, []string{"a"}, teleport.Names())
				after(30 * time.Second)
				require.Equal(t, 1, teleport.Lists())
				stop()
			})
		})
	}
}

// A clock that is set back delays no look.
func TestAClockThatIsSetBack(t *testing.T) {
	s := schedule{random: func() float64 { return 0.5 }, interval: time.Hour}
	now := time.Now()
	s.begin(now)
	s.worked(now, true, time.Time{})
	due := s
	s.bound(now)
	require.Equal(t, due.next(), s.next(), "nothing is brought forward while the clock is right")

	s.hear(now)
	s.changed(now)
	now = now.Add(-24 * time.Hour)
	s.bound(now)
	require.False(t, s.sift.After(now.Add(gathering)))
	require.False(t, s.echo.After(now.Add(pace)))
	require.False(t, s.full.After(now.Add(2*time.Hour)))
}

// Nobody changes anything: no call is made but the full comparisons'.
func TestHearingNothingCostsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		teleport := newLoudTeleport()
		r := newLoudRig(t, NewFakeSource(container("a")), teleport, nil)
		stop := r.start(t)
		after(24 * time.Hour)
		require.InDelta(t, 25, teleport.Lists(), 3)
		require.Equal(t, 1, teleport.Watches())
		stop()
	})
}
