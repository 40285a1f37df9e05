package outputs

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/gravitational/trace"

	"rollcall/cluster"
	"rollcall/destination"
	"rollcall/diagnostics"
)

// Issuer issues certificates; it returns once they are usable. While the bot
// has no identity or the cluster can't be reached it returns an error of kind
// failure.Unreachable or failure.Transient, or waits. It's safe for concurrent use and
// bounds by itself how many requests run at a time.
type Issuer interface {
	// Application issues a certificate that is routed to one application.
	Application(ctx context.Context, req cluster.ApplicationRequest) (*cluster.Credentials, error)
	// Identity issues a certificate for SSH and the API.
	Identity(ctx context.Context, req cluster.IdentityRequest) (*cluster.Credentials, error)
	// Authorities returns the authorities of the root cluster and its leaves.
	Authorities(ctx context.Context) (*cluster.Authorities, error)
	// Info returns what the cluster says of itself.
	Info(ctx context.Context) (*cluster.Info, error)
}

// Dependencies are what an output works with.
type Dependencies struct {
	Issuer      Issuer
	Destination destination.Destination
	Reporter    diagnostics.Reporter
	Log         *slog.Logger
	// TTL and Interval are the agent's; an output's options override them. An
	// interval beyond two thirds of a certificate's life is cut to that; zero,
	// which makes sense for Once only, means just that.
	TTL, Interval time.Duration
	// DirectoryPath is the absolute path of the destination if that's a
	// directory, else empty. Files that name other files need it.
	DirectoryPath string
	// StuckAfter is how long an attempt, or a call of AfterWrite, may take
	// before Alive says that it hangs; zero: a minute more than an attempt gets
	// before it's cancelled.
	StuckAfter time.Duration
	// AfterWrite is called after a set has changed, one call at a time, with
	// the new set in place; may be nil. Renewing waits for it, so it must end
	// in bounded time, and with ctx.
	AfterWrite func(ctx context.Context, change Change)
	// Random returns numbers in [0,1) for jitter; nil: math/rand/v2. Outputs
	// may share it, so it must be safe for concurrent use.
	Random func() float64
}

// Change tells what AfterWrite was called for.
type Change struct {
	// Output is the output's name, Type its type.
	Output, Type string
	// Destination describes the place, "directory /opt/machine-id".
	Destination string
	// DirectoryPath is empty if the destination isn't a directory.
	DirectoryPath string
	// Files are the names that were added, changed or removed, sorted.
	Files []string
	// Serial is the new certificate's serial number in hexadecimal, as openssl
	// prints it.
	Serial string
	// NotAfter is when the new certificate ends.
	NotAfter time.Time
	// Reason says why the set was renewed.
	Reason string
}

// complete checks what a caller can get wrong and fills in defaults.
func (d *Dependencies) complete() error {
	switch {
	case d.Issuer == nil, d.Destination == nil, d.Reporter == nil, d.Log == nil:
		return trace.Wrap(errors.New("an output needs an issuer, a destination, a reporter and a logger"))
	case d.TTL <= 0:
		return trace.Wrap(errors.New("an output needs a TTL"))
	}
	if d.StuckAfter == 0 {
		d.StuckAfter = attemptTimeout + time.Minute
	}
	if d.Random == nil {
		d.Random = rand.Float64
	}
	return nil
}
