package discovery

import (
	"context"
	"slices"
	"time"

	"github.com/gravitational/trace"

	"rollcall/discovery/plan"
	"rollcall/discovery/resource"
)

// listTimeout bounds the reading of one side.
const listTimeout = time.Minute

// longestLag is how long what Teleport answers may be older than a write of ours.
// Its auth service answers reads from a cache that follows the backend's events,
// as a rule within a fraction of a second.
const longestLag = 30 * time.Second

// registered is what is registered, as far as we know: what was listed, and
// what we wrote since. So an event needn't list everything in Teleport.
type registered struct {
	// listed is false until everything was listed, after a write of which we
	// don't know what came of it, and while the list doesn't show all that we
	// wrote.
	listed bool
	// all is never changed in place: plans point into it.
	all []resource.Resource
	// recent are our writes that no list has shown yet.
	recent map[resource.Key]recentWrite
}

// recentWrite is what we wrote to one resource. Nil stands for a resource that
// isn't there.
type recentWrite struct {
	// before are the states that may still be read: what was there before each
	// write that no list has shown yet.
	before []*resource.Resource
	// after is what the last of them left, at that time.
	after *resource.Resource
	at    time.Time
	// told says that Teleport's events have told of the last write.
	told bool
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
	r.seen.take(all, time.Now())
	r.schedule.listed = began
	return nil
}

// take takes over a list. Where it shows what was there before a recent write of
// ours, it's older than the write, and the write counts. Whatever else it shows
// is somebody's later doing, and counts.
func (s *registered) take(all []resource.Resource, now time.Time) {
	s.listed, s.all = true, all
	if len(s.recent) == 0 {
		return
	}
	at := make(map[resource.Key]int, len(s.recent))
	for i := range all {
		if _, wrote := s.recent[all[i].Key()]; wrote {
			at[all[i].Key()] = i
		}
	}
	unseen := map[resource.Key]*resource.Resource{}
	for key, write := range s.recent {
		var there *resource.Resource
		if i, ok := at[key]; ok {
			there = &all[i]
		}
		if !write.hides(there, now) {
			delete(s.recent, key)
			continue
		}
		unseen[key] = write.after
	}
	if len(unseen) > 0 {
		s.merge(unseen)
		s.listed = false
	}
}

// hides says whether what was read is what was there before the write, and may
// still be read by now. What is marked as one to keep counts in any case: a
// person may have put just that back.
func (w recentWrite) hides(there *resource.Resource, now time.Time) bool {
	if same(there, w.after) || now.Sub(w.at) >= longestLag || there != nil && plan.Kept(there) {
		return false
	}
	return slices.ContainsFunc(w.before, func(before *resource.Resource) bool { return same(there, before) })
}

// current returns what is there, given what was just read of it: a write of ours
// that the answer doesn't show yet counts.
func (s *registered) current(key resource.Key, there *resource.Resource, now time.Time) *resource.Resource {
	if write, ok := s.recent[key]; ok && write.hides(there, now) {
		return write.after
	}
	return there
}

// hear takes over what was told of one resource, in order. What is told after our
// own write is somebody's later doing, even if it's what was there before.
func (s *registered) hear(key resource.Key, states []*resource.Resource) {
	write, recent := s.recent[key]
	if !recent {
		return
	}
	for _, now := range states {
		switch {
		case same(now, write.after):
			write.told = true
		case write.told:
			delete(s.recent, key)
			return
		}
	}
	s.recent[key] = write
}

// note takes over what was written.
func (s *registered) note(written map[resource.Key]recentWrite) {
	if len(written) == 0 {
		return
	}
	if s.recent == nil {
		s.recent = map[resource.Key]recentWrite{}
	}
	after := make(map[resource.Key]*resource.Resource, len(written))
	for key, write := range written {
		after[key] = write.after
		write.before = append(s.recent[key].before, write.before...)
		s.recent[key] = write
	}
	s.merge(after)
}

// merge puts what was written in the place of what was listed. Nil stands for a
// resource that is gone.
func (s *registered) merge(written map[resource.Key]*resource.Resource) {
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

// outgoing are what updates that were only begun haven't ended yet; see Delayed.
func (r *Reconciler) outgoing() []resource.Resource {
	var all []resource.Resource
	for _, kind := range resource.Kinds() {
		if delayed, ok := r.opts.Registries[kind].(Delayed); ok {
			all = append(all, delayed.Outgoing()...)
		}
	}
	return all
}

func sortedKeys(m map[resource.Key]*resource.Resource) []resource.Key {
	keys := make([]resource.Key, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b resource.Key) int { return compareKeys(a, b) })
	return keys
}
