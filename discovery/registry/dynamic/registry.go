// Package dynamic knows how the dynamic resources of a Teleport cluster are
// read and written as the reconciler's resources: one registry for each kind,
// and the translation between the two forms. It knows neither sources nor plans,
// and reaches the cluster only through package cluster.
//
// An update changes what a resource.Resource has words for, and leaves the rest
// of Teleport's resource as it was found.
package dynamic

import (
	"context"
	"errors"

	"github.com/gravitational/trace"

	"rollcall/cluster"
	"rollcall/discovery/resource"
	"rollcall/failure"
)

// Registry is a discovery.Registry of one kind. Every write reads first, and
// refuses (failure.Conflict) what isn't its owner's. Safe for concurrent use.
type Registry struct {
	kind  resource.Kind
	owner string
	adopt bool
	store store
}

// store is the cluster's resources of one kind, in our form.
type store interface {
	list(ctx context.Context) ([]resource.Resource, error)
	find(ctx context.Context, name string) ([]found, error)
	create(ctx context.Context, r resource.Resource) error
	watch(ctx context.Context, subscribed func(), changed func(name string, now *resource.Resource)) error
}

// found is one resource as it is in the cluster just now.
type found interface {
	resource() resource.Resource
	// holds says whether an update can turn it into r; else r is another one
	// beside it.
	holds(r resource.Resource) bool
	update(ctx context.Context, r resource.Resource) error
	remove(ctx context.Context) error
}

// New returns the registry of a kind, which writes only what carries owner in
// resource.LabelOwner.
func New(access *cluster.Access, kind resource.Kind, owner string) (*Registry, error) {
	s, err := storeOf(access, kind)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	return &Registry{kind: kind, owner: owner, store: s}, nil
}

// NewAdopting is New for `adopt`: Update doesn't ask whose the resource was.
func NewAdopting(access *cluster.Access, kind resource.Kind, owner string) (*Registry, error) {
	r, err := New(access, kind, owner)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	r.adopt = true
	return r, nil
}

// List returns every resource of the kind that the identity may see. Of several
// with one name (only Windows desktops have that) it's ours, else the first.
func (g *Registry) List(ctx context.Context) ([]resource.Resource, error) {
	all, err := g.store.list(ctx)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	return collapse(all, g.owner), nil
}

// Get reads one, past any cache of ours; failure.NotFound if there's none;
// failure.Refused if there's one that the identity may not see (a Windows desktop:
// failure.NotFound).
func (g *Registry) Get(ctx context.Context, name string) (resource.Resource, error) {
	all, err := g.find(ctx, name)
	if err != nil {
		return resource.Resource{}, trace.Wrap(err)
	}
	forms := make([]resource.Resource, 0, len(all))
	for _, f := range all {
		forms = append(forms, f.resource())
	}
	return collapse(forms, g.owner)[0], nil
}

// Create registers a resource. failure.Conflict: the name is taken; by whom is
// in the sentence, if the identity may see it. What is there already, ours and
// just as wanted, is no conflict: an earlier call's answer was lost, or a list
// was read from a cache that lags.
func (g *Registry) Create(ctx context.Context, r resource.Resource) error {
	err := g.store.create(ctx, r)
	if failure.KindOf(err) != failure.Conflict {
		return trace.Wrap(err)
	}
	there, getErr := g.Get(ctx, r.Name)
	switch {
	case failure.KindOf(getErr) == failure.NotFound, errors.Is(getErr, cluster.ErrHidden):
		return failure.Wrap(failure.Conflict, err,
			"creating %s: the name is taken by something that this identity may not see: choose another name, or remove it", r.Key())
	case getErr != nil:
		return failure.Wrap(failure.Conflict, err, "creating %s: the name is taken", r.Key())
	case there.Owner() == g.owner && asWanted(there, r):
		return nil
	default:
		return failure.Wrap(failure.Conflict, err, "creating %s: the name is taken: %s", r.Key(), whose(there))
	}
}

// Watch tells of every change of the kind, whoever makes it; see
// discovery.Watched. It needs no right that List doesn't.
func (g *Registry) Watch(ctx context.Context, subscribed func(), changed func(resource.Key, *resource.Resource)) error {
	return trace.Wrap(g.store.watch(ctx, subscribed, func(name string, now *resource.Resource) {
		changed(resource.Key{Kind: g.kind, Name: name}, now)
	}))
}

// Update makes the registered resource be r.
func (g *Registry) Update(ctx context.Context, r resource.Resource) error {
	all, err := g.find(ctx, r.Name)
	if err != nil {
		return trace.Wrap(err)
	}
	ours := g.ours(all)
	if len(ours) == 0 {
		return g.foreign("updating", all[0])
	}
	kept := -1
	for i, f := range ours {
		if f.holds(r) {
			kept = i
		}
	}
	if kept >= 0 {
		err = ours[kept].update(ctx, r)
	} else {
		err = g.store.create(ctx, r)
	}
	if err != nil {
		return trace.Wrap(err)
	}
	for i, f := range ours {
		if i == kept {
			continue
		}
		if err := f.remove(ctx); err != nil {
			return trace.Wrap(err)
		}
	}
	return nil
}

// Delete removes a resource. One that's gone already is no error.
func (g *Registry) Delete(ctx context.Context, r resource.Resource) error {
	all, err := g.find(ctx, r.Name)
	if failure.KindOf(err) == failure.NotFound {
		return nil
	}
	if err != nil {
		return trace.Wrap(err)
	}
	var ours []found
	for _, f := range all {
		if f.resource().Owner() == g.owner {
			ours = append(ours, f)
		}
	}
	if len(ours) == 0 {
		return g.foreign("deleting", all[0])
	}
	for _, f := range ours {
		if err := f.remove(ctx); err != nil && failure.KindOf(err) != failure.NotFound {
			return trace.Wrap(err)
		}
	}
	return nil
}

// find returns what has the name: at least one, or failure.NotFound.
func (g *Registry) find(ctx context.Context, name string) ([]found, error) {
	all, err := g.store.find(ctx, name)
	if errors.Is(err, cluster.ErrHidden) {
		return nil, failure.Wrap(failure.Refused, err, "%s (the service's own have %s: %s)", err, resource.LabelOwner, g.owner)
	}
	if err != nil {
		return nil, trace.Wrap(err)
	}
	if len(all) == 0 {
		return nil, failure.New(failure.NotFound, "%s isn't registered", resource.Key{Kind: g.kind, Name: name})
	}
	return all, nil
}

// ours are those that an update may change.
func (g *Registry) ours(all []found) []found {
	if g.adopt && len(all) == 1 {
		return all
	}
	var ours []found
	for _, f := range all {
		if f.resource().Owner() == g.owner {
			ours = append(ours, f)
		}
	}
	return ours
}

func (g *Registry) foreign(op string, f found) error {
	r := f.resource()
	return failure.New(failure.Conflict, "%s %s: it isn't ours: %s", op, r.Key(), whose(r))
}

// asWanted says whether a resource is as r would be.
func asWanted(there, r resource.Resource) bool {
	wanted, err := Canonical(r)
	return err == nil && resource.Equal(there, wanted)
}

// whose says who a resource belongs to.
func whose(r resource.Resource) string {
	if owner := r.Owner(); owner != "" {
		return "its label " + resource.LabelOwner + " says " + owner
	}
	return "it has no label " + resource.LabelOwner
}
