package identity

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"rollcall/cluster"
	"rollcall/diagnostics"
	"rollcall/failure"
)

// stubJoiner answers as a cluster would that counts generations.
type stubJoiner struct {
	ca *authority

	mu         sync.Mutex // protects the following
	joins      []cluster.JoinRequest
	renewals   []uint64 // the generations that were presented
	asked      []time.Time
	generation uint64 // the server's count
	known      bool   // whether it tells
	issueAt    time.Duration
	joinErr    error
	renewErr   error
	beforeRPC  func(ctx context.Context)
}

func (j *stubJoiner) Join(ctx context.Context, req cluster.JoinRequest) (*cluster.Credentials, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.joins = append(j.joins, req)
	j.asked = append(j.asked, time.Now())
	if j.beforeRPC != nil {
		j.beforeRPC(ctx)
	}
	if j.joinErr != nil {
		return nil, j.joinErr
	}
	j.generation = 1
	if req.Method == cluster.JoinMethodKubernetes {
		j.generation = 0
	}
	return j.ca.issue(j.generation, time.Now().Add(j.issueAt), req.TTL), nil
}

func (j *stubJoiner) Renew(ctx context.Context, current *cluster.Credentials, ttl time.Duration, begin func() error) (*cluster.Credentials, error) {
	if err := begin(); err != nil {
		return nil, err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.renewals = append(j.renewals, current.Generation())
	j.asked = append(j.asked, time.Now())
	if j.beforeRPC != nil {
		j.beforeRPC(ctx)
	}
	if j.renewErr != nil {
		return nil, j.renewErr
	}
	j.generation = current.Generation() + 1
	return j.ca.issue(j.generation, time.Now().Add(j.issueAt), ttl), nil
}

func (j *stubJoiner) Generation(context.Context, *cluster.Credentials) (uint64, bool, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.generation, j.known, nil
}

func (j *stubJoiner) presented() []uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]uint64{}, j.renewals...)
}

func (j *stubJoiner) joined() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.joins)
}

// set changes the cluster while the keeper runs.
func (j *stubJoiner) set(change func(j *stubJoiner)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	change(j)
}

// lostReply is what Bot.Renew returns when no clear answer came.
func lostReply(t *testing.T) error {
	err := cluster.NewUncertain(failure.New(failure.Unreachable, "the connection was cut"))
	require.True(t, cluster.Uncertain(err))
	return err
}

// faultyStore is a Memory whose methods can fail, and that keeps intents.
type faultyStore struct {
	mu sync.Mutex // protects the following
	Memory
	beginErr, saveErr error
	saves             int
	intent            *Intent
}

// failSaves makes Save fail from now on; nil mends it.
func (s *faultyStore) failSaves(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.saveErr = err
}

func (s *faultyStore) Load() (*Stored, *Intent, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	stored, _, err := s.Memory.Load()
	return stored, s.intent, err
}

func (s *faultyStore) Begin(i Intent) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.beginErr == nil {
		s.intent = &i
	}
	return s.beginErr
}

func (s *faultyStore) Save(stored Stored) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.saves++
	if s.saveErr != nil {
		return s.saveErr
	}
	s.intent = nil
	return s.Memory.Save(stored)
}

func (s *faultyStore) Abandon() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.intent = nil
	return nil
}

type reports struct {
	mu  sync.Mutex // protects the following
	all []diagnostics.Report
}

func (r *reports) Report(report diagnostics.Report) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, report)
}

func (r *reports) last() diagnostics.Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.all) == 0 {
		return diagnostics.Report{}
	}
	return r.all[len(r.all)-1]
}

// stage is a keeper between a stub cluster and a store.
type stage struct {
	t       *testing.T
	joiner  *stubJoiner
	store   *faultyStore
	reports *reports
	log     *logged
	opts    Options
	keeper  *Keeper
	end     func() error
}

func newStage(t *testing.T) *stage {
	s := &stage{t: t, joiner: &stubJoiner{ca: newAuthority(t), known: true}, store: &faultyStore{}, reports: &reports{}, log: &logged{}}
	s.opts = Options{
		Joiner:   s.joiner,
		Store:    s.store,
		Tokens:   TokenSource{Options: OnboardingOptions{Token: "the-token"}, Getenv: func(string) string { return "" }},
		Method:   cluster.JoinMethodToken,
		TTL:      time.Hour,
		Interval: 20 * time.Minute,
		Reporter: s.reports,
		Log:      s.log.logger(),
		Jitter:   func() float64 { return 0 },
	}
	return s
}

// holds puts an identity into the store that was issued some time ago.
func (s *stage) holds(generation uint64, age, ttl time.Duration) *stage {
	s.store.stored = &Stored{Credentials: s.joiner.ca.issue(generation, time.Now().Add(-age), ttl), JoinMethod: s.opts.Method, TokenHash: HashToken("the-token")}
	s.joiner.generation = generation
	return s
}

