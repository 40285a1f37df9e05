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
	"github.com/docker/docker/api/types/network"

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
		err := s.follow(ctx, func(start string) {
			subscribed, pause = true, firstPause
			s.follows(start)
			if lost {
				s.log.Info("Docker's events are followed again.", "engine", s.endpoint.host)
				lost = false
			}
			hint()
		}, hint)
		s.loses()
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

// Since is since when what happens is known of the Engine as it runs now; see
// discovery.Gradual. With the Engine its containers start anew, one after the
// other, so what it lists after its start may be young. As long as events are lost
// it may have been started anew at any moment, and so it's now.
func (s *Source) Since() (at time.Time, lost bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lost {
		return time.Now(), true
	}
	return s.since, false
}

// follows notes that events are followed from now on, and of which start of the
// Engine. If that's the one of before, nothing began anew: a proxy may have cut the
// stream. A start that isn't known is taken for another, once.
func (s *Source) follows(start string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if start == "" {
		s.since = time.Now()
	}
	s.learn(start)
	s.followed, s.lost = true, false
}

// sees notes of which start of the Engine a list is. Where events could never be
// followed nothing else tells of one, and so one that isn't known is another.
func (s *Source) sees(start string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if start == "" && s.start != "" && !s.followed {
		s.since = time.Now()
	}
	s.learn(start)
}

// learn takes over which start of the Engine this is. If that isn't known, the last
// that was stays, so that its being known again is no other. s.mu is held.
func (s *Source) learn(start string) {
	if start != "" && start != s.start {
		s.since, s.start = time.Now(), start
	}
}

// loses notes that events aren't followed any more. That they can't be followed at
// first says nothing.
func (s *Source) loses() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost = s.followed
}

// follow subscribes once and hints until the stream ends.
func (s *Source) follow(ctx context.Context, subscribed func(start string), hint func()) error {
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
			// It's asked behind the subscription: a start that comes between the
			// two ends that, and is seen the next time.
			subscribed(conn.start(ctx, s.endpoint.timeout))
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

// start names the start of the Engine: with each start it makes its own network
// anew, and so with another ID, unless its containers run on (live-restore). Empty:
// it isn't known.
func (c *connection) start(ctx context.Context, timeout time.Duration) string {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	found, err := c.NetworkList(ctx, network.ListOptions{Filters: filters.NewArgs(filters.Arg("name", network.NetworkBridge))})
	if err != nil {
		return ""
	}
	for _, one := range found {
		if one.Name == network.NetworkBridge {
			return one.ID
		}
	}
	return ""
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
