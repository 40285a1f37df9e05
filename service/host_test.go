package service

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"rollcall/diagnostics"
	"rollcall/failure"
)

// patient works until it's told to stop.
func patient(name string) Service {
	return Func(name, func(ctx context.Context) error { <-ctx.Done(); return nil })
}

// renewing is a patient service that remembers what RenewNow was called with.
type renewing struct {
	Service
	mu      sync.Mutex
	reasons []string
}

func (r *renewing) RenewNow(reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reasons = append(r.reasons, reason)
}

// rig is a host with a real board and a log that can be read.
type rig struct {
	*Host
	board *diagnostics.Board
	log   *bytes.Buffer
}

func newRig(level slog.Level) *rig {
	board := diagnostics.NewBoard(time.Now)
	log := &bytes.Buffer{}
	handler := slog.NewTextHandler(log, &slog.HandlerOptions{Level: level})
	host := NewHost(slog.New(handler), func(name string) diagnostics.Reporter { return board.Reporter(name, "test") })
	host.random = func() float64 { return 0 }
	return &rig{Host: host, board: board, log: log}
}

// start runs the host and returns what stops it and gives Run's error.
func (r *rig) start(t *testing.T) (stop func() error) {
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- r.Run(ctx) }()
	return func() error {
		cancel()
		return <-result
	}
}

func (r *rig) state(t *testing.T, name string) diagnostics.Status {
	status, ok := r.board.Status(name)
	require.True(t, ok, "%s isn't on the board", name)
	return status
}

func TestFailingServiceIsRestartedWithBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(slog.LevelInfo)
		began := time.Now()
		var starts []time.Duration
		require.NoError(t, r.Add(Func("bad", func(context.Context) error {
			starts = append(starts, time.Since(began))
			return failure.New(failure.Refused, "the cluster said no")
		})))
		var steady atomic.Int32
		require.NoError(t, r.Add(Func("good", func(ctx context.Context) error {
			steady.Add(1)
			<-ctx.Done()
			return nil
		})))
		stop := r.start(t)
		time.Sleep(9 * time.Second)
		synctest.Wait()
		require.Equal(t, []time.Duration{0, 1250 * time.Millisecond, 3750 * time.Millisecond, 8750 * time.Millisecond}, starts)
		require.EqualValues(t, 1, steady.Load(), "the failure of one restarted another")

		status := r.state(t, "bad")
		require.Equal(t, diagnostics.StateFailing, status.State)
		require.Equal(t, 4, status.ConsecutiveFailures)
		require.Equal(t, "the cluster said no", status.LastError)
		require.WithinDuration(t, began.Add(18750*time.Millisecond), *status.Next, time.Millisecond)
		require.NoError(t, stop())
		require.Equal(t, diagnostics.StateStopped, r.state(t, "bad").State)
		require.Equal(t, diagnostics.StateStopped, r.state(t, "good").State)
	})
}

func TestBackoffStartsOverAfterHealthyRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(slog.LevelInfo)
		began := time.Now()
		var starts []time.Duration
		require.NoError(t, r.Add(Func("moody", func(context.Context) error {
			starts = append(starts, time.Since(began))
			if len(starts) == 3 {
				time.Sleep(3 * time.Minute)
			}
			return errors.New("no")
		})))
		stop := r.start(t)
		time.Sleep(4 * time.Minute)
		synctest.Wait()
		require.NoError(t, stop())
		require.GreaterOrEqual(t, len(starts), 5)
		require.Equal(t, 1250*time.Millisecond, starts[3]-starts[2]-3*time.Minute, "the wait after a healthy run")
		require.Equal(t, 2500*time.Millisecond, starts[4]-starts[3])
	})
}

func TestPanicIsContained(t *testing.T) {
	for _, test := range []struct {
		name    string
		fault   func()
		message string
		hidden  string
	}{
		{
			name:    "the runtime's own text is shown",
			fault:   func() { var s []int; _ = s[len(s)] },
			message: "index out of range",
		},
		{
			name:    "another value isn't",
			fault:   func() { panic("token=hunter2") },
			message: "internal fault (panic)",
			hidden:  "hunter2",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(slog.LevelInfo)
				runs := 0
				require.NoError(t, r.Add(Func("clumsy", func(ctx context.Context) error {
					if runs++; runs == 1 {
						test.fault()
					}
					<-ctx.Done()
					return nil
				})))
				require.NoError(t, r.Add(patient("good")))
				stop := r.start(t)
				synctest.Wait()
				status := r.state(t, "clumsy")
				require.Contains(t, status.LastError, test.message)
				require.Contains(t, r.log.String(), test.message)
				require.NotContains(t, r.log.String(), "goroutine", "the stack is for --debug only")
				if test.hidden != "" {
					require.NotContains(t, r.log.String()+status.LastError, test.hidden)
				}
				time.Sleep(2 * time.Second)
				synctest.Wait()
				require.Equal(t, 2, runs)
				require.NoError(t, r.Alive())
				require.NoError(t, stop())
			})
		})
	}
}

func TestPanicStackIsInDebugLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(slog.LevelDebug)
		require.NoError(t, r.Add(Func("clumsy", func(context.Context) error { panic("boom") })))
		stop := r.start(t)
		synctest.Wait()
		require.NoError(t, stop())
		require.Contains(t, r.log.String(), "goroutine")
		require.Contains(t, r.log.String(), "TestPanicStackIsInDebugLog")
	})
}

