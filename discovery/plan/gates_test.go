package plan

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rollcall/discovery/resource"
)

// TestSafetyTable has one line for each gate, in which that gate alone stands
// between a plan and a wrong deletion: with it the resource stays, and with its
// condition made good, and nothing else changed, the resource goes.
func TestSafetyTable(t *testing.T) {
	for _, test := range []struct {
		gate  Gate
		close func(*Input)
		told  string
	}{
		{GateSource, func(in *Input) { in.Failed = true }, "half a view"},
		{GateFirstRead, func(in *Input) { in.GoodReads = 0 }, "hasn't been read"},
		{GateOwner, func(in *Input) { in.Actual[0] = with(in.Actual[0], resource.LabelSource, "file/rabbit") }, "use purge"},
		{GateKeep, func(in *Input) { in.Actual[0] = with(in.Actual[0], resource.LabelKeep, "true") }, "marked"},
		{GateAbsent, func(in *Input) { in.Absences = nil }, "1 of 2 good reads"},
		{GatePolicy, func(in *Input) { in.Policy = PolicyUpsertOnly }, "upsert-only"},
		{GateBudget, func(in *Input) { in.Guard.BudgetFrom = 1 }, "frozen"},
	} {
		t.Run(string(test.gate), func(t *testing.T) {
			in := input(nil, own("a", "x"))
			require.Equal(t, "delete x(a)", short(Make(in)), "all gates open")

			test.close(&in)
			in.All = true
			p := Make(in)
			require.Equal(t, "blocked x(a) by "+string(test.gate), short(p))
			require.Equal(t, 1, p.Blocked[test.gate], "it's counted")
			last := p.Actions[0].Gates[len(p.Actions[0].Gates)-1]
			require.Equal(t, test.gate, last.Gate)
			require.False(t, last.Passed)
			require.Contains(t, last.Detail, test.told, "and explained")
			for _, check := range p.Actions[0].Gates[:len(p.Actions[0].Gates)-1] {
				require.True(t, check.Passed, "no other gate stands there")
			}
		})
	}
}

// TestSafetyTableReread is the table's last line.
func TestSafetyTableReread(t *testing.T) {
	planned := own("a", "x")
	for _, test := range []struct {
		name string
		now  *resource.Resource
		open bool
		told string
	}{
		{"as it was", ref(planned), true, "unchanged and ours"},
		{"gone", nil, false, "gone already"},
		{"given to another", ref(with(planned, resource.LabelOwner, "other")), false, `belongs to "other"`},
		{"its mark taken off", ref(with(planned, resource.LabelOwner, "")), false, "no owner mark"},
		{"of another source", ref(with(planned, resource.LabelSource, "file")), false, "from the source"},
		{"changed", ref(at(planned, "http://10.0.0.9:80")), false, "somebody changed it"},
		{"marked to be kept", ref(with(planned, resource.LabelKeep, "true")), false, "somebody changed it"},
	} {
		t.Run(test.name, func(t *testing.T) {
			open, told := Reread(us, source, &planned, test.now)
			require.Equal(t, test.open, open)
			require.Contains(t, told, test.told)
		})
	}
}

func ref(r resource.Resource) *resource.Resource { return &r }

// TestGatesHaveAnOrder closes them all and opens one after the other.
func TestGatesHaveAnOrder(t *testing.T) {
	in := input(nil, with(with(own("a", "x"), resource.LabelKeep, "true"), resource.LabelSource, "file"))
	in.Failed, in.GoodReads, in.Absences, in.Policy, in.Guard.BudgetFrom, in.All = true, 0, nil, PolicyUpsertOnly, 1, true
	for i, open := range []func(){
		func() { in.Failed = false },
		func() { in.GoodReads = 1 },
		func() { in.Actual[0] = with(in.Actual[0], resource.LabelSource, source) },
		func() { in.Actual[0] = with(in.Actual[0], resource.LabelKeep, "") },
		func() { in.Absences = gone("x") },
		func() { in.Policy = PolicySync },
		func() { in.Guard.MaxDelete = 1 },
	} {
		require.Equal(t, "blocked x(a) by "+string(Gates()[i]), short(Make(in)))
		open()
	}
	require.Equal(t, "delete x(a)", short(Make(in)))
}

