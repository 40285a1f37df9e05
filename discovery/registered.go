package discovery

import (
	"context"
	"slices"
	"time"

	"github.com/gravitational/trace"

	"rollcall/discovery/resource"
)

// listTimeout bounds the reading of one side.
const listTimeout = time.Minute

// registered is what is registered, as far as we know: what was listed, and
// what we wrote since. So an event needn't list everything in Teleport.
type registered struct {
	// listed is false until everything was listed, and after a write of which
	// we don't know what came of it.
	listed bool
	// all is never changed in place: plans point into it.
	all []resource.Resource
}

// list reads every kind anew.
func (r *Reconciler) list(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	began := time.Now()
	all := make([]resource.Resource, 0, len(r.seen.all))
	for _, kind := range resource.Kinds() {
		registry, ok := r.opts.Registries[kind]
		if !ok {
			continue
		}
		if err := r.limiter.Wait(ctx); err != nil {
			return trace.Wrap(err)
		}
		some, err := registry.List(ctx)
		if err != nil {
			return trace.Wrap(err, "the registered resources of kind %s can't be listed", kind)
		}
		all = append(all, some...)
	}
	r.seen = registered{listed: true, all: all}
	r.schedule.listed = began
	return nil
}

// note takes over what was written. Nil stands for a resource that is gone.
func (s *registered) note(written map[resource.Key]*resource.Resource) {
	if len(written) == 0 {
		return
	}
	all := make([]resource.Resource, 0, len(s.all)+len(written))
	for i := range s.all {
		now, changed := written[s.all[i].Key()]
		switch {
		case !changed:
			all = append(all, s.all[i])
		case now != nil:
			all = append(all, *now)
			delete(written, now.Key())
		}
	}
	for _, key := range sortedKeys(written) {
		if now := written[key]; now != nil {
			all = append(all, *now)
		}
	}
	s.all = all
}

func sortedKeys(m map[resource.Key]*resource.Resource) []resource.Key {
	keys := make([]resource.Key, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b resource.Key) int { return compareKeys(a, b) })
	return keys
}
