// Package registry knows what right to what a service needs that registers
// resources: the smallest Teleport role. Its subpackages are the registries
// themselves: dynamic (the cluster's dynamic resources) and agent (an
// Application Service container for each application). It does no I/O.
package registry

import (
	"slices"

	"github.com/gravitational/teleport/api/types"
	"github.com/gravitational/trace"

	"rollcall/discovery/resource"
	"rollcall/failure"
)

// RoleOptions say what a service does, as far as its role is concerned.
type RoleOptions struct {
	// Name is the role's.
	Name string
	// Owner is the value of resource.LabelOwner: the limit of what the role
	// lets its bearer touch.
	Owner string
	// Dynamic are the kinds of dynamic resources that the service writes.
	Dynamic []resource.Kind
	// Lease says that several agents share the owner, and a semaphore decides
	// who writes.
	Lease bool
	// Agent says that the service runs an agent for each application.
	Agent bool
}

// Role returns the smallest role for a service, and what its operator must know
// of it; `tctl create -f` accepts it.
func Role(o RoleOptions) (types.Role, []string, error) {
	if o.Owner == "" {
		return nil, nil, failure.New(failure.Configuration, "a role needs an owner to be limited to")
	}
	allow := types.RoleConditions{}
	var warnings []string
	for _, kind := range o.Dynamic {
		limit := types.Labels{resource.LabelOwner: {o.Owner}}
		switch kind {
		case resource.KindApp:
			allow.AppLabels = limit
		case resource.KindDatabase:
			allow.DatabaseLabels = limit
		case resource.KindKubeCluster:
			allow.KubernetesLabels = limit
			warnings = append(warnings, kubeWarning)
		case resource.KindWindowsDesktop:
			allow.WindowsDesktopLabels = limit
			warnings = append(warnings, desktopWarning)
		default:
			return nil, nil, failure.New(failure.Configuration, "%q is no kind of resource that can be registered: it's one of %v", kind, resource.Kinds())
		}
		allow.Rules = append(allow.Rules, types.NewRule(string(kind), []string{types.VerbList, types.VerbRead, types.VerbCreate, types.VerbUpdate, types.VerbDelete}))
	}
	if o.Agent {
		// A name that another agent serves already must be seen: two agents of
		// one name share its users' requests.
		allow.AppLabels = types.Labels{types.Wildcard: {types.Wildcard}}
		allow.Rules = append(allow.Rules,
			types.NewRule(types.KindAppServer, []string{types.VerbList, types.VerbRead, types.VerbDelete}),
			types.NewRule(types.KindToken, []string{types.VerbCreate, types.VerbDelete}))
		warnings = append(warnings, agentWarning)
		if slices.Contains(o.Dynamic, resource.KindApp) {
			warnings = append(warnings, mixedWarning)
		}
	}
	if o.Lease {
		allow.Rules = append(allow.Rules, types.NewRule(types.KindSemaphore, []string{types.VerbCreate, types.VerbUpdate}))
		warnings = append(warnings, leaseWarning)
	}
	if len(allow.Rules) == 0 {
		return nil, nil, failure.New(failure.Configuration, "a role needs at least one kind of resource")
	}
	role, err := types.NewRole(o.Name, types.RoleSpecV6{Allow: allow})
	if err != nil {
		return nil, nil, failure.Wrap(failure.Configuration, err, "the role %q can't be made: %s", o.Name, trace.UserMessage(err))
	}
	return role, warnings, nil
}

const (
	agentWarning = "AGENT MODE: the right to create tokens can't be limited. Whoever has this bot's identity can make a token for any role, Auth and Proxy included, and that is the whole cluster. Use dynamic mode if you can; else give this role to a bot of its own, on a host that you trust as much as an Auth Service. And because it must see whether a name is taken, the role may see every application of the cluster (app_labels is '*'), and so its bearer may open every one."

	leaseWarning = "Lease: the right to semaphores can't be limited to one. Whoever has this bot's identity can take any of the cluster's, such as those that limit users' sessions."

	mixedWarning = "The service registers applications in both modes: app_labels can't be limited then, and the cluster itself doesn't keep the service from changing others' dynamic applications. Use a bot and a service for each mode."

	kubeWarning = "Kubernetes clusters: labels limit what is listed and written, but not what is watched. Whoever has this bot's identity can watch every dynamic Kubernetes cluster that anybody registers or changes, with the credentials in its kubeconfig."

	desktopWarning = "Windows desktops: the cluster checks labels when a desktop is changed or deleted, and doesn't when one is created."
)
