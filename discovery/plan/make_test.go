package plan

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rollcall/discovery/resource"
)

// TestDecisions is the table over Make, line by line.
func TestDecisions(t *testing.T) {
	broken := Desired{Workload: "a", Err: errors.New("a: the template of uri fails")}
	keep := wish("a", "x")
	keep.Keep = true
	for _, test := range []struct {
		name    string
		desired []Desired
		actual  []resource.Resource
		policy  Policy
		fresh   bool // nothing has been absent before
		want    string
	}{
		{name: "nothing at all", want: ""},
		{name: "new", desired: []Desired{wish("a", "x")}, want: "create x(a)"},
		{name: "the same", desired: []Desired{wish("a", "x")}, actual: []resource.Resource{own("a", "x")}, want: ""},
		{
			name: "another address is an update", desired: []Desired{wish("a", "x")},
			actual: []resource.Resource{at(own("a", "x"), "http://10.0.0.9:80")}, want: "update x(a)",
		},
		{
			name: "Teleport's own labels are no difference", desired: []Desired{wish("a", "x")},
			actual: []resource.Resource{with(own("a", "x"), "teleport.dev/origin", "dynamic")}, want: "",
		},
		{
			name: "a label too many is", desired: []Desired{wish("a", "x")},
			actual: []resource.Resource{with(own("a", "x"), "env", "prod")}, want: "update x(a)",
		},
		{
			name: "a person's keep mark isn't", desired: []Desired{wish("a", "x")},
			actual: []resource.Resource{with(own("a", "x"), resource.LabelKeep, "true")}, want: "",
		},
		{
			name: "keep is put on", desired: []Desired{keep},
			actual: []resource.Resource{own("a", "x")}, want: "update x(a)",
		},
		{
			name: "somebody's without a mark", desired: []Desired{wish("a", "x")},
			actual: []resource.Resource{app("x", "http://10.0.0.1:80", nil)}, want: "conflict x(a)",
		},
		{
			name: "another agent's", desired: []Desired{wish("a", "x")},
			actual: []resource.Resource{marked("bot/other/rabbit", source, "a", "x")}, want: "conflict x(a)",
		},
		{
			name: "another source's", desired: []Desired{wish("a", "x")},
			actual: []resource.Resource{marked(us, "file/rabbit", "a", "x")}, want: "conflict x(a)",
		},
		{name: "gone", actual: []resource.Resource{own("a", "x")}, want: "delete x(a)"},
		{name: "gone just now", actual: []resource.Resource{own("a", "x")}, fresh: true, want: "blocked x(a) by absent"},
		{
			name:   "what isn't ours is never swept",
			actual: []resource.Resource{app("x", "http://10.0.0.1:80", nil), marked("bot/other/rabbit", source, "a", "y"), marked(us, "file/rabbit", "a", "z")},
			want:   "",
		},
		{
			name: "a new name: first create, then delete", desired: []Desired{wish("a", "new")},
			actual: []resource.Resource{own("a", "old")}, want: "create new(a), delete old(a)",
		},
		{
			name: "a new name that is taken: the old one stays", desired: []Desired{wish("a", "new")},
			actual: []resource.Resource{own("a", "old"), app("new", "http://10.0.0.1:80", nil)},
			want:   "conflict new(a), blocked old(a) by absent",
		},
		{
			name: "two workloads ask for one name: neither gets it", desired: []Desired{wish("a", "x"), wish("b", "x")},
			want: "conflict x(a), conflict x(b)",
		},
		{
			name: "the one that has it keeps it", desired: []Desired{wish("b", "x"), wish("a", "x")},
			actual: []resource.Resource{own("a", "x")}, want: "conflict x(a), conflict x(b)",
		},
		{
			name: "and keeps its address right", desired: []Desired{wish("b", "x"), wish("a", "x")},
			actual: []resource.Resource{at(own("a", "x"), "http://10.0.0.9:80")}, want: "update x(a), conflict x(a), conflict x(b)",
		},
		{
			name: "two ask for the name of one that is gone: it stays", desired: []Desired{wish("b", "x"), wish("c", "x")},
			actual: []resource.Resource{own("a", "x")}, want: "conflict x(b), conflict x(c)",
		},
		{
			name: "one identity, two wishes", desired: []Desired{wish("a", "x"), wish("a", "y")},
			actual: []resource.Resource{own("a", "x")}, want: "conflict x(a), conflict y(a)",
		},
		{
			name: "one identity, one wish, told twice", desired: []Desired{wish("a", "x"), wish("a", "x")},
			want: "create x(a)",
		},
		{
			name: "a name taken over from one that is gone", desired: []Desired{wish("b", "x")},
			actual: []resource.Resource{own("a", "x")}, want: "update x(b)",
		},
		{
			name: "but not at once", desired: []Desired{wish("b", "x")},
			actual: []resource.Resource{own("a", "x")}, fresh: true, want: "blocked x(b) by absent",
		},
		{
			name: "nor if it's to be kept", desired: []Desired{wish("b", "x")},
			actual: []resource.Resource{with(own("a", "x"), resource.LabelKeep, "true")}, want: "blocked x(b) by keep",
		},
		{
			name: "nor from one that can't be read", desired: []Desired{broken, wish("b", "x")},
			actual: []resource.Resource{own("a", "x")}, want: "blocked (a) by workload, blocked x(b) by absent",
		},
		{
			name: "two workloads swap names", desired: []Desired{wish("a", "y"), wish("b", "x")},
			actual: []resource.Resource{own("a", "x"), own("b", "y")}, fresh: true, want: "update x(b), update y(a)",
		},
		{
			name: "a name moves on only if the one that had it gets its next", desired: []Desired{wish("a", "x"), wish("b", "y")},
			actual: []resource.Resource{own("b", "x"), own("c", "y")}, fresh: true,
			want: "blocked x(a) by absent, blocked y(b) by absent",
		},
		{
			name: "a workload that can't be read keeps what it has", desired: []Desired{broken},
			actual: []resource.Resource{own("a", "x")}, want: "blocked (a) by workload, blocked x(a) by absent",
		},
		{
			name: "no identity", desired: []Desired{wish("", "x")}, want: "blocked x() by workload",
		},
		{
			name: "upsert-only", policy: PolicyUpsertOnly, desired: []Desired{wish("a", "x"), wish("b", "y")},
			actual: []resource.Resource{at(own("a", "x"), "http://10.0.0.9:80"), own("c", "z")},
			want:   "create y(b), update x(a), blocked z(c) by policy",
		},
		{
			name: "create-only", policy: PolicyCreateOnly, desired: []Desired{wish("a", "x"), wish("b", "y")},
			actual: []resource.Resource{at(own("a", "x"), "http://10.0.0.9:80"), own("c", "z")},
			want:   "create y(b), blocked x(a) by policy, blocked z(c) by policy",
		},
		{
			name: "create-only takes no name over", policy: PolicyCreateOnly, desired: []Desired{wish("b", "x")},
			actual: []resource.Resource{own("a", "x")}, want: "blocked x(b) by policy",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			in := input(test.desired, test.actual...)
			in.Policy = test.policy
			if test.fresh {
				in.Absences = nil
			}
			require.Equal(t, test.want, short(Make(in)))
		})
	}
}

