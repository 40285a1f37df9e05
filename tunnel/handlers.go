package tunnel

import (
	"net/http"
	"sync"
	"time"
)

// handlers knows how many requests are being served, those whose connection was
// taken over included, how many rides are resumed, and how many clients are
// lingered on: http.Server waits for none of them when it's closed. The zero value
// is ready, and safe for concurrent use.
type handlers struct {
	mu   sync.Mutex
	busy int
	// idle is closed when the last one has ended, once it's asked for.
	idle chan struct{}
}

func (h *handlers) counted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !h.begin() {
			return // its connection is closed, and nobody hears an answer
		}
		defer h.end()
		next.ServeHTTP(w, r)
	})
}

// begin says whether one more may begin.
func (h *handlers) begin() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.idle != nil {
		return false
	}
	h.busy++
	return true
}

func (h *handlers) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.busy--
	if h.busy == 0 && h.idle != nil {
		close(h.idle)
	}
}

// wait lets no more requests begin, and waits for the others. It says whether
// all have ended.
func (h *handlers) wait(longest time.Duration) bool {
	h.mu.Lock()
	h.idle = make(chan struct{})
	if h.busy == 0 {
		close(h.idle)
	}
	h.mu.Unlock()
	timer := time.NewTimer(longest)
	defer timer.Stop()
	select {
	case <-h.idle:
		return true
	case <-timer.C:
		return false
	}
}

// occasionally keeps what anybody can cause from filling the log. The zero value
// is ready, and safe for concurrent use.
type occasionally struct {
	mu    sync.Mutex
	last  time.Time
	count int
}

// next returns how often it was called since it last returned something else
// than 0, which it does once in a while.
func (o *occasionally) next(pause time.Duration) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.count++
	now := time.Now()
	if now.Sub(o.last) < pause {
		return 0
	}
	n := o.count
	o.last, o.count = now, 0
	return n
}
