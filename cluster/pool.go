package cluster

import (
	"context"
	"errors"
	"slices"
	"sync"
	"weak"

	"github.com/gravitational/teleport/api/client"
	"github.com/gravitational/trace"
)

// dialFunc opens one authenticated connection.
type dialFunc func(ctx context.Context, creds *Credentials) (*client.Client, error)

// pool keeps one connection per identity, shared by everyone who works with
// that identity: a new connection costs the server a TLS handshake and us about
// ten milliseconds, which adds up over hundreds of outputs.
//
// A connection outlives its retirement for as long as someone uses it.
type pool struct {
	dial dialFunc

	mu      sync.Mutex // protects the following
	entries map[*Credentials]*pooled
	closed  bool
	// ended are identities that others have replaced. Who still works with one
	// gets a connection of its own that ends with its use: nobody would ever
	// retire a kept one.
	ended []weak.Pointer[Credentials]
}

// connection is an authenticated client, and what its server said of itself.
type connection struct {
	*client.Client

	mu   sync.Mutex // protects the following
	info *Info
}

// pooled is one identity's connection. Its fields are protected by pool.mu,
// except for conn and err, which are written before ready is closed.
type pooled struct {
	ready   chan struct{}
	conn    *connection
	err     error
	users   int
	retired bool
}

func newPool(dial dialFunc) *pool {
	return &pool{dial: dial, entries: make(map[*Credentials]*pooled)}
}

// get returns the identity's connection, dialling it if there's none, and a
// function that gives it back. Callers who come while it's being dialled wait
// for the same one. If whoever dials is stopped, one of them dials again: one
// service's end is no failure of another.
func (p *pool) get(ctx context.Context, creds *Credentials) (*connection, func(), error) {
	for {
		conn, release, err := p.tryGet(ctx, creds)
		// Whoever dialled may have given up. That isn't a reason for those who
		// waited with it.
		if err == nil || ctx.Err() != nil || !errors.Is(err, errGaveUp) {
			return conn, release, err
		}
	}
}

func (p *pool) tryGet(ctx context.Context, creds *Credentials) (*connection, func(), error) {
	entry, found, err := p.entry(creds)
	if err != nil {
		return nil, nil, trace.Wrap(err)
	}
	release := sync.OnceFunc(func() { p.release(entry) })
	if !found {
		clt, err := p.dial(ctx, creds)
		if err != nil {
			if ctx.Err() != nil {
				err = errors.Join(errGaveUp, err)
			}
			entry.err = err
			p.drop(creds, entry)
		} else {
			entry.conn = &connection{Client: clt}
		}
		close(entry.ready)
	}
	select {
	case <-entry.ready:
	case <-ctx.Done():
		release()
		return nil, nil, trace.Wrap(ctx.Err())
	}
	if entry.err != nil {
		release()
		return nil, nil, trace.Wrap(entry.err)
	}
	return entry.conn, release, nil
}

// entry returns the identity's entry with one more user. If it wasn't found,
// the caller dials.
func (p *pool) entry(creds *Credentials) (entry *pooled, found bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, false, trace.ConnectionProblem(nil, "the agent is stopping")
	}
	entry, found = p.entries[creds]
	if !found {
		entry = &pooled{ready: make(chan struct{})}
		if slices.Contains(p.ended, weak.Make(creds)) {
			entry.retired = true
		} else {
			p.entries[creds] = entry
		}
	}
	entry.users++
	return entry, found, nil
}

// end is retire for an identity that nobody will begin to work with any more.
func (p *pool) end(creds *Credentials) {
	p.mu.Lock()
	p.ended = slices.DeleteFunc(p.ended, func(w weak.Pointer[Credentials]) bool { return w.Value() == nil })
	p.ended = append(p.ended, weak.Make(creds))
	p.mu.Unlock()
	p.retire(creds)
}

// retire closes the identity's connection as soon as nobody uses it. The next
// get for the same identity dials a new one.
func (p *pool) retire(creds *Credentials) {
	p.mu.Lock()
	entry := p.entries[creds]
	p.mu.Unlock()
	if entry != nil {
		p.drop(creds, entry)
	}
}

// discard is retire for a connection that broke. Of several who notice, one after
// the other, only the first does it: what was dialled since then stays.
func (p *pool) discard(creds *Credentials, conn *connection) {
	p.mu.Lock()
	entry := p.entries[creds]
	p.mu.Unlock()
	if entry != nil && entry.has(conn) {
		p.drop(creds, entry)
	}
}

func (p *pool) drop(creds *Credentials, entry *pooled) {
	p.mu.Lock()
	if p.entries[creds] == entry {
		delete(p.entries, creds)
	}
	entry.retired = true
	idle := entry.users == 0
	p.mu.Unlock()
	if idle {
		entry.close()
	}
}

func (p *pool) release(entry *pooled) {
	p.mu.Lock()
	entry.users--
	last := entry.retired && entry.users == 0
	p.mu.Unlock()
	if last {
		entry.close()
	}
}

// close closes every connection, in use or not.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	entries := p.entries
	p.entries = map[*Credentials]*pooled{}
	p.mu.Unlock()
	for _, entry := range entries {
		entry.close()
	}
}

// has says whether it's this connection. What is still being dialled is none.
func (e *pooled) has(conn *connection) bool {
	select {
	case <-e.ready:
		return e.conn == conn
	default:
		return false
	}
}

// close waits for a dial that is under way: its owner's context ends it.
func (e *pooled) close() {
	<-e.ready
	if e.conn != nil {
		// Nothing can be done about a failing close of a connection that
		// nobody uses.
		_ = e.conn.Close()
	}
}
