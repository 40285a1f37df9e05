package plan

import (
	"fmt"

	"rollcall/discovery/resource"
	"rollcall/failure"
)

// Purge plans the deletion of everything that carries the owner's mark, of every
// source, whether a workload asks for it or not. It's what a person asks for by
// name, so no budget stands before it; what is marked as one to keep stays.
func Purge(in Input) Plan {
	p := Plan{Actions: []Action{}}
	times := map[resource.Key]int{}
	for i := range in.Actual {
		times[in.Actual[i].Key()]++
	}
	for i := range in.Actual {
		r := &in.Actual[i]
		if in.Owner == "" || r.Owner() != in.Owner {
			p.Foreign++
			continue
		}
		p.Owned++
		a := Action{Op: OpDelete, Key: r.Key(), Workload: r.Workload(), Before: r, Reason: "purge was asked for"}
		if passed, detail := gateKeep(r); !passed {
			a.Op, a.BlockedBy, a.Wanted, a.Reason = OpBlocked, GateKeep, true, "not deleted: "+detail
			p.blocked(GateKeep)
		}
		if times[r.Key()] > 1 {
			a.Op, a.BlockedBy, a.Wanted, a.Reason = OpConflict, "", false, twinned
		}
		p.Actions = append(p.Actions, a)
	}
	sortActions(p.Actions)
	p.DeletionHash = deletionHash(p.Actions, false)
	return p
}

// Adopt plans to mark a registered resource as ours and to make it what the
// workload that asks for its name wants. It refuses what carries another's mark,
// unless from names that owner: then the person says that it's gone.
func Adopt(in Input, key resource.Key, from string) (Action, error) {
	var actual *resource.Resource
	for i := range in.Actual {
		if in.Actual[i].Key() == key {
			actual = &in.Actual[i]
		}
	}
	var claimants []*Desired
	for i := range in.Desired {
		if d := &in.Desired[i]; d.Err == nil && d.Resource.Key() == key {
			claimants = append(claimants, d)
		}
	}
	switch {
	case actual == nil:
		return Action{}, failure.New(failure.NotFound, "%s isn't registered, or this identity may not see it: `rollcall discovery adopt --identity` takes an administrator's", key)
	case len(claimants) == 0:
		return Action{}, failure.New(failure.NotFound, "no workload asks for %s, so there is nothing to adopt it for: see `rollcall discovery plan`", key)
	case len(claimants) > 1:
		return Action{}, failure.New(failure.Conflict, "%d workloads ask for %s, among them %q and %q: rename one of them first",
			len(claimants), key, claimants[0].Workload, claimants[1].Workload)
	case actual.Owner() != "" && actual.Owner() != in.Owner && actual.Owner() != from:
		return Action{}, failure.New(failure.Conflict, "%s belongs to %q: if that agent is gone for good, say so with --from %q", key, actual.Owner(), actual.Owner())
	}
	after := in.labelled(claimants[0], actual)
	a := Action{
		Op: OpUpdate, Key: key, Workload: claimants[0].Workload, Before: actual, After: after,
		Changes: resource.Diff(actual, after), Reason: fmt.Sprintf("adopted for %q", claimants[0].Workload),
	}
	if in.ours(actual) && len(a.Changes) == 0 {
		a.Op, a.Reason = OpNothing, "it's ours already"
	}
	return a, nil
}
