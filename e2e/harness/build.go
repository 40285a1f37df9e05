package harness

import (
	"context"
	"io"

	"rollcall/e2e/harness/build"
)

// Binaries are the paths of what Build builds.
type Binaries = build.Binaries

// Build builds the binaries with the names given (cluster, tbot, rollcall,
// measure; none: all). What takes long is told to out. See build.All.
func Build(ctx context.Context, out io.Writer, only ...string) (Binaries, error) {
	return build.All(ctx, out, only...)
}