func TestMarksCantBeForged(t *testing.T) {
	d := wish("a", "x")
	d.Resource.Labels = map[string]string{
		"env": "prod", resource.LabelOwner: "somebody", resource.LabelKeep: "true", "teleport.dev/origin": "config-file",
	}
	p := Make(input([]Desired{d}))
	require.Equal(t, map[string]string{
		"env": "prod", resource.LabelOwner: us, resource.LabelSource: source, resource.LabelWorkload: "a",
	}, p.Actions[0].After.Labels)

	p = Make(input([]Desired{d}, *p.Actions[0].After))
	require.Empty(t, p.Actions, "and what was dropped is no difference")
}

func TestActionsSayWhatChanges(t *testing.T) {
	p := Make(input([]Desired{wish("a", "x")}, with(at(own("a", "x"), "http://10.0.0.9:80"), "env", "prod")))
	require.Equal(t, []resource.Change{
		{Field: "labels.env", Before: "prod"},
		{Field: "spec.uri", Before: "http://10.0.0.9:80", After: "http://10.0.0.1:80"},
	}, p.Actions[0].Changes)
	require.Equal(t, "http://10.0.0.9:80", p.Actions[0].Before.Spec.(resource.AppSpec).URI)
}

func TestARenameWaitsForItsNewName(t *testing.T) {
	p := Make(input([]Desired{wish("a", "new")}, own("a", "old")))
	require.Equal(t, resource.Key{Kind: resource.KindApp, Name: "new"}, p.Actions[1].Needs)
}

