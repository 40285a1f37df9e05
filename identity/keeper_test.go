package identity

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"rollcall/cluster"
	"rollcall/failure"
)

func TestFirstJoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t).start()
		require.Equal(t, 1, s.joiner.joined())
		req := s.joiner.joins[0]
		require.Equal(t, "the-token", req.Token)
		require.Equal(t, time.Hour, req.TTL)
		require.Nil(t, req.Previous)
		require.EqualValues(t, 1, s.keeper.Current().Generation())
		require.Equal(t, HashToken("the-token"), s.store.stored.TokenHash)
		require.Nil(t, s.store.intent)
		require.NoError(t, s.reports.last().Err)
		require.NotContains(t, s.log.String(), "the-token")
		require.NoError(t, s.end())
	})
}

func TestHangIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		hang := make(chan struct{})
		s.opts.OnRenewed = func(*cluster.Credentials) { <-hang }
		s.start()
		s.pass(stuckAfter)
		require.NoError(t, s.keeper.Alive(), "within the limit")
		s.pass(time.Second)
		require.EqualError(t, s.keeper.Alive(), "stuck for 10m1s while getting an identity")
		close(hang)
		s.pass(0)
		require.NoError(t, s.keeper.Alive(), "waiting for the next renewal isn't hanging")
		require.NoError(t, s.end())
	})
}

func TestRestartRenewsNothingThatIsNotDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t).holds(5, 10*time.Minute, time.Hour).start()
		require.EqualValues(t, 5, s.keeper.Current().Generation())
		require.True(t, s.reports.last().Unchanged)
		s.pass(10*time.Minute - time.Second)
		require.Empty(t, s.joiner.presented())
		s.pass(time.Second)
		require.Equal(t, []uint64{5}, s.joiner.presented())
		require.Zero(t, s.joiner.joined())
		s.pass(20 * time.Minute)
		require.Equal(t, []uint64{5, 6}, s.joiner.presented())
	})
}

func TestJitterRenewsEarlier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t).holds(5, 0, time.Hour)
		s.opts.Jitter = func() float64 { return 0.5 }
		s.start()
		s.pass(19*time.Minute - time.Second)
		require.Empty(t, s.joiner.presented())
		s.pass(time.Second)
		require.Equal(t, []uint64{5}, s.joiner.presented())
	})
}

// A host whose clock is ahead by more than the interval sees certificates that
// were due before they were made.
func TestClockAheadRenewsNoOftener(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		s.joiner.issueAt = -30 * time.Minute
		s.start()
		s.pass(time.Hour)
		require.LessOrEqual(t, len(s.joiner.presented()), 6)
		require.NotEmpty(t, s.joiner.presented())
		require.Contains(t, s.log.String(), "cluster_is_ahead_by=-30m0s")
	})
}

func TestClockDifference(t *testing.T) {
	for offset, warned := range map[time.Duration]bool{0: false, 20 * time.Second: false, -20 * time.Second: false, time.Minute: true, -time.Minute: true} {
		synctest.Test(t, func(t *testing.T) {
			s := newStage(t)
			s.joiner.issueAt = offset
			s.start()
			if warned {
				require.Contains(t, s.log.String(), "Check time synchronisation", offset.String())
			} else {
				require.NotContains(t, s.log.String(), "Check time synchronisation", offset.String())
			}
		})
	}
}

// For ever, with growing waits of at most five minutes, and quicker towards the
// end.
func TestRetriesForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t).holds(5, 20*time.Minute, 24*time.Hour)
		s.opts.Interval = 20 * time.Minute
		s.joiner.renewErr = failure.New(failure.Unreachable, "the cluster is down")
		s.start()
		s.pass(20 * time.Hour)
		gaps := []time.Duration{}
		for i := 1; i < len(s.joiner.asked); i++ {
			gaps = append(gaps, s.joiner.asked[i].Sub(s.joiner.asked[i-1]))
		}
		require.Equal(t, 500*time.Millisecond, gaps[0])
		for i := 1; i < len(gaps); i++ {
			require.GreaterOrEqual(t, gaps[i], gaps[i-1])
		}
		require.Equal(t, 150*time.Second, gaps[len(gaps)-1], "half of five minutes is the least with no jitter")
		require.EqualValues(t, 5, s.keeper.Current().Generation())
		require.ErrorContains(t, s.reports.last().Err, "the cluster is down")

		s.joiner.set(func(j *stubJoiner) { j.renewErr = nil })
		s.pass(5 * time.Minute)
		require.EqualValues(t, 6, s.keeper.Current().Generation())
		require.NoError(t, s.reports.last().Err)
	})
}

