package discovery

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"rollcall/failure"
)

const ttl = 15 * time.Second

// FakeSemaphore is one that ends by the cluster's clock, whatever its holders
// believe.
type FakeSemaphore struct {
	mu     sync.Mutex
	holder string
	until  time.Time
	// away has every call fail.
	away bool
	// hangs has every call wait until its caller gives up.
	hangs bool
	// refused has every call be refused.
	refused bool
	asked   int
}

// by is the semaphore as one agent sees it.
type by struct {
	*FakeSemaphore
	name string
}

func (b by) ask(ctx context.Context, extend bool, life time.Duration) (time.Duration, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked++
	if b.hangs {
		b.mu.Unlock()
		<-ctx.Done()
		b.mu.Lock()
		return 0, failure.Wrap(failure.Unreachable, ctx.Err(), "nobody answered")
	}
	held := b.holder != "" && time.Now().Before(b.until)
	switch {
	case b.refused:
		return 0, failure.New(failure.Refused, "the role lacks the rule for semaphores")
	case b.away:
		return 0, failure.New(failure.Unreachable, "nobody answers")
	case extend && (!held || b.holder != b.name):
		return 0, failure.New(failure.NotFound, "the lease is gone")
	case held && b.holder != b.name:
		return 0, failure.New(failure.Conflict, "%s holds it", b.holder)
	}
	b.holder, b.until = b.name, time.Now().Add(life)
	return life, nil
}

func (b by) Acquire(ctx context.Context, life time.Duration) (time.Duration, error) {
	return b.ask(ctx, false, life)
}

func (b by) Extend(ctx context.Context, life time.Duration) (time.Duration, error) {
	return b.ask(ctx, true, life)
}

func (b by) Release(context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.holder == b.name && !b.away {
		b.holder = ""
	}
	return nil
}

func (f *FakeSemaphore) set(how func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	how()
}

func lease(f *FakeSemaphore, name string) *SemaphoreLease {
	return NewSemaphoreLease(by{f, name}, ttl, slog.New(slog.DiscardHandler), func() float64 { return 0.5 })
}

// holding runs Hold and tells when work begins and ends.
func holding(t *testing.T, l *SemaphoreLease) (log func() string, stop func()) {
	t.Helper()
	var mu sync.Mutex
	var text bytes.Buffer
	say := func(word string) {
		mu.Lock()
		defer mu.Unlock()
		text.WriteString(word)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- l.Hold(ctx, func(ctx context.Context, _ func() time.Time) error {
			say("(")
			<-ctx.Done()
			say(")")
			return nil
		})
	}()
	log = func() string {
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		return text.String()
	}
	return log, func() { cancel(); require.NoError(t, <-done) }
}

func TestLeaseIsHeldByOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f FakeSemaphore
		one, stopOne := holding(t, lease(&f, "one"))
		require.Equal(t, "(", one())
		two, stopTwo := holding(t, lease(&f, "two"))
		after(time.Hour)
		require.Equal(t, "(", one())
		require.Empty(t, two())
		stopOne()
		after(ttl / 3)
		require.Equal(t, "(", two(), "given back, it's taken within a few seconds")
		stopTwo()
	})
}

func TestLeaseOutlivesAClusterThatIsAwayForAMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f FakeSemaphore
		one, stop := holding(t, lease(&f, "one"))
		after(time.Minute)
		f.set(func() { f.away = true })
		after(6 * time.Second)
		f.set(func() { f.away = false })
		after(time.Minute)
		require.Equal(t, "(", one())
		f.set(func() { f.away = true })
		after(ttl)
		require.Equal(t, "()", one())
		f.set(func() { f.away = false })
		after(ttl)
		require.Equal(t, "()(", one())
		stop()
	})
}

func TestLeaseEndsInTimeThoughTheClusterHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f FakeSemaphore
		one, stop := holding(t, lease(&f, "one"))
		after(time.Minute)
		f.set(func() { f.hangs = true })
		after(ttl)
		require.Equal(t, "()", one())
		stop()
	})
}

func TestLeaseEndsWithTheWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f FakeSemaphore
		err := lease(&f, "one").Hold(t.Context(), func(context.Context, func() time.Time) error { return errors.New("done for") })
		require.EqualError(t, err, "done for")
		require.Empty(t, f.holder, "it's given back")
	})
}

// Both clocks count: the monotonic one stands still while the host is
// suspended, and the wall clock can be set back.
func TestExpired(t *testing.T) {
	now := time.Now()
	require.False(t, expired(now, time.Time{}), "for ever")
	require.False(t, expired(now, now.Add(time.Second)))
	require.True(t, expired(now, now))
	require.True(t, expired(now.Round(0).Add(time.Minute), now.Add(time.Second)), "by the wall clock, where there is no other reading")
	require.True(t, expired(now.Add(2*time.Second), now.Add(time.Second)))
}

func TestTheOtherAgentTakesOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f FakeSemaphore
		source, teleport := NewFakeSource(container("a")), NewFakeTeleport()
		shared := func(name string) func(*Options) {
			return func(o *Options) {
				o.Lease, o.Guard = lease(&f, name), quickGuard()
			}
		}
		one := newRig(t, source, teleport, shared("one"))
		stopOne := one.start(t)
		after(time.Second)
		// The second sees the same workloads by its own subscription.
		second := NewFakeSource(container("a"), container("b"))
		two := newRig(t, second, teleport, shared("two"))
		stopTwo := two.start(t)
		after(10 * time.Minute)
		require.Equal(t, []string{"create a"}, teleport.Writes(), "who stands by writes nothing")
		require.True(t, two.status().Ready)
		require.Contains(t, two.status().Message, "standing by")

		f.set(func() { f.holder = "nobody any more" }) // one is killed: its semaphore ends by itself
		stopOne()
		f.set(func() { f.until = time.Now().Add(ttl) })
		after(ttl + ttl/3 + time.Second)
		require.Equal(t, []string{"create a", "create b"}, teleport.Writes())
		stopTwo()
	})
}

// TestAFrozenLeaderWritesNothingLate is a leader that is stopped (SIGSTOP)
// between its decision and its writes, for longer than its lease, while another
// takes over.
func TestAFrozenLeaderWritesNothingLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		until := time.Now().Add(ttl)
		r := newRig(t, NewFakeSource(container("a"), container("b")), NewFakeTeleport(), func(o *Options) { o.Concurrency = 1 })
		r.begin(t.Context(), func() time.Time { return until })
		require.NoError(t, r.read(t.Context()))
		require.NoError(t, r.list(t.Context()))
		p, err := r.plan(t.Context(), true)
		require.NoError(t, err)

		time.Sleep(ttl) // stopped here, with a plan in hand
		result := r.applying(func() time.Time { return until }).apply(t.Context(), p)
		require.ErrorIs(t, result.Fatal, errLost)
		require.Empty(t, r.teleport.Writes())
		require.Equal(t, []string{"create a lease_lost"}, r.journal.Words(), "and it stops at the first")
	})
}

func TestAWriteNeverOutlivesTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		until := time.Now().Add(3 * time.Second)
		r := newRig(t, NewFakeSource(container("a")), NewFakeTeleport(), nil)
		r.teleport.delay = 10 * time.Second
		r.begin(t.Context(), func() time.Time { return until })
		_, result, _ := r.reconcile(t.Context(), func() time.Time { return until }, look{full: true})
		require.Error(t, result.Fatal)
		require.Empty(t, r.teleport.Writes())
		require.Equal(t, leaseMargin, time.Until(until), "given up before the lease ends")
	})
}

func TestATakeoverDoesntResetTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f FakeSemaphore
		source, teleport := crowd(20)
		for i := range 12 { // the lease goes to and fro, and each time a container dies
			r := newRig(t, source, teleport, func(o *Options) { o.Lease = lease(&f, strings.Repeat("x", i+1)) })
			stop := r.start(t)
			after(time.Second)
			source.Stop(names(i, i+1)...)
			after(5 * time.Minute)
			stop()
		}
		require.LessOrEqual(t, len(teleport.Writes()), 10)
	})
}

// What the first has left is few because of what it has deleted: the second
// mustn't take that for a small installation, nor forget that there was an alarm.
func TestATakeoverDoesntDeleteTheOtherHalf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f FakeSemaphore
		source, teleport := crowd(12)
		run := func(name string) (*rig, func()) {
			r := newRig(t, source, teleport, func(o *Options) { o.Lease = lease(&f, name) })
			return r, r.start(t)
		}
		_, stop := run("one")
		after(61 * time.Minute) // its own unknown hour
		source.Stop(names(0, 6)...)
		after(time.Minute)
		require.Equal(t, names(6, 12), teleport.Names())
		source.Stop(names(6, 12)...)
		after(time.Minute)
		stop()

		two, stop := run("two")
		after(3 * time.Hour)
		require.Equal(t, names(6, 12), teleport.Names())
		require.Contains(t, two.status().Message, "6 deletions are frozen")
		stop()
	})
}

// A role without the rule for semaphores isn't another agent that holds one.
func TestALeaseThatCantBeHadIsAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &FakeSemaphore{away: true}
		r := newRig(t, NewFakeSource(), NewFakeTeleport(), nil)
		l := NewSemaphoreLease(by{f, "one"}, ttl, r.Reconciler.opts.Log, func() float64 { return 0.5 })
		r.opts.Lease = l
		stop := r.start(t)
		after(10 * time.Minute)
		require.True(t, r.status().Degraded || !r.status().Ready)
		require.Contains(t, r.status().Message, "nobody answers")
		require.Equal(t, 1, strings.Count(r.log.String(), "The lease can't be had"), "said once")
		f.set(func() { f.away, f.holder, f.until = false, "two", time.Now().Add(time.Hour) })
		after(time.Minute)
		require.True(t, r.status().Ready)
		require.Contains(t, r.status().Message, "standing by")
		stop()
	})
}

// A role that is too narrow stays so until somebody widens it: the cluster isn't
// asked every few seconds until then, and at most a minute later it's noticed.
func TestALeaseThatIsRefusedIsAskedForLessAndLess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &FakeSemaphore{refused: true}
		one, stop := holding(t, lease(f, "one"))
		after(time.Hour)
		require.Less(t, f.asked, 140, "in an hour")
		f.set(func() { f.refused = false })
		after(time.Minute)
		require.Equal(t, "(", one())
		stop()

		f.set(func() { f.away, f.asked = true, 0 })
		_, stop = holding(t, lease(f, "two"))
		after(time.Minute)
		require.Greater(t, f.asked, 10, "where nobody answers, it's asked for as often as before")
		stop()
	})
}