func TestConflictTellsBoth(t *testing.T) {
	p := Make(input([]Desired{wish("a", "x"), wish("b", "x")}))
	require.Contains(t, p.Actions[0].Reason, `another is "b"`)
	require.Contains(t, p.Actions[1].Reason, `another is "a"`)
	require.Equal(t, 3, p.ExitCode())
}

// Whoever has a name keeps it, and both are told: who came later that he can't have
// it, and who has it that another asks for it.
func TestADisputeLeavesWhatIsRegistered(t *testing.T) {
	for _, order := range [][]Desired{{wish("a", "x"), wish("b", "x")}, {wish("b", "x"), wish("a", "x")}} {
		p := Make(input(order, own("a", "x")))
		require.Equal(t, "conflict x(a), conflict x(b)", short(p))
		holder, late := p.Actions[0], p.Actions[1]
		require.True(t, holder.Holds)
		require.Contains(t, holder.Reason, `another is "b"`)
		require.Contains(t, holder.Reason, "stays")
		require.False(t, late.Holds)
		require.Contains(t, late.Reason, `another is "a", which has it and keeps it`)
		require.Equal(t, 1, p.Unchanged)
		require.Equal(t, 1, p.Conflicts())
		require.Equal(t, 3, p.ExitCode())
		require.Empty(t, p.Absences, "nobody's time runs out")
	}
}

func TestExitCodes(t *testing.T) {
	require.Equal(t, 0, Make(input(nil)).ExitCode())
	require.Equal(t, 0, Make(input(nil, with(own("a", "x"), resource.LabelKeep, "true"))).ExitCode(), "kept on purpose")
	require.Equal(t, 2, Make(input([]Desired{wish("a", "x")})).ExitCode())
	require.Equal(t, 2, Make(input(nil, own("a", "x"))).ExitCode())
	fresh := input(nil, own("a", "x"))
	fresh.Absences = nil
	require.Equal(t, 2, Make(fresh).ExitCode(), "only time is missing")
	require.Equal(t, 3, Make(input([]Desired{wish("a", "x")}, app("x", "", nil))).ExitCode())
}

func TestLeases(t *testing.T) {
	const ttl = 30 * time.Minute
	expiring := func(r resource.Resource, in time.Duration) resource.Resource {
		r.Expires = noon.Add(in)
		return r
	}
	lease := func(desired []Desired, actual ...resource.Resource) Input {
		in := input(desired, actual...)
		in.TTL = ttl
		return in
	}
	t.Run("created with an end", func(t *testing.T) {
		p := Make(lease([]Desired{wish("a", "x")}))
		require.Equal(t, noon.Add(ttl), p.Actions[0].After.Expires)
	})
	t.Run("left alone for a third of its life", func(t *testing.T) {
		p := Make(lease([]Desired{wish("a", "x")}, expiring(own("a", "x"), 25*time.Minute)))
		require.Empty(t, p.Actions)
		require.Equal(t, noon.Add(5*time.Minute), p.NextLook)
	})
	t.Run("then refreshed", func(t *testing.T) {
		p := Make(lease([]Desired{wish("a", "x")}, expiring(own("a", "x"), 20*time.Minute)))
		require.Equal(t, "update x(a)", short(p))
		require.True(t, p.Actions[0].Refresh)
		require.Equal(t, noon.Add(ttl), p.Actions[0].After.Expires)
	})
	t.Run("one that is to be kept has no end", func(t *testing.T) {
		p := Make(lease(nil, expiring(with(own("a", "x"), resource.LabelKeep, "true"), 25*time.Minute)))
		require.Equal(t, "update x(a), blocked x(a) by keep", short(p))
		require.Zero(t, p.Actions[0].After.Expires)
	})
	t.Run("without the mode an end is taken off", func(t *testing.T) {
		p := Make(input([]Desired{wish("a", "x")}, expiring(own("a", "x"), 25*time.Minute)))
		require.Equal(t, "update x(a)", short(p))
	})
	t.Run("another's is never refreshed", func(t *testing.T) {
		require.Empty(t, Make(lease(nil, expiring(marked("other", source, "a", "x"), time.Minute))).Actions)
	})
	// A lease that runs out is a deletion that no gate has seen, so whatever
	// keeps a resource from being deleted keeps it alive.
	t.Run("what a gate protects is refreshed", func(t *testing.T) {
		old := expiring(own("a", "x"), time.Minute)
		for gate, set := range map[Gate]func(*Input){
			GateSource:    func(in *Input) { in.Failed = true },
			GateFirstRead: func(in *Input) { in.GoodReads = 0 },
			GateAbsent:    func(in *Input) { in.Absences = nil },
			GatePolicy:    func(in *Input) { in.Policy = PolicyCreateOnly },
		} {
			in := lease(nil, old)
			set(&in)
			require.Equal(t, "update x(a), blocked x(a) by "+string(gate), short(Make(in)))
		}
		in := lease([]Desired{{Workload: "a", Err: errors.New("no port")}}, old)
		require.Equal(t, "update x(a), blocked (a) by workload, blocked x(a) by absent", short(Make(in)))
		in = lease([]Desired{wish("b", "x"), wish("c", "x")}, old)
		require.Equal(t, "update x(a), conflict x(b), conflict x(c)", short(Make(in)))
	})
	t.Run("what the budget protects is refreshed", func(t *testing.T) {
		var actual []resource.Resource
		for i := range 20 {
			actual = append(actual, expiring(own(fmt.Sprint("w", i), fmt.Sprint("x", i)), time.Minute))
		}
		p := Make(lease(nil, actual...))
		require.Equal(t, 20, p.Count(OpUpdate))
		require.Equal(t, 20, p.Blocked[GateBudget])
	})
}