func TestRenewNowCoalesces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t).holds(5, 0, time.Hour).start()
		for range 10 {
			s.keeper.RenewNow("asked")
		}
		s.pass(time.Second)
		require.LessOrEqual(t, len(s.joiner.presented()), 2)
		require.NotEmpty(t, s.joiner.presented())
		require.Contains(t, s.log.String(), "reason=asked")
	})
}

func TestRenewNowEndsABackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		s.joiner.joinErr = failure.New(failure.Unreachable, "down")
		s.start()
		s.pass(10 * time.Minute)
		s.joiner.set(func(j *stubJoiner) { j.joinErr = nil })
		s.keeper.RenewNow("asked")
		synctest.Wait()
		require.NotNil(t, s.keeper.Current())
	})
}

func TestChangedTokenAtTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t).holds(5, 0, time.Hour)
		s.opts.Tokens.Options.Token = "another"
		s.start()
		require.Equal(t, 1, s.joiner.joined())
		require.Equal(t, "another", s.joiner.joins[0].Token)
		require.EqualValues(t, 1, s.keeper.Current().Generation())
	})
}

func TestChangedTokenWhileRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t).holds(5, 0, time.Hour)
		path := filepath.Join(t.TempDir(), "token")
		require.NoError(t, os.WriteFile(path, []byte("the-token"), 0o600))
		s.opts.Tokens.Options.Token = path
		s.start()
		require.NoError(t, os.WriteFile(path, []byte("wrong"), 0o600))
		s.joiner.set(func(j *stubJoiner) { j.joinErr = failure.New(failure.Refused, "unknown token") })
		s.pass(20 * time.Minute)
		require.Equal(t, 1, s.joiner.joined())
		require.EqualValues(t, 6, s.keeper.Current().Generation(), "the present identity goes on")

		require.NoError(t, os.WriteFile(path, []byte("right"), 0o600))
		s.joiner.set(func(j *stubJoiner) { j.joinErr = nil })
		s.pass(20 * time.Minute)
		require.EqualValues(t, 1, s.keeper.Current().Generation())
	})
}

func TestAbsentTokenIsUnchanged(t *testing.T) {
	for name, token := range map[string]string{"a file": filepath.Join(t.TempDir(), "gone"), "none": "", "a credential": "credential:gone"} {
		synctest.Test(t, func(t *testing.T) {
			s := newStage(t).holds(5, 0, time.Hour)
			s.opts.Tokens.Options.Token = token
			s.opts.Tokens.Credential = func(string) ([]byte, error) { return nil, fs.ErrNotExist }
			s.start()
			s.pass(20 * time.Minute)
			require.Zero(t, s.joiner.joined(), name)
			require.EqualValues(t, 6, s.keeper.Current().Generation(), name)
		})
	}
}

func TestExpiredIdentity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t).holds(5, 2*time.Hour, time.Hour)
		s.joiner.joinErr = failure.New(failure.Unreachable, "down")
		s.start()
		waited := make(chan *cluster.Credentials, 1)
		go func() {
			creds, _ := s.keeper.Wait(context.Background())
			waited <- creds
		}()
		s.pass(time.Hour)
		require.Empty(t, waited)
		require.NotContains(t, s.reports.last().Err.Error(), "can't be used again", "nobody knows that yet")
		require.Contains(t, s.log.String(), "has expired and couldn't be renewed")
		require.Empty(t, s.joiner.presented(), "an expired identity can't be renewed")

		s.joiner.set(func(j *stubJoiner) { j.joinErr = nil })
		s.pass(time.Minute)
		require.EqualValues(t, 1, (<-waited).Generation())
	})
}

