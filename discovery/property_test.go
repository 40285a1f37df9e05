package discovery

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"rollcall/discovery/plan"
	"rollcall/discovery/resource"
	"rollcall/failure"
)

var (
	seedFlag      = flag.Uint64("seed", 0, "the one history that TestHistories plays; 0: all")
	historiesFlag = flag.Int("histories", histories, "how many histories TestHistories plays")
)

// TestHistories plays random histories of containers that come, go, move and
// argue about names, of people who change and take over resources, of a source
// and a cluster that fail, lose answers and hide things, and of our own crashes
// and restarts. In each: nothing that isn't ours is ever changed, the deletion
// budget holds, and once the world is quiet the goal is reached and a second
// plan is empty. A failure names its seed: go test -run TestHistories -seed N
func TestHistories(t *testing.T) {
	if *seedFlag != 0 {
		synctest.Test(t, func(t *testing.T) { play(t, *seedFlag, NewMetrics()) })
		return
	}
	n := uint64(*historiesFlag)
	if testing.Short() {
		n = min(n, max(n/20, 200)) // fewer reach too little
	}
	var mu sync.Mutex
	var total tally
	t.Run("all", func(t *testing.T) {
		const chunk = 500
		for first := uint64(1); first <= n; first += chunk {
			t.Run(fmt.Sprintf("from seed %d", first), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					metrics := NewMetrics()
					for seed := first; seed < min(first+chunk, n+1); seed++ {
						came := play(t, seed, metrics)
						mu.Lock()
						total.add(came)
						mu.Unlock()
					}
				})
			})
		}
	})
	t.Logf("%d histories: %+v", n, total)
	// A test of a property is worth what its histories reach.
	require.NotZero(t, total.deletions)
	require.NotZero(t, total.frozen)
	require.NotZero(t, total.approved)
	require.NotZero(t, total.conflicts)
	require.NotZero(t, total.restarts)
	require.NotZero(t, total.crashes)
}

// tally says what the histories came to.
type tally struct {
	steps, writes, deletions, frozen, approved, conflicts, restarts, crashes int
}

func (a *tally) add(b tally) {
	a.steps += b.steps
	a.writes += b.writes
	a.deletions += b.deletions
	a.frozen += b.frozen
	a.approved += b.approved
	a.conflicts += b.conflicts
	a.restarts += b.restarts
	a.crashes += b.crashes
}

// world is one history.
type world struct {
	t        *testing.T
	seed     uint64
	metrics  *Metrics
	random   *rand.Rand
	source   *FakeSource
	teleport *FakeTeleport
	store    *MemoryStore
	policy   plan.Policy
	// absentFor is the guard's.
	absentFor time.Duration
	r         *Reconciler
	tally     tally

	// failing is the chance that a call fails.
	failing float64
	// crash ends the context of the cycle that runs.
	crash context.CancelFunc
	// approved are the deletions that a person approved last.
	approved map[string]bool
	// deleted is when each resource that nobody approved to be deleted was.
	deleted map[string]time.Time
}

