package cluster

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/gravitational/trace"
)

// cached shares one value among all who ask within its age: two hundred outputs
// that renew at once need the authorities only once. Who asks while it's being
// fetched shares the outcome, a failure too; failures aren't kept.
type cached[T any] struct {
	age time.Duration

	mu      sync.Mutex // protects the following
	value   T
	until   time.Time
	pending *fetching[T]
}

// errGaveUp marks the failure of shared work whose doer was told to stop.
var errGaveUp = errors.New("given up")

// fetching is one fetch. value and err are written before done is closed.
type fetching[T any] struct {
	done  chan struct{}
	value T
	err   error
}

func (c *cached[T]) get(ctx context.Context, fetch func(context.Context) (T, error)) (T, error) {
	for {
		value, err := c.tryGet(ctx, fetch)
		// Whoever fetched may have given up. That isn't a reason for those who
		// waited with it.
		if err == nil || ctx.Err() != nil || !errors.Is(err, errGaveUp) {
			return value, err
		}
	}
}

func (c *cached[T]) tryGet(ctx context.Context, fetch func(context.Context) (T, error)) (T, error) {
	c.mu.Lock()
	if time.Now().Before(c.until) {
		defer c.mu.Unlock()
		return c.value, nil
	}
	f := c.pending
	if f != nil {
		c.mu.Unlock()
		return f.wait(ctx)
	}
	f = &fetching[T]{done: make(chan struct{})}
	c.pending = f
	c.mu.Unlock()

	f.value, f.err = fetch(ctx)
	if f.err != nil && ctx.Err() != nil {
		f.err = errors.Join(errGaveUp, f.err)
	}
	c.mu.Lock()
	if c.pending == f { // else it was forgotten meanwhile
		c.pending = nil
		if f.err == nil {
			c.value, c.until = f.value, time.Now().Add(c.age)
		}
	}
	c.mu.Unlock()
	close(f.done)
	return f.wait(ctx)
}

func (f *fetching[T]) wait(ctx context.Context) (T, error) {
	var zero T
	select {
	case <-f.done:
		if f.err != nil {
			return zero, f.err
		}
		return f.value, nil
	case <-ctx.Done():
		return zero, trace.Wrap(ctx.Err())
	}
}

// forget makes the next get fetch anew; a fetch that is under way still serves
// those who wait for it.
func (c *cached[T]) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.until = time.Time{}
	c.pending = nil
}
