// Package plan knows how the resources that are registered are to be changed
// until they are what is wanted, and why; and which deletions must not be done.
// It's pure: it knows no clock, no network, no log, and neither Docker nor
// Teleport. Two snapshots, the policy and the guards' state go in; a list of
// actions with their reasons comes out.
package plan

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"time"

	"rollcall/discovery/resource"
)

// Op is what is done with one resource.
type Op string

// The operations, in the order in which they're applied and shown.
const (
	OpCreate Op = "create"
	OpUpdate Op = "update"
	OpDelete Op = "delete"
	// OpConflict: the name is another's, or two workloads claim it. Nothing is
	// done until somebody settles it.
	OpConflict Op = "conflict"
	// OpBlocked: a gate stands before it.
	OpBlocked Op = "blocked"
	// OpNothing: it's as it should be. Only listed if asked for.
	OpNothing Op = "nothing"
)

// rank is the order of operations.
func (o Op) rank() int {
	return slices.Index([]Op{OpCreate, OpUpdate, OpDelete, OpConflict, OpBlocked, OpNothing}, o)
}

// Action is what is to be done with one resource, and why.
type Action struct {
	Op Op `json:"op"`
	// Key names the resource; it has no name if the workload asks for none
	// that could be read.
	Key resource.Key `json:"key"`
	// Workload is the identity of the workload that asks for it, or that it
	// was registered for.
	Workload string `json:"workload,omitempty"`
	// Before is what is registered now; nil: nothing of ours.
	Before *resource.Resource `json:"before,omitempty"`
	// After is what is to be registered; nil: nothing.
	After *resource.Resource `json:"after,omitempty"`
	// Changes are the differences, for people.
	Changes []resource.Change `json:"changes,omitempty"`
	// Reason is one sentence.
	Reason string `json:"reason"`
	// BlockedBy is the first gate that didn't open.
	BlockedBy Gate `json:"blocked_by,omitempty"`
	// Waiting says that time alone will open that gate.
	Waiting bool `json:"waiting,omitempty"`
	// Away says that it's as it should be, but that its agent isn't there: it was,
	// and it comes back, or is replaced.
	Away bool `json:"away,omitempty"`
	// Wanted says that it's blocked because the configuration or a person asked
	// for that (policy, keep): nothing is wrong.
	Wanted bool `json:"wanted,omitempty"`
	// Holds says of a conflict that this workload is the one that has what is in
	// dispute, and keeps it.
	Holds bool `json:"holds,omitempty"`
	// Misleads is the workload that its users reach, since that has its address
	// now; empty: none.
	Misleads string `json:"misleads,omitempty"`
	// Shares is another resource that is registered with its public address: its
	// users reach the one or the other; empty: none.
	Shares string `json:"shares,omitempty"`
	// Gates is what each gate said, up to the first that didn't open.
	Gates []Check `json:"gates,omitempty"`
	// Needs must be there before this is done: the resource that takes the
	// place of the one that goes. Zero: nothing.
	Needs resource.Key `json:"-"`
	// Refresh says that nothing but Expires changes.
	Refresh bool `json:"refresh,omitempty"`
}

// Plan is what a comparison came to.
type Plan struct {
	// Actions are in the order in which they're applied: creates, updates,
	// deletes, then what isn't done. Within that they're sorted by key.
	Actions []Action `json:"actions"`
	// Unchanged counts resources that are as they should be.
	Unchanged int `json:"unchanged"`
	// Owned counts the resources that are ours and this source's.
	Owned int `json:"owned"`
	// Pending counts those of them that aren't registered yet.
	Pending int `json:"pending,omitempty"`
	// Foreign counts the others that we can see. They're left alone.
	Foreign int `json:"foreign"`
	// Wanted counts the workloads that ask for a resource.
	Wanted int `json:"wanted"`
	// Budget is what the deletion budget came to.
	Budget Budget `json:"budget"`
	// DeletionHash names the set of deletions, for an acknowledgement; empty:
	// there are none.
	DeletionHash string `json:"deletion_hash,omitempty"`
	// PendingHash is DeletionHash as it will be once the absent gate has opened
	// for what waits there; empty: there would be none either.
	PendingHash string `json:"-"`
	// Settling says that a deletion or a change of hands waits for the source to
	// settle, and Settles when that will be; zero: time alone won't do it, since its
	// events are lost.
	Settling bool      `json:"-"`
	Settles  time.Time `json:"-"`
	// NextLook is when time alone changes the plan; zero: never.
	NextLook time.Time `json:"-"`
	// Follows says that more can be granted as soon as what is planned is done.
	Follows bool `json:"-"`
	// Absences is the memory of the absent gate, for the next plan.
	Absences map[resource.Key]Absence `json:"-"`
	// Blocked counts the resources that nobody asks for and that a gate
	// protects.
	Blocked map[Gate]int `json:"blocked,omitempty"`
}

