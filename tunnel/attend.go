package tunnel

import (
	"context"
	"time"
)

// watch is the look at a client whose answer takes long.
type watch struct {
	// done is closed when the look is over; nil: there's none.
	done chan struct{}
	// release ends the wait for the end of everything.
	release func() bool
	// gone says that the client went away.
	gone bool
}

// attend looks until settle whether the client is still there, and calls cut if
// it isn't, or if everything ends.
func (v *ride) attend(cut func()) {
	if v.watch.release != nil {
		return
	}
	v.watch.release = context.AfterFunc(v.ctx, cut)
	if v.in.Buffered() == v.in.Size() {
		return // it has sent so much ahead that there's no room for a look
	}
	v.watch.done = make(chan struct{})
	_ = v.client.SetReadDeadline(time.Time{})
	go func() {
		defer close(v.watch.done)
		if _, err := v.in.Peek(v.in.Buffered() + 1); err != nil && !isDeadline(err) {
			v.watch.gone = true
			cut()
		}
	}()
}

// settle ends the look. What the client has sent meanwhile is there to be read.
func (v *ride) settle() {
	if v.watch.release == nil {
		return
	}
	v.watch.release()
	v.watch.release = nil
	if v.watch.done == nil {
		return
	}
	_ = v.client.SetReadDeadline(longAgo())
	<-v.watch.done
	v.watch.done = nil
	v.alarm = time.Time{}
	_ = v.client.SetReadDeadline(v.alarm)
}
