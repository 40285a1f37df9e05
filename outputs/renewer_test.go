package outputs

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"rollcall/cluster"
	"rollcall/failure"
	"rollcall/service"
)

var (
	_ service.Service = (*Application)(nil)
	_ service.Oncer   = (*Application)(nil)
	_ service.Renewer = (*Application)(nil)
	_ service.Service = (*Identity)(nil)
	_ service.Oncer   = (*Identity)(nil)
	_ service.Renewer = (*Identity)(nil)
)

// running runs out in the bubble until stop, which checks that it ends well.
func running(t *testing.T, out service.Service) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- out.Run(ctx) }()
	synctest.Wait()
	return func() {
		cancel()
		require.NoError(t, <-done)
	}
}

func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

var unreachable = failure.New(failure.Unreachable, "nobody answers at proxy.example.com:443")

func TestRenewsEachInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, began := newRig(t), time.Now()
		stop := running(t, r.application())
		pass(time.Hour + time.Second)
		stop()
		require.Equal(t, []time.Duration{0, 20 * time.Minute, 40 * time.Minute, time.Hour}, r.attempts(began))
		require.Len(t, r.reports, 4)
		last := r.lastReport()
		require.NoError(t, last.Err)
		require.False(t, last.Unchanged)
		require.WithinDuration(t, began.Add(2*time.Hour), last.NotAfter, time.Second)
		require.WithinDuration(t, began.Add(80*time.Minute), last.Next, time.Second)
		require.Equal(t, Change{
			Output: "application-grafana", Type: "application", Destination: "test memory",
			Files: r.told()[0].Files, NotAfter: r.told()[0].NotAfter, Serial: r.told()[0].Serial, Reason: "nothing is there yet",
		}, r.told()[0])
		require.Contains(t, r.told()[0].Files, "tlscert")
		require.NotEqual(t, r.told()[0].Serial, r.told()[3].Serial)

		// What is told of the set in place is what was told of its change.
		current, err := Current(t.Context(), append((&ApplicationOptions{}).Files(), "no-such-file"), r)
		require.NoError(t, err)
		require.Equal(t, r.told()[3].Serial, current.Serial)
		require.WithinDuration(t, r.told()[3].NotAfter, current.NotAfter, time.Second)
		require.ElementsMatch(t, (&ApplicationOptions{}).Files(), current.Files)
		require.Equal(t, "due", r.told()[3].Reason)
	})
}

func TestRestartRenewsOnlyWhatIsDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, began := newRig(t), time.Now()
		for range 4 {
			stop := running(t, r.application())
			pass(4 * time.Minute)
			stop()
		}
		require.Equal(t, []time.Duration{0}, r.attempts(began), "restarts after 4, 8 and 12 minutes")
		report := r.lastReport()
		require.True(t, report.Unchanged)
		require.WithinDuration(t, began.Add(20*time.Minute), report.Next, time.Second)
		require.Len(t, r.logged("aren't due yet"), 3)

		stop := running(t, r.application())
		pass(5 * time.Minute)
		stop()
		require.Equal(t, []time.Duration{0, 20 * time.Minute}, r.attempts(began))

		pass(30 * time.Minute)
		stop = running(t, r.application())
		stop()
		require.Len(t, r.attempts(began), 3, "overdue at the start")
	})
}

// The server sets certificates back by a minute: with an interval below that,
// the schedule must not take them for overdue.
func TestShortIntervals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, began := newRig(t), time.Now()
		deps := r.dependencies()
		deps.TTL, deps.Interval = time.Minute, 10*time.Second
		for range 2 {
			out, err := NewApplication(ApplicationOptions{AppName: "grafana"}, deps)
			require.NoError(t, err)
			stop := running(t, out)
			pass(15 * time.Second)
			stop()
		}
		require.Equal(t, []time.Duration{0, 10 * time.Second, 20 * time.Second, 30 * time.Second}, r.attempts(began))
	})
}

func TestConfigurationChangeRenewsAtStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		stop := running(t, r.application())
		stop()
		changed, err := NewApplication(ApplicationOptions{
			AppName: "prometheus", CommonOptions: CommonOptions{Roles: []string{"access"}},
		}, r.dependencies())
		require.NoError(t, err)
		stop = running(t, changed)
		stop()
		require.Equal(t, 2, r.count())
		require.Equal(t, []string{"access"}, r.requests[1].Roles)
		require.Equal(t, `the certificate there is for application "grafana"`, r.told()[1].Reason)
	})
}

func TestJitterSpreadsRenewals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		for _, test := range []struct {
			random float64
			want   time.Duration
		}{{0, 18 * time.Minute}, {0.25, 19 * time.Minute}, {0.75, 21 * time.Minute}} {
			r := newRig(t)
			deps := r.dependencies()
			deps.Random = func() float64 { return test.random }
			out, err := NewApplication(ApplicationOptions{AppName: "grafana"}, deps)
			require.NoError(t, err)
			require.NoError(t, out.Once(t.Context()))
			require.Equal(t, test.want, r.lastReport().Next.Sub(began))
		}
	})
}

func TestRetriesForEverAndKeepsWhatIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		stop := running(t, r.application())
		good := r.place()
		r.with(func() { r.down, r.issued = unreachable, nil })
		pass(20 * time.Minute)
		began := time.Now() // the first failure
		pass(3 * time.Minute)
		require.Equal(t, []time.Duration{
			0, 1500 * time.Millisecond, 4 * time.Second, 8500 * time.Millisecond, 17 * time.Second,
			33500 * time.Millisecond, 66 * time.Second, 130500 * time.Millisecond,
		}, r.attempts(began), "half of a ceiling of 2, 4, 8 … seconds, and half a second")
		report := r.lastReport()
		require.ErrorIs(t, report.Err, unreachable)
		require.WithinDuration(t, began.Add(40*time.Minute), report.NotAfter, time.Second, "the old certificate's")
		require.True(t, report.Next.After(time.Now()))
		require.Equal(t, good, r.place(), "the old set stays")

		// A certificate about to end is fought for.
		pass(36 * time.Minute)
		before := r.count()
		pass(55 * time.Second)
		require.Greater(t, r.count()-before, 5)

		// Hours later it still tries, at least once a minute, and recovers.
		pass(10 * time.Hour)
		before = r.count()
		pass(10 * time.Minute)
		require.Greater(t, r.count()-before, 10)
		require.Equal(t, good, r.place())
		r.with(func() { r.down = nil })
		pass(time.Minute)
		require.NotEqual(t, good, r.place())
		require.NoError(t, r.lastReport().Err)
		stop()
	})
}

// A second outage is a new one: it's logged at once and retried soon.
func TestRecoveryForgetsTheOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		stop := running(t, r.application())
		for outage := 1; outage <= 2; outage++ {
			r.with(func() { r.down = unreachable })
			next := r.lastReport().Next
			pass(time.Until(next))
			require.Equal(t, 1500*time.Millisecond, r.lastReport().Next.Sub(next))
			require.Len(t, r.logged("still valid"), outage)
			pass(time.Minute)
			r.with(func() { r.down = nil })
			pass(5 * time.Minute)
			require.NoError(t, r.lastReport().Err)
		}
		stop()
	})
}

func TestNothingChangedTellsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.nop = true
		out := r.application()
		require.Equal(t, "application-grafana", out.Name())
		stop := running(t, out)
		pass(20*time.Minute + time.Second)
		stop()
		require.Equal(t, 2, r.count(), "the schedule doesn't need the destination's memory")
		require.Empty(t, r.told())
		require.NoError(t, r.lastReport().Err)
	})
}

func TestLogOfAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.down = unreachable
		stop := running(t, r.application())
		pass(5 * time.Second)
		require.Len(t, r.logged("There are no credentials yet"), 1, "once for the same message")
		require.Len(t, r.logged("level=WARN"), 1)
		require.Contains(t, r.logged("level=WARN")[0], "kind=unreachable")

		r.with(func() { r.down = failure.New(failure.NotFound, "no app grafana") })
		pass(time.Minute)
		require.Len(t, r.logged(`err="no app grafana"`), 1, "a new message is told at once")

		r.with(func() { r.down = nil })
		pass(2 * time.Minute)
		r.with(func() { r.down = unreachable })
		pass(25 * time.Minute)
		valid := r.logged("still valid")
		require.NotEmpty(t, valid)
		require.Contains(t, valid[0], "left=40m")
		require.Less(t, len(valid), 3)
		require.Empty(t, r.logged("level=ERROR"))

		pass(40 * time.Minute)
		ended := r.logged("have ended and can't be renewed")
		require.NotEmpty(t, ended)
		require.Contains(t, ended[0], "level=ERROR")
		require.Contains(t, ended[0], "ended_ago=")
		stop()
		require.NotContains(t, r.everything(), "PRIVATE KEY")
	})
}

func TestRenewNowCoalesces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, began := newRig(t), time.Now()
		out := r.application()
		out.RenewNow("before the start")
		stop := running(t, out)
		require.Equal(t, 1, r.count(), "the first renewal serves both")

		pass(time.Minute)
		r.with(func() { r.slow = 10 * time.Second })
		for range 5 {
			out.RenewNow("certificate authorities changed")
		}
		pass(5 * time.Second) // a renewal is under way
		for range 5 {
			out.RenewNow("SIGHUP")
		}
		pass(time.Minute)
		require.Equal(t, []time.Duration{0, 70 * time.Second, 80 * time.Second}, r.attempts(began),
			"one for what came before it began, one for what came meanwhile")
		require.Equal(t, "certificate authorities changed", r.told()[1].Reason)
		require.Equal(t, "SIGHUP", r.told()[2].Reason)

		// The schedule counts from the last renewal.
		pass(15 * time.Minute)
		require.Equal(t, 3, r.count())
		pass(10 * time.Minute)
		require.Equal(t, 4, r.count())
		stop()
	})
}

func TestRetryNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		out := r.application()
		stop := running(t, out)
		out.RetryNow("the cluster is back")
		pass(time.Second)
		require.Equal(t, 1, r.count(), "nothing has failed")

		r.with(func() { r.down = unreachable })
		pass(24 * time.Minute)
		before := r.count()
		r.with(func() { r.down = nil })
		out.RetryNow("the cluster is back")
		synctest.Wait()
		require.Equal(t, before+1, r.count())
		require.NoError(t, r.lastReport().Err)
		stop()
	})
}

func TestCappedLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, began := newRig(t), time.Now()
		r.life = 15 * time.Minute
		stop := running(t, r.application())
		pass(31 * time.Minute)
		stop()
		require.Equal(t, []time.Duration{0, 10 * time.Minute, 20 * time.Minute, 30 * time.Minute}, r.attempts(began))
		require.Len(t, r.logged("shorter life than was asked for"), 1)

		// A restart finds that it isn't due, though shorter than configured.
		stop = running(t, r.application())
		stop()
		require.Equal(t, 4, r.count())
	})
}

func TestDestinationIsPreparedBeforeTheClusterIsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.broken = failure.New(failure.Configuration, "the file system is read-only")
		stop := running(t, r.application())
		pass(time.Hour)
		require.Zero(t, r.count())
		require.ErrorIs(t, r.lastReport().Err, r.broken)
		r.with(func() { r.broken = nil })
		pass(time.Minute)
		require.Equal(t, 1, r.count())
		stop()
	})
}

func TestFailedWriteIsRetriedAndTellsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.full = errors.New("no space left on device")
		stop := running(t, r.application())
		pass(10 * time.Second)
		require.Empty(t, r.told())
		r.with(func() { r.full = nil })
		pass(time.Minute)
		require.Len(t, r.told(), 1)
		stop()
	})
}