func TestAbsentNeedsReadsAndTime(t *testing.T) {
	for _, test := range []struct {
		reads   int
		age     time.Duration
		deleted bool
	}{
		{reads: 0, age: time.Hour, deleted: false},
		{reads: 1, age: 9 * time.Second, deleted: false},
		{reads: 1, age: 10 * time.Second, deleted: true},
		{reads: 50, age: 9 * time.Second, deleted: false},
	} {
		in := input(nil, own("a", "x"))
		in.Absences = map[resource.Key]Absence{in.Actual[0].Key(): {Since: noon.Add(-test.age), Reads: test.reads}}
		require.Equal(t, test.deleted, Make(in).Count(OpDelete) == 1, "%d reads before this one, %s", test.reads, test.age)
	}
	failed := input(nil, own("a", "x"))
	failed.Absences = map[resource.Key]Absence{failed.Actual[0].Key(): {Since: noon.Add(-time.Hour), Reads: 1}}
	failed.Failed = true
	require.Equal(t, 1, Make(failed).Absences[failed.Actual[0].Key()].Reads, "a failed read counts for nothing")
}

func TestBudget(t *testing.T) {
	ago := func(minutes ...int) History {
		var h History
		for _, m := range minutes {
			h.Deleted = append(h.Deleted, Deletion{resource.Key{Kind: resource.KindApp, Name: fmt.Sprint("gone", m)}, noon.Add(-time.Duration(m) * time.Minute)})
		}
		return h
	}
	frozen := History{Frozen: noon.Add(-time.Hour)}
	for _, test := range []struct {
		name    string
		share   float64
		history History
		ask     ask
		free    int
		frozen  bool
	}{
		{name: "few", ask: ask{owned: 9, deletions: 9}, free: 9},
		{name: "from ten on", ask: ask{owned: 10, deletions: 6}, frozen: true},
		{name: "up to the share", ask: ask{owned: 10, deletions: 5}, free: 5},
		{name: "a share that is no whole number", share: 0.3, ask: ask{owned: 12, deletions: 4}, frozen: true},
		{name: "all may go", share: 1, ask: ask{owned: 1000, deletions: 1000}, free: 1000},
		{name: "a trickle counts", history: ago(50, 40, 30, 20, 10), ask: ask{owned: 5, deletions: 1}, frozen: true},
		{name: "what is an hour old doesn't", history: ago(60, 61, 62, 63, 64), ask: ask{owned: 10, deletions: 5}, free: 5},
		{name: "to try again costs nothing", history: ago(1, 2, 3, 4, 5), ask: ask{owned: 10, returned: 5, again: 5}, free: 0},
		{name: "but what is new does", history: ago(1, 2, 3, 4, 5), ask: ask{owned: 10, returned: 5, again: 5, deletions: 1}, frozen: true},
		{name: "an alarm stops what is tried again, too", history: frozen, ask: ask{owned: 10, again: 1}, frozen: true},
		{name: "an alarm stands although less is asked for", history: frozen, ask: ask{owned: 10, deletions: 1}, frozen: true},
		{name: "an alarm stands while more may be asked for", history: frozen, ask: ask{owned: 10, pending: 1}, frozen: true},
		{name: "an alarm ends when nothing is", history: frozen, ask: ask{owned: 10}},
		{name: "an alarm stands when an hour has left few", history: frozen, ask: ask{owned: 6, deletions: 6}, frozen: true},
		{name: "an unknown hour has just begun", history: History{Since: noon}, ask: ask{owned: 20, deletions: 3}},
		{name: "an unknown hour, nearly all of it", history: History{Since: noon.Add(-59 * time.Minute)}, ask: ask{owned: 20, deletions: 7}},
		{name: "an unknown hour is over", history: History{Since: noon.Add(-time.Hour)}, ask: ask{owned: 20, deletions: 7}, free: 7},
		{name: "an unknown hour allows no more than others", history: History{Since: noon.Add(-59 * time.Minute)}, ask: ask{owned: 20, deletions: 11}, frozen: true},
		{name: "6 of 12 may have gone in an unknown hour", history: History{Since: noon}, ask: ask{owned: 6, deletions: 6}, frozen: true},
		{name: "and the others don't follow one by one", history: History{Since: noon}, ask: ask{owned: 6, deletions: 1}},
		{name: "too few for anything to have gone", history: History{Since: noon}, ask: ask{owned: 4, deletions: 4}, free: 4},
		{name: "an unknown hour where all may go", share: 1, history: History{Since: noon}, ask: ask{owned: 20, deletions: 20}, free: 20},
	} {
		t.Run(test.name, func(t *testing.T) {
			guard := DefaultGuard()
			if test.share > 0 {
				guard.MaxDelete = test.share
			}
			b := budget(guard, test.history, noon, test.ask)
			require.Equal(t, test.frozen, b.Frozen)
			require.Equal(t, test.free, b.Free)
		})
	}
}

