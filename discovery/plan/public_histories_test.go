package plan

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rollcall/discovery/resource"
)

// moves is a history of applications whose public addresses move.
type moves struct {
	t      *testing.T
	seed   uint64
	random *rand.Rand
	// wishes are by the workload's number, and renamed is how often all of them
	// got other identities and names.
	wishes     map[int]Desired
	renamed    int
	registered map[resource.Key]resource.Resource
	// outgoing is what is served until an update has taken effect; agents says that
	// it does so some time later, which joins tells.
	outgoing map[resource.Key][]resource.Resource
	agents   bool
	joins    *rand.Rand
	absences map[resource.Key]Absence
	history  History
	now      time.Time
	// failing is the chance that a write fails.
	failing float64
	last    Plan
	tally   movesTally
}

// movesTally is what the histories came to: a test of a property is worth what
// they reach.
type movesTally struct{ writes, failed, frozen, waited, bare, shared int }

// Whatever is asked for, in whatever order, whichever writes fail and whatever the
// budget keeps: at no moment do applications of two workloads have one public
// address. One that somebody else has as well is told of. And in the end everybody
// has the address that he asks for, if he can have it.
func TestNoPlanDoublesAPublicAddress(t *testing.T) {
	var all movesTally
	for seed := uint64(1); seed <= 400; seed++ {
		m := &moves{
			t: t, seed: seed, random: rand.New(rand.NewPCG(seed, 2)), wishes: map[int]Desired{},
			registered: map[resource.Key]resource.Resource{}, now: noon,
			outgoing: map[resource.Key][]resource.Resource{}, agents: seed%2 == 0, joins: rand.New(rand.NewPCG(seed, 3)),
		}
		m.failing = []float64{0, 0.1, 0.4}[m.random.IntN(3)]
		for range 20 {
			m.event()
			m.look()
			m.now = m.now.Add(time.Duration(m.random.IntN(20)) * time.Minute)
		}
		m.settle()
		all.writes += m.tally.writes
		all.failed += m.tally.failed
		all.frozen += m.tally.frozen
		all.waited += m.tally.waited
		all.bare += m.tally.bare
		all.shared += m.tally.shared
	}
	t.Logf("%+v", all)
	require.NotZero(t, all.failed)
	require.NotZero(t, all.frozen)
	require.NotZero(t, all.waited)
	require.NotZero(t, all.bare)
	require.NotZero(t, all.shared)
}

// ask has a workload ask for a name and an address; no address: Teleport's own.
func (m *moves) ask(number, name, addr int) {
	d := wish(m.identity("w", number), m.identity("n", name))
	if addr > 0 {
		d.Resource = reached(d.Resource, fmt.Sprint("a", addr))
	}
	m.wishes[number] = d
}

func (m *moves) identity(letter string, number int) string {
	return fmt.Sprint(letter, number, "-", m.renamed)
}

func (m *moves) askAnything(number int) {
	name := number
	if m.random.IntN(4) == 0 {
		name = m.random.IntN(16)
	}
	m.ask(number, name, m.random.IntN(16))
}

// event is something that happens to the workloads, or in Teleport.
func (m *moves) event() {
	switch m.random.IntN(8) {
	case 0: // all are the same as before, under other identities and names
		m.renamed++
		for number, d := range m.wishes {
			d.Workload, d.Resource.Name = m.identity("w", number), m.identity("n", number)
			m.wishes[number] = d
		}
	case 1:
		delete(m.wishes, m.random.IntN(16))
	case 2: // they swap, in a ring
		numbers := slices.Sorted(maps.Keys(m.wishes))
		m.random.Shuffle(len(numbers), func(i, j int) { numbers[i], numbers[j] = numbers[j], numbers[i] })
		if len(numbers) < 3 {
			return
		}
		specs := []resource.Spec{m.wishes[numbers[1]].Resource.Spec, m.wishes[numbers[2]].Resource.Spec, m.wishes[numbers[0]].Resource.Spec}
		for i, spec := range specs {
			d := m.wishes[numbers[i]]
			d.Resource.Spec = spec
			m.wishes[numbers[i]] = d
		}
	case 3: // somebody else registers one
		if m.random.IntN(3) > 0 {
			return
		}
		r := reached(app(m.identity("n", m.random.IntN(16)), "http://10.0.0.9:80", nil), fmt.Sprint("a", 1+m.random.IntN(15)))
		m.registered[r.Key()] = r
	default:
		for range 1 + m.random.IntN(12) {
			m.askAnything(m.random.IntN(16))
		}
	}
}

// look is one plan, and what becomes of it.
func (m *moves) look() {
	wishes := slices.Collect(maps.Values(m.wishes))
	slices.SortFunc(wishes, func(a, b Desired) int { return strings.Compare(a.Workload, b.Workload) })
	m.random.Shuffle(len(wishes), func(i, j int) { wishes[i], wishes[j] = wishes[j], wishes[i] })
	actual := slices.Collect(maps.Values(m.registered))
	slices.SortFunc(actual, func(a, b resource.Resource) int { return strings.Compare(a.Name, b.Name) })
	in := input(wishes, actual...)
	in.Outgoing = m.join()
	in.Absences, in.History, in.Now = m.absences, m.history.Recent(m.now), m.now
	m.last = Make(in)
	m.absences, m.history = m.last.Absences, m.history.Settle(m.last, m.now)
	m.count()
	m.checkTold()
	failed := map[resource.Key]bool{}
	for _, op := range []Op{OpCreate, OpUpdate, OpDelete} {
		actions := slices.DeleteFunc(slices.Clone(m.last.Actions), func(a Action) bool { return a.Op != op })
		m.random.Shuffle(len(actions), func(i, j int) { actions[i], actions[j] = actions[j], actions[i] })
		for _, a := range actions {
			if failed[a.Needs] || m.random.Float64() < m.failing {
				m.tally.failed++
				failed[a.Key] = true
				continue
			}
			m.write(&a)
		}
	}
}

