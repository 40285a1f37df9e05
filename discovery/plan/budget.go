package plan

import (
	"fmt"
	"slices"
	"time"

	"rollcall/discovery/resource"
)

// window is the time over which deletions are counted.
const window = time.Hour

// History is what the budget is counted from. It has to survive a restart: one
// that reset it would let a process that crashes and restarts delete
// everything, a share at a time.
type History struct {
	// Deleted is when each deletion of the last hour was begun.
	Deleted []time.Time `json:"deleted,omitempty"`
	// Frozen is since when deletions are stopped; zero: they aren't.
	Frozen time.Time `json:"frozen,omitzero"`
	// Acknowledged are deletions that a person has approved.
	Acknowledged []resource.Key `json:"acknowledged,omitempty"`
	// Since is when the record began, if deletions before it aren't known
	// (nothing could be kept, or another agent held the lease); zero:
	// everything is known. The budget then accrues over the hour after it, so
	// that restarts gain nothing.
	Since time.Time `json:"since,omitzero"`
}

// Recent returns the history without what is too old to count.
func (h History) Recent(now time.Time) History {
	h.Deleted = slices.DeleteFunc(slices.Clone(h.Deleted), func(t time.Time) bool { return now.Sub(t) >= window })
	if !h.Since.IsZero() && now.Sub(h.Since) >= window {
		h.Since = time.Time{}
	}
	return h
}

// Begin returns the history with n deletions more.
func (h History) Begin(now time.Time, n int) History {
	h = h.Recent(now)
	for range n {
		h.Deleted = append(h.Deleted, now.UTC())
	}
	return h
}

// Acknowledge returns the history after a person approved the deletions with
// that hash: the alarm is over, these deletions don't count, and the hour begins
// anew. It returns false if the hash isn't that of the plan, as it is or as it
// will be when the absent gate has opened; nothing is approved then.
func (h History) Acknowledge(p Plan, hash string) (History, bool) {
	if hash == "" || hash != p.DeletionHash && hash != p.PendingHash {
		return h, false
	}
	pending := hash != p.DeletionHash

	h.Frozen = time.Time{}
	h.Deleted = nil
	h.Acknowledged = nil
	for i := range p.Actions {
		if a := &p.Actions[i]; a.asksDeletion(pending) {
			h.Acknowledged = append(h.Acknowledged, a.Key)
		}
	}
	return h, true
}

// Settle returns the history after a plan from a good read: the alarm begins or
// ends, and an approval ends with the wish to delete.
func (h History) Settle(p Plan, now time.Time) History {
	h = h.Recent(now)
	switch {
	case !p.Budget.Frozen:
		h.Frozen = time.Time{}
	case h.Frozen.IsZero():
		h.Frozen = now.UTC()
	}
	if len(h.Acknowledged) == 0 {
		return h
	}
	unwanted := map[resource.Key]bool{}
	for i := range p.Actions {
		if a := &p.Actions[i]; a.Op == OpDelete || a.Op == OpBlocked && a.After == nil {
			unwanted[a.Key] = true
		}
	}
	h.Acknowledged = slices.DeleteFunc(slices.Clone(h.Acknowledged), func(key resource.Key) bool { return !unwanted[key] })
	return h
}

// Budget is how many deletions were allowed.
type Budget struct {
	// InForce is false where too few resources are owned, or all may go.
	InForce bool `json:"in_force"`
	// Base is what the share is taken of: what is owned now and what was
	// deleted in the last hour.
	Base int `json:"base"`
	// Limit is how many deletions an hour may have.
	Limit int `json:"limit"`
	// Used is how many it had.
	Used int `json:"used"`
	// Asked is how many the plan asks for that nobody approved.
	Asked int `json:"asked"`
	// Frozen says that none of these is done until a person approves them or
	// nobody asks for them any more.
	Frozen bool `json:"frozen"`
	// Free is how many may be done now.
	Free int `json:"free"`
	// More is when there will be more of them by itself; zero: that isn't so.
	More time.Time `json:"-"`
}

// ask is what the budget is asked for.
type ask struct {
	// owned is how many resources are ours, those to be deleted included.
	owned int
	// deletions passed all other gates, and nobody approved them.
	deletions int
	// pending may yet become deletions.
	pending int
}

// budget is the gate for all deletions together.
//
//	base = owned + deleted in the last hour, limit = share of base
//
//	in force?  frozen before  used + asked   history    result
//	no         any            any            any        all go
//	yes        any            asked = 0      any        the alarm ends if none is pending either
//	yes        yes            any            any        frozen: none goes
//	yes        no             > limit        any        frozen: none goes
//	yes        no             <= limit       known      all go
//	yes        no             <= limit       began at t as many as have accrued since t go
func budget(g Guard, h History, now time.Time, a ask) Budget {
	h = h.Recent(now)
	asked := a.deletions
	b := Budget{Used: len(h.Deleted), Asked: asked, Free: asked}
	b.Base = a.owned + b.Used
	b.Limit = int(g.MaxDelete * float64(b.Base))
	b.InForce = b.Base >= g.BudgetFrom && g.MaxDelete < 1
	switch {
	case !b.InForce:
	case asked == 0:
		b.Frozen = !h.Frozen.IsZero() && a.pending > 0
	case !h.Frozen.IsZero() || b.Used+asked > b.Limit:
		b.Frozen, b.Free = true, 0
	case !h.Since.IsZero():
		accrued := int(float64(b.Limit) * max(0, now.Sub(h.Since).Seconds()) / window.Seconds())
		b.Free = min(asked, max(0, accrued-b.Used))
		if b.Free < asked {
			next := max(accrued, b.Used) + 1
			b.More = h.Since.Add(window * time.Duration(next) / time.Duration(b.Limit)).Add(time.Second)
		}
	}
	return b
}

// detail is the gate's sentence.
func (b Budget) detail(share float64) string {
	switch {
	case !b.InForce:
		return "the budget isn't in force: too few resources are owned, or max_delete is 100 %"
	case b.Frozen:
		return fmt.Sprintf("deletions are frozen: %d deleted in the last hour and %d more asked for, of at most %d (%.0f %% of %d); approve them if they're right",
			b.Used, b.Asked, b.Limit, share*100, b.Base)
	case b.Free < b.Asked:
		return fmt.Sprintf("it isn't known what was deleted in the last hour, so the %d deletions an hour accrue: %d of %d may go now", b.Limit, b.Free, b.Asked)
	}
	return fmt.Sprintf("%d deleted in the last hour and %d more are within %d (%.0f %% of %d)", b.Used, b.Asked, b.Limit, share*100, b.Base)
}