func TestAnUnknownHourTellsWhenItIsOver(t *testing.T) {
	h := History{Since: noon}
	b := budget(DefaultGuard(), h, noon, ask{owned: 20, deletions: 3})
	require.Equal(t, noon.Add(time.Hour), b.More)
	require.Equal(t, 3, budget(DefaultGuard(), h, b.More, ask{owned: 20, deletions: 3}).Free)
}

// crowd is n applications of n workloads.
func crowd(n int) []resource.Resource {
	var all []resource.Resource
	for i := range n {
		all = append(all, own(fmt.Sprintf("w%03d", i), fmt.Sprintf("x%03d", i)))
	}
	return all
}

func TestFrozenDeletionsLetCreatesPass(t *testing.T) {
	in := input([]Desired{wish("new", "new")}, crowd(20)...)
	p := Make(in)
	require.Equal(t, 1, p.Count(OpCreate))
	require.Zero(t, p.Count(OpDelete), "none of them, and not just as many as are allowed")
	require.Equal(t, 20, p.Blocked[GateBudget])
	require.Equal(t, 3, p.ExitCode())
}

func TestAnApprovalIsForOnePlan(t *testing.T) {
	in := input(nil, crowd(20)...)
	p := Make(in)
	in.History = in.History.Settle(p, noon)
	require.Equal(t, noon, in.History.Frozen)

	_, ok := in.History.Acknowledge(p, "0123456789ab")
	require.False(t, ok)
	in.History, ok = in.History.Acknowledge(p, p.Hash())
	require.True(t, ok)
	in.Actual = append(crowd(20), own("late", "late"))
	in.Absences = gone("late")
	for _, r := range in.Actual {
		in.Absences[r.Key()] = Absence{Since: noon.Add(-time.Hour), Reads: 9}
	}
	p = Make(in)
	require.Equal(t, 21, p.Count(OpDelete), "those approved, and one that is within the budget")
	in.History = in.History.Begin(noon, []resource.Key{{Kind: resource.KindApp, Name: "late"}, in.Actual[0].Key()}).Settle(p, noon)

	require.Len(t, in.History.Deleted, 1, "those approved don't count")
	in.Actual = crowd(20)[:5]
	p = Make(in)
	require.Equal(t, 5, p.Count(OpDelete), "what wasn't done yet is still approved")

	in.Desired = []Desired{wish("w000", "x000"), wish("w001", "x001"), wish("w002", "x002"), wish("w003", "x003"), wish("w004", "x004")}
	in.History = in.History.Settle(Make(in), noon)
	require.Empty(t, in.History.Acknowledged, "an approval ends when the workloads are back")
}

// A preview shows what will be deleted when the absent gate has opened; who
// approves that has seen more than what waits now, and has approved it all.
func TestAnApprovalOfAPreviewHolds(t *testing.T) {
	in := input(nil, append(crowd(15), own("late", "late"))...)
	preview := in
	preview.Settled = true
	hash := Make(preview).Hash()

	delete(in.Absences, resource.Key{Kind: resource.KindApp, Name: "late"})
	p := Make(in)
	require.NotEqual(t, hash, p.Hash())
	h, ok := in.History.Acknowledge(p, hash)
	require.True(t, ok)
	require.Len(t, h.Acknowledged, 16)
	in.History = h
	p = Make(in)
	require.Equal(t, 15, p.Count(OpDelete))
	require.Equal(t, 1, p.Blocked[GateAbsent], "an approval opens no other gate")
	require.Len(t, in.History.Settle(p, noon).Acknowledged, 16, "and waits for it")
}

func TestPurge(t *testing.T) {
	in := input([]Desired{wish("a", "x")}, own("a", "x"), marked(us, "file", "b", "y"),
		with(own("c", "z"), resource.LabelKeep, "true"), marked("other", source, "d", "v"), app("w", "", nil))
	p := Purge(in)
	require.Equal(t, "delete x(a), delete y(b), blocked z(c) by keep", short(p))
	in.Owner = ""
	require.Empty(t, Purge(in).Actions, "without an owner nothing is ours")
}

