package plan

import (
	"errors"
	"fmt"
	"math/rand/v2"
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
			name: "from one that is gone", desired: []Desired{public("b", "two", x)},
			actual: []resource.Resource{reached(own("a", "one"), x)}, want: "create two(b), delete one(a)",
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
			actual: []resource.Resource{reached(own("a", "one"), x)}, want: "create two(b), update one(a)",
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

	p = Make(input([]Desired{public("a", "one", x)}, reached(app("theirs", "http://10.0.0.9:80", nil), x)))
	require.Contains(t, p.Actions[0].Reason, "app/theirs has the public_addr x.example.com, too: it carries no owner mark")
	require.Equal(t, 3, p.ExitCode())
}

// Whatever is asked for, in whatever order: no plan gives a public address to a
// second one, and in the end everybody has it whom nobody disputes it.
func TestNoPlanDoublesAPublicAddress(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	pick := func(letters string) string { return string(letters[random.IntN(len(letters))]) }
	doubled := 0
	for range 1000 {
		registered := map[resource.Key]resource.Resource{}
		if random.IntN(3) == 0 {
			r := reached(app("n", "http://10.0.0.9:80", nil), pick("xyz"))
			registered[r.Key()] = r
		}
		for range 12 {
			var wishes []Desired
			for _, workload := range "abcd" {
				if random.IntN(4) > 0 {
					wishes = append(wishes, public(string(workload), pick("klmn"), pick("xyz")))
				}
			}
			random.Shuffle(len(wishes), func(i, j int) { wishes[i], wishes[j] = wishes[j], wishes[i] })
			var actual []resource.Resource
			for _, r := range registered {
				actual = append(actual, r)
			}
			in := input(wishes, actual...)
			if random.IntN(2) == 0 {
				in.Absences = nil
			}
			p := Make(in)
			for _, a := range p.Actions {
				switch a.Op {
				case OpCreate, OpUpdate:
					registered[a.Key] = *a.After
				case OpDelete:
					delete(registered, a.Key)
				}
			}
			has := map[string]resource.Resource{}
			for _, r := range registered {
				addr := publicAddr(&r)
				if other, twice := has[addr]; twice && other.Workload() != r.Workload() {
					t.Fatalf("%s and %s both have %s\nasked for: %v\nregistered before: %v\nplan: %s", other.Key(), r.Key(), addr, told(wishes), actual, short(p))
				} else if twice {
					doubled++ // a rename, until the old name goes
				}
				has[addr] = r
			}
		}
	}
	require.NotZero(t, doubled)
}

func told(wishes []Desired) string {
	text := ""
	for _, d := range wishes {
		text += fmt.Sprintf("%s asks for %s at %s; ", d.Workload, d.Resource.Name, publicAddr(&d.Resource))
	}
	return text
}
