package service

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/gravitational/trace"

	"rollcall/diagnostics"
	"rollcall/failure"
)

// supervise runs one service until ctx is cancelled.
func (h *Host) supervise(ctx context.Context, m *member) {
	var waits backoff
	for ctx.Err() == nil {
		began := time.Now()
		err := h.attempt(ctx, m)
		if ctx.Err() != nil {
			h.stopped(ctx, m, err)
			return
		}
		if err == nil {
			err = failure.New(failure.Other, "%s ended although nobody stopped it", m.Name())
		}
		ran := time.Since(began)
		delay := waits.next(ran, h.random())
		h.failed(ctx, m, err, ran, delay)
		m.rest(ctx, delay)
	}
	h.stopped(ctx, m, nil)
}

// attempt runs the service once and turns a panic into an error.
func (h *Host) attempt(ctx context.Context, m *member) error {
	return h.guard(ctx, m.Name(), func() error { return m.Run(ctx) })
}

// guard calls work and turns a panic into an error. The stack goes to the
// debug log only. So does the panic's value unless it's the runtime's own
// text: nobody promised that it holds no secret, and errors are shown widely.
func (h *Host) guard(ctx context.Context, name string, work func() error) (err error) {
	defer func() {
		value := recover()
		if value == nil {
			return
		}
		h.log.DebugContext(ctx, "A service panicked.", diagnostics.KeyService, name,
			"panic", fmt.Sprint(value), "stack", string(debug.Stack()))
		detail := ""
		if fault, ok := value.(runtime.Error); ok {
			detail = ": " + fault.Error()
		}
		err = failure.New(failure.Other, "%s stopped on an internal fault (panic%s); --debug logs the details, please report it", name, detail)
	}()
	return trace.Wrap(work())
}

// failed logs and reports that the service doesn't run just now.
func (h *Host) failed(ctx context.Context, m *member, err error, ran, delay time.Duration) {
	h.log.ErrorContext(ctx, "A service failed and is restarted.", diagnostics.KeyService, m.Name(),
		diagnostics.KeyErr, err, "ran", ran.Round(time.Millisecond), "restart_in", delay.Round(time.Millisecond))
	if reporter := h.reporterOf(m); reporter != nil {
		reporter.Report(diagnostics.Report{Err: err, Next: time.Now().Add(delay), Crashed: true})
	}
}

// stopped notes the end of a service after the cancellation.
func (h *Host) stopped(ctx context.Context, m *member, err error) {
	if err != nil && !errors.Is(err, context.Canceled) {
		h.log.WarnContext(ctx, "A service failed while it stopped.", diagnostics.KeyService, m.Name(), diagnostics.KeyErr, err)
	}
	if entry, ok := h.reporterOf(m).(interface{ Stopped() }); ok {
		entry.Stopped()
	}
}

// rest waits for delay, for ctx, or for RenewAll.
func (m *member) rest(ctx context.Context, delay time.Duration) {
	// A request from before the failure doesn't count.
	select {
	case <-m.restart:
	default:
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-m.restart:
	case <-ctx.Done():
	}
}