func TestHopelessEndsRunOnlyWithoutAnIdentity(t *testing.T) {
	for _, kind := range []failure.Kind{failure.Refused, failure.Configuration, failure.Trust} {
		synctest.Test(t, func(t *testing.T) {
			no := failure.New(kind, "no")
			s := newStage(t)
			s.joiner.joinErr = no
			s.make()
			require.ErrorIs(t, s.keeper.Run(t.Context()), no)
			require.Nil(t, s.store.intent, "a clear no spends no token")
		})
		synctest.Test(t, func(t *testing.T) {
			s := newStage(t).holds(5, 20*time.Minute, time.Hour)
			s.joiner.renewErr = failure.New(kind, "no")
			s.start()
			s.pass(30 * time.Minute)
			require.Greater(t, len(s.joiner.presented()), 5)
			require.NotNil(t, s.keeper.Current())
		})
	}
	for _, kind := range []failure.Kind{failure.Other, failure.Unreachable, failure.Transient, failure.NotFound} {
		synctest.Test(t, func(t *testing.T) {
			s := newStage(t)
			s.joiner.joinErr = failure.New(kind, "not now")
			s.start()
			s.pass(10 * time.Minute)
			require.Greater(t, s.joiner.joined(), 5)
		})
	}
}

func TestNothingIsAskedBeforeTheStoreCanTakeIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t).holds(5, 20*time.Minute, time.Hour)
		s.store.beginErr = failure.New(failure.Transient, "disk full")
		s.start()
		s.pass(10 * time.Minute)
		require.Empty(t, s.joiner.presented())
		require.ErrorContains(t, s.reports.last().Err, "disk full")
	})
}

func TestIdentityThatCanNotBeStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t).holds(5, 20*time.Minute, time.Hour)
		s.store.failSaves(errors.New("input/output error"))
		s.start()
		require.EqualValues(t, 6, s.keeper.Current().Generation(), "the one before is spent")
		s.pass(5 * time.Minute)
		require.Greater(t, s.store.saves, 3, "storing is tried again long before the next renewal")
		require.Equal(t, []uint64{5}, s.joiner.presented())
		require.ErrorContains(t, s.reports.last().Err, "couldn't be stored")
		require.True(t, s.keeper.usable())

		s.pass(time.Hour)
		require.Equal(t, []uint64{5}, s.joiner.presented(), "no other is asked for before it's stored")

		s.store.failSaves(nil)
		s.pass(time.Minute)
		require.Greater(t, s.store.stored.Credentials.Generation(), uint64(0))
	})
}

func TestStoringSucceedsBetweenRenewals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t).holds(5, 20*time.Minute, time.Hour)
		s.store.failSaves(errors.New("input/output error"))
		s.start()
		s.store.failSaves(nil)
		s.pass(time.Second)
		require.EqualValues(t, 6, s.store.stored.Credentials.Generation())
		require.NoError(t, s.reports.last().Err)
		saves := s.store.saves
		s.pass(10 * time.Minute)
		require.Equal(t, saves, s.store.saves)
		s.pass(10 * time.Minute)
		require.Equal(t, []uint64{5, 6}, s.joiner.presented())
	})
}

func TestKubernetesJoinsAgainWithTheTokenAsItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "token")
		require.NoError(t, os.WriteFile(path, []byte(" first \n"), 0o600))
		s := newStage(t)
		s.opts.Method = cluster.JoinMethodKubernetes
		s.opts.Tokens.Options.Kubernetes.TokenPath = path
		s.start()
		first := s.keeper.Current()
		require.NoError(t, os.WriteFile(path, []byte("second\n"), 0o600))
		s.pass(20 * time.Minute)
		require.Equal(t, 2, s.joiner.joined())
		require.Equal(t, "first", s.joiner.joins[0].IDToken)
		require.Equal(t, "second", s.joiner.joins[1].IDToken)
		require.Same(t, first, s.joiner.joins[1].Previous)
		require.Empty(t, s.joiner.presented())

		// Without the file it waits, and says so.
		require.NoError(t, os.Remove(path))
		s.pass(20 * time.Minute)
		require.Equal(t, 2, s.joiner.joined())
		require.ErrorContains(t, s.reports.last().Err, path)
	})
}

