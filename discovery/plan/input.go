package plan

import (
	"fmt"
	"maps"
	"strings"
	"time"

	"rollcall/discovery/resource"
	"rollcall/failure"
)

// Desired is a workload and the resource that it asks for.
type Desired struct {
	// Workload is its identity within the source.
	Workload string
	// Resource is what it asks for; the labels that say whose it is are put on
	// by the plan, and dropped if they're there. Invalid if Err isn't nil.
	Resource resource.Resource
	// Err says why no resource could be made of it. What it has stays.
	Err error
	// Keep asks that the resource outlives its workload.
	Keep bool
}

// Absence is how long a resource hasn't been asked for.
type Absence struct {
	// Since is when that was seen first.
	Since time.Time
	// Reads counts the good reads since, the first one included.
	Reads int
}

// Input is everything that a plan depends on.
type Input struct {
	// Owner and Source are the values of the labels that mark what is ours.
	Owner, Source string
	// Desired is what the source's last good read came to.
	Desired []Desired
	// Actual is every resource that can be seen, whoever it belongs to.
	Actual []resource.Resource
	// Failed says that the source's last read failed, so that Desired is old.
	Failed bool
	// GoodReads counts the good reads of the source so far.
	GoodReads int
	// Readable is since when the source could be read without a gap; zero: for
	// long.
	Readable time.Time
	// Lost says that what happens at the source isn't followed at the moment.
	Lost bool
	// Pending are those of Actual that are ours and not registered: whoever is to
	// register them is on the way (true), or had done so and is away (false).
	Pending map[resource.Key]bool
	// Outgoing are served still although Actual has, under the same name, what is to
	// be there instead: that may not come to be. All are ours.
	Outgoing []resource.Resource
	// Absences is the memory that the plan before had returned.
	Absences map[resource.Key]Absence
	// Policy says what may be done; empty: everything.
	Policy Policy
	// Guard limits deletions.
	Guard Guard
	// History is what the budget is counted from.
	History History
	// TTL is the life of a leased resource; zero: resources don't expire.
	TTL time.Duration
	// Settled plans as if what is absent had been so for long enough, which is
	// what a preview wants to see.
	Settled bool
	// All lists unchanged resources, too.
	All bool
	// Now is the time.
	Now time.Time
}

// Policy says which changes are allowed.
type Policy string

// The policies.
const (
	// PolicySync creates, updates and deletes.
	PolicySync Policy = "sync"
	// PolicyUpsertOnly never deletes.
	PolicyUpsertOnly Policy = "upsert-only"
	// PolicyCreateOnly only creates.
	PolicyCreateOnly Policy = "create-only"
)

// Validate checks the policy's name; empty is PolicySync.
func (p Policy) Validate() error {
	switch p {
	case "", PolicySync, PolicyUpsertOnly, PolicyCreateOnly:
		return nil
	}
	return failure.Field("policy", "%q is no policy; use sync, upsert-only or create-only", string(p))
}

func (p Policy) updates() bool { return p != PolicyCreateOnly }
func (p Policy) deletes() bool { return p == "" || p == PolicySync }

// Guard limits deletions.
type Guard struct {
	// AbsentReads is in how many good reads in a row a resource must not have
	// been asked for before it's deleted; at least 1.
	AbsentReads int
	// AbsentFor is for how long it must not have been asked for; negative: the
	// reads are enough.
	AbsentFor time.Duration
	// Settle is for how long the source must have been readable before a
	// resource counts as not asked for: after a start of the host its workloads
	// come up one after the other. Zero: at once.
	Settle time.Duration
	// MaxDelete is the share of what we own that may be deleted in a rolling
	// hour, in (0,1]; 1: all of it.
	MaxDelete float64
	// BudgetFrom is how many resources we must own for MaxDelete to be in
	// force.
	BudgetFrom int
}

// DefaultGuard returns the limits that hold unless others are asked for.
func DefaultGuard() Guard {
	return Guard{AbsentReads: 2, AbsentFor: 10 * time.Second, MaxDelete: 0.5, BudgetFrom: 10}
}

// WithDefaults returns the guard with defaults for what is zero.
func (g Guard) WithDefaults() Guard {
	d := DefaultGuard()
	if g.AbsentReads <= 0 {
		g.AbsentReads = d.AbsentReads
	}
	if g.AbsentFor == 0 {
		g.AbsentFor = d.AbsentFor
	}
	if g.MaxDelete <= 0 {
		g.MaxDelete = d.MaxDelete
	}
	if g.BudgetFrom <= 0 {
		g.BudgetFrom = d.BudgetFrom
	}
	return g
}