// play plays the history of a seed.
func play(t *testing.T, seed uint64, metrics *Metrics) tally {
	w := &world{
		t: t, seed: seed, metrics: metrics, random: rand.New(rand.NewPCG(seed, 7)),
		source: NewFakeSource(), teleport: NewFakeTeleport(), store: &MemoryStore{}, approved: map[string]bool{}, deleted: map[string]time.Time{},
	}
	w.source.silent = true
	w.policy = []plan.Policy{plan.PolicySync, plan.PolicySync, plan.PolicySync, plan.PolicyUpsertOnly, plan.PolicyCreateOnly}[w.random.IntN(5)]
	if w.chance(0.5) {
		w.teleport.sees = us
	}
	if w.chance(0.7) {
		w.failing = 0.1 * w.random.Float64()
	}
	w.absentFor = time.Duration(w.random.IntN(60)) * time.Second
	if w.chance(0.5) {
		// A new process doesn't know what the last one wrote; that nothing is
		// deleted before it has been absent for longer than reads lag is what
		// makes up for it.
		longest := 1 + min(w.absentFor, longestLag)
		w.teleport.lag = func() time.Duration { return time.Duration(w.random.Int64N(int64(longest))) }
	}
	w.teleport.fault = w.fault
	w.teleport.lost = func(string, string) error { return w.fault("lost", "") }
	for range w.random.IntN(25) {
		w.start()
	}
	w.restart()
	for range 5 + w.random.IntN(15) {
		for range w.random.IntN(5) {
			w.event()
		}
		w.look(w.chance(0.3))
		longest := 20 * time.Minute
		if w.chance(0.4) {
			longest = 3 * time.Second // shorter than what Teleport's cache may be behind
		}
		time.Sleep(time.Duration(w.random.Int64N(int64(longest))))
	}
	w.settle()
	return w.tally
}

func (w *world) chance(p float64) bool { return w.random.Float64() < p }

// fault makes a call fail, now and then, or crashes us in the middle.
func (w *world) fault(op, _ string) error {
	if !w.chance(w.failing) {
		return nil
	}
	switch w.random.IntN(5) {
	case 0:
		return failure.New(failure.Unreachable, "nobody answers")
	case 1:
		return failure.New(failure.Refused, "access denied")
	case 2:
		if w.crash != nil && op != "list" {
			w.tally.crashes++
			w.crash()
		}
		return failure.New(failure.Unreachable, "crashed")
	default:
		return failure.New(failure.Transient, "not now")
	}
}

// restart is a new process with what is on disk.
func (w *world) restart() {
	var err error
	w.r, err = New(Options{
		Name: "rabbit", Owner: us, SourceName: fromHere, Policy: w.policy, Concurrency: 1, Metrics: w.metrics,
		Source: w.source, Registries: map[resource.Kind]Registry{resource.KindApp: w.teleport}, Store: w.store,
		Guard: plan.Guard{AbsentReads: 1 + w.random.IntN(3), AbsentFor: w.absentFor},
		Log:   slog.New(slog.DiscardHandler), Random: w.random.Float64,
	})
	require.NoError(w.t, err)
	w.r.begin(w.t.Context(), forEver)
	w.tally.restarts++
}

func forEver() time.Time { return time.Time{} }

// name is one of few, so that workloads and people argue.
func (w *world) name() string { return fmt.Sprint("n", w.random.IntN(30)) }

func (w *world) start() {
	workload := fmt.Sprint("w", w.random.IntN(30))
	name := w.name()
	if w.chance(0.7) {
		name = "n" + workload[1:]
	}
	c := moved(named(workload, name), fmt.Sprint("http://10.0.0.", w.random.IntN(3)))
	switch {
	case w.chance(0.05):
		c.Err = errors.New("the template fails")
	case w.chance(0.05):
		c.Keep = true
	case w.chance(0.05):
		c.Skip = "not enabled"
	}
	w.source.Set(c)
}

// event is something that happens in the world.
func (w *world) event() {
	switch w.random.IntN(12) {
	case 0, 1, 2, 3:
		w.start()
	case 4, 5, 6:
		w.source.Stop(fmt.Sprint("w", w.random.IntN(30)))
	case 7: // the host is emptied
		if w.chance(0.3) {
			w.source.Stop(slices.Sorted(maps.Keys(w.source.wants))...)
		}
	case 8: // a person makes something, or takes over what is ours
		w.teleport.Put(theirs(w.name()))
	case 9: // another agent does
		r := ours(w.name())
		r.Labels[resource.LabelOwner] = "bot/other/rabbit"
		w.teleport.Put(r)
	case 10: // a person changes what is ours, or wants it kept
		all := w.teleport.All()
		for _, name := range slices.Sorted(maps.Keys(all)) { // in an order, so that a seed is one history
			r := all[name]
			if r.Owner() == us && w.chance(0.2) {
				r = r.Clone()
				r.Labels["edited"] = "true"
				if w.chance(0.2) {
					r.Labels[resource.LabelKeep] = "true"
				}
				w.teleport.Put(r)
			}
		}
	case 11:
		if w.chance(0.5) {
			w.source.Fail(failure.New(failure.Unreachable, "Docker doesn't answer"))
		} else {
			w.source.Fail(nil)
		}
	}
}

