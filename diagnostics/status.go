package diagnostics

import (
	"time"

	"rollcall/internal/oneline"
)

// State is a service's state in one word.
type State string

const (
	// StateStarting: the service hasn't reported anything yet.
	StateStarting State = "starting"
	// StateReady: what the service provides is there and valid.
	StateReady State = "ready"
	// StateFailing: it hasn't provided anything so far, and attempts fail.
	StateFailing State = "failing"
	// StateExpired: what it provided has ended and nothing replaced it.
	StateExpired State = "expired"
	// StateStopped: it ended on purpose.
	StateStopped State = "stopped"
)

// Status is what the world sees of one service. Times are absent if unknown.
type Status struct {
	Name  string `json:"name"`
	Kind  string `json:"kind"`
	State State  `json:"state"`
	// Ready is true in StateReady only.
	Ready bool `json:"ready"`
	// Degraded means ready, although the last attempt failed.
	Degraded bool `json:"degraded"`
	// Message is the last report in one sentence.
	Message string `json:"message,omitempty"`
	// NotAfter is when what the service provides ends; absent: never, or
	// nothing is there.
	NotAfter *time.Time `json:"not_after,omitempty"`
	// SecondsLeft until NotAfter, never below zero.
	SecondsLeft *int64 `json:"seconds_left,omitempty"`
	// Next is when the service tries again.
	Next *time.Time `json:"next,omitempty"`
	// LastSuccess is when it last renewed.
	LastSuccess *time.Time `json:"last_success,omitempty"`
	LastFailure *time.Time `json:"last_failure,omitempty"`
	// LastError stays after a success, beside LastFailure, so that a fault
	// that comes and goes can be found.
	LastError           string `json:"last_error,omitempty"`
	ConsecutiveFailures int    `json:"consecutive_failures"`
	// LastHook is what the last run of its hooks came to; absent: none ran.
	LastHook *HookStatus `json:"last_hook,omitempty"`
	// Reports counts the reports so far.
	Reports uint64 `json:"-"`
}

// HookStatus is what a run of a service's hooks came to.
type HookStatus struct {
	Time time.Time `json:"time"`
	OK   bool      `json:"ok"`
	// Message says which hook, or what it did.
	Message string `json:"message,omitempty"`
	Error   string `json:"error,omitempty"`
}

func optional(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// sentence returns an error's text for people, on one line.
func sentence(err error) string {
	if err == nil {
		return ""
	}
	return oneline.Join(err.Error())
}
