package plan

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"rollcall/discovery/resource"
)

// public is a workload that asks for an application with a public address.
func public(workload, name, addr string) Desired {
	d := wish(workload, name)
	d.Resource = reached(d.Resource, addr)
	return d
}

func reached(r resource.Resource, addr string) resource.Resource {
	spec := r.Spec.(resource.AppSpec)
	spec.PublicAddr = addr
	r.Spec = spec
	return r
}

// TestPublicAddresses is the table over public addresses: they're claimed as names
// are.
func TestPublicAddresses(t *testing.T) {
	const x, y = "x.example.com", "y.example.com"
	foreign := reached(app("theirs", "http://10.0.0.9:80", nil), "X.Example.com.")
	broken := Desired{Workload: "a", Err: errors.New("no port")}
	kept := with(reached(at(own("a", "one"), "http://10.0.0.9:80"), x), resource.LabelKeep, "true")
	for _, test := range []struct {
		name    string
		desired []Desired
		actual  []resource.Resource
		policy  Policy
		fresh   bool // nothing has been absent before
		want    string
	}{
		{name: "one of its own", desired: []Desired{public("a", "one", x), public("b", "two", y)}, want: "create one(a), create two(b)"},
		{name: "Teleport's default is nobody's", desired: []Desired{wish("a", "one"), wish("b", "two")}, want: "create one(a), create two(b)"},
		{
			name: "two ask for it: neither gets it", desired: []Desired{public("a", "one", x), public("b", "two", "X.example.COM"), wish("c", "three")},
			want: "create three(c), conflict one(a), conflict two(b)",
		},
		{
			name: "the one that has it keeps it", desired: []Desired{public("b", "two", x), public("a", "one", x)},
			actual: []resource.Resource{reached(own("a", "one"), x)}, want: "conflict one(a), conflict two(b)",
		},
		{
			name: "and is kept right", desired: []Desired{public("b", "two", x), public("a", "one", x)},
			actual: []resource.Resource{at(own("b", "two"), "http://10.0.0.1:80"), reached(at(own("a", "one"), "http://10.0.0.9:80"), x)},
			want:   "update one(a), conflict one(a), conflict two(b)",
		},
		{
			name: "somebody else has it", desired: []Desired{public("a", "one", x)}, actual: []resource.Resource{foreign},
			want: "conflict one(a)",
		},
		{
			name: "another service of ours has it", desired: []Desired{public("a", "one", x)},
			actual: []resource.Resource{reached(marked(us, "file/rabbit", "f", "filed"), x)}, want: "conflict one(a)",
		},
		{
			name: "what is registered stays when it wants that of somebody else", desired: []Desired{public("a", "one", x)},
			actual: []resource.Resource{reached(own("a", "one"), y), foreign}, want: "conflict one(a)",
		},
		{
			name: "somebody takes what is ours: it stays, and is told", desired: []Desired{public("a", "one", x)},
			actual: []resource.Resource{reached(own("a", "one"), x), foreign}, want: "conflict one(a)",
		},
		{
			name: "a rename takes its address along", desired: []Desired{public("a", "new", x)},
			actual: []resource.Resource{reached(own("a", "old"), x)}, want: "create new(a), delete old(a)",
		},
		{
			name: "from one that is gone, when that is deleted", desired: []Desired{public("b", "two", x)},
			actual: []resource.Resource{reached(own("a", "one"), x)}, want: "delete one(a), blocked two(b) by address",
		},
		{
			name: "but not at once", desired: []Desired{public("b", "two", x)}, fresh: true,
			actual: []resource.Resource{reached(at(own("a", "one"), "http://10.0.0.9:80"), x)}, want: "blocked one(a) by absent, blocked two(b) by absent",
		},
		{
			name: "nor from one that is kept", desired: []Desired{public("b", "two", x)},
			actual: []resource.Resource{kept}, want: "blocked one(a) by keep, blocked two(b) by keep",
		},
		{
			name: "nor where nothing is deleted", desired: []Desired{public("b", "two", x)}, policy: PolicyUpsertOnly,
			actual: []resource.Resource{reached(own("a", "one"), x)}, want: "blocked one(a) by policy, blocked two(b) by policy",
		},
		{
			name: "nor from one that can't be read", desired: []Desired{broken, public("b", "two", x)},
			actual: []resource.Resource{reached(own("a", "one"), x)}, want: "blocked (a) by workload, blocked one(a) by absent, blocked two(b) by absent",
		},
		{
			name: "from one that asks for another", desired: []Desired{public("a", "one", y), public("b", "two", x)}, fresh: true,
			actual: []resource.Resource{reached(own("a", "one"), x)}, want: "update one(a), blocked two(b) by address",
		},
		{
			name: "along a chain, one after the other", fresh: true,
			desired: []Desired{public("a", "one", y), public("b", "two", "z.example.com"), public("c", "three", x)},
			actual:  []resource.Resource{reached(own("a", "one"), x), reached(own("b", "two"), y), own("c", "three")},
			want:    "update two(b), blocked one(a) by address, blocked three(c) by address",
		},
		{
			name: "but not if it can't have that", fresh: true,
			desired: []Desired{public("a", "one", y), public("b", "two", x)},
			actual:  []resource.Resource{reached(own("a", "one"), x), reached(app("theirs", "http://10.0.0.9:80", nil), y)},
			want:    "conflict one(a), conflict two(b)",
		},
		{
			name: "nor where nothing is updated", policy: PolicyCreateOnly, fresh: true,
			desired: []Desired{public("a", "one", y), public("b", "two", x)},
			actual:  []resource.Resource{reached(own("a", "one"), x)}, want: "conflict two(b), blocked one(a) by policy",
		},
		{
			name: "two swap theirs", desired: []Desired{public("a", "one", y), public("b", "two", x)}, fresh: true,
			actual: []resource.Resource{reached(own("a", "one"), x), reached(own("b", "two"), y)}, want: "update one(a), update two(b)",
		},
		{
			name: "two swap names and addresses", desired: []Desired{public("a", "two", y), public("b", "one", x)}, fresh: true,
			actual: []resource.Resource{reached(own("a", "one"), x), reached(own("b", "two"), y)}, want: "update one(b), update two(a)",
		},
		{
			name: "one takes a name and another the address", fresh: true,
			desired: []Desired{public("a", "new", y), public("c", "one", "z.example.com"), public("b", "two", x)},
			actual:  []resource.Resource{reached(own("a", "one"), x)},
			want:    "create new(a), update one(c), blocked two(b) by address",
		},
		{
			name: "a chain that ends at one that stays moves nothing", fresh: true,
			desired: []Desired{public("c", "three", x), public("a", "one", y), public("b", "two", "z.example.com")},
			actual: []resource.Resource{
				reached(own("a", "one"), x), reached(own("b", "two"), y), reached(app("theirs", "http://10.0.0.9:80", nil), "z.example.com"),
			},
			want: "conflict one(a), conflict three(c), conflict two(b)",
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

func TestPublicAddressesTellWhy(t *testing.T) {
	const x = "x.example.com"
	p := Make(input([]Desired{public("a", "one", x), public("b", "two", x)}))
	require.Equal(t, `2 workloads ask for the public_addr x.example.com, another is "b" for app/two: give one of them another`, p.Actions[0].Reason)
	require.Contains(t, p.Actions[1].Reason, `another is "a" for app/one`)

	p = Make(input([]Desired{public("a", "one", x), public("b", "two", x)}, reached(own("a", "one"), x)))
	require.True(t, p.Actions[0].Holds)
	require.Contains(t, p.Actions[1].Reason, "which has it and keeps it")
	p = Make(input([]Desired{public("a", "new", x), public("b", "two", x)}, reached(own("a", "old"), x)))
	require.Contains(t, p.Actions[len(p.Actions)-1].Reason, `another is "a" for app/new, which has it for app/old and keeps it`)

	p = Make(input([]Desired{public("a", "one", x)}, reached(app("theirs", "http://10.0.0.9:80", nil), x)))
	require.Contains(t, p.Actions[0].Reason, "app/theirs has the public_addr x.example.com, too: it carries no owner mark")
	require.Equal(t, 3, p.ExitCode())
}

// Nor is one given away while the agent before the newest serves with it. Its own
// workload may ask for it again, under whatever name.
func TestAPublicAddressThatIsServedStill(t *testing.T) {
	const x, y = "x.example.com", "y.example.com"
	plan := func(wishes ...Desired) Plan {
		in := input(wishes, reached(own("a", "one"), y))
		in.Outgoing = []resource.Resource{reached(own("a", "one"), x)}
		return Make(in)
	}
	p := plan(public("a", "one", y), public("b", "two", x))
	require.Equal(t, "blocked two(b) by address", short(p))
	require.Equal(t, `the public_addr x.example.com is still that of app/one ("a"), which gives it up first`, p.Actions[0].Reason)
	require.True(t, p.Actions[0].Waiting)
	require.Empty(t, p.Troubles())
	require.Equal(t, "update one(a)", short(plan(public("a", "one", x))))
	require.Equal(t, "create three(a), delete one(a)", short(plan(public("a", "three", x))))

	in := input([]Desired{public("b", "two", x)}, reached(own("a", "one"), y), app("two", "http://10.0.0.2:80", nil))
	in.Outgoing = []resource.Resource{reached(own("a", "one"), x)}
	_, err := Adopt(in, in.Desired[0].Resource.Key(), "")
	require.ErrorContains(t, err, "the public_addr x.example.com, which app/one has already")
}

// An address moves when who had it has given it up, not when that is planned.
func TestAPublicAddressMovesAfterItsHolder(t *testing.T) {
	const x, y = "x.example.com", "y.example.com"
	wishes := []Desired{public("a", "one", y), public("b", "two", x)}
	p := Make(input(wishes, reached(own("a", "one"), x)))
	require.Equal(t, "update one(a), blocked two(b) by address", short(p))
	require.Equal(t, `the public_addr x.example.com is still that of app/one ("a"), which gives it up first`, p.Actions[1].Reason)
	require.True(t, p.Follows, "so the next look is at once, if this one worked")
	require.Empty(t, p.Troubles())
	require.Equal(t, 2, p.ExitCode())

	p = Make(input(wishes, *p.Actions[0].After))
	require.Equal(t, "create two(b)", short(p))
	require.False(t, p.Follows)
}

// Two that swap theirs have none in between: whichever of the writes fails, nobody's
// users reach the other.
func TestASwapOfPublicAddresses(t *testing.T) {
	const x, y = "x.example.com", "y.example.com"
	wishes := []Desired{public("a", "one", y), public("b", "two", x)}
	p := Make(input(wishes, reached(own("a", "one"), x), reached(own("b", "two"), y)))
	require.Equal(t, "update one(a), update two(b)", short(p))
	require.True(t, p.Follows)
	one, two := p.Actions[0].After, p.Actions[1].After
	require.Empty(t, publicAddr(one))
	require.Empty(t, publicAddr(two))
	require.Contains(t, p.Actions[0].Reason, "; without its public_addr y.example.com until who has that has given it up")

	p = Make(input(wishes, *one, reached(own("b", "two"), y)))
	require.Equal(t, "update two(b), blocked one(a) by address", short(p), "if one of them failed")
	require.Equal(t, x, publicAddr(p.Actions[0].After))

	p = Make(input(wishes, *one, *two))
	require.Equal(t, "update one(a), update two(b)", short(p))
	require.Equal(t, y, publicAddr(p.Actions[0].After))
	require.False(t, p.Follows)
}

// What the budget keeps keeps its address, too; what waits for that is no deletion.
func TestAFrozenPublicAddress(t *testing.T) {
	var wishes []Desired
	var actual []resource.Resource
	for i := range 12 {
		name, addr := fmt.Sprint("n", i), fmt.Sprintf("a%d.example.com", i)
		wishes = append(wishes, public("new-"+name, "new-"+name, addr))
		actual = append(actual, reached(at(own(name, name), "http://10.0.0.9:80"), addr))
	}
	p := Make(input(wishes, actual...))
	require.True(t, p.Budget.Frozen)
	require.False(t, p.Changes(), short(p))
	require.Equal(t, 24, p.Count(OpBlocked))
	hash := Make(input(nil, actual...)).Hash()
	require.Equal(t, hash, p.Hash(), "the same deletions, whoever waits for them")
	for _, a := range p.Actions {
		require.Equal(t, GateBudget, a.BlockedBy)
		require.False(t, a.Waiting)
		require.False(t, a.Alarms(), a.Reason)
	}
	require.Contains(t, p.Actions[12].Reason, `the public_addr a0.example.com is still that of app/n0 ("n0"), which gives it up first: not deleted: deletions are frozen`)

	history, approved := History{}.Acknowledge(p, p.Hash())
	require.True(t, approved)
	require.Len(t, history.Acknowledged, 12)
	in := input(wishes, actual...)
	in.History = history
	p = Make(in)
	require.Equal(t, 12, p.Count(OpDelete))
	require.Equal(t, 12, p.Count(OpBlocked))
	require.True(t, p.Follows)
}

// Whoever has a public address that another is registered with, too, is told, and
// that is an alarm: users may reach the other.
func TestASharedPublicAddressIsAnAlarm(t *testing.T) {
	const x = "x.example.com"
	theirs := reached(app("theirs", "http://10.0.0.9:80", nil), x)
	kept := with(reached(at(own("a", "one"), "http://10.0.0.9:80"), x), resource.LabelKeep, "true")
	for _, test := range []struct {
		name    string
		desired []Desired
		actual  []resource.Resource
		want    string
		shares  map[string]string
	}{
		{
			name: "with somebody else's", desired: []Desired{public("a", "one", x)}, actual: []resource.Resource{reached(own("a", "one"), x), theirs},
			want: "conflict one(a)", shares: map[string]string{"one": "app/theirs"},
		},
		{
			name: "with somebody else's, in dispute by name, too", desired: []Desired{public("a", "one", x), public("b", "one", "y")},
			actual: []resource.Resource{reached(own("a", "one"), x), theirs},
			want:   "conflict one(a), conflict one(a), conflict one(b)", shares: map[string]string{"one": "app/theirs"},
		},
		{
			name: "of what nobody asks for and is kept", actual: []resource.Resource{kept, theirs},
			want: "blocked one(a) by keep", shares: map[string]string{"one": "app/theirs"},
		},
		{
			name: "with what is kept", desired: []Desired{public("b", "two", x)}, actual: []resource.Resource{kept, reached(own("b", "two"), x)},
			want: "blocked one(a) by keep", shares: map[string]string{"one": "app/two"},
		},
		{
			name: "two of ours", desired: []Desired{public("a", "one", x), public("b", "two", x)},
			actual: []resource.Resource{reached(own("a", "one"), x), reached(own("b", "two"), x)},
			want:   "conflict one(a), conflict two(b)", shares: map[string]string{"one": "app/two", "two": "app/one"},
		},
		{
			name: "two of ours, of which one asks for another name", desired: []Desired{public("a", "one", x), public("b", "new", x)},
			actual: []resource.Resource{reached(own("a", "one"), x), reached(own("b", "old"), x)},
			want:   "create new(b), delete old(b), conflict new(b), conflict one(a)", shares: map[string]string{"new": "app/one", "one": "app/old"},
		},
		{
			name: "and has that already, but keeps the old", desired: []Desired{public("a", "one", x), public("b", "new", x)},
			actual: []resource.Resource{reached(own("a", "one"), x), reached(own("b", "new"), x), with(reached(own("b", "old"), x), resource.LabelKeep, "true")},
			want:   "conflict new(b), conflict one(a), blocked old(b) by keep", shares: map[string]string{"new": "app/one", "one": "app/new", "old": "app/one"},
		},
		{
			name: "not with what goes", desired: []Desired{public("b", "two", x)}, actual: []resource.Resource{reached(at(own("a", "one"), "http://10.0.0.9:80"), x), reached(own("b", "two"), x)},
			want: "delete one(a)",
		},
		{
			name: "not with the own old name", desired: []Desired{public("a", "new", x)},
			actual: []resource.Resource{with(reached(own("a", "one"), x), resource.LabelKeep, "true"), reached(own("a", "new"), x)}, want: "blocked one(a) by keep",
		},
		{
			name: "not if it's only asked for", desired: []Desired{public("a", "one", x), public("b", "two", x)},
			actual: []resource.Resource{reached(own("a", "one"), x)}, want: "conflict one(a), conflict two(b)",
			shares: map[string]string{},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := Make(input(test.desired, test.actual...))
			require.Equal(t, test.want, short(p))
			told := map[string]string{}
			for _, a := range p.Troubles() {
				if a.Alarms() {
					require.Empty(t, told[a.Key.Name], "said once")
					told[a.Key.Name] = a.Shares
				}
			}
			if test.shares == nil {
				test.shares = map[string]string{}
			}
			require.Equal(t, test.shares, told)
			require.Equal(t, len(told), p.Misleading())
		})
	}
}
