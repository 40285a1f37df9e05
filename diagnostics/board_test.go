package diagnostics

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/gravitational/trace"
	"github.com/stretchr/testify/require"

	"rollcall/failure"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// clock is a time that tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: start} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func TestState(t *testing.T) {
	boom := errors.New("boom")
	hour := start.Add(time.Hour)
	for _, test := range []struct {
		name     string
		reports  []Report
		later    time.Duration
		want     State
		degraded bool
	}{
		{name: "nothing reported", want: StateStarting},
		{name: "success", reports: []Report{{NotAfter: hour}}, want: StateReady},
		{name: "found in place", reports: []Report{{NotAfter: hour, Unchanged: true}}, want: StateReady},
		{name: "never succeeded", reports: []Report{{Err: boom}}, want: StateFailing},
		{name: "never succeeded, an hour later", reports: []Report{{Err: boom}}, later: time.Hour, want: StateFailing},
		{name: "first attempt failed, but the old certificate is there", reports: []Report{{Err: boom, NotAfter: hour}}, want: StateReady, degraded: true},
		{name: "a failure keeps what is there", reports: []Report{{NotAfter: hour}, {Err: boom}}, want: StateReady, degraded: true},
		{name: "just before the end", reports: []Report{{NotAfter: hour}, {Err: boom}}, later: time.Hour - time.Nanosecond, want: StateReady, degraded: true},
		{name: "at the end", reports: []Report{{NotAfter: hour}, {Err: boom}}, later: time.Hour, want: StateExpired},
		{name: "expired without any failure", reports: []Report{{NotAfter: hour}}, later: 2 * time.Hour, want: StateExpired},
		{name: "renewed after it had expired", reports: []Report{{NotAfter: start.Add(-time.Hour)}, {NotAfter: hour}}, want: StateReady},
		{name: "recovered", reports: []Report{{Err: boom}, {Err: boom}, {NotAfter: hour}}, want: StateReady},
		{name: "lost early", reports: []Report{{NotAfter: hour}, {Err: boom, NotAfter: start}}, want: StateExpired},
		{name: "never ends", reports: []Report{{}}, later: 1000 * time.Hour, want: StateReady},
		{name: "never ends, last attempt failed", reports: []Report{{}, {Err: boom}}, want: StateReady, degraded: true},
		{name: "crashed with files on disk", reports: []Report{{NotAfter: hour}, {Err: boom, Crashed: true}}, want: StateReady, degraded: true},
		{name: "crashed with nothing that lasts", reports: []Report{{}, {Err: boom, Crashed: true}}, want: StateFailing},
		{name: "back after a crash", reports: []Report{{}, {Err: boom, Crashed: true}, {}}, want: StateReady},
	} {
		t.Run(test.name, func(t *testing.T) {
			clock := newClock()
			board := NewBoard(clock.Now)
			entry := board.Reporter("app", "output")
			for _, report := range test.reports {
				entry.Report(report)
			}
			clock.Advance(test.later)
			status := entry.Status()
			require.Equal(t, test.want, status.State)
			require.Equal(t, test.want == StateReady, status.Ready)
			require.Equal(t, test.degraded, status.Degraded)
		})
	}
}

func TestStatusFields(t *testing.T) {
	clock := newClock()
	board := NewBoard(clock.Now)
	entry := board.Reporter("app", "output")
	entry.Report(Report{NotAfter: start.Add(time.Hour), Next: start.Add(20 * time.Minute), Detail: "renewed: due"})
	clock.Advance(20 * time.Minute)
	for range 3 {
		entry.Report(Report{
			Err:  trace.Wrap(failure.Wrap(failure.Unreachable, errors.New("secret-ish detail"), "nobody answers;\n\x1b[31mcheck the network")),
			Next: start.Add(30 * time.Minute),
		})
	}
	left := int64(2400)
	status, ok := board.Status("app")
	require.True(t, ok)
	require.Equal(t, Status{
		Name: "app", Kind: "output", State: StateReady, Ready: true, Degraded: true,
		Message:  "nobody answers; [31mcheck the network",
		NotAfter: optional(start.Add(time.Hour)), SecondsLeft: &left,
		Next:        optional(start.Add(30 * time.Minute)),
		LastSuccess: optional(start), LastFailure: optional(start.Add(20 * time.Minute)),
		LastError:           "nobody answers; [31mcheck the network",
		ConsecutiveFailures: 3,
		Reports:             4,
	}, status)

	entry.Report(Report{NotAfter: start.Add(2 * time.Hour)})
	status = entry.Status()
	require.Zero(t, status.ConsecutiveFailures)
	require.Empty(t, status.Message)
	require.NotEmpty(t, status.LastError, "a fault that comes and goes can be found")
}

func TestUnchangedIsNoRenewal(t *testing.T) {
	entry := NewBoard(newClock().Now).Reporter("app", "output")
	entry.Report(Report{NotAfter: start.Add(time.Hour), Unchanged: true})
	require.Nil(t, entry.Status().LastSuccess)
}

func TestStoppedIsNotReadyUntilItReportsAgain(t *testing.T) {
	entry := NewBoard(newClock().Now).Reporter("app", "output")
	entry.Report(Report{})
	entry.Stopped()
	require.Equal(t, StateStopped, entry.Status().State)
	require.False(t, entry.Status().Ready)
	entry.Report(Report{})
	require.Equal(t, StateReady, entry.Status().State)
}

func TestReporterIsOneForEachName(t *testing.T) {
	board := NewBoard(newClock().Now)
	first := board.Reporter("app", "")
	require.Same(t, first, board.Reporter("app", "output"))
	require.Equal(t, "output", first.Status().Kind, "the first kind that isn't empty")
	board.Reporter("app", "other")
	require.Equal(t, "output", first.Status().Kind)
	board.Reporter("a", "")
	names := []string{}
	for _, status := range board.Snapshot() {
		names = append(names, status.Name)
	}
	require.Equal(t, []string{"a", "app"}, names)
	_, ok := board.Status("unknown")
	require.False(t, ok)
}

func TestBoardIsSafeForConcurrentUse(t *testing.T) {
	board := NewBoard(time.Now)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 100 {
				board.Reporter("app", "output").Report(Report{Err: errors.New("x"), Took: time.Millisecond})
				board.Snapshot()
			}
		})
	}
	group.Wait()
	status, _ := board.Status("app")
	require.Equal(t, 800, status.ConsecutiveFailures)
}
