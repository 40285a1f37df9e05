package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rollcall/e2e/harness"
)

// What the agent says about how the run before it ended.
const (
	saidDoubt     = "A renewal was cut off before its reply was stored"
	saidRecovered = "Recovered the identity that an interrupted run had received"
	saidUnmoved   = "The cluster holds the generation that this host has"
	saidLost      = "the reply to a renewal was lost"
	saidRenewed   = "The identity was renewed."
)

// What a kill can hit.
const (
	hitNothing   = "between two renewals: nothing to find out"
	hitSaved     = "after the identity was in place: a spent intent was left, and ignored"
	hitWritten   = "after the reply was on disk: recovered by the next start"
	hitUnsent    = "after the intent, before the cluster had moved on: asked, renewed as usual"
	hitLostReply = "after the cluster had moved on, before the reply was on disk: the bot is recreated"
)

// aimed is which of the kills aren't at any moment, but right after the agent has
// noted what it's about to do: that is when they matter, and chance alone seldom
// hits it.
const aimed = 3

// TestKillsDuringRenewals kills the agent at random moments while it does
// nothing but renew, and starts it again on the same storage. Several bots
// side by side save time: an agent that must ask the cluster for its generation
// waits until the answer is surely new.
func TestKillsDuringRenewals(t *testing.T) {
	const lanes, kills = 20, 10
	// Production's caches lag by a second, not by the 50 ms of other tests.
	c := suite.NewCluster(t, harness.ClusterOptions{Poll: time.Second})
	var tally killTally
	// Goroutines and not parallel subtests, of which there are no more at a
	// time than processors: these mostly wait. A failure ends its lane alone,
	// and the test is failed all the same.
	var group sync.WaitGroup
	for range lanes {
		group.Go(func() { newVictim(t, c, &tally).suffer(t, kills) })
	}
	group.Wait()
	t.Log(tally.String())
	require.Zero(t, tally.locks, "a stale generation was presented")
	if !t.Failed() {
		require.Equal(t, lanes*kills, tally.total())
		require.Less(t, tally.hits[hitNothing], lanes*kills*9/10, "nearly no kill hit a renewal, so that nothing was shown")
	}
}

// killTally counts the outcomes of all lanes.
type killTally struct {
	// mu protects the following.
	mu       sync.Mutex
	hits     map[string]int
	renewals uint64
	sets     int
	locks    int
}

func (k *killTally) count(hit string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.hits == nil {
		k.hits = map[string]int{}
	}
	k.hits[hit]++
}

func (k *killTally) total() (n int) {
	for _, count := range k.hits {
		n += count
	}
	return n
}

// String is the table of outcomes.
func (k *killTally) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d kills during %d renewals of the identity and %d of outputs; the moment that was hit, and what came of it:\n",
		k.total(), k.renewals, k.sets)
	for _, hit := range []string{hitNothing, hitUnsent, hitLostReply, hitWritten, hitSaved} {
		fmt.Fprintf(&b, "%5d  %s\n", k.hits[hit], hit)
	}
	fmt.Fprintf(&b, "%5d  locks by the server", k.locks)
	return b.String()
}

// victim is a bot whose agent gets killed.
type victim struct {
	*stage
	tally  *killTally
	token  string // path of the file with the join token
	config string
}

func newVictim(t *testing.T, c *harness.Cluster, tally *killTally) *victim {
	t.Helper()
	v := &victim{stage: newStageOn(t, c), tally: tally}
	v.token = suite.WriteFile(t, "token", v.bot.Token)
	v.config = v.document(t, document{
		onboarding: "{join_method: token, token: " + v.token + "}",
		times:      everySecond,
		outputs:    v.application("out", "specific_tls_naming: true,") + v.output("identity", "id", ""),
	})
	v.oneshot(t, v.config)
	return v
}

// suffer is one lane of the test.
func (v *victim) suffer(t *testing.T, kills int) {
	generation := v.cluster.Generation(t, v.bot)
	for n := range kills {
		left, err := readStorage(v.storage())
		require.NoError(t, err, "unreadable storage after a kill")
		agent := v.start(t, v.config)
		agent, recreated := v.outcome(t, agent, left)
		if recreated {
			generation = 0
		}
		renewForEver(agent)
		within := 150 * time.Millisecond
		if n%aimed == aimed-1 {
			v.awaitIntent(t)
			within = 30 * time.Millisecond
		}
		select {
		case <-time.After(time.Duration(rand.Int64N(int64(within)))):
		case <-t.Context().Done():
		}
		require.True(t, agent.Running())
		agent.Kill()
		v.checkSets(t)
		now := v.cluster.Generation(t, v.bot)
		v.tally.mu.Lock()
		v.tally.renewals += now - generation
		v.tally.sets += strings.Count(agent.Stderr.String(), "Credentials renewed.")
		v.tally.mu.Unlock()
		generation = now
	}
	// The last kill must be survived, too.
	agent := v.start(t, v.config)
	agent.WaitFor(t, patience, "a verdict", func() error { return saidAny(agent, saidRenewed, saidLost) })
	v.countLocks(t, agent)
}