func TestAdopt(t *testing.T) {
	key := resource.Key{Kind: resource.KindApp, Name: "x"}
	t.Run("one without a mark", func(t *testing.T) {
		a, err := Adopt(input([]Desired{wish("a", "x")}, app("x", "http://old", nil)), key, "")
		require.NoError(t, err)
		require.Equal(t, OpUpdate, a.Op)
		require.Equal(t, us, a.After.Owner())
		require.Len(t, a.Changes, 4, "three marks and the address")
	})
	t.Run("ours already", func(t *testing.T) {
		a, err := Adopt(input([]Desired{wish("a", "x")}, own("a", "x")), key, "")
		require.NoError(t, err)
		require.Equal(t, OpNothing, a.Op)
	})
	for name, test := range map[string]struct {
		in   Input
		from string
		told string
	}{
		"nothing there":        {in: input([]Desired{wish("a", "x")}), told: "isn't registered"},
		"nobody asks for it":   {in: input(nil, app("x", "", nil)), told: "no workload asks"},
		"two ask for it":       {in: input([]Desired{wish("a", "x"), wish("b", "x")}, app("x", "", nil)), told: "2 workloads"},
		"another agent's":      {in: input([]Desired{wish("a", "x")}, marked("other", source, "a", "x")), told: `belongs to "other"`},
		"yet another agent's":  {in: input([]Desired{wish("a", "x")}, marked("other", source, "a", "x")), from: "third", told: `belongs to "other"`},
		"another agent's mark": {in: input([]Desired{wish("a", "x")}, marked("other", source, "a", "x")), from: "other"},

		"another service's of this owner": {
			in:   input([]Desired{wish("a", "x")}, marked(us, "file/inventory", "f", "x")),
			told: `another service of this owner looks: if that service is gone for good, say so with --from "file/inventory"`,
		},
		"its own owner doesn't name another service": {in: input([]Desired{wish("a", "x")}, marked(us, "file/inventory", "f", "x")), from: us, told: "another service"},
		"another service's that is gone":             {in: input([]Desired{wish("a", "x")}, marked(us, "file/inventory", "f", "x")), from: "file/inventory"},

		"of a workload that is there":         {in: input([]Desired{wish("a", "x"), wish("b", "y")}, own("b", "x")), told: `registered for "b", which is there`},
		"even if somebody insists":            {in: input([]Desired{wish("a", "x"), wish("b", "y")}, own("b", "x")), from: source, told: `registered for "b", which is there`},
		"of one that can't be read":           {in: input([]Desired{wish("a", "x"), {Workload: "b", Err: errors.New("no port")}}, own("b", "x")), told: `registered for "b", which is there`},
		"of one that is gone":                 {in: input([]Desired{wish("a", "x")}, own("b", "x"))},
		"with somebody's public address":      {in: input([]Desired{public("a", "x", "p.test")}, app("x", "", nil), reached(app("y", "", nil), "P.test")), told: "which app/y has already"},
		"with its own other one's":            {in: input([]Desired{public("a", "x", "p.test")}, app("x", "", nil), reached(own("a", "y"), "p.test"))},
		"with one that another asks for":      {in: input([]Desired{public("a", "x", "p.test"), public("b", "y", "p.test")}, app("x", "", nil)), told: `"a" and "b" both ask for the public_addr p.test`},
		"with one that is the resource's own": {in: input([]Desired{public("a", "x", "p.test")}, reached(app("x", "", nil), "p.test"))},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Adopt(test.in, key, test.from)
			if test.told == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, test.told)
		})
	}
}

