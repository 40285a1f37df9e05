package docker

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"

	"rollcall/diagnostics"
)

const (
	// firstPause and lastPause bound the wait before subscribing again.
	firstPause = 250 * time.Millisecond
	lastPause  = 30 * time.Second
	// overlap is how far back a subscription reaches. Engines send the header
	// of their answer a moment before they subscribe.
	overlap = 5 * time.Second
)

// afterthoughts are the pauses after an event at whose ends is hinted once more.
// Engines (20.10) tell of a container's end before their list leaves it out: by a
// second on a busy host, and nothing tells when it does.
func afterthoughts() []time.Duration { return []time.Duration{time.Second, 5 * time.Second} }

// Watch hints whenever a container starts, stops, or changes its name, health
// or networks; see discovery.Source. It returns nil when ctx ends.
func (s *Source) Watch(ctx context.Context, hint func()) error {
	pause := firstPause
	lost := false
	for ctx.Err() == nil {
		subscribed := false
		err := s.follow(ctx, func() {
			subscribed, pause = true, firstPause
			s.follows(true)
			if lost {
				s.log.Info("Docker's events are followed again.", "engine", s.endpoint.host)
				lost = false
			}
			hint()
		}, hint)
		s.follows(false)
		if ctx.Err() != nil {
			break
		}
		// One line when they're lost, and not one for each attempt.
		if subscribed || !lost {
			s.log.Warn("Docker's events are lost; trying to follow them again.", "engine", s.endpoint.host, diagnostics.KeyErr, err)
		}
		lost = true
		select {
		case <-ctx.Done():
		case <-time.After(jitter(pause)):
		}
		pause = min(2*pause, lastPause)
	}
	return nil
}

// Since is since when events are followed; see discovery.Gradual. What the Engine
// lists after they were lost may be young: with the Engine its containers start
// anew, one after the other. So as long as they're lost, it's now.
func (s *Source) Since() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lost {
		return time.Now()
	}
	return s.followed
}

// follows notes that events are followed from now on, or are lost. That they can't
// be followed at first says nothing.
func (s *Source) follows(now bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case now:
		s.followed, s.lost = time.Now(), false
	case !s.followed.IsZero():
		s.lost = true
	}
}

// follow subscribes once and hints until the stream ends.
func (s *Source) follow(ctx context.Context, subscribed, hint func()) error {
	// The stream's own context ends the client's goroutine with this call.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	begun := make(chan struct{}, 1)
	conn, err := s.endpoint.connect(ctx, func() { begun <- struct{}{} })
	if err != nil {
		return err
	}
	defer conn.close()
	again := time.NewTimer(0)
	defer again.Stop()
	again.Stop()
	var pauses []time.Duration
	messages, errs := conn.Events(ctx, events.ListOptions{Filters: wanted(), Since: unix(time.Now().Add(-overlap))})
	for {
		select {
		case <-begun:
			subscribed()
		case message := <-messages:
			if matters(message) {
				hint()
				pauses = s.afterthoughts
				if len(pauses) > 0 {
					again.Reset(pauses[0])
				}
			}
		case <-again.C:
			hint()
			if pauses = pauses[1:]; len(pauses) > 0 {
				again.Reset(pauses[0])
			}
		case err := <-errs:
			if err == nil {
				err = errors.New("the stream ended")
			}
			return s.endpoint.explain(err, "events")
		}
	}
}

// wanted are the events that the Engine is asked for.
func wanted() filters.Args {
	args := filters.NewArgs(filters.Arg("type", string(events.ContainerEventType)), filters.Arg("type", string(events.NetworkEventType)))
	for _, action := range actions() {
		args.Add("event", string(action))
	}
	return args
}

// actions are the events after which a container may look different. Not among
// them: what is done inside one (exec_*, attach, top, resize), and what comes
// with another that is (kill, stop, create, destroy).
func actions() []events.Action {
	return []events.Action{
		events.ActionStart, events.ActionDie, events.ActionPause, events.ActionUnPause, events.ActionRename,
		events.ActionUpdate, events.ActionHealthStatus, events.ActionConnect, events.ActionDisconnect,
	}
}

// matters says if an event is one of those that were asked for. Proxies and
// other engines may send all of them.
func matters(message events.Message) bool {
	action, _, _ := strings.Cut(string(message.Action), ":")
	for _, one := range actions() {
		if action == string(one) {
			return message.Type == events.ContainerEventType || message.Type == events.NetworkEventType
		}
	}
	return false
}

// unix is a time as the API takes it.
func unix(at time.Time) string { return strconv.FormatInt(at.Unix(), 10) }

// jitter spreads a pause, so that agents don't come back all at once.
func jitter(pause time.Duration) time.Duration {
	return pause/2 + rand.N(pause)
}