// awaitIntent waits until the agent has noted what it's about to do.
func (v *victim) awaitIntent(t *testing.T) {
	t.Helper()
	path := filepath.Join(v.storage(), "intent.json")
	deadline := time.Now().Add(patience)
	for {
		if _, err := os.Lstat(path); err == nil {
			return
		}
		require.True(t, time.Now().Before(deadline), "the agent has noted no intent")
		time.Sleep(time.Millisecond) // it's there for some milliseconds
	}
}

// outcome waits until the agent has dealt with what the run before it left,
// and counts what that was. If the server has moved on it does what the agent's
// message asks of the operator, and returns the agent that runs then.
func (v *victim) outcome(t *testing.T, agent *harness.Process, left leftover) (now *harness.Process, recreated bool) {
	t.Helper()
	agent.WaitFor(t, patience, "a verdict", func() error { return saidAny(agent, saidRenewed, saidLost) })
	log := agent.Stderr.String()
	switch {
	case strings.Contains(log, saidLost):
		v.tally.count(hitLostReply)
		require.NotZero(t, left.intent)
		require.Equal(t, left.held()+1, v.cluster.Generation(t, v.bot), "what the agent says isn't so")
		v.checkSets(t)
		v.countLocks(t, agent)
		return v.recreate(t, agent), true
	case strings.Contains(log, saidRecovered):
		v.tally.count(hitWritten)
		require.Greater(t, left.next, left.generation)
	case strings.Contains(log, saidUnmoved):
		v.tally.count(hitUnsent)
		require.Equal(t, left.generation, left.intent)
	case left.intent != 0:
		v.tally.count(hitSaved)
		require.Less(t, left.intent, left.generation)
	default:
		v.tally.count(hitNothing)
		require.NotContains(t, log, saidDoubt)
	}
	v.countLocks(t, agent)
	return agent, false
}

// countLocks fails the lane if the server has locked the bot.
func (v *victim) countLocks(t *testing.T, agent *harness.Process) {
	t.Helper()
	locks := v.cluster.Locks(t, v.bot)
	v.tally.mu.Lock()
	v.tally.locks += len(locks)
	v.tally.mu.Unlock()
	if len(locks) > 0 {
		t.Fatalf("the server locked the bot: %v\n%s", locks, agent.Stderr.String())
	}
}

// recreate does what the agent asks for: a new bot of the same name, and its
// token for this host.
func (v *victim) recreate(t *testing.T, agent *harness.Process) *harness.Process {
	t.Helper()
	agent.Terminate(t)
	v.cluster.DeleteBot(t, v.bot.Name)
	v.bot = v.cluster.CreateBot(t, v.bot.Name, v.app.Name+"-access")
	require.NoError(t, os.WriteFile(v.token, []byte(v.bot.Token), 0o600))
	agent = v.start(t, v.config)
	agent.WaitForLog(t, patience, saidRenewed)
	return agent
}

// checkSets fails the lane unless both outputs are whole.
func (v *victim) checkSets(t *testing.T) {
	t.Helper()
	require.NoError(t, whole(v.place("out"), applicationFiles), "a broken set after a kill")
	require.NoError(t, whole(v.place("id"), identityFiles), "a broken set after a kill")
}

// renewForEver asks the agent to renew, again and again, until it ends. An
// agent that isn't up yet would die of the signal.
func renewForEver(agent *harness.Process) {
	go func() {
		tick := time.NewTicker(3 * time.Millisecond)
		defer tick.Stop()
		for range tick.C {
			if !agent.Running() {
				return
			}
			_ = syscall.Kill(agent.PID, syscall.SIGHUP)
		}
	}()
}

// saidAny returns nil if the agent has logged one of the texts.
func saidAny(agent *harness.Process, texts ...string) error {
	log := agent.Stderr.String()
	if slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(log, text) }) {
		return nil
	}
	return errors.New("not said yet")
}
