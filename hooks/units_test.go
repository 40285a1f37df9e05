package hooks

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"rollcall/failure"
)

// slowJobs stands for a systemd that needs ten seconds for a job.
type slowJobs struct {
	mu   sync.Mutex
	done []string
	most int // that ran at the same time
	now  int
}

func (s *slowJobs) job(ctx context.Context, v verb, unit string) error {
	s.mu.Lock()
	s.done = append(s.done, string(v)+" "+unit)
	n := len(s.done)
	s.now++
	s.most = max(s.most, s.now)
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.now--
	}()
	select {
	case <-time.After(10 * time.Second):
		return failure.New(failure.Other, "job %d failed", n)
	case <-ctx.Done():
		return timedOut(ctx, "systemd wasn't done with it")
	}
}

// seen are the jobs so far, how many run, and how many ran at the same time.
func (s *slowJobs) seen() (done []string, now, most int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append(done, s.done...), s.now, s.most
}

// ask asks for reloads at the same time, and returns where their errors come.
func ask(ctx context.Context, u *Units, unit string, times int) <-chan error {
	errs := make(chan error, times)
	for range times {
		go func() { errs <- u.job(ctx, reload, unit) }()
	}
	return errs
}

func TestUnitsMergeRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		systemd := &slowJobs{}
		u := newUnits(systemd)
		first := ask(t.Context(), u, "x.service", 3)
		time.Sleep(900 * time.Millisecond)
		joined := ask(t.Context(), u, "x.service", 1)
		other := ask(t.Context(), u, "y.service", 1)
		time.Sleep(200 * time.Millisecond) // x has begun
		later := ask(t.Context(), u, "x.service", 2)
		time.Sleep(5 * time.Second)
		stillLater := ask(t.Context(), u, "x.service", 2)
		synctest.Wait()
		done, _, _ := systemd.seen()
		require.Equal(t, []string{"reload x.service", "reload y.service"}, done)
		for range 3 {
			require.ErrorContains(t, <-first, "failed")
		}
		require.ErrorContains(t, <-joined, "failed")
		require.ErrorContains(t, <-other, "failed")
		for range 2 {
			require.EqualError(t, <-later, "job 3 failed")
			require.EqualError(t, <-stillLater, "job 3 failed")
		}
		done, _, _ = systemd.seen()
		require.Len(t, done, 3)
		require.Empty(t, u.gathering)
		require.Empty(t, u.running)
	})
}

// TestUnitsEachHasItsTimeout has one of two give up: the job goes on for the
// other one, and ends when that gives up as well.
func TestUnitsEachHasItsTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		systemd := &slowJobs{}
		u := newUnits(systemd)
		within := func(limit time.Duration) <-chan error {
			errs := make(chan error, 1)
			go func() {
				ctx, cancel := context.WithTimeoutCause(t.Context(), limit, errTimeout)
				defer cancel()
				errs <- u.job(ctx, reload, "x.service")
			}()
			return errs
		}
		began := time.Now()
		short, long := within(6*time.Second), within(8*time.Second)
		require.ErrorIs(t, <-short, errTimeout)
		require.Equal(t, 6*time.Second, time.Since(began))
		synctest.Wait()
		_, now, _ := systemd.seen()
		require.Equal(t, 1, now, "the other one still waits")
		require.ErrorIs(t, <-long, errTimeout)
		require.Equal(t, 8*time.Second, time.Since(began))
		_, now, _ = systemd.seen()
		require.Zero(t, now)

		// Somebody who gives up before the turn has come leaves nothing behind.
		running := ask(t.Context(), u, "x.service", 1)
		time.Sleep(2 * time.Second)
		require.ErrorIs(t, <-within(3*time.Second), errTimeout)
		last := ask(t.Context(), u, "x.service", 1)
		<-running
		<-last
		done, _, most := systemd.seen()
		require.Len(t, done, 3)
		require.Equal(t, 1, most)
		require.Empty(t, u.gathering)
	})
}

// TestUnitsShortTimeout doesn't spend a short timeout with gathering.
func TestUnitsShortTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		jobs := &stubJobs{}
		ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
		defer cancel()
		u := newUnits(jobs)
		patient := ask(t.Context(), u, "x.service", 1)
		require.NoError(t, u.job(ctx, reload, "x.service"))
		require.NoError(t, <-patient)
		require.Len(t, jobs.all(), 1)
	})
}

// TestOutputsShareAReload has the runners of three outputs change at once.
func TestOutputsShareAReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		systemd := &stubJobs{}
		units := newUnits(systemd)
		ctx, cancel := context.WithCancel(t.Context())
		var group sync.WaitGroup
		for name := range strings.FieldsSeq("a b c") {
			r, err := NewRunner(RunnerOptions{
				Output: name, Hooks: []Options{{ReloadUnit: "nginx.service"}}, Units: units, Log: slog.New(slog.DiscardHandler),
			})
			require.NoError(t, err)
			group.Go(func() { _ = r.Run(ctx) })
			r.Changed(sampleChange())
		}
		time.Sleep(time.Minute)
		require.Equal(t, []string{"reload nginx.service"}, systemd.all())
		cancel()
		group.Wait()
	})
}
