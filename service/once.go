package service

import (
	"context"
	"strings"
	"sync"
	"time"

	"rollcall/diagnostics"
	"rollcall/failure"
)

// Outcome is what one service's Once came to.
type Outcome struct {
	Name string
	// Err is nil if it worked.
	Err error
	// Skipped means that it wasn't tried, because a prerequisite failed; Err
	// says which.
	Skipped bool
	// Took is how long it took.
	Took time.Duration
	// NotAfter is when what it provides ends; zero: never, or unknown.
	NotAfter time.Time
}

// Once calls Once of every Oncer, and returns one outcome each, in the order of
// Add. Those marked with First run first, one by one; if one fails, the rest
// is skipped, since it would only wait for what won't come. The others run
// side by side and none stops another. The caller limits the time with ctx.
func (h *Host) Once(ctx context.Context) []Outcome {
	members := h.oncers(ctx)
	outcomes := make([]Outcome, len(members))
	var missing error
	for i, m := range members {
		if !m.first {
			continue
		}
		if missing != nil {
			outcomes[i] = skipped(m, missing)
			continue
		}
		outcomes[i] = h.once(ctx, m)
		if err := outcomes[i].Err; err != nil {
			missing = failure.Wrap(failure.KindOf(err), err, "not tried, because %s failed", m.Name())
		}
	}
	var group sync.WaitGroup
	for i, m := range members {
		if m.first {
			continue
		}
		if missing != nil {
			outcomes[i] = skipped(m, missing)
			continue
		}
		group.Go(func() { outcomes[i] = h.once(ctx, m) })
	}
	group.Wait()
	return outcomes
}

func (h *Host) oncers(ctx context.Context) []*member {
	h.mu.Lock()
	defer h.mu.Unlock()
	var oncers []*member
	for _, m := range h.members {
		if _, ok := m.Service.(Oncer); ok {
			oncers = append(oncers, m)
			continue
		}
		h.log.InfoContext(ctx, "A service that only runs for long is left out.", diagnostics.KeyService, m.Name())
	}
	return oncers
}

func (h *Host) once(ctx context.Context, m *member) Outcome {
	oncer, _ := m.Service.(Oncer)
	began := time.Now()
	err := h.guard(ctx, m.Name(), func() error { return oncer.Once(ctx) })
	outcome := Outcome{Name: m.Name(), Err: err, Took: time.Since(began)}
	if entry, ok := h.reporterOf(m).(interface{ Status() diagnostics.Status }); ok {
		if notAfter := entry.Status().NotAfter; notAfter != nil {
			outcome.NotAfter = *notAfter
		}
	}
	return outcome
}

func skipped(m *member, why error) Outcome {
	return Outcome{Name: m.Name(), Err: why, Skipped: true}
}

// Failed returns nil if every outcome is good, else one error that counts and
// names the bad ones. Its kind, which decides the exit code, is the one that
// asks most of the user: configuration, then trust, refused, not found,
// unreachable.
func Failed(outcomes []Outcome) error {
	var names []string
	kind := failure.Other
	for _, outcome := range outcomes {
		if outcome.Err == nil {
			continue
		}
		names = append(names, outcome.Name)
		if k := failure.KindOf(outcome.Err); weight(k) > weight(kind) {
			kind = k
		}
	}
	if len(names) == 0 {
		return nil
	}
	return failure.New(kind, "%d of %d services failed: %s", len(names), len(outcomes), strings.Join(names, ", "))
}

func weight(kind failure.Kind) int {
	switch kind {
	case failure.Configuration:
		return 6
	case failure.Trust:
		return 5
	case failure.Refused:
		return 4
	case failure.NotFound:
		return 3
	case failure.Unreachable:
		return 2
	case failure.Transient:
		return 1
	default:
		return 0
	}
}
