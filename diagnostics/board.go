// Package diagnostics knows the agent's state as others see it: /livez,
// /readyz, /metrics and status. Whoever works reports to it; it asks nobody.
package diagnostics

import "time"

// Report is what a service says of itself after each attempt.
type Report struct {
	// Err is nil after a success.
	Err error
	// Took is how long the attempt took; zero: not measured.
	Took time.Duration
	// NotAfter is when what the service provides ends; zero: never.
	NotAfter time.Time
	// Next is when the service tries again; zero: unknown.
	Next time.Time
	// Detail is one short sentence for people; never a secret.
	Detail string
	// Unchanged says that the attempt found nothing to renew (a restart with
	// a certificate that isn't due): it makes the service ready without
	// counting as a renewal.
	Unchanged bool
}

// Reporter takes the reports of one service. It's safe for concurrent use.
type Reporter interface {
	Report(Report)
}