// join lets some updates take effect, and returns what is served until the others
// do.
func (m *moves) join() (served []resource.Resource) {
	keys := slices.SortedFunc(maps.Keys(m.outgoing), func(a, b resource.Key) int { return strings.Compare(a.Name, b.Name) })
	for _, key := range keys {
		if m.failing == 0 || m.joins.IntN(3) == 0 {
			delete(m.outgoing, key)
			continue
		}
		served = append(served, m.outgoing[key]...)
	}
	return served
}

func (m *moves) count() {
	if m.last.Budget.Frozen {
		m.tally.frozen++
	}
	for _, a := range m.last.Actions {
		if a.BlockedBy == GateAddress {
			m.tally.waited++
		}
		if strings.Contains(a.Reason, "without its public_addr") {
			m.tally.bare++
		}
	}
}

// write does what an action says, after which no two of ours share an address.
func (m *moves) write(a *Action) {
	m.tally.writes++
	if a.Op == OpDelete {
		m.history = m.history.Begin(m.now, []resource.Key{a.Key})
		delete(m.registered, a.Key)
		delete(m.outgoing, a.Key)
		return
	}
	if before, there := m.registered[a.Key]; there && m.agents {
		m.outgoing[a.Key] = append(m.outgoing[a.Key], before)
	}
	m.registered[a.Key] = *a.After
	addr := publicAddr(a.After)
	served := slices.Collect(maps.Values(m.registered))
	for key, outgoing := range m.outgoing {
		if key != a.Key {
			served = append(served, outgoing...)
		}
	}
	for _, other := range served {
		if addr != "" && publicAddr(&other) == addr && other.Owner() == us && other.Workload() != a.After.Workload() {
			m.t.Fatalf("seed %d: after %s %s both that and %s have %s\nthe plan: %s", m.seed, a.Op, a.Key, other.Key(), addr, short(m.last))
		}
	}
}

// checkTold looks if what stays with an address that somebody else has is told of.
func (m *moves) checkTold() {
	told, moved := map[resource.Key]bool{}, map[resource.Key]bool{}
	for _, a := range m.last.Actions {
		told[a.Key] = told[a.Key] || a.Shares != ""
		moved[a.Key] = moved[a.Key] || a.Op == OpDelete || a.Op == OpUpdate && publicAddr(a.After) != publicAddr(a.Before)
	}
	for key, r := range m.registered {
		for _, other := range m.registered {
			if r.Owner() == us && other.Owner() != us && publicAddr(&r) == publicAddr(&other) && !moved[key] {
				m.tally.shared++
				require.True(m.t, told[key], "seed %d: nobody says that %s has the address of %s\n%s", m.seed, key, other.Key(), short(m.last))
			}
		}
	}
}

// settle lets everything be written, and looks if the goal is reached.
func (m *moves) settle() {
	m.failing = 0
	if m.random.IntN(2) == 0 {
		// Nobody disputes anything: everybody gets what he asks for.
		maps.DeleteFunc(m.registered, func(_ resource.Key, r resource.Resource) bool { return r.Owner() != us })
		names, addresses := m.random.Perm(16), m.random.Perm(16)
		for number := range 16 {
			m.ask(number, names[number], addresses[number])
		}
		m.quiet()
		for _, d := range m.wishes {
			r, there := m.registered[d.Resource.Key()]
			require.True(m.t, there, "seed %d: %s: %s", m.seed, d.Workload, short(m.last))
			require.Equal(m.t, d.Workload, r.Workload(), "seed %d", m.seed)
			require.Equal(m.t, publicAddr(&d.Resource), publicAddr(&r), "seed %d", m.seed)
		}
		require.Len(m.t, m.registered, len(m.wishes), "seed %d", m.seed)
		return
	}
	m.quiet()
	for _, d := range m.wishes {
		r, there := m.registered[d.Resource.Key()]
		if there && r.Workload() == d.Workload && publicAddr(&r) == publicAddr(&d.Resource) {
			continue
		}
		require.True(m.t, slices.ContainsFunc(m.last.Actions, func(a Action) bool { return a.Workload == d.Workload && a.After != nil }),
			"seed %d: %s hasn't what it asks for, and nobody says why: %s", m.seed, d.Workload, short(m.last))
	}
}

// quiet looks until nothing changes any more, and approves what is frozen.
func (m *moves) quiet() {
	for range 30 {
		m.look()
		m.now = m.now.Add(time.Minute)
		if m.last.Budget.Frozen {
			var approved bool
			m.history, approved = m.history.Acknowledge(m.last, m.last.Hash())
			require.True(m.t, approved || m.last.Hash() == "", "seed %d", m.seed)
		}
	}
	require.False(m.t, m.last.Changes(), "seed %d: %s", m.seed, short(m.last))
	for _, a := range m.last.Actions {
		require.False(m.t, a.Waiting, "seed %d: %s %s: %s", m.seed, a.Op, a.Key, a.Reason)
	}
}