// look is one cycle, after which everything is checked.
func (w *world) look(restart bool) {
	if restart {
		w.restart()
	}
	w.tally.steps++
	ctx, cancel := context.WithCancel(w.t.Context())
	w.crash = cancel
	before, full := w.owned(), w.chance(0.5)
	p, _, _ := w.r.reconcile(ctx, forEver, look{full: full})
	crashed := ctx.Err() != nil
	cancel()
	w.crash = nil
	unapproved := w.checkWrites(before)
	w.tally.conflicts += p.Count(plan.OpConflict)
	if p.Budget.Frozen {
		w.tally.frozen++
		require.Zero(w.t, unapproved, "seed %d: something was deleted although deletions are frozen", w.seed)
		if w.chance(0.1) {
			w.approve(p)
		}
	}
	if crashed {
		w.restart()
	}
}

// approve is a person who has looked at what waits.
func (w *world) approve(p plan.Plan) {
	w.store.Approve(p.Hash())
	w.tally.approved++
	w.deleted, w.approved = map[string]time.Time{}, map[string]bool{} // an approval begins the hour anew
	for _, a := range p.Actions {
		if a.BlockedBy == plan.GateBudget {
			w.approved[a.Key.Name] = true
		}
	}
}

// owned are the names of what is ours, without what can't be known yet: made
// just before a restart, or by a write whose answer was lost, and not to be read
// so far.
func (w *world) owned() map[string]bool {
	known := map[string]bool{}
	for _, r := range w.r.seen.all {
		known[r.Name] = true
	}
	owned := map[string]bool{}
	w.teleport.expire()
	for name, r := range w.teleport.things {
		_, shown := w.teleport.view(name)
		if (shown || known[name]) && r.Owner() == us && r.Labels[resource.LabelSource] == fromHere {
			owned[name] = true
		}
	}
	return owned
}

// checkWrites looks at the writes since the last call, one by one, without
// knowing how the plan came to them; owned is what was ours before them. It
// returns how many deletions were tried that nobody had approved.
func (w *world) checkWrites(owned map[string]bool) int {
	for _, write := range w.teleport.writes {
		w.tally.writes++
		if write.Op == "create" {
			continue
		}
		require.True(w.t, write.Before.Owner() == us && write.Before.Labels[resource.LabelSource] == fromHere,
			"seed %d: %s %s, which isn't ours", w.seed, write.Op, write.Name)
		require.NotEqual(w.t, plan.PolicyCreateOnly, w.policy, "seed %d: %s %s", w.seed, write.Op, write.Name)
		if write.Op == "delete" {
			w.tally.deletions++
			require.Equal(w.t, plan.PolicySync, w.policy, "seed %d", w.seed)
			// By what can be read: a mark that a workload asked for just before
			// our restart can't be known of yet. Those of people are seen.
			require.Empty(w.t, write.Shown.Labels[resource.LabelKeep], "seed %d: %s was to be kept", w.seed, write.Name)
		}
	}
	w.teleport.writes = nil
	return w.checkBudget(owned)
}

