package cluster

import (
	"context"
	"sync"
	"time"
)

// cached shares one value among all who ask within its age: two hundred outputs
// that renew at once need the authorities only once. Failures aren't kept.
type cached[T any] struct {
	age time.Duration

	mu    sync.Mutex // protects the following, and is held while fetching
	value T
	until time.Time
}

func (c *cached[T]) get(ctx context.Context, fetch func(context.Context) (T, error)) (T, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Now().Before(c.until) {
		return c.value, nil
	}
	value, err := fetch(ctx)
	if err != nil {
		var zero T
		return zero, err
	}
	c.value, c.until = value, time.Now().Add(c.age)
	return value, nil
}

func (c *cached[T]) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.until = time.Time{}
}
