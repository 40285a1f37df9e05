// Package pulse knows whether a loop has hung in what it does. It doesn't know
// what that is.
package pulse

import (
	"fmt"
	"sync"
	"time"
)

// Pulse tells a loop that works from one that hangs. A loop says Work before
// it does something that must end, and Rest when it waits for its next turn,
// which may take any time. The zero value rests. It's safe for concurrent use.
type Pulse struct {
	// mu protects the following.
	mu    sync.Mutex
	doing string
	since time.Time
	limit time.Duration
}

// Work says that the loop does something now and will say Rest, or Work again,
// within limit.
func (p *Pulse) Work(doing string, limit time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.doing, p.since, p.limit = doing, time.Now(), limit
}

// Rest says that the loop waits for its next turn.
func (p *Pulse) Rest() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.doing = ""
}

// Alive returns an error if the loop has been at one thing for longer than it
// said. It doesn't block.
func (p *Pulse) Alive() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.doing == "" {
		return nil
	}
	if spent := time.Since(p.since); spent > p.limit {
		return fmt.Errorf("stuck for %s while %s", spent.Round(time.Second), p.doing)
	}
	return nil
}
