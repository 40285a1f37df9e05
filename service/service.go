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
	// for what it can't go on from, and is then restarted with backoff. The
	// host reports the returned error; Run doesn't report it as well.
	Run(ctx context.Context) error
}

// Oncer is a Service that can do its work once, for --oneshot.
type Oncer interface {
	// Once returns nil if what the service provides is there and valid
	// afterwards. The error's sentence is what the user sees in the table. A
	// prerequisite (see First) returns an error only if nobody could go on
	// from what it has.
	Once(ctx context.Context) error
}

// Renewer is a Service that can be told to renew now (SIGHUP, SIGUSR1, a CA
// rotation). It doesn't block.
type Renewer interface {
	RenewNow(reason string)
}

// Prober is a Service that can tell whether its loop still turns. Alive returns
// an error if it hangs in something that should have ended; it doesn't block
// and is safe for concurrent use with Run.
type Prober interface {
	Alive() error
}

// Func makes a Service of a function, for what has no state of its own (the
// watchdog's beat, a signal loop).
func Func(name string, run func(ctx context.Context) error) Service {
	return funcService{name: name, run: run}
}

type funcService struct {
	name string
	run  func(ctx context.Context) error
}

func (f funcService) Name() string                  { return f.name }
func (f funcService) Run(ctx context.Context) error { return f.run(ctx) }
