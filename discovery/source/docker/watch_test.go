package docker

import (
	"context"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// watching runs Watch until the test ends, and returns its hints.
func watching(t *testing.T, s *Source) <-chan struct{} {
	t.Helper()
	hints := make(chan struct{}, 100)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Watch(ctx, func() { hints <- struct{}{} }) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	return hints
}

func awaitHint(t *testing.T, hints <-chan struct{}) {
	t.Helper()
	select {
	case <-hints:
	case <-time.After(30 * time.Second):
		require.Fail(t, "no hint came")
	}
}

// thoughtless is a source without afterthoughts, whose hints can be counted.
func thoughtless(s *Source) *Source {
	s.afterthoughts = nil
	return s
}

// noHint waits for an answer to what was sent behind the events in question.
func noHint(t *testing.T, f *FakeEngine, hints <-chan struct{}) {
	t.Helper()
	f.emit(`{"Type":"container","Action":"start"}` + "\n")
	awaitHint(t, hints)
	select {
	case <-hints:
		require.Fail(t, "an event that can't matter gave a hint")
	case <-time.After(50 * time.Millisecond):
	}
}

// TestWatchRecorded replays the events of a real Engine.
func TestWatchRecorded(t *testing.T) {
	data, err := os.ReadFile("testdata/engine/events.jsonl")
	require.NoError(t, err)
	f := newFakeEngine(t)
	hints := watching(t, thoughtless(f.source(t, everything())))
	awaitHint(t, hints)
	require.Equal(t, 1, f.listeners(), "the first hint comes after the subscription")

	for event := range strings.Lines(string(data)) {
		f.emit(event)
		ignored := strings.Contains(event, `"Action": "exec_`) || strings.Contains(event, `"Action": "kill"`)
		if ignored {
			noHint(t, f, hints)
			continue
		}
		awaitHint(t, hints)
	}
}

// TestWatchThinksAgain hints once more when an Engine's list has had the time to
// follow its events.
func TestWatchThinksAgain(t *testing.T) {
	f := newFakeEngine(t)
	s := f.source(t, everything())
	require.NotEmpty(t, s.afterthoughts)
	s.afterthoughts = []time.Duration{time.Millisecond, 10 * time.Millisecond}
	hints := watching(t, s)
	awaitHint(t, hints)
	for range 2 {
		f.emit(`{"Type":"container","Action":"die"}` + "\n")
		for range 3 {
			awaitHint(t, hints)
		}
		select {
		case <-hints:
			require.Fail(t, "it never ceases to think")
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// TestWatchAsks subscribes for what matters only, and a little back in time.
func TestWatchAsks(t *testing.T) {
	f := newFakeEngine(t)
	asked := make(chan string, 1)
	f.change(func() {
		f.intercept = func(_ http.ResponseWriter, r *http.Request) bool {
			if strings.HasSuffix(r.URL.Path, "/events") {
				asked <- r.URL.Query().Get("filters") + r.URL.Query().Get("since")
			}
			return false
		}
	})
	watching(t, f.source(t, everything()))

	query := <-asked

	for _, word := range []string{"start", "die", "rename", "health_status", "connect", "disconnect", "container", "network"} {
		require.Contains(t, query, `"`+word+`"`)
	}
	require.NotContains(t, query, "exec")
	require.Regexp(t, `}[0-9]{10}$`, query)
}

// TestWatchRestart survives a daemon that goes and comes back, with one hint for
// each subscription and none while there's nobody.
func TestWatchRestart(t *testing.T) {
	f := newFakeEngine(t)
	hints := watching(t, f.source(t, everything()))
	awaitHint(t, hints)

	for range 2 {
		f.stop()
		require.Eventually(t, func() bool { return f.listeners() == 0 }, 30*time.Second, time.Millisecond)
		select {
		case <-hints:
			require.Fail(t, "a hint without a subscription")
		case <-time.After(400 * time.Millisecond): // longer than the first pause
		}
		f.start()
		awaitHint(t, hints)
		require.Equal(t, 1, f.listeners())
	}

	f.emit(`{"Type":"container","Action":"die"}` + "\n")
	awaitHint(t, hints)
}

// TestWatchBrokenStreams subscribes again after each way in which a stream ends.
func TestWatchBrokenStreams(t *testing.T) {
	tests := map[string]func(f *FakeEngine){
		"closed by the daemon":      func(f *FakeEngine) { f.emit("") },
		"cut in an event":           func(f *FakeEngine) { f.emit(`{"Type":"cont`); f.emit("") },
		"something else than JSON":  func(f *FakeEngine) { f.emit("<html>gateway timeout</html>") },
		"refused, then as it was":   refuseEvents(http.StatusForbidden),
		"a proxy without a backend": refuseEvents(http.StatusServiceUnavailable),
	}
	for name, end := range tests {
		t.Run(name, func(t *testing.T) {
			f := newFakeEngine(t)
			hints := watching(t, f.source(t, everything()))
			awaitHint(t, hints)

			end(f)

			awaitHint(t, hints)
			require.Eventually(t, func() bool { return f.listeners() == 1 }, 30*time.Second, time.Millisecond)
		})
	}
}

// refuseEvents ends the stream, and refuses the next two.
func refuseEvents(code int) func(f *FakeEngine) {
	return func(f *FakeEngine) {
		left := 2
		f.change(func() {
			f.intercept = func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.HasSuffix(r.URL.Path, "/events") || left == 0 {
					return false
				}
				left--
				w.WriteHeader(code)
				_, _ = io.WriteString(w, `{"message":"no"}`)
				return true
			}
		})
		f.emit("")
	}
}

// TestSince has what is followed begin anew with each start of the Engine, which
// starts its containers one after the other; and not when a proxy has cut the stream.
func TestSince(t *testing.T) {
	f := newFakeEngine(t)
	s := f.source(t, everything())
	since := func() time.Time {
		t.Helper()
		at, lost := s.Since()
		require.False(t, lost)
		return at
	}
	require.Zero(t, since(), "not followed yet, which says nothing")
	hints := watching(t, s)
	awaitHint(t, hints)
	first := since()
	require.WithinDuration(t, time.Now(), first, 10*time.Second)
	require.Equal(t, first, since())

	for range 2 {
		f.emit("")
		awaitHint(t, hints)
		require.Equal(t, first, since(), "cut, and followed again: nothing began anew")
	}

	f.stop()
	require.Eventually(t, func() bool { at, lost := s.Since(); return lost && at.After(first) }, 30*time.Second, time.Millisecond, "lost: it's now")
	f.start()
	awaitHint(t, hints)
	second := since()
	require.True(t, second.After(first))
	require.Equal(t, second, since())

	// What can't be told from a start is taken for one: once, and not once more when
	// it can be told again.
	f.refuse("/networks")
	f.emit("")
	awaitHint(t, hints)
	third := since()
	require.True(t, third.After(second))
	_, err := s.Read(t.Context())
	require.NoError(t, err)
	require.Equal(t, third, since(), "while events are followed, they tell")
	f.refuse()
	f.emit("")
	awaitHint(t, hints)
	require.Equal(t, third, since())
}

// TestSinceWithoutEvents has each reading tell of a start of the Engine, where a
// proxy lets lists through and no events.
func TestSinceWithoutEvents(t *testing.T) {
	f := newFakeEngine(t)
	s := f.source(t, everything())
	since := func() time.Time {
		t.Helper()
		_, err := s.Read(t.Context())
		require.NoError(t, err)
		at, lost := s.Since()
		require.False(t, lost)
		return at
	}
	restart := func() {
		f.stop()
		_, err := s.Read(t.Context())
		require.Error(t, err)
		f.change(func() { clear(f.inspected) })
		f.start()
	}
	f.refuse("/events")
	watching(t, s)
	first := since()
	require.Equal(t, first, since())

	restart()
	second := since()
	require.True(t, second.After(first))
	require.Equal(t, second, since())

	// Nor does it tell of networks just then.
	f.refuse("/events", "/networks")
	third := since()
	require.True(t, third.After(second), "it may have been started")
	f.refuse("/events")
	require.Equal(t, third, since(), "it's the one of before")

	// A proxy that never tells of networks says nothing.
	f.refuse("/events", "/networks")
	s = f.source(t, everything())
	f.change(func() { clear(f.inspected) })
	require.Zero(t, since())
}
