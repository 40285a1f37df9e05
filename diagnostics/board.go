// Package diagnostics knows the agent's state as others see it: /livez,
// /readyz, /metrics and status. Whoever works reports to it; it asks nobody.
package diagnostics

import (
	"slices"
	"strings"
	"sync"
	"time"
)

// Report is what a service says of itself after each attempt.
type Report struct {
	// Err is nil after a success. Its text is shown to people as it is.
	Err error
	// Took is how long the attempt took; zero: not measured.
	Took time.Duration
	// NotAfter is when what the service provides ends; zero: never. After a
	// failure zero means "as before": what an earlier attempt provided is
	// still there. A service that lost it early says so with a past time.
	NotAfter time.Time
	// Next is when the service tries again; zero: unknown.
	Next time.Time
	// Detail is one short sentence for people; never a secret.
	Detail string
	// Unchanged says that the attempt found nothing to renew (a restart with
	// a certificate that isn't due): it makes the service ready without
	// counting as a renewal.
	Unchanged bool
	// Crashed says that the service itself isn't running just now. What ends
	// by its own date stays valid then (files on disk); what has none doesn't.
	// Only the host sets it.
	Crashed bool
}

// Reporter takes the reports of one service. It's safe for concurrent use.
type Reporter interface {
	Report(Report)
}

// Board holds what every service last said of itself. It's safe for
// concurrent use.
type Board struct {
	now     func() time.Time
	metrics *metrics

	// mu protects the following.
	mu      sync.Mutex
	entries map[string]*Entry
	changed chan struct{} // closed and replaced at each report
}

// NewBoard returns an empty board that reads the time with now.
func NewBoard(now func() time.Time) *Board {
	return &Board{now: now, metrics: newMetrics(), entries: make(map[string]*Entry), changed: make(chan struct{})}
}

// Changed returns a channel that is closed at the next report.
func (b *Board) Changed() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.changed
}

// tellLocked wakes those who wait for a change.
func (b *Board) tellLocked() {
	close(b.changed)
	b.changed = make(chan struct{})
}

// Reporter returns the place where the service of that name reports, and makes
// it on the first call: one per configured service, which is what bounds the
// number of metrics. The kind is a word for people ("output", "tunnel"); the
// first call that gives one sets it.
func (b *Board) Reporter(name, kind string) *Entry {
	b.mu.Lock()
	defer b.mu.Unlock()
	entry, ok := b.entries[name]
	if !ok {
		entry = &Entry{board: b, name: name}
		b.entries[name] = entry
		b.metrics.announce(name)
	}
	if entry.kind == "" {
		entry.kind = kind
	}
	return entry
}

// Snapshot returns the state of every service as it is now, sorted by name.
func (b *Board) Snapshot() []Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	all := make([]Status, 0, len(b.entries))
	for _, entry := range b.entries {
		all = append(all, entry.statusLocked(now))
	}
	slices.SortFunc(all, func(a, c Status) int { return strings.Compare(a.Name, c.Name) })
	return all
}

// Status returns the state of one service; false: there is none of that name.
func (b *Board) Status(name string) (Status, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	entry, ok := b.entries[name]
	if !ok {
		return Status{}, false
	}
	return entry.statusLocked(b.now()), true
}