// Users of what is still registered mustn't reach whoever has its address next.
func TestAnAddressThatIsAnothersNow(t *testing.T) {
	moving := func(workload, name, uri string) Desired {
		return Desired{Workload: workload, Resource: app(name, uri, nil)}
	}
	const first, second = "http://10.0.0.1", "http://10.0.0.2:80" // own is at 10.0.0.1:80
	next := moving("b", "y", first)
	for _, test := range []struct {
		name   string
		wishes []Desired
		change func(in *Input)
		want   string
		alarm  string
	}{
		{"goes at once", []Desired{next}, nil, "create y(b), delete x(a)", ""},
		{"stays for a while if nobody has it", []Desired{moving("b", "y", second)}, nil, "create y(b), blocked x(a) by absent", ""},
		{"not on half a view", []Desired{next}, func(in *Input) { in.Failed = true }, "create y(b), blocked x(a) by source_complete", ""},
		{"what is shared on purpose", []Desired{moving("a", "z", first), next}, func(in *Input) { in.Policy = PolicyUpsertOnly },
			"create y(b), create z(a), blocked x(a) by absent", ""},
		{"kept", []Desired{next}, func(in *Input) { in.Actual[0].Labels[resource.LabelKeep] = "true" }, "create y(b), blocked x(a) by keep", "b"},
		{"no deletions", []Desired{next}, func(in *Input) { in.Policy = PolicyUpsertOnly }, "create y(b), blocked x(a) by policy", "b"},
		{"no updates", []Desired{moving("a", "x", second), next}, func(in *Input) { in.Policy = PolicyCreateOnly }, "create y(b), blocked x(a) by policy", "b"},
		{"frozen", []Desired{next}, func(in *Input) { in.Guard.BudgetFrom = 1 }, "create y(b), blocked x(a) by budget", "b"},
		{"unreadable", []Desired{{Workload: "a", Err: errors.New("restarting")}, next}, nil,
			"create y(b), blocked (a) by workload, blocked x(a) by absent", "b"},
		{"disputed", []Desired{moving("a", "x", second), moving("a", "x", "http://10.0.0.3"), next}, nil,
			"create y(b), conflict x(a), conflict x(a)", "b"},
	} {
		t.Run(test.name, func(t *testing.T) {
			in := input(test.wishes, own("a", "x"))
			in.Absences = nil
			if test.change != nil {
				test.change(&in)
			}
			p := Make(in)
			require.Equal(t, test.want, short(p))
			var alarms []string
			for _, a := range p.Troubles() {
				if a.Misleads != "" {
					alarms = append(alarms, a.Misleads)
					require.Contains(t, a.Reason, `its address 10.0.0.1:80 is that of "b" now`)
				}
			}
			require.Equal(t, test.alarm, strings.Join(alarms, " "))
		})
	}
}

// A full but young list isn't whole: after a start of the host its workloads come
// up one after the other.
func TestNothingIsAbsentWhileTheSourceSettles(t *testing.T) {
	young := func(desired []Desired, actual ...resource.Resource) Input {
		in := input(desired, actual...)
		in.Guard.Settle, in.Readable = 30*time.Second, noon.Add(-10*time.Second)
		return in
	}
	in := young(nil, own("a", "x"))
	p := Make(in)
	require.Equal(t, "blocked x(a) by absent", short(p))
	require.True(t, p.Actions[0].Waiting)
	require.Equal(t, noon.Add(20*time.Second), p.NextLook)
	require.True(t, p.Settling)
	require.Equal(t, p.NextLook, p.Settles)
	require.Empty(t, p.Absences, "what was counted before doesn't count any more")

	// From then on it counts, from the start.
	in.Absences, in.Now = p.Absences, p.NextLook
	p = Make(in)
	require.Equal(t, "blocked x(a) by absent", short(p))
	in.Absences, in.Now = p.Absences, p.NextLook
	require.Equal(t, in.Readable.Add(40*time.Second), in.Now)
	require.Equal(t, "delete x(a)", short(Make(in)))

	// Nor does a name or an address change hands.
	require.Equal(t, "blocked x(b) by absent", short(Make(young([]Desired{wish("b", "x")}, own("a", "x")))))
	p = Make(young([]Desired{wish("b", "y")}, own("a", "x")))
	require.Equal(t, "create y(b), blocked x(a) by absent", short(p))
	require.Equal(t, "b", p.Actions[1].Misleads, "but whoever is misled by that is told of")

	// What is known all the same: who is there and asks for another name.
	require.Equal(t, "update x(b), update y(a)",
		short(Make(young([]Desired{wish("a", "y"), wish("b", "x")}, own("a", "x"), own("b", "y")))))

	in = young(nil, own("a", "x"))
	in.Settled = true
	p = Make(in)
	require.Equal(t, "delete x(a)", short(p), "a preview shows what will be")
	require.Contains(t, fmt.Sprint(p.Actions[0].Gates), "and 10s, once the agent has had the source for 30s (settle)")

	in = young(nil, own("a", "x"))
	in.Readable, in.Lost = noon, true
	p = Make(in)
	require.Equal(t, "blocked x(a) by absent", short(p))
	require.Contains(t, p.Actions[0].Reason, "its events are lost")
	require.True(t, p.Settling)
	require.Zero(t, p.Settles, "time alone doesn't do it")
	require.Zero(t, p.NextLook)
}
