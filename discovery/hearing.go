package discovery

import (
	"context"
	"sync"
	"time"

	"rollcall/diagnostics"
	"rollcall/discovery/resource"
	"rollcall/failure"
)

const (
	// gathering is how long changes in Teleport are gathered before one of them
	// is looked at: however many there are, that costs no more.
	gathering = 500 * time.Millisecond
	// mostHeard bounds what is gathered. Beyond it nothing is remembered but
	// that something changed.
	mostHeard = 4096
	// refusedRetry is when a watch that the role doesn't allow is tried again:
	// the role may be another by then.
	refusedRetry = 10 * time.Minute
	// tellAfter is how many failures in a row are told: a proxy that restarts
	// cuts every watch, and is no news. A watch that has stood for maxRetry ends
	// the row.
	tellAfter = 5
	// soonLooks is how many changes in a row are followed at once, and pace the
	// time between two beyond that: who fights with us makes no storm of lists.
	soonLooks = 10
	pace      = 20 * time.Second
)

// heard is what Teleport told of changes since they were last taken. It's safe
// for concurrent use.
type heard struct {
	// mu protects the following.
	mu sync.Mutex
	// states are what the changes left, in order; nil: it's gone.
	states map[resource.Key][]*resource.Resource
	number int
	// missed is when something may have been missed for the last time.
	missed time.Time
}

// change notes one change.
func (h *heard) change(key resource.Key, now *resource.Resource) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.number >= mostHeard {
		h.states, h.number, h.missed = nil, 0, time.Now()
		return
	}
	if h.states == nil {
		h.states = map[resource.Key][]*resource.Resource{}
	}
	h.states[key] = append(h.states[key], now)
	h.number++
}

// gap notes that what happened until now may have been missed.
func (h *heard) gap(until time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.missed = until
}

// take returns what was noted, and forgets the changes.
func (h *heard) take() (states map[resource.Key][]*resource.Resource, missed time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	states, h.states, h.number = h.states, nil, 0
	return states, h.missed
}

// hear has changes in Teleport wake the loop until ctx ends. It closes begun once
// every watch stands, or has failed.
func (r *Reconciler) hear(ctx context.Context, begun chan<- struct{}) {
	var watching, beginning sync.WaitGroup
	for kind, registry := range r.opts.Registries {
		if watched, ok := registry.(Watched); ok {
			beginning.Add(1)
			watching.Go(func() { r.hearKind(ctx, kind, watched, sync.OnceFunc(beginning.Done)) })
		}
	}
	beginning.Wait()
	close(begun)
	watching.Wait()
}

// hearKind watches one kind, again and again. It calls begun once the first watch
// stands, or has failed.
func (r *Reconciler) hearKind(ctx context.Context, kind resource.Kind, registry Watched, begun func()) {
	defer begun()
	told := false
	for failures := 1; ctx.Err() == nil; failures++ {
		began, stood := time.Now(), false
		err := registry.Watch(ctx, func() {
			stood = true
			r.heard.gap(time.Now())
			r.wakers.change.put("")
			begun()
		}, func(key resource.Key, now *resource.Resource) {
			r.heard.change(key, r.needed(now))
			r.wakers.change.put("")
		})
		begun()
		if ctx.Err() != nil {
			return
		}
		switch {
		case stood && time.Since(began) > maxRetry:
			told, failures = false, 1
		case !stood && err == nil:
			err = failure.New(failure.Transient, "watching %s ended before it had begun", kind)
		}
		wait := retryDelay(failures, r.opts.Random())
		refused := failure.KindOf(err) == failure.Refused
		if refused {
			wait = refusedRetry
		}
		if err != nil && !told && (refused || failures >= tellAfter) {
			told = true
			r.log.WarnContext(ctx, "Changes in Teleport can't be watched; until they can, what others change is seen at the next full comparison.",
				"kind", string(kind), diagnostics.KeyErr, err)
		}
		r.wakers.watches[kind].await(ctx, wait)
	}
}

// needed is as much of what was told as is looked at: of what isn't ours, that
// it's there, and whose it is. It may hold credentials.
func (r *Reconciler) needed(now *resource.Resource) *resource.Resource {
	if now == nil || r.ours(now) {
		return now
	}
	return &resource.Resource{Kind: now.Kind, Name: now.Name, Labels: now.Labels}
}

// ours says whether the marks say that it's ours and our source's.
func (r *Reconciler) ours(res *resource.Resource) bool {
	return res.Owner() == r.opts.Owner && res.Labels[resource.LabelSource] == r.opts.SourceName
}

// sift asks for a full comparison if what was heard concerns us.
func (r *Reconciler) sift(now time.Time) {
	r.schedule.sift = time.Time{}
	states, missed := r.heard.take()
	changes := make(map[resource.Key]*resource.Resource, len(states))
	for key, all := range states {
		r.seen.hear(key, all)
		changes[key] = all[len(all)-1]
	}
	if r.schedule.failures > 0 {
		return // the retry lists everything
	}
	if !r.seen.listed || missed.After(r.schedule.listed) || r.concern(changes) {
		r.schedule.changed(now)
	}
}

// concern says whether changes tell anything that we don't know of what is ours,
// or of a name that is asked for. Our own writes tell what we know.
func (r *Reconciler) concern(changes map[resource.Key]*resource.Resource) bool {
	if len(changes) == 0 {
		return false
	}
	known := map[resource.Key]bool{}
	for i := range r.seen.all {
		before := &r.seen.all[i]
		now, changed := changes[before.Key()]
		if !changed || !r.ours(before) {
			continue
		}
		known[before.Key()] = true
		if !same(now, before) {
			return true
		}
	}
	for key, now := range changes {
		if now != nil && r.ours(now) && !known[key] {
			return true
		}
	}
	// A name that another had, whom we may not even see, is free.
	for i := range r.desired {
		if now, changed := changes[r.desired[i].Resource.Key()]; changed && now == nil {
			return true
		}
	}
	return false
}