func TestServiceThatEndsByItselfIsRestarted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(slog.LevelInfo)
		runs := 0
		require.NoError(t, r.Add(Func("quitter", func(context.Context) error { runs++; return nil })))
		stop := r.start(t)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.Equal(t, 2, runs)
		require.Contains(t, r.state(t, "quitter").LastError, "ended although nobody stopped it")
		require.NoError(t, stop())
	})
}

func TestStopNamesThoseThatAreStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(slog.LevelInfo)
		release := make(chan struct{})
		stuck := func(name string) Service {
			return Func(name, func(context.Context) error { <-release; return nil })
		}
		require.NoError(t, r.Add(stuck("hangs")))
		require.NoError(t, r.Add(patient("good")))
		require.NoError(t, r.Add(stuck("hangs too")))
		require.NoError(t, r.Add(Func("slow", func(ctx context.Context) error {
			<-ctx.Done()
			time.Sleep(4 * time.Second)
			return nil
		})))
		stop := r.start(t)
		synctest.Wait()
		began := time.Now()
		err := stop()
		require.EqualError(t, err, "these services did not stop within 5s: hangs, hangs too")
		require.Equal(t, StopTimeout, time.Since(began), "the limit is for all together")
		require.Equal(t, diagnostics.StateStopped, r.state(t, "slow").State)
		close(release)
	})
}

func TestStopEndsBackoffAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(slog.LevelInfo)
		require.NoError(t, r.Add(Func("bad", func(context.Context) error { return errors.New("no") })))
		stop := r.start(t)
		synctest.Wait()
		began := time.Now()
		require.NoError(t, stop())
		require.Zero(t, time.Since(began))
	})
}

func TestErrorWhileStoppingIsLoggedAndNotCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(slog.LevelInfo)
		require.NoError(t, r.Add(Func("flushes", func(ctx context.Context) error {
			<-ctx.Done()
			return errors.New("the last write failed")
		})))
		require.NoError(t, r.Add(Func("echoes", func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		})))
		stop := r.start(t)
		synctest.Wait()
		require.NoError(t, stop())
		require.Contains(t, r.log.String(), "the last write failed")
		require.NotContains(t, r.log.String(), "echoes")
		require.Zero(t, r.state(t, "flushes").ConsecutiveFailures)
	})
}

func TestRenewAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(slog.LevelInfo)
		one := &renewing{Service: patient("one")}
		two := &renewing{Service: patient("two")}
		runs := 0
		require.NoError(t, r.Add(one))
		require.NoError(t, r.Add(patient("can't renew")))
		require.NoError(t, r.Add(panickyRenewer{patient("panics")}))
		require.NoError(t, r.Add(two))
		require.NoError(t, r.Add(Func("waits for its restart", func(context.Context) error {
			runs++
			return errors.New("no")
		})))
		stop := r.start(t)
		synctest.Wait()
		require.Equal(t, 1, runs)
		r.RenewAll("SIGHUP")
		synctest.Wait()
		require.Equal(t, []string{"SIGHUP"}, one.reasons)
		require.Equal(t, []string{"SIGHUP"}, two.reasons)
		require.Equal(t, 2, runs, "the backoff goes on")
		require.NoError(t, stop())
	})
}

type panickyRenewer struct{ Service }

func (panickyRenewer) RenewNow(string) { panic("renew") }

func TestAddRefusesTheSameName(t *testing.T) {
	r := newRig(slog.LevelInfo)
	require.NoError(t, r.Add(patient("app")))
	err := r.Add(patient("app"))
	require.ErrorContains(t, err, `two services are named "app"`)
	require.Equal(t, failure.Configuration, failure.KindOf(err))
}

func TestUnreportedServiceIsNotOnTheBoard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(slog.LevelInfo)
		require.NoError(t, r.Add(Func("helper", func(context.Context) error { return errors.New("no") }), Unreported))
		stop := r.start(t)
		synctest.Wait()
		require.NoError(t, stop())
		require.Empty(t, r.board.Snapshot())
	})
}

func TestAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(slog.LevelInfo)
		fall := make(chan struct{})
		require.NoError(t, r.Add(Func("drops out", func(context.Context) error {
			<-fall
			runtime.Goexit()
			return nil
		})))
		require.NoError(t, r.Alive(), "before Run: a watchdog that asks early must not be told of a fault")
		stop := r.start(t)
		synctest.Wait()
		require.NoError(t, r.Alive())
		close(fall)
		synctest.Wait()
		require.ErrorContains(t, r.Alive(), "drops out")
		require.NoError(t, stop())
		require.Error(t, r.Alive(), "after Run")
	})
}

// probed is a service that can tell that it hangs.
type probed struct {
	Service
	stuck atomic.Bool
}

func (p *probed) Alive() error {
	if p.stuck.Load() {
		return errors.New("stuck for 6m0s while renewing")
	}
	return nil
}

func TestAliveAsksTheServices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(slog.LevelInfo)
		app := &probed{Service: patient("app")}
		require.NoError(t, r.Add(patient("other")))
		require.NoError(t, r.Add(app))
		stop := r.start(t)
		synctest.Wait()
		require.NoError(t, r.Alive())
		app.stuck.Store(true)
		require.EqualError(t, r.Alive(), "app is stuck for 6m0s while renewing")
		app.stuck.Store(false)
		require.NoError(t, r.Alive())
		require.NoError(t, stop())
	})
}