// checkBudget counts the deletions that were tried, whether they were done or
// not. The share is one of what we owned at any time of the hour.
func (w *world) checkBudget(owned map[string]bool) int {
	tried := w.teleport.tried
	w.teleport.tried = nil
	now := time.Now()
	maps.DeleteFunc(w.deleted, func(_ string, at time.Time) bool { return now.Sub(at) >= time.Hour })
	for name := range w.deleted {
		owned[name] = true
	}
	more, unapproved := false, 0
	for _, write := range tried {
		if w.approved[write.Name] {
			continue
		}
		unapproved++
		_, again := w.deleted[write.Name]
		more = more || !again
		w.deleted[write.Name] = write.At
	}
	if more && len(owned) >= plan.DefaultGuard().BudgetFrom {
		require.LessOrEqual(w.t, len(w.deleted), len(owned)/2, "seed %d: the budget doesn't hold", w.seed)
	}
	return unapproved
}

// settle lets the world be quiet, and looks if the goal is reached.
func (w *world) settle() {
	w.failing = 0
	w.source.Fail(nil)
	var p plan.Plan
	for range 20 {
		w.look(false)
		time.Sleep(2 * time.Minute)
		var err error
		before := w.owned()
		p, _, err = w.r.reconcile(w.t.Context(), forEver, look{full: true})
		w.checkWrites(before)
		require.NoError(w.t, err, "seed %d", w.seed)
		if p.Budget.Frozen {
			w.approve(p)
			continue
		}
		if len(w.changes(p)) == 0 && !waits(p) {
			break
		}
	}
	require.Empty(w.t, w.changes(p), "seed %d: the second plan isn't empty", w.seed)
	w.checkGoal(p)
}

// checkGoal compares the world with what a person would expect of it.
func (w *world) checkGoal(p plan.Plan) {
	claims := map[string]int{}
	present := map[string]bool{}
	for _, c := range w.source.wants {
		if c.Skip != "" {
			continue
		}
		present[c.Workload] = true
		if c.Err == nil {
			claims[c.Resource.Name]++
		}
	}
	troubled := map[string]bool{}
	for _, a := range p.Actions {
		if a.Op == plan.OpConflict || a.Op == plan.OpBlocked || w.hidden(a.Needs.Name) {
			troubled[a.Workload] = true
		}
	}
	all := w.teleport.All()
	for _, c := range w.source.wants {
		if c.Skip != "" || c.Err != nil {
			continue
		}
		r, there := all[c.Resource.Name]
		if registered := there && r.Owner() == us && r.Workload() == c.Workload; !registered {
			require.True(w.t, troubled[c.Workload] || claims[c.Resource.Name] > 1 || w.hidden(c.Resource.Name),
				"seed %d: %s isn't registered, and nobody says why", w.seed, c.Workload)
			continue
		}
		if w.policy != plan.PolicyCreateOnly {
			require.True(w.t, resource.EqualSpec(c.Resource.Spec, r.Spec), "seed %d: %s has an old address", w.seed, c.Workload)
		}
	}
	for name, r := range all {
		if r.Owner() == us && r.Labels[resource.LabelSource] == fromHere && w.policy == plan.PolicySync && r.Labels[resource.LabelKeep] == "" && claims[name] == 0 {
			require.True(w.t, present[r.Workload()], "seed %d: %s is left over", w.seed, name)
		}
	}
}

// changes are those of a plan, without the creation of names that somebody has
// whom we may not see, which only trying can tell, and without what waits for
// that.
func (w *world) changes(p plan.Plan) []string {
	waits := map[resource.Key]bool{}
	for again := true; again; {
		again = false
		for _, a := range p.Actions {
			if !waits[a.Key] && (w.hidden(a.Key.Name) || w.hidden(a.Needs.Name) || waits[a.Needs]) {
				waits[a.Key], again = true, true
			}
		}
	}
	var all []string
	for _, a := range p.Actions {
		switch a.Op {
		case plan.OpCreate, plan.OpUpdate, plan.OpDelete:
			if !waits[a.Key] {
				all = append(all, string(a.Op)+" "+a.Key.Name)
			}
		}
	}
	return all
}

func (w *world) hidden(name string) bool {
	r, there := w.teleport.things[name]
	return there && !w.teleport.visible(r)
}
