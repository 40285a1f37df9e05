// Package service knows how to host: order, restarts with backoff, readiness,
// reload, clean stop. It knows neither Teleport nor YAML.
package service

import "context"

// Service is one thing that the agent hosts: the identity's keeper, an output,
// a tunnel, a reconciler.
type Service interface {
	// Name is unique in the agent; it stands in logs, /readyz and metrics.
	Name() string
	// Run works until ctx is cancelled and then returns nil. It keeps retrying
	// transient failures by itself and reports them; it returns an error only
	// for what it can't go on from, and is then restarted with backoff.
	Run(ctx context.Context) error
}

// Oncer is a Service that can do its work once, for --oneshot.
type Oncer interface {
	Once(ctx context.Context) error
}

// Renewer is a Service that can be told to renew now (SIGHUP, SIGUSR1, a CA
// rotation). It doesn't block.
type Renewer interface {
	RenewNow(reason string)
}