func TestNextLookSpreadsTheReads(t *testing.T) {
	in := input(nil, own("a", "x"))
	in.Absences = nil
	in.Guard.AbsentReads, in.Guard.AbsentFor = 3, 10*time.Second
	p := Make(in)
	require.Equal(t, noon.Add(5*time.Second), p.NextLook)
	in.Absences, in.Now = p.Absences, p.NextLook
	p = Make(in)
	require.Equal(t, noon.Add(10*time.Second), p.NextLook)
	in.Absences, in.Now = p.Absences, p.NextLook
	p = Make(in)
	require.Equal(t, "delete x(a)", short(p))
	require.Zero(t, p.NextLook)
}

func TestAbsenceEndsWithTheNextWish(t *testing.T) {
	in := input(nil, own("a", "x"))
	in.Absences = nil
	in.Absences = Make(in).Absences
	in.Desired, in.Now = []Desired{wish("a", "x")}, noon.Add(time.Minute)
	in.Absences = Make(in).Absences
	require.Empty(t, in.Absences)
	in.Desired, in.Now = nil, noon.Add(2*time.Minute)
	require.Equal(t, "blocked x(a) by absent", short(Make(in)), "it counts from the start again")
}

func TestHashNamesTheDeletions(t *testing.T) {
	in := input(nil, own("a", "x"), own("b", "y"))
	hash := Make(in).Hash()
	require.Len(t, hash, 32)
	in.Actual = []resource.Resource{own("b", "y"), own("a", "x")}
	in.Desired = []Desired{wish("c", "z")}
	in.Now = noon.Add(time.Hour)
	require.Equal(t, hash, Make(in).Hash(), "the same set, planned another time and in another order")
	in.Actual = in.Actual[1:]
	require.NotEqual(t, hash, Make(in).Hash())
	require.Empty(t, Make(input(nil)).Hash())
}

// A registry that names one key twice is wrong, and a write could hit either.
func TestARegistrysTwinsAreLeftAlone(t *testing.T) {
	in := input(nil, own("a", "x"), own("b", "x"), own("c", "y"))
	require.Equal(t, "delete y(c), conflict x(a), conflict x(b)", short(Make(in)))
	require.Equal(t, "delete y(c), conflict x(a), conflict x(b)", short(Purge(in)))
	in.Desired = []Desired{wish("b", "x")}
	in.TTL = time.Hour // and none of them is refreshed
	require.NotContains(t, short(Make(in)), "update x")
	require.NotContains(t, short(Make(in)), "delete x")
}
