package agent

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"rollcall/failure"
)

const (
	// joinRest is the pause after an agent that didn't register; it doubles with
	// each that follows.
	joinRest = time.Minute
	// maxJoinRest is the longest pause.
	maxJoinRest = time.Hour
	// maxWords bounds, in bytes, what is told of a container's log: it's in one
	// line of ours, and in the status.
	maxWords = 2 << 10
)

// failures are the joins that failed, by application: one each, so that they
// don't grow with time.
type failures map[string]*failedJoin

type failedJoin struct {
	err   error
	count int
	until time.Time
	told  bool // by take
}

// note notes how a join ended.
func (f failures) note(app string, err error, now time.Time) {
	if err == nil {
		delete(f, app)
		return
	}
	last := f[app]
	if last == nil {
		last = &failedJoin{}
		f[app] = last
	}
	last.err, last.told = err, false
	last.until = now.Add(min(joinRest<<min(last.count, 10), maxJoinRest))
	last.count++
}

// resting returns why an application's agent isn't started again yet; nil: it
// may be.
func (f failures) resting(app string, now time.Time) error {
	last := f[app]
	if last == nil || !now.Before(last.until) {
		return nil
	}
	return failure.Wrap(failure.Transient, last.err, "%v; the next agent is started at %s", last.err, last.until.UTC().Format(time.RFC3339))
}

// take returns what failed since it was called last, in the order of names.
func (f failures) take() error {
	var all []error
	for _, app := range slices.Sorted(maps.Keys(f)) {
		if last := f[app]; !last.told {
			last.told = true
			all = append(all, last.err)
		}
	}
	return errors.Join(all...)
}

// tail is the end of a text, of maxWords at most.
func tail(text string) string {
	if len(text) <= maxWords {
		return text
	}
	return "… " + strings.ToValidUTF8(text[len(text)-maxWords:], "")
}
