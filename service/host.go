package service

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"rollcall/diagnostics"
	"rollcall/failure"
)

// StopTimeout is what all services together get to stop.
const StopTimeout = 5 * time.Second

// Host runs services side by side and keeps the failure of one from the
// others. Add everything first, then call Run or Once, once. RenewAll and Alive
// are safe for concurrent use with them.
type Host struct {
	log      *slog.Logger
	reporter func(name string) diagnostics.Reporter
	random   func() float64

	// mu protects the following.
	mu      sync.Mutex
	members []*member
	// done is the Done channel of Run's context; nil while Run isn't running.
	done <-chan struct{}
	// begun is true once Run was called.
	begun bool
}

// member is one service in the host's care.
type member struct {
	Service
	first      bool
	unreported bool
	// restart cuts a backoff short.
	restart chan struct{}
	// ended is closed when the service won't run any more.
	ended chan struct{}
}

// AddOption changes how a service is hosted.
type AddOption func(*member)

// First marks a prerequisite: Once runs it before the others, in the order of
// Add, and tries nothing else if it fails. Run starts everything at once.
func First(m *member) { m.first = true }

// Unreported keeps a service out of the diagnostics and so out of readiness.
// It's for what never reports a success by itself.
func Unreported(m *member) { m.unreported = true }

// NewHost returns an empty host. reporter gives the place where crashes of a
// service are reported; the board's entries do. It may return nil.
func NewHost(log *slog.Logger, reporter func(name string) diagnostics.Reporter) *Host {
	return &Host{log: log, reporter: reporter, random: rand.Float64}
}

// Add takes a service. It fails if there is one of that name already.
func (h *Host) Add(s Service, options ...AddOption) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, other := range h.members {
		if other.Name() == s.Name() {
			return failure.New(failure.Configuration, "two services are named %q; give one of them another name", s.Name())
		}
	}
	m := &member{Service: s, restart: make(chan struct{}, 1), ended: make(chan struct{})}
	for _, option := range options {
		option(m)
	}
	h.members = append(h.members, m)
	return nil
}

// Run runs all services until ctx is cancelled, and restarts those that fail.
// After the cancellation they have StopTimeout in all; Run returns an error
// that names those that haven't stopped by then, and else nil.
func (h *Host) Run(ctx context.Context) error {
	members := h.start(ctx.Done())
	defer h.start(nil)
	for _, m := range members {
		go func() {
			defer close(m.ended)
			h.supervise(ctx, m)
		}()
	}
	<-ctx.Done()
	return h.await(ctx, members)
}

func (h *Host) start(done <-chan struct{}) []*member {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.done, h.begun = done, true
	return h.members
}

// await waits for the members' goroutines. Go can't end a goroutine from
// outside, so one that is stuck is left behind, for the process to end with it.
func (h *Host) await(ctx context.Context, members []*member) error {
	timer := time.NewTimer(StopTimeout)
	defer timer.Stop()
	late := false
	var stuck []string
	for _, m := range members {
		if !late {
			select {
			case <-m.ended:
			case <-timer.C:
				late = true
			}
		}
		if !closed(m.ended) {
			stuck = append(stuck, m.Name())
		}
	}
	if len(stuck) == 0 {
		return nil
	}
	h.log.DebugContext(ctx, "Services are left behind.", "services", stuck)
	return failure.New(failure.Other, "these services did not stop within %s: %s", StopTimeout, strings.Join(stuck, ", "))
}

// RenewAll tells every Renewer to renew now, and ends the backoff of services
// that wait for a restart. It doesn't wait for the renewals.
func (h *Host) RenewAll(reason string) {
	h.mu.Lock()
	members := h.members
	h.mu.Unlock()
	for _, m := range members {
		h.renew(m, reason)
		select {
		case m.restart <- struct{}{}:
		default:
		}
	}
}

func (h *Host) renew(m *member, reason string) {
	renewer, ok := m.Service.(Renewer)
	if !ok {
		return
	}
	_ = h.guard(context.Background(), m.Name(), func() error {
		renewer.RenewNow(reason)
		return nil
	})
}

// Alive returns nil while Run takes care of every service: each is running, and
// doesn't hang as far as it can tell (see Prober), or waits for its restart;
// and before Run, when there's nothing to look after.
// It's what the watchdog asks.
func (h *Host) Alive() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case !h.begun:
		return nil // there's nothing to look after yet
	case h.done == nil:
		return failure.New(failure.Other, "the services aren't being run")
	}
	for _, m := range h.members {
		if closed(m.ended) && !closed(h.done) {
			return failure.New(failure.Other, "%s isn't looked after any more", m.Name())
		}
		prober, ok := m.Service.(Prober)
		if !ok || closed(h.done) {
			continue
		}
		if err := prober.Alive(); err != nil {
			return failure.Wrap(failure.Other, err, "%s is %s", m.Name(), err)
		}
	}
	return nil
}

func closed(channel <-chan struct{}) bool {
	select {
	case <-channel:
		return true
	default:
		return false
	}
}

// reporterOf returns the member's reporter, or nil.
func (h *Host) reporterOf(m *member) diagnostics.Reporter {
	if m.unreported || h.reporter == nil {
		return nil
	}
	return h.reporter(m.Name())
}
