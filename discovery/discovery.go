// Package discovery knows how the resources that are registered with Teleport
// are kept in agreement with what really runs. It reads two snapshots, desired
// (source) and actual (registry), has the plan made (plan, which is pure),
// applies it, and says what it did. It knows neither YAML nor certificates, and
// reaches Teleport and Docker only through the interfaces below.
package discovery

import (
	"context"
	"time"

	"rollcall/discovery/resource"
)

// Source tells what should be registered: Docker, a file.
type Source interface {
	// Read returns the whole desired state, or an error: never a part of it.
	// A single workload that can't be turned into a resource is no error; it's
	// a Candidate with Err, and what it had registered stays.
	Read(ctx context.Context) ([]Candidate, error)
	// Watch calls hint whenever something may have changed, until ctx ends.
	// It subscribes before its first hint, and hints once each time that it has
	// subscribed anew, so that who reads after a hint misses nothing. It
	// reconnects by itself; hint doesn't block. Hints are no content: the
	// reader reads everything again.
	Watch(ctx context.Context, hint func()) error
}

// Gradual may be had by a Source whose workloads come up one after the other,
// and which can notice that they've begun to.
type Gradual interface {
	// Since returns since when what happens has been followed without a start of
	// all workloads anew; zero: that was never so, and says nothing. lost says that
	// it isn't followed at the moment, and then at is now. It's safe for concurrent
	// use with Watch.
	Since() (at time.Time, lost bool)
}

// Candidate is one workload and the resource that it asks for.
type Candidate struct {
	// Workload is its identity within the source, stable over restarts:
	// "web/api", "nginx".
	Workload string
	// Resource is what it asks for, without the labels that say whose it is;
	// only valid if Err is nil and Skip is empty.
	Resource resource.Resource
	// Err says why no resource could be made of it (a template that fails, a
	// port that isn't there). Name and field are in it.
	Err error
	// Skip says why the workload isn't to be registered although it runs
	// (not enabled, filtered); only candidates for `explain` have it.
	Skip string
	// Keep asks that the resource outlives its workload.
	Keep bool
	// Rules is what led here, in order, for `explain`.
	Rules []Rule
}

// Rule is one step of a decision, for people.
type Rule struct {
	// Name is the rule's, as the documentation has it.
	Name string `json:"name"`
	// Passed says if the workload got past it.
	Passed bool `json:"passed"`
	// Detail says why.
	Detail string `json:"detail"`
}

// Reader reads what is registered, of one kind.
type Reader interface {
	// List returns every resource of the kind that we can see, or an error:
	// never a part.
	List(ctx context.Context) ([]resource.Resource, error)
	// Get reads one, past any cache of ours; failure.NotFound if there's none;
	// failure.Refused if there's one that we may not see. Where the cluster
	// doesn't tell the two apart, it's failure.NotFound.
	Get(ctx context.Context, name string) (resource.Resource, error)
}

// Writer changes what is registered, of one kind. Errors are classified
// (package failure): Conflict for a name that is taken, Refused for what the
// cluster won't let us do, with the missing rule in the sentence.
type Writer interface {
	Create(ctx context.Context, r resource.Resource) error
	Update(ctx context.Context, r resource.Resource) error
	Delete(ctx context.Context, r resource.Resource) error
}

// Slow may be had by a Registry whose writes take longer than a call to the
// cluster.
type Slow interface {
	// WriteTimeout bounds one write.
	WriteTimeout() time.Duration
}

// Delayed may be had by a Registry whose writes only begin something.
type Delayed interface {
	// Pending returns the names of ours that are listed, or were written since,
	// and aren't registered: not yet (true), or not any more, although whoever
	// registers them is to come back (false). It's safe for concurrent use.
	Pending() map[string]bool
	// Outgoing returns what of ours is served still beside what is listed, or was
	// written since, under the same name: it only goes when what was begun has
	// succeeded. It's safe for concurrent use.
	Outgoing() []resource.Resource
}

// Registry is where resources of one kind are registered.
type Registry interface {
	Reader
	Writer
}

// Watched is a Registry that tells when somebody changes what is registered.
type Watched interface {
	// Watch calls changed for every change of the kind, whoever makes it, with
	// what is there now, nil if it's gone; what we may not see may be told too.
	// subscribed is called once nothing is missed any more. Changes are hints: a
	// reader lists again. Watch returns nil when ctx ends, or when it's to be
	// called again; failure.Refused says that the role doesn't let us watch, and
	// nothing else. Neither function blocks.
	Watch(ctx context.Context, subscribed func(), changed func(key resource.Key, now *resource.Resource)) error
}