func (p *Plan) blocked(by Gate) {
	if p.Blocked == nil {
		p.Blocked = map[Gate]int{}
	}
	p.Blocked[by]++
}

// Count returns the number of actions with an operation.
func (p Plan) Count(op Op) int {
	n := 0
	for i := range p.Actions {
		if p.Actions[i].Op == op {
			n++
		}
	}
	return n
}

// Conflicts counts the workloads that can't have what they ask for because it's
// another's.
func (p Plan) Conflicts() int {
	n := 0
	for i := range p.Actions {
		if a := &p.Actions[i]; a.Op == OpConflict && !a.Holds {
			n++
		}
	}
	return n
}

// Changes says whether there's anything to apply.
func (p Plan) Changes() bool {
	return p.Count(OpCreate)+p.Count(OpUpdate)+p.Count(OpDelete) > 0
}

// Misleading counts what stays registered although its address is another
// workload's, or its public address another's, too.
func (p Plan) Misleading() int {
	misled := map[resource.Key]bool{}
	for i := range p.Actions {
		if a := &p.Actions[i]; a.Alarms() {
			misled[a.Key] = true
		}
	}
	return len(misled)
}

// Alarms says whether users of what stays registered reach another, or may.
func (a *Action) Alarms() bool { return a.Misleads != "" || a.Shares != "" }

// Troubles returns the conflicts, what is blocked by more than time or
// somebody's wish, and what leads its users to another.
func (p Plan) Troubles() []Action {
	var troubles []Action
	for _, a := range p.Actions {
		if a.Op == OpConflict || a.Op == OpBlocked && (!a.Waiting && !a.Wanted || a.Alarms()) {
			troubles = append(troubles, a)
		}
	}
	return troubles
}

// The exit codes of `discovery plan`.
const (
	exitNothing = 0
	exitChanges = 2
	exitBlocked = 3
)

// ExitCode returns 0 if there's nothing to do, 3 if there's a conflict or
// something is blocked that time won't free, and else 2.
func (p Plan) ExitCode() int {
	if len(p.Troubles()) > 0 {
		return exitBlocked
	}
	for i := range p.Actions {
		if p.Actions[i].Waiting {
			return exitChanges
		}
	}
	if p.Changes() {
		return exitChanges
	}
	return exitNothing
}

// Hash names the set of deletions that the plan asks for, those that the budget
// stands before included. The same set has the same hash, whenever it's
// planned.
func (p Plan) Hash() string { return p.DeletionHash }

// asksDeletion says whether an action is a deletion, or one that only the
// budget stands before, or, with pending, only the time that has to pass.
func (a *Action) asksDeletion(pending bool) bool {
	switch {
	case a.Op == OpDelete, a.BlockedBy == GateBudget && a.After == nil:
		return true
	}
	return pending && a.BlockedBy == GateAbsent && a.Waiting && a.After == nil
}

// HashSize is how many bytes a plan's hash has. Workloads choose the names that
// it's made of, and it approves deletions: nobody must find two sets that share
// one.
const HashSize = 16

// deletionHash computes Hash.
func deletionHash(actions []Action, pending bool) string {
	var names []string
	for i := range actions {
		if a := &actions[i]; a.asksDeletion(pending) {
			names = append(names, a.Key.String()+"\x00"+a.Workload+"\n")
		}
	}
	if len(names) == 0 {
		return ""
	}
	slices.Sort(names)
	hash := sha256.New()
	for _, name := range names {
		hash.Write([]byte(name))
	}
	return hex.EncodeToString(hash.Sum(nil)[:HashSize])
}

// sortActions puts actions into the order of Plan.Actions.
func sortActions(actions []Action) {
	slices.SortFunc(actions, func(a, b Action) int {
		return cmp.Or(
			cmp.Compare(a.Op.rank(), b.Op.rank()),
			cmp.Compare(a.Key.Kind, b.Key.Kind),
			cmp.Compare(a.Key.Name, b.Key.Name),
			cmp.Compare(a.Workload, b.Workload),
		)
	})
}
