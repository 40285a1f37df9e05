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
// unless from names that one: the owner, or, if the owner is ours, the source of
// another service. Then the person says that it's gone. What a workload of this
// service has that is there still is never taken from it, nor is a public address.
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
	}
	if err := in.mayAdopt(claimants[0], actual, from); err != nil {
		return Action{}, err
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

// mayAdopt says why a resource isn't a workload's to adopt; nil: it is.
func (in *Input) mayAdopt(d *Desired, actual *resource.Resource, from string) error {
	key, owner, source, workload := actual.Key(), actual.Owner(), actual.Labels[resource.LabelSource], actual.Workload()
	switch {
	case owner == "":
	case owner != in.Owner && owner == from:
	case owner != in.Owner:
		return failure.New(failure.Conflict, "%s belongs to %q: if that agent is gone for good, say so with --from %q", key, owner, owner)
	case source != in.Source && source != from:
		return failure.New(failure.Conflict, "%s is from the source %q, after which another service of this owner looks: if that service is gone for good, say so with --from %q", key, source, source)
	case source == in.Source && workload != d.Workload && in.asks(key.Kind, workload):
		return failure.New(failure.Conflict, "%s is registered for %q, which is there, too: it's free as soon as that workload is gone or asks for another name", key, workload)
	}
	return in.publicTaken(d, actual)
}

// asks says whether a workload is there, whatever it asks for and even if that
// can't be read.
func (in *Input) asks(kind resource.Kind, workload string) bool {
	for i := range in.Desired {
		if other := &in.Desired[i]; other.Workload == workload && (other.Err != nil || other.Resource.Kind == kind) {
			return true
		}
	}
	return false
}

// served is what is registered, and then what is served still.
func (in *Input) served(i int) *resource.Resource {
	if i < len(in.Actual) {
		return &in.Actual[i]
	}
	return &in.Outgoing[i-len(in.Actual)]
}

// publicTaken says who has the public address that a workload asks for, or asks for
// it, too; nil: nobody.
func (in *Input) publicTaken(d *Desired, actual *resource.Resource) error {
	addr := publicAddr(&d.Resource)
	if addr == "" {
		return nil
	}
	for i := range len(in.Actual) + len(in.Outgoing) {
		other := in.served(i)
		if other.Key() == actual.Key() || publicAddr(other) != addr || in.ours(other) && other.Workload() == d.Workload {
			continue
		}
		return failure.New(failure.Conflict, "%s would get the public_addr %s, which %s has already: users would reach the one or the other; choose another first", actual.Key(), addr, other.Key())
	}
	for i := range in.Desired {
		if other := &in.Desired[i]; other.Err == nil && other.Workload != d.Workload && publicAddr(&other.Resource) == addr {
			return failure.New(failure.Conflict, "the workloads %q and %q both ask for the public_addr %s: give one of them another first", d.Workload, other.Workload, addr)
		}
	}
	return nil
}
