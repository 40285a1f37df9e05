// Package destination knows how to put a set of files somewhere, whole or not
// at all. It doesn't know what the files mean.
//
// # How programs read a directory
//
// With `update: set` (the default) a directory looks like a Kubernetes volume:
//
//	..2026_11_21T06_30_00.123456789/   the set before this one
//	..2026_11_21T06_50_00.987654321/   the set: files 0600, directory 0700,
//	                                   and an ACL if there are readers
//	..data -> ..2026_11_21T06_50_00.987654321
//	key -> ..data/key
//	tlscert -> ..data/tlscert
//
// A set is published by replacing the one link ..data. No file is ever
// half-written, at whatever moment one looks. A program that needs several
// files of the same set has two ways to get them:
//
//   - Open DIRECTORY/..data once, and open the files through that descriptor
//     (openat, or Go's os.Root). All are of one set, even if the next one is
//     published in between: the set before the current one stays until the swap
//     after. A program that holds the descriptor longer starts again on ENOENT.
//   - Watch the directory (inotify: IN_MOVED_TO of "..data") and load
//     everything again whenever it moves. A load that spans a swap is followed
//     by an event, and so by another load.
//
// A program that opens two names one after the other, without either, can see
// two sets for some microseconds. A single file that holds everything (the
// output's `identity`) has no such gap.
//
// With `update: file` each file is replaced whole, by rename, all of them in a
// row and private keys first; with `update: in-place` the existing files are
// overwritten, and a reader can see one half-written.
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
	// Files are the names that were added, changed or removed, sorted. It may
	// be empty after a change of layout alone.
	Files []string
	// Repaired are the names whose owner, mode or ACL somebody had changed
	// since the last write and that are right again, sorted; "." is the
	// directory itself, and "..data" the current version. It says nothing of
	// content, and may be set if Changed isn't.
	Repaired []string
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