// TestHangIsTold: a destination that doesn't come back can't be cancelled.
func TestHangIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		hang := make(chan struct{})
		deps := r.dependencies()
		deps.AfterWrite = func(context.Context, Change) { <-hang }
		out, err := NewApplication(ApplicationOptions{AppName: "grafana"}, deps)
		require.NoError(t, err)
		stop := running(t, out)
		pass(attemptTimeout + time.Minute)
		require.NoError(t, out.Alive(), "within the limit")
		pass(time.Second)
		require.EqualError(t, out.Alive(), "stuck for 6m1s while telling programs of the change")
		close(hang)
		pass(0)
		require.NoError(t, out.Alive(), "waiting for the next renewal isn't hanging")
		stop()
	})
}

func TestHangingClusterIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.slow = 24 * time.Hour
		stop := running(t, r.application())
		pass(attemptTimeout)
		require.ErrorContains(t, r.lastReport().Err, "nothing came of it within 5m0s")
		require.Equal(t, failure.Unreachable, failure.KindOf(r.lastReport().Err))
		r.with(func() { r.slow = 0 })
		pass(time.Minute)
		require.NoError(t, r.lastReport().Err)
		stop()
	})
}

func TestStoppingIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.slow = 24 * time.Hour
		stop := running(t, r.application())
		stop()
		require.Empty(t, r.reports)
		require.Empty(t, r.everything())
	})
}

func TestWrongClockDoesNotSpin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.life = -time.Minute
		stop := running(t, r.application())
		pass(10 * time.Second)
		stop()
		require.Nil(t, r.place())
		require.ErrorContains(t, r.lastReport().Err, "set the clock of this host")
		require.Less(t, r.count(), 6)
	})
}

func TestOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		require.NoError(t, r.application().Once(t.Context()))
		require.NoError(t, r.application().Once(t.Context()), "due or not")
		require.Equal(t, 2, r.count())
		require.Len(t, r.told(), 2)

		good := r.place()
		r.down = unreachable
		require.ErrorIs(t, r.application().Once(t.Context()), unreachable)
		require.Equal(t, good, r.place())
		require.Equal(t, 3, r.count(), "one attempt")
		require.Zero(t, r.lastReport().Next)
		require.Empty(t, r.logged("retry_in"))

		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, r.application().Once(ctx), context.Canceled)
	})
}

func TestIdentity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, began := newRig(t), time.Now()
		deps := r.dependencies()
		deps.DirectoryPath = "/opt/machine-id"
		start := func(leaf string) (stop func()) {
			out, err := NewIdentity(IdentityOptions{Cluster: leaf}, deps)
			require.NoError(t, err)
			return running(t, out)
		}
		start("")()
		require.Contains(t, string(r.place()["ssh_config"]), "/opt/machine-id/known_hosts")
		pass(time.Minute)
		start("")()
		require.Equal(t, []time.Duration{0}, r.attempts(began))
		start("leaf.test")()
		require.Equal(t, []time.Duration{0, time.Minute}, r.attempts(began))
		start("leaf.test")()
		require.Equal(t, 2, r.count())
	})
}

func TestOwnTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, began := newRig(t), time.Now()
		out, err := NewApplication(ApplicationOptions{AppName: "grafana", CommonOptions: CommonOptions{
			CredentialTTL: 2 * time.Hour, RenewalInterval: 30 * time.Minute,
		}}, r.dependencies())
		require.NoError(t, err)
		require.NoError(t, out.Once(t.Context()))
		require.Equal(t, []cluster.CertRequest{{TTL: 2 * time.Hour}}, r.requests)
		require.Equal(t, 30*time.Minute, r.lastReport().Next.Sub(began))
	})
}

func TestConstructorsRefuseWhatCanNotWork(t *testing.T) {
	r := newRig(t)
	_, err := NewApplication(ApplicationOptions{}, r.dependencies())
	require.ErrorContains(t, err, "app_name")
	_, err = NewIdentity(IdentityOptions{}, Dependencies{})
	require.ErrorContains(t, err, "an output needs an issuer")
	deps := r.dependencies()
	deps.TTL = 0
	_, err = NewIdentity(IdentityOptions{}, deps)
	require.ErrorContains(t, err, "an output needs a TTL")
	deps = r.dependencies()
	deps.DirectoryPath = "relative"
	_, err = NewIdentity(IdentityOptions{}, deps)
	require.ErrorContains(t, err, "must be absolute")
}
