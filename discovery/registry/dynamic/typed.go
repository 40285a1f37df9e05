package dynamic

import (
	"context"

	"github.com/gravitational/teleport/api/types"
	"github.com/gravitational/trace"

	"rollcall/cluster"
	"rollcall/discovery/resource"
	"rollcall/failure"
)

// form translates between Teleport's resources R and ours. All of it is pure.
type form[R types.ResourceWithLabels] struct {
	// read returns what we have words for.
	read func(R) resource.Resource
	// blank is a resource with nothing in it.
	blank func() R
	// merge writes r into a resource and checks it as Teleport does; what we
	// have no words for stays.
	merge func(into R, r resource.Resource) error
	// holds says whether merge leaves the resource at its place; nil: always.
	holds func(R, resource.Resource) bool
}

// make returns a new resource of Teleport's. Errors are failure.Configuration.
func (f form[R]) make(r resource.Resource) (R, error) {
	made := f.blank()
	if err := f.write(made, r); err != nil {
		var none R
		return none, err
	}
	return made, nil
}

func (f form[R]) write(into R, r resource.Resource) error {
	if err := f.merge(into, r); err != nil {
		return failure.Wrap(failure.Configuration, err, "%s: %s", r.Key(), trace.UserMessage(err))
	}
	return nil
}

// canonical is r as it's read back after it was written.
func (f form[R]) canonical(r resource.Resource) (resource.Resource, error) {
	made, err := f.make(r)
	if err != nil {
		return resource.Resource{}, err
	}
	return f.read(made), nil
}

// canonicaliser is the part of a form that Canonical needs, for any R.
type canonicaliser interface {
	canonical(r resource.Resource) (resource.Resource, error)
}

// Canonical returns r as the registry lists it once it's registered: defaults
// are filled in and spellings made one. Comparing anything else would find
// differences for ever. What Teleport would refuse is failure.Configuration. It's
// pure, and its own fixed point.
func Canonical(r resource.Resource) (resource.Resource, error) {
	f, ok := map[resource.Kind]canonicaliser{
		resource.KindApp:            appForm(),
		resource.KindDatabase:       databaseForm(),
		resource.KindKubeCluster:    kubeForm(),
		resource.KindWindowsDesktop: desktopForm(),
	}[r.Kind]
	if !ok {
		return resource.Resource{}, unknownKind(r.Kind)
	}
	return f.canonical(r)
}

func unknownKind(kind resource.Kind) error {
	return failure.New(failure.Configuration, "%q is no kind of resource that can be registered: it's one of %v", kind, resource.Kinds())
}

// storeOf returns the cluster's store of a kind.
func storeOf(access *cluster.Access, kind resource.Kind) (store, error) {
	switch kind {
	case resource.KindApp:
		return &typed[types.Application]{access.Apps(), appForm()}, nil
	case resource.KindDatabase:
		return &typed[types.Database]{access.Databases(), databaseForm()}, nil
	case resource.KindKubeCluster:
		return &typed[types.KubeCluster]{access.KubeClusters(), kubeForm()}, nil
	case resource.KindWindowsDesktop:
		return &typed[types.WindowsDesktop]{access.WindowsDesktops(), desktopForm()}, nil
	default:
		return nil, unknownKind(kind)
	}
}

// typed is the store of one kind.
type typed[R types.ResourceWithLabels] struct {
	cluster *cluster.Store[R]
	form    form[R]
}

func (s *typed[R]) list(ctx context.Context) ([]resource.Resource, error) {
	all, err := s.cluster.List(ctx)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	forms := make([]resource.Resource, 0, len(all))
	for _, one := range all {
		forms = append(forms, s.form.read(one))
	}
	return forms, nil
}

func (s *typed[R]) find(ctx context.Context, name string) ([]found, error) {
	all, err := s.cluster.Find(ctx, name)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	var ones []found
	for _, one := range all {
		// Windows desktops are found by a filter; the rest is for certainty.
		if one.GetName() == name {
			ones = append(ones, &typedFound[R]{s, one})
		}
	}
	return ones, nil
}

func (s *typed[R]) create(ctx context.Context, r resource.Resource) error {
	made, err := s.form.make(r)
	if err != nil {
		return trace.Wrap(err)
	}
	return trace.Wrap(s.cluster.Create(ctx, made))
}

func (s *typed[R]) watch(ctx context.Context, subscribed func(), changed func(string, *resource.Resource)) error {
	return trace.Wrap(s.cluster.Watch(ctx, subscribed, func(name string, now R, there bool) {
		if !there {
			changed(name, nil)
			return
		}
		read := s.form.read(now)
		changed(name, &read)
	}))
}

// typedFound is a resource as it was just read.
type typedFound[R types.ResourceWithLabels] struct {
	store *typed[R]
	now   R
}

func (f *typedFound[R]) resource() resource.Resource { return f.store.form.read(f.now) }

func (f *typedFound[R]) holds(r resource.Resource) bool {
	return f.store.form.holds == nil || f.store.form.holds(f.now, r)
}

func (f *typedFound[R]) update(ctx context.Context, r resource.Resource) error {
	if err := f.store.form.write(f.now, r); err != nil {
		return trace.Wrap(err)
	}
	return trace.Wrap(f.store.cluster.Update(ctx, f.now))
}

func (f *typedFound[R]) remove(ctx context.Context) error {
	return trace.Wrap(f.store.cluster.Delete(ctx, f.now))
}
