package destination

import (
	"context"
	"io/fs"

	"github.com/gravitational/trace"
)

// Nop takes every set and keeps none: the certificates are issued, and thrown
// away.
type Nop struct{}

// NewNop returns a Nop.
func NewNop() *Nop { return &Nop{} }

// Prepare has nothing to prove.
func (*Nop) Prepare(ctx context.Context) error { return trace.Wrap(ctx.Err()) }

// Write reports every file as changed, since nothing is known of the last set.
func (*Nop) Write(ctx context.Context, set Set) (Result, error) {
	if err := ctx.Err(); err != nil {
		return Result{}, trace.Wrap(err)
	}
	if err := checkSet(set); err != nil {
		return Result{}, trace.Wrap(err)
	}
	return Result{Changed: true, Files: sorted(set)}, nil
}

// Read finds nothing.
func (*Nop) Read(_ context.Context, name string) ([]byte, error) {
	return nil, trace.Wrap(&fs.PathError{Op: "read", Path: name, Err: fs.ErrNotExist})
}

// String describes the place.
func (*Nop) String() string { return "nop" }
