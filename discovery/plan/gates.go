package plan

import (
	"fmt"
	"time"

	"rollcall/discovery/resource"
)

// Gate is one condition of a deletion. All must open, in this order; each is
// enough to stop it.
type Gate string

// The gates, in their order.
const (
	// GateSource: the source's last read was complete.
	GateSource Gate = "source_complete"
	// GateFirstRead: the source has been read well at least once.
	GateFirstRead Gate = "first_read"
	// GateOwner: the resource's marks say that it's ours and this source's.
	GateOwner Gate = "owner"
	// GateKeep: nobody marked it as one to keep.
	GateKeep Gate = "keep"
	// GateAbsent: nobody has asked for it in so many good reads and for so
	// long, since the source has settled, and what takes its place is there.
	GateAbsent Gate = "absent"
	// GatePolicy: the policy allows deletions.
	GatePolicy Gate = "policy"
	// GateBudget: not more than a set share is deleted in an hour.
	GateBudget Gate = "budget"
	// GateReread: read again just before the write, it's still ours and what
	// the plan was made from.
	GateReread Gate = "reread"

	// GateWorkload is no condition of a deletion: the workload's own data makes
	// no resource.
	GateWorkload Gate = "workload"
	// GateAddress is none either: the public address that a workload asks for is
	// registered for another of ours, which gives it up.
	GateAddress Gate = "address"
)

// Gates returns the gates before a deletion, in their order.
func Gates() []Gate {
	return []Gate{GateSource, GateFirstRead, GateOwner, GateKeep, GateAbsent, GatePolicy, GateBudget, GateReread}
}

// Check is what one gate said of one resource.
type Check struct {
	Gate   Gate   `json:"gate"`
	Passed bool   `json:"passed"`
	Detail string `json:"detail"`
}

// leftover is a registered resource that nobody asks for by its name any more.
type leftover struct {
	res *resource.Resource
	// absence is how long that has been so.
	absence Absence
	// held says why its workload still needs it although it asks for another
	// name, or for none that could be read; empty: it doesn't.
	held string
	// passing says that time alone may end that.
	passing bool
	// needs is what takes its place and isn't there yet.
	needs resource.Key
	// successor is the workload that asks for its name now; empty: it's to be
	// deleted.
	successor string
	// vacated says that its workload asks for another name and gives this one
	// up for the successor.
	vacated bool
	// usedBy is the workload that has its address now; empty: nobody.
	usedBy string
}

// verdict is what all gates but budget and reread say of a leftover.
type verdict struct {
	checks []Check
	// stopped is the gate that didn't open; empty: all did.
	stopped Gate
	waiting bool
	wanted  bool
}

// detail returns what the last gate said.
func (v verdict) detail() string { return v.checks[len(v.checks)-1].Detail }

// judge asks the gates in their order, up to the first that doesn't open. The
// budget is asked for all leftovers together, and the reread just before the
// write.
func (in *Input) judge(l *leftover) verdict {
	var v verdict
	ask := func(gate Gate, passed bool, detail string) bool {
		v.checks = append(v.checks, Check{Gate: gate, Passed: passed, Detail: detail})
		if !passed {
			v.stopped = gate
		}
		return passed
	}
	passed, detail := gateSource(in)
	if !ask(GateSource, passed, detail) {
		return v
	}
	if passed, detail = gateFirstRead(in); !ask(GateFirstRead, passed, detail) {
		v.waiting = true
		return v
	}
	if passed, detail = gateOwner(in, l.res); !ask(GateOwner, passed, detail) {
		v.wanted = true
		return v
	}
	if passed, detail = gateKeep(l.res); !ask(GateKeep, passed, detail) {
		v.wanted = true
		return v
	}
	if passed, detail = gateAbsent(in, l); !ask(GateAbsent, passed, detail) {
		v.waiting = l.held == "" || l.passing
		return v
	}
	if passed, detail = gatePolicy(in, l); !ask(GatePolicy, passed, detail) {
		v.wanted = true
	}
	return v
}

func gateSource(in *Input) (bool, string) {
	if in.Failed {
		return false, "the source couldn't be read completely: nothing is deleted on half a view"
	}
	return true, "the source's last read was complete"
}

func gateFirstRead(in *Input) (bool, string) {
	if in.GoodReads < 1 {
		return false, "the source hasn't been read yet"
	}
	return true, fmt.Sprintf("the source was read well %d times", in.GoodReads)
}

func gateOwner(in *Input, r *resource.Resource) (bool, string) {
	switch owner, source := r.Labels[resource.LabelOwner], r.Labels[resource.LabelSource]; {
	case owner == "":
		return false, "it carries no owner mark: it isn't ours"
	case owner != in.Owner || in.Owner == "":
		return false, fmt.Sprintf("it belongs to %q", owner)
	case source != in.Source:
		return false, fmt.Sprintf("it's from the source %q, which isn't this one (%q): a source that was removed deletes nothing, use purge", source, in.Source)
	}
	return true, "its marks say that it's ours and this source's"
}

func gateKeep(r *resource.Resource) (bool, string) {
	if Kept(r) {
		return false, "it's marked with " + resource.LabelKeep
	}
	return true, "nobody marked it as one to keep"
}

func gateAbsent(in *Input, l *leftover) (bool, string) {
	if l.held != "" {
		return false, l.held
	}
	if l.vacated {
		return true, "its workload asks for another name"
	}
	if in.settling() > 0 && !in.Settled {
		return false, in.unsettled()
	}
	if l.usedBy != "" {
		return true, fmt.Sprintf("its workload is gone, and its address is that of %q now: its users would reach that", l.usedBy)
	}
	if in.Settled {
		said := fmt.Sprintf("nobody asks for it; it goes after %d good reads and %s", in.Guard.AbsentReads, max(0, in.Guard.AbsentFor))
		if in.Guard.Settle > 0 {
			said += fmt.Sprintf(", once the agent has had the source for %s (settle)", in.Guard.Settle)
		}
		return true, said
	}
	age := in.Now.Sub(l.absence.Since)
	said := fmt.Sprintf("nobody has asked for it in %d of %d good reads, for %s of %s",
		l.absence.Reads, in.Guard.AbsentReads, age.Round(100*time.Millisecond), max(0, in.Guard.AbsentFor))
	return l.absence.Reads >= in.Guard.AbsentReads && age >= in.Guard.AbsentFor, said
}

func gatePolicy(in *Input, l *leftover) (bool, string) {
	policy := in.Policy
	if policy == "" {
		policy = PolicySync
	}
	if l.successor != "" {
		// Its name stays; that's an update.
		return policy.updates(), fmt.Sprintf("the policy is %s", policy)
	}
	return policy.deletes(), fmt.Sprintf("the policy is %s", policy)
}

// Reread is the last gate: now is the resource as it was read just before the
// write, nil if it's gone; planned is what the plan was made from.
func Reread(owner, source string, planned *resource.Resource, now *resource.Resource) (bool, string) {
	in := &Input{Owner: owner, Source: source}
	switch {
	case now == nil:
		return false, "it's gone already"
	case !in.ours(now):
		_, detail := gateOwner(in, now)
		return false, detail
	case !resource.Equal(*planned, *now):
		return false, "somebody changed it since the plan was made"
	}
	return true, "read again, it's unchanged and ours"
}