// settling is for how long nothing counts as absent yet.
func (in *Input) settling() time.Duration {
	if in.Readable.IsZero() {
		return 0
	}
	return max(0, in.Guard.Settle-in.Now.Sub(in.Readable))
}

// unsettled says why nothing counts as absent yet.
func (in *Input) unsettled() string {
	if in.Lost {
		return "what happens at the source isn't followed just now, since its events are lost: whether it was started anew, and what is yet to come up, isn't known"
	}
	return fmt.Sprintf("the source has been readable for %s of %s (settle): what comes up after a start of the host may not be there yet",
		in.Now.Sub(in.Readable).Round(100*time.Millisecond), in.Guard.Settle)
}

// ours says whether a resource is ours and this source's.
func (in *Input) ours(r *resource.Resource) bool {
	return r.Labels[resource.LabelOwner] == in.Owner && r.Labels[resource.LabelSource] == in.Source && in.Owner != ""
}

// Kept says whether somebody marked a resource as one to keep.
func Kept(r *resource.Resource) bool { return strings.EqualFold(r.Labels[resource.LabelKeep], "true") }

// reservedLabel says whether a label isn't a workload's to set.
func reservedLabel(key string) bool {
	return strings.HasPrefix(key, resource.LabelPrefix) || strings.HasPrefix(key, resource.TeleportLabelPrefix)
}

// labelled returns the resource that a workload asks for, marked as ours. A keep
// mark on what is registered stays: a person may have put it there.
func (in *Input) labelled(d *Desired, actual *resource.Resource) *resource.Resource {
	r := d.Resource
	labels := make(map[string]string, len(r.Labels)+4)
	maps.Copy(labels, r.Labels)
	maps.DeleteFunc(labels, func(key, _ string) bool { return reservedLabel(key) })
	labels[resource.LabelOwner] = in.Owner
	labels[resource.LabelSource] = in.Source
	labels[resource.LabelWorkload] = d.Workload
	if d.Keep {
		labels[resource.LabelKeep] = "true"
	} else if actual != nil && actual.Labels[resource.LabelKeep] != "" {
		labels[resource.LabelKeep] = actual.Labels[resource.LabelKeep]
	}
	r.Labels = labels
	r.Expires = in.expires(Kept(&r))
	return &r
}

// expires returns when a resource that is written now ends by itself.
func (in *Input) expires(keep bool) time.Time {
	if in.TTL <= 0 || keep {
		return time.Time{}
	}
	return in.Now.Add(in.TTL).UTC()
}

// same says whether what is registered, which is ours and that workload's, is
// what the workload asks for, without building that resource: it's called for
// every resource each time. Expires is left to stale.
func (in *Input) same(d *Desired, actual *resource.Resource) bool {
	want := &d.Resource
	return want.Description == actual.Description && in.sameLabels(d, actual.Labels) && resource.EqualSpec(want.Spec, actual.Spec)
}

func (in *Input) sameLabels(d *Desired, actual map[string]string) bool {
	counted := 3 // the marks, which were looked at before
	for key, value := range d.Resource.Labels {
		if reservedLabel(key) {
			continue
		}
		if other, ok := actual[key]; !ok || other != value {
			return false
		}
		counted++
	}
	keep, marked := actual[resource.LabelKeep]
	if d.Keep && keep != "true" {
		return false
	}
	if marked {
		counted++
	}
	if counted != len(actual) {
		for key := range actual {
			if strings.HasPrefix(key, resource.TeleportLabelPrefix) {
				counted++
			}
		}
	}
	return counted == len(actual)
}

// stale says whether a resource's Expires must be written anew: a third of its
// life is over, or it should have none, or it should have one.
func (in *Input) stale(actual *resource.Resource) bool {
	if in.TTL <= 0 || Kept(actual) {
		return !actual.Expires.IsZero()
	}
	return actual.Expires.IsZero() || !in.refreshAt(actual).After(in.Now)
}

// refreshAt is when a third of a resource's life is over.
func (in *Input) refreshAt(actual *resource.Resource) time.Time {
	return actual.Expires.Add(-in.TTL * 2 / 3)
}
