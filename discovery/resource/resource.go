// Package resource knows what a registered resource is to the reconciler: its
// kind, its name, its labels and what it points to, in a form of our own that
// can be compared and shown. It knows neither Docker nor Teleport's client, and
// does no I/O.
package resource

import (
	"maps"
	"time"
)

// Kind is a kind of Teleport resource.
type Kind string

// The kinds that can be registered.
const (
	KindApp            Kind = "app"
	KindDatabase       Kind = "db"
	KindKubeCluster    Kind = "kube_cluster"
	KindWindowsDesktop Kind = "windows_desktop"
)

// Kinds are all of them, in the order in which they're shown.
func Kinds() []Kind {
	return []Kind{KindApp, KindDatabase, KindKubeCluster, KindWindowsDesktop}
}

// The labels that say whose a resource is. A role limited to LabelOwner makes
// the cluster itself keep us from what isn't ours.
const (
	// LabelOwner is bot/host/service, or what the configuration says.
	LabelOwner = "rollcall/owner"
	// LabelSource is the source's type and what it looks at: "docker",
	// "file". A resource of another source is another reconciler's business.
	LabelSource = "rollcall/source"
	// LabelWorkload is the workload's identity within the source ("web/api"),
	// which outlives its address, and may outlive its name in Teleport.
	LabelWorkload = "rollcall/workload"
	// LabelKeep, set to "true" by a person or a workload, keeps a resource from
	// being deleted by us.
	LabelKeep = "rollcall/keep"

	// LabelAgent is on the container of an agent that a discovery service has
	// started for one application; its value is the application's name.
	LabelAgent = "rollcall/agent"

	// LabelPrefix is what all of ours begin with. Nobody but the reconciler
	// sets labels that begin so, LabelKeep excepted.
	LabelPrefix = "rollcall/"
	// TeleportLabelPrefix is reserved by Teleport.
	TeleportLabelPrefix = "teleport.dev/"
)

// Key names a resource. Names are unique within a kind.
type Key struct {
	Kind Kind   `json:"kind"`
	Name string `json:"name"`
}

// String returns "app/grafana".
func (k Key) String() string { return string(k.Kind) + "/" + k.Name }

// Resource is one resource, as it should be or as it was found. It's a value:
// who changes one clones it first.
type Resource struct {
	Kind Kind
	Name string
	// Description is for people; may be empty.
	Description string
	// Labels are the static ones, ours among them.
	Labels map[string]string
	// Expires is when Teleport forgets the resource by itself; zero: never.
	Expires time.Time
	// Spec is what it points to: AppSpec, DatabaseSpec, KubeClusterSpec or
	// WindowsDesktopSpec, by Kind.
	Spec Spec
}

// Key returns the resource's name with its kind.
func (r Resource) Key() Key { return Key{r.Kind, r.Name} }

// Owner returns whose the resource is; empty: nobody of ours.
func (r Resource) Owner() string { return r.Labels[LabelOwner] }

// Workload returns the identity of the workload behind the resource.
func (r Resource) Workload() string { return r.Labels[LabelWorkload] }

// Clone returns a copy whose labels can be changed.
func (r Resource) Clone() Resource {
	r.Labels = maps.Clone(r.Labels)
	return r
}
