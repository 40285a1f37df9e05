package identity

import (
	"context"
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