// start makes the keeper and runs it until the test ends or calls s.end.
func (s *stage) start() *stage {
	s.t.Helper()
	s.make()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.keeper.Run(ctx) }()
	s.end = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	s.t.Cleanup(func() { _ = s.end() })
	synctest.Wait()
	return s
}

func (s *stage) make() {
	s.t.Helper()
	keeper, err := NewKeeper(s.opts)
	require.NoError(s.t, err)
	s.keeper = keeper
}

// pass lets time pass, and everything happen that is due in it. What the test
// did before happened before that, for the race detector too, which knows
// nothing of time: hence the locks.
func (s *stage) pass(d time.Duration) {
	s.joiner.set(func(*stubJoiner) {})
	s.store.failSaves(s.store.saveErr)
	s.keeper.Current()
	time.Sleep(d)
	synctest.Wait()
}

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

func TestLostReplyThatHadNoEffect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t).holds(5, 20*time.Minute, time.Hour)
		s.joiner.renewErr = lostReply(t)
		s.start()
		require.Equal(t, []uint64{5}, s.joiner.presented())
		require.NotNil(t, s.store.intent)
		s.joiner.set(func(j *stubJoiner) { j.renewErr = nil })
		s.pass(time.Minute)
		require.Equal(t, []uint64{5, 5}, s.joiner.presented())
		require.EqualValues(t, 6, s.keeper.Current().Generation())
		require.Nil(t, s.store.intent)
	})
}

// The cluster has moved on: what it would lock the bot for is never presented,
// and what is valid serves to its end.
func TestLostReplyOfARenewalThatHappened(t *testing.T) {
	for name, held := range map[string]uint64{"ahead": 6, "recreated": 0, "restored": 3} {
		for _, restarted := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				s := newStage(t).holds(5, 20*time.Minute, time.Hour)
				presented := 0
				if restarted {
					s.store.intent = &Intent{Generation: 5, Since: time.Now()}
				} else {
					s.joiner.renewErr = lostReply(t)
					presented = 1
				}
				s.joiner.generation = held
				s.joiner.joinErr = failure.New(failure.Refused, "the token was used already")
				s.start()
				s.pass(40*time.Minute - time.Second)
				require.Len(t, s.joiner.presented(), presented, name)
				require.True(t, s.keeper.usable())
				require.ErrorContains(t, s.reports.last().Err, "presenting it would lock the bot")
				require.Equal(t, failure.Refused, failure.KindOf(s.reports.last().Err))
				require.NotNil(t, s.store.intent, "the next start must be as careful")

				s.pass(10 * time.Minute)
				require.ErrorContains(t, s.end(), "delete and recreate the bot", name)
				require.Len(t, s.joiner.presented(), presented, name)
			})
		}
	}
}

func TestLostReplyWhereTheClusterDoesNotTell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t).holds(5, 20*time.Minute, time.Hour)
		s.joiner.known = false
		s.joiner.renewErr = lostReply(t)
		s.start()
		s.joiner.set(func(j *stubJoiner) { j.renewErr = nil })
		s.pass(20*time.Minute - time.Second)
		require.Equal(t, []uint64{5}, s.joiner.presented())
		require.ErrorContains(t, s.reports.last().Err, "to be safe, give this host a new token")
		s.pass(3 * time.Minute)
		require.Equal(t, []uint64{5, 5}, s.joiner.presented())
		require.Contains(t, s.log.String(), "Presenting an identity whose generation may be behind")
		require.EqualValues(t, 6, s.keeper.Current().Generation())
	})
}

// A new token ends the doubt; one that doesn't work leaves it as it was, on the
// disk too.
func TestNewTokenEndsADoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t).holds(5, 20*time.Minute, time.Hour)
		path := filepath.Join(t.TempDir(), "token")
		require.NoError(t, os.WriteFile(path, []byte("the-token\n"), 0o600))
		s.opts.Tokens.Options.Token = path
		s.joiner.renewErr = lostReply(t)
		s.joiner.generation = 6
		s.joiner.joinErr = failure.New(failure.Unreachable, "down")
		s.start()
		require.NoError(t, os.WriteFile(path, []byte("another\n"), 0o600))
		s.pass(10 * time.Minute)
		require.NotZero(t, s.joiner.joined())
		require.Equal(t, []uint64{5}, s.joiner.presented())
		require.NotNil(t, s.store.intent)
		require.False(t, s.store.intent.settledBy(s.store.stored), "the doubt was forgotten")

		s.joiner.set(func(j *stubJoiner) { j.joinErr, j.renewErr = nil, nil })
		s.pass(5 * time.Minute)
		require.EqualValues(t, 1, s.keeper.Current().Generation())
		require.Equal(t, HashToken("another"), s.store.stored.TokenHash)
		require.Nil(t, s.store.intent)
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
