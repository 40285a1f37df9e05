package pulse

import (
	"fmt"
	"sync"
	"time"
)

// Many is a Pulse for things that are done side by side, such as the answers to
// requests: one that hangs is enough. The zero value rests. It's safe for
// concurrent use.
type Many struct {
	// mu protects the following.
	mu      sync.Mutex
	number  uint64
	running map[uint64]work
}

type work struct {
	doing string
	since time.Time
	limit time.Duration
}

// Work says that something begins now that ends within limit. The caller calls
// end when it has.
func (m *Many) Work(doing string, limit time.Duration) (end func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.running == nil {
		m.running = map[uint64]work{}
	}
	m.number++
	number := m.number
	m.running[number] = work{doing, time.Now(), limit}
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.running, number)
	}
}

// Alive returns an error if one of them takes longer than was said. It doesn't
// block.
func (m *Many) Alive() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, w := range m.running {
		if spent := time.Since(w.since); spent > w.limit {
			return fmt.Errorf("stuck for %s while %s", spent.Round(time.Second), w.doing)
		}
	}
	return nil
}
