package destination

import (
	"bytes"
	"context"
	"io/fs"
	"sync"

	"github.com/gravitational/trace"
)

// Memory keeps a set as long as the process lives. It's safe for concurrent
// use.
type Memory struct {
	mu  sync.Mutex
	set Set // guarded by mu; the slices are never changed
}

// NewMemory returns an empty Memory.
func NewMemory() *Memory { return &Memory{} }

// Prepare has nothing to prove.
func (m *Memory) Prepare(ctx context.Context) error { return trace.Wrap(ctx.Err()) }

// Write replaces the set by a copy of this one.
func (m *Memory) Write(ctx context.Context, set Set) (Result, error) {
	if err := ctx.Err(); err != nil {
		return Result{}, trace.Wrap(err)
	}
	if err := checkSet(set); err != nil {
		return Result{}, trace.Wrap(err)
	}
	next := make(Set, len(set))
	for name, data := range set {
		next[name] = bytes.Clone(data)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	files := diff(m.set, next)
	m.set = next
	return Result{Changed: len(files) > 0, Files: files}, nil
}

// Read returns a copy of a file.
func (m *Memory) Read(ctx context.Context, name string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, trace.Wrap(err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	data, ok := m.set[name]
	if !ok {
		return nil, trace.Wrap(&fs.PathError{Op: "read", Path: name, Err: fs.ErrNotExist})
	}
	return bytes.Clone(data), nil
}

// String describes the place.
func (m *Memory) String() string { return "memory" }
