package outputs

import "sync"

// mailbox takes requests to renew and keeps at most one: what comes while one
// is waiting is merged with it. It's safe for concurrent use.
type mailbox struct {
	// full holds one value while a request waits.
	full chan struct{}

	mu sync.Mutex
	// waiting is protected by mu; nil: no request waits.
	waiting *request
}

// request asks for a renewal.
type request struct {
	reason string
	// onlyFailed asks for a renewal only if the last one failed.
	onlyFailed bool
}

func newMailbox() *mailbox {
	return &mailbox{full: make(chan struct{}, 1)}
}

// put leaves a request; it doesn't block. The first reason stays, unless that
// request was only for a failed renewal and this one isn't.
func (m *mailbox) put(r request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.waiting == nil || m.waiting.onlyFailed {
		m.waiting = &r
	}
	select {
	case m.full <- struct{}{}:
	default:
	}
}

// take empties the box. It returns false if no request waits.
func (m *mailbox) take() (request, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	select {
	case <-m.full:
	default:
	}
	if m.waiting == nil {
		return request{}, false
	}
	r := *m.waiting
	m.waiting = nil
	return r, true
}
