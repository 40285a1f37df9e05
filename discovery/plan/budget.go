package plan

import (
	"fmt"
	"slices"
	"time"

	"rollcall/discovery/resource"
)

// window is the time over which deletions are counted.
const window = time.Hour

// Deletion is one that was begun.
type Deletion struct {
	resource.Key
	At time.Time `json:"at"`
}

// History is what the budget is counted from. It has to survive a restart: one
// that reset it would let a process that crashes and restarts delete
// everything, a share at a time.
type History struct {
	// Deleted are the deletions that were begun in the last hour, each resource
	// once: to try again, or to delete anew what came back meanwhile, costs
	// nothing.
	Deleted []Deletion `json:"deleted,omitempty"`
	// Frozen is since when deletions are stopped; zero: they aren't.
	Frozen time.Time `json:"frozen,omitzero"`
	// Acknowledged are deletions that a person has approved.
	Acknowledged []resource.Key `json:"acknowledged,omitempty"`
	// Since is when the record began, if deletions before it aren't known
	// (nothing could be kept, or another agent held the lease); zero:
	// everything is known. Whoever came before may have used up the hour's
	// share, so nothing is deleted until that hour is over.
	Since time.Time `json:"since,omitzero"`
}

// Recent returns the history without what is too old to count.
func (h History) Recent(now time.Time) History {
	h.Deleted = slices.DeleteFunc(slices.Clone(h.Deleted), func(d Deletion) bool { return now.Sub(d.At) >= window })
	if !h.Since.IsZero() && now.Sub(h.Since) >= window {
		h.Since = time.Time{}
	}
	return h
}

// Begin returns the history with these deletions, too, those that a person
// approved excepted.
func (h History) Begin(now time.Time, keys []resource.Key) History {
	h = h.Recent(now)
	begun := make(map[resource.Key]bool, len(keys))
	for _, key := range keys {
		begun[key] = true
	}
	for _, key := range h.Acknowledged {
		delete(begun, key)
	}
	for i := range h.Deleted {
		if d := &h.Deleted[i]; begun[d.Key] {
			d.At = now.UTC()
			delete(begun, d.Key)
		}
	}
	for _, key := range keys {
		if begun[key] {
			h.Deleted = append(h.Deleted, Deletion{Key: key, At: now.UTC()})
			delete(begun, key)
		}
	}
	return h
}

// counts says which resources are in the last hour's deletions.
func (h History) counts() map[resource.Key]bool {
	counted := make(map[resource.Key]bool, len(h.Deleted))
	for i := range h.Deleted {
		counted[h.Deleted[i].Key] = true
	}
	return counted
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
	// Base is what the share is taken of: what is owned now or was deleted in
	// the last hour.
	Base int `json:"base"`
	// Limit is how many of these an hour may have deleted.
	Limit int `json:"limit"`
	// Used is how many it had.
	Used int `json:"used"`
	// Asked is how many more the plan asks for that nobody approved.
	Asked int `json:"asked"`
	// Frozen says that none of these is done until a person approves them or
	// nobody asks for them any more.
	Frozen bool `json:"frozen"`
	// Free is how many of them may be done now.
	Free int `json:"free"`
	// More is when there will be more of them by itself; zero: that isn't so.
	More time.Time `json:"-"`
}

// ask is what the budget is asked for.
type ask struct {
	// owned is how many resources are ours, those to be deleted included;
	// returned is how many of them were deleted in the last hour, too.
	owned, returned int
	// deletions passed all other gates, weren't counted in the last hour, and
	// nobody approved them; again are those that were counted.
	deletions, again int
	// pending may yet become deletions.
	pending int
}

// budget is the gate for all deletions together.
//
//	base  = what is owned, and what was deleted in the last hour
//	limit = the share of base
//
//	in force?  frozen before  used + asked   history     result
//	no         any            any            any         all go
//	yes        any            asked = 0      any         the alarm ends if nothing is pending either
//	yes        yes            any            any         frozen: none goes
//	yes        no             > limit        any         frozen: none goes
//	yes        no             <= limit       known       all go
//	yes        no             <= limit       began at t  none goes before t + 1 h
//
// It's in force from so many resources on, while an alarm stands, and where what
// isn't known of the last hour could have brought it down from so many: what is
// left after a share was deleted is small because of that.
func budget(g Guard, h History, now time.Time, a ask) Budget {
	h = h.Recent(now)
	b := Budget{Used: len(h.Deleted), Asked: a.deletions, Free: a.deletions}
	b.Base = a.owned + b.Used - a.returned
	b.Limit = int(g.MaxDelete * float64(b.Base))
	most := float64(b.Base)
	if !h.Since.IsZero() {
		most /= 1 - g.MaxDelete
	}
	b.InForce = g.MaxDelete < 1 && (most >= float64(g.BudgetFrom) || !h.Frozen.IsZero())
	switch {
	case !b.InForce:
	case a.deletions+a.again == 0:
		b.Frozen = !h.Frozen.IsZero() && a.pending > 0
	case !h.Frozen.IsZero() || a.deletions > 0 && b.Used+a.deletions > b.Limit:
		b.Frozen, b.Free = true, 0
	case !h.Since.IsZero():
		b.Free = 0
		if a.deletions > 0 {
			b.More = h.Since.Add(window)
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
		return fmt.Sprintf("it isn't known what was deleted in the last hour, before this agent began: the %d deletions wait until that hour is over (%s)", b.Asked, b.More.UTC().Format(time.RFC3339))
	}
	return fmt.Sprintf("%d deleted in the last hour and %d more are within %d (%.0f %% of %d)", b.Used, b.Asked, b.Limit, share*100, b.Base)
}
