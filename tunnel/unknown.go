package tunnel

import (
	"sync"
	"time"
)

const (
	// unknownTime is for how long a host that stands for no application is
	// answered without asking the cluster: a program that asks for a wrong name
	// in a loop would otherwise make a call for each request. It's also how long
	// an application that has just been added may go unseen.
	unknownTime = 5 * time.Second
	// unknownMost is how many such hosts are remembered at a time.
	unknownMost = 1000
	// longestHost is the length of the longest host name there is (RFC 1035):
	// what is longer needn't be looked up, nor remembered.
	longestHost = 253
)

// unknown remembers for a short while which hosts stand for no application. The
// zero value is ready, and safe for concurrent use.
type unknown struct {
	mu    sync.Mutex
	hosts map[string]missing
	// cleared counts how often all was forgotten.
	cleared uint64
}

// missing is what was said of a host, and until when that holds.
type missing struct {
	err   error
	until time.Time
}

// recall returns what was said of a host, nil: it has to be looked up.
func (u *unknown) recall(host string) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	known := u.hosts[host]
	if !time.Now().Before(known.until) {
		return nil
	}
	return known.err
}

// age is what note is to be told of what will be said from now on.
func (u *unknown) age() uint64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.cleared
}

// note remembers what was said of a host, unless all was forgotten since that
// age: it may not hold any more. The one that would be forgotten first gives way
// if there are too many.
func (u *unknown) note(age uint64, host string, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if age != u.cleared {
		return
	}
	now := time.Now()
	if len(u.hosts) >= unknownMost {
		u.tidyLocked(now)
	}
	if u.hosts == nil {
		u.hosts = make(map[string]missing)
	}
	u.hosts[host] = missing{err: err, until: now.Add(unknownTime)}
}

// tidyLocked makes room for one host at least.
func (u *unknown) tidyLocked(now time.Time) {
	oldest := ""
	for host, known := range u.hosts {
		if !now.Before(known.until) {
			delete(u.hosts, host)
			continue
		}
		if oldest == "" || known.until.Before(u.hosts[oldest].until) {
			oldest = host
		}
	}
	if len(u.hosts) >= unknownMost {
		delete(u.hosts, oldest)
	}
}

// clear forgets all.
func (u *unknown) clear() {
	u.mu.Lock()
	defer u.mu.Unlock()
	clear(u.hosts)
	u.cleared++
}
