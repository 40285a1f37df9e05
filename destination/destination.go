// Package destination knows how to put a set of files somewhere, whole or not
// at all. It doesn't know what the files mean.
package destination

import "context"

// Set is a whole set of files by name. A name may hold one slash
// ("cockroach/node.key"). A file that was in the previous set and isn't in this
// one goes.
type Set map[string][]byte

// Result says what a Write changed.
type Result struct {
	// Changed is false if the destination held this very set already; nothing
	// was written then.
	Changed bool
	// Files are the names that were added, changed or removed, sorted.
	Files []string
}

// Destination holds one set of files. Implementations are safe for one writer
// and any number of readers.
type Destination interface {
	// Prepare proves that a Write can work (the place exists or was made, is
	// writable, has space) before anything is asked of the cluster. It's cheap
	// and may be called before every Write.
	Prepare(ctx context.Context) error
	// Write replaces the set. Readers see the old one or the new one.
	Write(ctx context.Context, set Set) (Result, error)
	// Read returns one file of the current set, or fs.ErrNotExist.
	Read(ctx context.Context, name string) ([]byte, error)
	// String describes the place for logs: "directory /opt/machine-id".
	String() string
}
