package service

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"rollcall/diagnostics"
	"rollcall/failure"
)

// oncer is a service that can also work once.
type oncer struct {
	Service
	once func(ctx context.Context) error
}

func (o oncer) Once(ctx context.Context) error { return o.once(ctx) }

func newOncer(name string, once func(context.Context) error) Service {
	return oncer{Service: patient(name), once: once}
}

func TestOnceRunsPrerequisitesFirstAndTheRestSideBySide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(slog.LevelInfo)
		var ready atomic.Bool
		sleeps := func(name string) Service {
			return newOncer(name, func(context.Context) error {
				if !ready.Load() {
					return errors.New("started before the prerequisite ended")
				}
				time.Sleep(time.Second)
				return nil
			})
		}
		require.NoError(t, r.Add(sleeps("a")))
		require.NoError(t, r.Add(patient("tunnel")))
		require.NoError(t, r.Add(newOncer("identity", func(context.Context) error {
			time.Sleep(time.Second)
			ready.Store(true)
			return nil
		}), First))
		require.NoError(t, r.Add(sleeps("b")))
		began := time.Now()
		outcomes := r.Once(t.Context())
		require.Equal(t, 2*time.Second, time.Since(began))
		require.Equal(t, []Outcome{
			{Name: "a", Took: time.Second}, {Name: "identity", Took: time.Second}, {Name: "b", Took: time.Second},
		}, outcomes)
		require.NoError(t, Failed(outcomes))
		require.Contains(t, r.log.String(), "service=tunnel")
	})
}

func TestOncePartialFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(slog.LevelInfo)
		notAfter := time.Now().Add(time.Hour).UTC()
		finished := false
		require.NoError(t, r.Add(newOncer("identity", func(context.Context) error { return nil }), First))
		require.NoError(t, r.Add(newOncer("missing", func(context.Context) error {
			return failure.New(failure.NotFound, "app %q not found", "missing")
		})))
		require.NoError(t, r.Add(newOncer("clumsy", func(context.Context) error { panic("boom") })))
		require.NoError(t, r.Add(newOncer("good", func(ctx context.Context) error {
			time.Sleep(time.Minute)
			finished = ctx.Err() == nil
			r.board.Reporter("good", "").Report(diagnostics.Report{NotAfter: notAfter})
			return nil
		})))
		outcomes := r.Once(t.Context())
		require.True(t, finished, "a failure must abort nothing else")
		require.Len(t, outcomes, 4)
		require.NoError(t, outcomes[0].Err)
		require.EqualError(t, outcomes[1].Err, `app "missing" not found`)
		require.ErrorContains(t, outcomes[2].Err, "internal fault")
		require.NoError(t, outcomes[3].Err)
		require.Equal(t, notAfter, outcomes[3].NotAfter)
		require.Equal(t, time.Minute, outcomes[3].Took)

		err := Failed(outcomes)
		require.EqualError(t, err, "2 of 4 services failed: missing, clumsy")
		require.Equal(t, failure.NotFound, failure.KindOf(err))
	})
}

func TestOnceSkipsTheRestWithoutItsPrerequisite(t *testing.T) {
	r := newRig(slog.LevelInfo)
	require.NoError(t, r.Add(newOncer("identity", func(context.Context) error {
		return failure.New(failure.Unreachable, "nobody answers")
	}), First))
	require.NoError(t, r.Add(newOncer("second", func(context.Context) error {
		t.Error("tried although the first prerequisite failed")
		return nil
	}), First))
	require.NoError(t, r.Add(newOncer("app", func(context.Context) error {
		t.Error("tried although a prerequisite failed")
		return nil
	})))
	outcomes := r.Once(t.Context())
	require.Len(t, outcomes, 3)
	require.False(t, outcomes[0].Skipped)
	for _, outcome := range outcomes[1:] {
		require.True(t, outcome.Skipped)
		require.EqualError(t, outcome.Err, "not tried, because identity failed")
	}
	require.Equal(t, failure.Unreachable, failure.KindOf(Failed(outcomes)))
}

func TestFailedTakesTheKindThatAsksMost(t *testing.T) {
	kinds := func(kinds ...failure.Kind) (outcomes []Outcome) {
		for _, kind := range kinds {
			outcomes = append(outcomes, Outcome{Name: kind.String(), Err: failure.New(kind, "x")})
		}
		return outcomes
	}
	require.Equal(t, failure.Configuration, failure.KindOf(Failed(kinds(failure.Unreachable, failure.Configuration, failure.Refused))))
	require.Equal(t, failure.Refused, failure.KindOf(Failed(kinds(failure.Unreachable, failure.Refused, failure.Transient))))
	require.Equal(t, failure.Other, failure.KindOf(Failed([]Outcome{{Name: "x", Err: errors.New("x")}})))
}
