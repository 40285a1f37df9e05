// Package settings knows what a section of type discovery says: the options of
// the service, its source, its guards, and what contradicts what in them. It
// knows neither YAML nor how any of it is done.
package settings

import (
	"time"

	"rollcall/discovery/plan"
	"rollcall/discovery/registry/agent"
	"rollcall/discovery/resource"
	"rollcall/discovery/source/docker"
	"rollcall/discovery/source/file"
	"rollcall/discovery/template"
	"rollcall/service"
)

// Type is the type of the service in the file.
const Type = "discovery"

// Defaults of what the rooms below have none for.
const (
	DefaultInterval = 5 * time.Minute
	DefaultHATTL    = 15 * time.Second
	DefaultSettle   = 30 * time.Second
)

// Register says how a workload becomes a resource.
type Register string

const (
	// RegisterDynamic makes dynamic resources, which Teleport's own services
	// take up.
	RegisterDynamic Register = "dynamic"
	// RegisterAgent starts an Application Service container for each.
	RegisterAgent Register = "agent"
)

// Registers are all of them.
func Registers() []Register { return []Register{RegisterDynamic, RegisterAgent} }

// New returns options with the defaults of those whose zero means something of
// its own. What is decoded goes over them.
func New() *Options { return &Options{Guard: DefaultGuard()} }

// Options configure a service that keeps registered resources in agreement with
// a source. They begin with New.
type Options struct {
	service.CommonOptions `yaml:",inline"`
	// Source says what should be registered: a mapping with a type.
	Source Source `yaml:"source"`
	// Resource is the template that a container is registered by. Entries of a
	// file source have all of it in themselves.
	Resource template.Options `yaml:"resource,omitempty"`
	// Kinds are the kinds of resources that the service may write, and that its
	// roles need rights for: with a docker source that of the template; with a
	// file source those that its entries may have.
	Kinds []resource.Kind `yaml:"kinds,omitempty"`
	// Register is how: dynamic resources, which Teleport's own services take
	// up, or one Application Service container for each application. The
	// latter needs the right to create tokens, which is the right to
	// everything: see docs/discovery.md.
	Register Register `yaml:"register,omitempty"`
	// Agent configures the containers of register: agent.
	Agent agent.Options `yaml:"agent,omitempty"`
	// Policy is what may be done: sync does everything, upsert-only never
	// deletes, create-only never changes either.
	Policy plan.Policy `yaml:"policy,omitempty"`
	// Guard is what stands between a plan and a wrong deletion.
	Guard Guard `yaml:"guard,omitempty"`
	// Interval is the time between two full comparisons. What the source and
	// Teleport tell of changes is followed at once.
	Interval time.Duration `yaml:"interval,omitempty"`
	// Owner is the value of the label rollcall/owner, for agents that share
	// it: they take turns, by a semaphore in the cluster. Without it each
	// agent has its own (bot, host and service).
	Owner string `yaml:"owner,omitempty"`
	// HATTL is for how long an agent that shares its owner holds the
	// semaphore; another takes over within about that time.
	HATTL time.Duration `yaml:"ha_ttl,omitempty"`
	// Expires has Teleport forget a resource that nobody has refreshed for so
	// long; it's refreshed well before. Without it resources stay.
	Expires time.Duration `yaml:"expires,omitempty"`
	// Concurrency is how many resources are written at once.
	Concurrency int `yaml:"concurrency,omitempty"`
	// Rate is the most requests a second to Teleport.
	Rate int `yaml:"rate,omitempty"`
}

// Source is a source by its type.
type Source struct {
	// Type is docker or file.
	Type string
	// Docker is set if Type is docker, and File if it's file.
	Docker *docker.Options
	File   *file.Options
}

// Guard bounds deletions. Creating and updating isn't held up by it.
type Guard struct {
	// MaxDelete is the share of what is registered that may be deleted within
	// an hour, such as 50%. Beyond it deletions stop until somebody says that
	// they're meant (rollcall discovery apply --acknowledge). 100% turns it
	// off.
	MaxDelete string `yaml:"max_delete,omitempty"`
	// BudgetFrom is from how many registered resources on MaxDelete is in
	// force: of two, one is half.
	BudgetFrom int `yaml:"budget_from,omitempty"`
	// AbsentReads is in how many good reads of the source, one after the
	// other, a workload must be missing before it's deregistered.
	AbsentReads int `yaml:"absent_reads,omitempty"`
	// AbsentFor is for how long it must be missing; 0s: the reads are enough.
	AbsentFor time.Duration `yaml:"absent_for,omitempty"`
	// Settle is how long a source must have been readable, without a gap, for
	// anything to count as missing from it: after the start of the host, or of
	// Docker, one container comes up after the other. 0s: at once, which is the
	// default for files.
	Settle time.Duration `yaml:"settle,omitempty"`
}

// DefaultGuard returns the guard that holds where the file says nothing. An empty
// MaxDelete is the plan's default.
func DefaultGuard() Guard {
	d := plan.DefaultGuard()
	return Guard{BudgetFrom: d.BudgetFrom, AbsentReads: d.AbsentReads, AbsentFor: d.AbsentFor, Settle: settleByType}
}

// settleByType stands for the default of Settle until the source's type is known:
// a file is whole as soon as it's there.
const settleByType = -1

// Subject is what the service is for.
func (o *Options) Subject() string { return o.Source.Type }

// NameMatters says why the file must give the service a name.
func (o *Options) NameMatters() string {
	return "it's part of the label that says whose a resource is, and must never change by itself"
}

// HostOwned says whether resources belong to this host's agent alone, which
// then needs a storage to know itself by.
func (o *Options) HostOwned() bool { return o.Owner == "" }