func TestServiceAccountTokenFromTheEnvironment(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(path, []byte("jwt"), 0o600))
	token, err := TokenSource{Getenv: func(name string) string {
		return map[string]string{"KUBERNETES_TOKEN_PATH": path}[name]
	}}.ServiceAccountToken()
	require.NoError(t, err)
	require.Equal(t, "jwt", token)
	_, err = TokenSource{Getenv: func(string) string { return "" }}.ServiceAccountToken()
	require.ErrorContains(t, err, "/var/run/secrets/kubernetes.io/serviceaccount/token")
}

func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t).holds(5, 0, time.Hour)
		s.make()
		creds, err := s.keeper.Wait(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, 5, creds.Generation())

		time.Sleep(time.Hour)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err = s.keeper.Wait(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, failure.Transient, failure.KindOf(err))
	})
}

func TestChangedTellsOfEachIdentity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t).holds(5, 0, time.Hour)
		renewed := 0
		s.opts.OnRenewed = func(*cluster.Credentials) { renewed++ }
		s.start()
		changed := s.keeper.Changed()
		s.pass(20 * time.Minute)
		select {
		case <-changed:
		default:
			t.Fatal("nobody was told")
		}
		require.NotEqual(t, changed, s.keeper.Changed())
		require.Equal(t, 1, renewed)
	})
}

// A stop lets a request that can't be made twice come to its end, for a moment.
func TestStopDuringARenewal(t *testing.T) {
	for takes, finishes := range map[time.Duration]bool{time.Second: true, time.Minute: false} {
		synctest.Test(t, func(t *testing.T) {
			s := newStage(t).holds(5, 20*time.Minute, time.Hour)
			s.joiner.beforeRPC = func(ctx context.Context) {
				if !sleep(ctx, takes) {
					s.joiner.renewErr = lostReply(t)
				}
			}
			s.start()
			began := time.Now()
			require.NoError(t, s.end())
			require.LessOrEqual(t, time.Since(began), finishTime)
			if finishes {
				require.EqualValues(t, 6, s.store.stored.Credentials.Generation())
				require.Nil(t, s.store.intent)
			} else {
				require.EqualValues(t, 5, s.store.stored.Credentials.Generation())
				require.NotNil(t, s.store.intent, "the next start must ask first")
			}
		})
	}
}

func TestOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		s.make()
		require.NoError(t, s.keeper.Once(t.Context()))
		require.NoError(t, s.keeper.Once(t.Context()))
		require.Equal(t, 1, s.joiner.joined(), "the second time nothing was due")

		time.Sleep(30 * time.Minute)
		s.joiner.renewErr = failure.New(failure.Unreachable, "down")
		require.NoError(t, s.keeper.Once(t.Context()), "the identity still serves")
		time.Sleep(time.Hour)
		s.joiner.joinErr = failure.New(failure.Refused, "used")
		require.ErrorContains(t, s.keeper.Once(t.Context()), "expired at")
	})
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		s.store.failSaves(errors.New("input/output error"))
		s.make()
		require.ErrorContains(t, s.keeper.Once(t.Context()), "couldn't be stored")
	})
}

func TestStoreThatCanNotBeReadIsNotJoinedOver(t *testing.T) {
	s := newStage(t)
	path := filepath.Join(t.TempDir(), "storage")
	s.opts.Store = open(t, path)
	require.NoError(t, os.WriteFile(filepath.Join(path, fileIdentity), []byte("torn"), 0o600))
	_, err := NewKeeper(s.opts)
	require.ErrorIs(t, err, ErrUnusable)
}

func TestCutOffJoinIsSaidAtTheStart(t *testing.T) {
	s := newStage(t)
	s.store.intent = &Intent{TokenHash: "x"}
	s.make()
	require.Contains(t, s.log.String(), "A join was cut off")
}
