package renewal

import "sync"

// Mailbox takes requests to renew and keeps at most one: what comes while one
// is waiting is merged with it. It's safe for concurrent use.
type Mailbox struct {
	// full holds one value while a request waits.
	full chan struct{}

	mu sync.Mutex
	// waiting is protected by mu; nil: no request waits.
	waiting *Request
}

// Request asks for a renewal.
type Request struct {
	// Reason is for the log.
	Reason string
	// OnlyFailed asks for a renewal only if the last one failed.
	OnlyFailed bool
}

// NewMailbox returns an empty mailbox.
func NewMailbox() *Mailbox {
	return &Mailbox{full: make(chan struct{}, 1)}
}

// Put leaves a request; it doesn't block. The first reason stays, unless that
// request was only for a failed renewal and this one isn't.
func (m *Mailbox) Put(r Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.waiting == nil || m.waiting.OnlyFailed {
		m.waiting = &r
	}
	select {
	case m.full <- struct{}{}:
	default:
	}
}

// Take empties the box. It returns false if no request waits.
func (m *Mailbox) Take() (Request, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	select {
	case <-m.full:
	default:
	}
	if m.waiting == nil {
		return Request{}, false
	}
	r := *m.waiting
	m.waiting = nil
	return r, true
}

// Full returns a channel that has a value while a request waits; Take empties
// it.
func (m *Mailbox) Full() <-chan struct{} { return m.full }
