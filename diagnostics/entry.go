package diagnostics

import (
	"time"

	"rollcall/internal/oneline"
)

// Entry is one service's place on the board. It satisfies Reporter and is safe
// for concurrent use; the board's mutex protects its fields.
type Entry struct {
	board *Board
	name  string
	kind  string

	// provided says that something was there at least once; notAfter is when
	// it ends (zero: never).
	provided bool
	notAfter time.Time

	stopped     bool
	crashed     bool
	message     string
	next        time.Time
	lastSuccess time.Time
	lastFailure time.Time
	lastError   string
	consecutive int
	reports     uint64
	hook        *HookStatus
}

// Report notes what an attempt came to.
func (e *Entry) Report(report Report) {
	e.board.mu.Lock()
	defer e.board.mu.Unlock()
	e.stopped = false
	e.crashed = report.Crashed
	e.next = report.Next
	if report.Err != nil {
		e.failed(report)
	} else {
		e.succeeded(report)
	}
	e.reports++
	e.board.metrics.count(e.name, report)
	e.board.tellLocked()
}

// Hook notes what the last run of the service's hooks came to; detail is one
// short sentence for people (of which hook), never a secret.
func (e *Entry) Hook(err error, detail string) {
	e.board.mu.Lock()
	defer e.board.mu.Unlock()
	e.hook = &HookStatus{Time: e.board.now().UTC(), OK: err == nil, Message: oneline.Join(detail), Error: sentence(err)}
	e.board.tellLocked()
}

func (e *Entry) succeeded(report Report) {
	e.provided = true
	e.notAfter = report.NotAfter
	e.consecutive = 0
	e.message = oneline.Join(report.Detail)
	// A certificate that was found in place isn't a success of ours: who reads
	// last_success wants to know when the cluster last said yes.
	if !report.Unchanged {
		e.lastSuccess = e.board.now()
	}
}

func (e *Entry) failed(report Report) {
	if !report.NotAfter.IsZero() {
		e.provided = true
		e.notAfter = report.NotAfter
	}
	e.consecutive++
	e.lastFailure = e.board.now()
	e.lastError = sentence(report.Err)
	e.message = oneline.Join(report.Detail)
	if e.message == "" {
		e.message = e.lastError
	}
}

// Stopped notes that the service has ended on purpose.
func (e *Entry) Stopped() {
	e.board.mu.Lock()
	defer e.board.mu.Unlock()
	e.stopped = true
	e.board.tellLocked()
}

// Status returns the service's state as it is now.
func (e *Entry) Status() Status {
	e.board.mu.Lock()
	defer e.board.mu.Unlock()
	return e.statusLocked(e.board.now())
}

func (e *Entry) statusLocked(now time.Time) Status {
	status := Status{
		Name:                e.name,
		Kind:                e.kind,
		State:               e.stateLocked(now),
		Message:             e.message,
		NotAfter:            optional(e.notAfter),
		Next:                optional(e.next),
		LastSuccess:         optional(e.lastSuccess),
		LastFailure:         optional(e.lastFailure),
		LastError:           e.lastError,
		ConsecutiveFailures: e.consecutive,
		LastHook:            e.hook,
		Reports:             e.reports,
	}
	status.Ready = status.State == StateReady
	status.Degraded = status.Ready && e.consecutive > 0
	if status.NotAfter != nil {
		left := max(0, int64(e.notAfter.Sub(now)/time.Second))
		status.SecondsLeft = &left
	}
	return status
}

// stateLocked decides from the time that is left, and not from how the last
// attempt went: a failed renewal hurts nobody while the certificate lives.
func (e *Entry) stateLocked(now time.Time) State {
	ends := !e.notAfter.IsZero()
	switch {
	case e.stopped:
		return StateStopped
	case !e.provided && e.consecutive == 0:
		return StateStarting
	case !e.provided:
		return StateFailing
	case ends && !now.Before(e.notAfter):
		return StateExpired
	case !ends && e.crashed:
		return StateFailing
	default:
		return StateReady
	}
}
