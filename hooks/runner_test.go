package hooks

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/stretchr/testify/require"

	"rollcall/failure"
)

func TestRunsAfterAChangeAndOnlyThen(t *testing.T) {
	notes := filepath.Join(t.TempDir(), "notes")
	hook := execute(script(t, t.TempDir(), "hook", "echo $ROLLCALL_REASON >> "+notes))
	g := newRig(t, RunnerOptions{Hooks: []Options{hook}})
	require.NoError(t, g.Once(t.Context()))
	require.Empty(t, content(notes), "nothing has changed")

	g.start(t)
	g.Changed(Change{Reason: "first"})
	await(t, "the first run", func() bool { return content(notes) == "first\n" })
	g.Changed(Change{Reason: "second"})
	await(t, "the second run", func() bool { n, _, _ := g.said.last(); return n == 2 })
	require.Equal(t, "first\nsecond\n", content(notes))
	_, err, detail := g.said.last()
	require.NoError(t, err)
	require.Equal(t, "all hooks ran: second", detail)
	require.Contains(t, g.log.String(), `msg="A hook ran." output=grafana hook="exec `+hook.Exec[0])
}

// TestFailureIsTriedAgain has one hook that fails twice, between two that work:
// those run once.
func TestFailureIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, RunnerOptions{Interval: 20 * time.Minute, Hooks: []Options{
			{ReloadUnit: "a.service"}, {ReloadUnit: "b.service"}, {RestartUnit: "c.service"},
		}})
		failures := 2
		g.jobs.answer = func(_ int, unit string) error {
			if unit == "b.service" && failures > 0 {
				failures--
				return failure.New(failure.Transient, "not now")
			}
			return nil
		}
		g.start(t)
		g.Changed(sampleChange())

		synctest.Wait()
		require.Equal(t, []string{"reload a.service", "reload b.service", "restart c.service"}, g.jobs.all())
		_, err, detail := g.said.last()
		require.EqualError(t, err, "reload_unit b.service: not now")
		require.Equal(t, "attempt 1 of 5; the next one in 2s", detail)

		time.Sleep(2*time.Second + 8*time.Second)
		synctest.Wait()
		require.Equal(t, []string{"reload b.service", "reload b.service"}, g.jobs.all()[3:])
		_, err, _ = g.said.last()
		require.NoError(t, err)
		time.Sleep(24 * time.Hour)
		require.Len(t, g.jobs.all(), 5)
		shown := scrape(t, g.options.Metrics)
		require.Contains(t, shown, `rollcall_hook_runs_total{hook="reload_unit b.service",output="grafana",result="failure"} 2`)
		require.Contains(t, shown, `rollcall_hook_runs_total{hook="reload_unit b.service",output="grafana",result="success"} 1`)
		require.Contains(t, shown, `rollcall_hook_duration_seconds_count{hook="reload_unit b.service",output="grafana"} 3`)
	})
}

func TestGivesUpUntilTheNextChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, RunnerOptions{Interval: 20 * time.Minute, Hooks: []Options{{ReloadUnit: "a.service"}}})
		broken := true
		g.jobs.answer = func(int, string) error {
			if broken {
				return failure.New(failure.Other, "broken")
			}
			return nil
		}
		g.start(t)
		g.Changed(sampleChange())
		time.Sleep(20 * time.Minute)
		synctest.Wait()
		require.Len(t, g.jobs.all(), maxAttempts)
		_, err, detail := g.said.last()
		require.ErrorContains(t, err, "broken")
		require.Equal(t, "given up after 5 attempts, until the next change", detail)
		require.Contains(t, g.log.String(), "Hooks failed for the last time")

		broken = false
		g.Changed(sampleChange())
		synctest.Wait()
		require.Len(t, g.jobs.all(), maxAttempts+1)
		_, err, _ = g.said.last()
		require.NoError(t, err)
	})
}

// TestCoalesces has three changes while a hook runs: one more run follows, with
// the facts of the last and the files of all three.
func TestCoalesces(t *testing.T) {
	dir := t.TempDir()
	notes, gate := filepath.Join(dir, "notes"), filepath.Join(dir, "gate")
	hook := execute(script(t, dir, "hook", fmt.Sprintf(
		"echo $ROLLCALL_REASON: $ROLLCALL_CHANGED_FILES >> %s; until [ -e %s ]; do sleep 0.01; done", notes, gate)))
	g := newRig(t, RunnerOptions{Hooks: []Options{hook}})
	g.start(t)
	g.Changed(Change{Reason: "one", Files: []string{"a"}})
	await(t, "the first run", func() bool { return content(notes) != "" })
	began := time.Now()
	g.Changed(Change{Reason: "two", Files: []string{"c"}})
	g.Changed(Change{Reason: "three", Files: []string{"b", "c"}})
	g.Changed(Change{Reason: "four", Files: []string{"b"}})
	require.Less(t, time.Since(began), 10*time.Second, "a change waited for the hooks")
	require.NoError(t, os.WriteFile(gate, nil, 0o600))
	await(t, "the second run", func() bool { n, _, _ := g.said.last(); return n == 2 })
	require.Equal(t, "one: a\nfour: b c\n", content(notes))
}

// TestChangeEndsTheBackOff has a new change come while a failed hook waits: all
// hooks run at once, and hear of the files that the failed one missed.
func TestChangeEndsTheBackOff(t *testing.T) {
	dir := t.TempDir()
	notes := filepath.Join(dir, "notes")
	hook := execute(script(t, dir, "hook", "echo $ROLLCALL_CHANGED_FILES >> "+notes+`; [ "$ROLLCALL_REASON" = good ]`))
	g := newRig(t, RunnerOptions{Interval: 24 * time.Hour, Hooks: []Options{hook}})
	g.start(t)
	g.Changed(Change{Reason: "bad", Files: []string{"a"}})
	await(t, "the failure", func() bool { n, _, _ := g.said.last(); return n == 1 })
	g.Changed(Change{Reason: "good", Files: []string{"b"}})
	await(t, "the success", func() bool { _, err, _ := g.said.last(); return err == nil })
	require.True(t, strings.HasSuffix(content(notes), "a b\n"), content(notes))
}

// TestStopKillsWhatRuns ends the agent in the middle of a hook.
func TestStopKillsWhatRuns(t *testing.T) {
	dir := t.TempDir()
	numbers := filepath.Join(dir, "pids")
	g := newRig(t, RunnerOptions{Hooks: []Options{execute(script(t, dir, "hook", "echo $$ > "+numbers+"; sleep 600"))}})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	g.Changed(sampleChange())
	await(t, "the hook", func() bool { return strings.HasSuffix(content(numbers), "\n") })
	cancel()
	require.NoError(t, <-ended)
	allGone(t, numbers)
	times, _, _ := g.said.last()
	require.Zero(t, times, "stopping isn't a failure")
}

// TestDirectoryIsLookedAtAgain mends the directory while the runner waits; the
// hook before it isn't run twice.
func TestDirectoryIsLookedAtAgain(t *testing.T) {
	dir, notes := folder(t, "10-first")
	require.NoError(t, os.Chmod(dir, 0o777))
	listed := execute(script(t, t.TempDir(), "listed", "echo listed >> "+notes))
	g := newRig(t, RunnerOptions{Interval: 24 * time.Second, Hooks: []Options{listed}, Directory: dir})
	g.start(t)
	g.Changed(sampleChange())
	await(t, "the refusal", func() bool { n, _, _ := g.said.last(); return n >= 1 })
	require.NoError(t, os.Chmod(dir, 0o755))
	await(t, "the success", func() bool { n, err, _ := g.said.last(); return n >= 2 && err == nil })
	require.Equal(t, "listed\n10-first grafana\n", content(notes))
}

// TestAlive has a systemd that doesn't answer, not even at the timeout: that's
// stuck. Waiting for the next attempt or the next change isn't.
func TestAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, RunnerOptions{Interval: 24 * time.Hour, Hooks: []Options{{ReloadUnit: "a.service"}, {ReloadUnit: "b.service", Timeout: 10 * time.Minute}}})
		answer := make(chan struct{})
		g.jobs.answer = func(n int, _ string) error {
			if n == 4 {
				<-answer
			}
			return failure.New(failure.Other, "broken")
		}
		g.start(t)
		g.Changed(sampleChange())
		synctest.Wait()
		require.Len(t, g.jobs.all(), 2)
		require.NoError(t, g.Alive(), "waits for the next attempt")
		time.Sleep(2 * time.Second) // the second attempt
		synctest.Wait()
		require.Len(t, g.jobs.all(), 4)
		time.Sleep(DefaultTimeout + 10*time.Minute)
		require.NoError(t, g.Alive(), "within the sum of the timeouts")
		time.Sleep(2 * time.Minute)
		require.ErrorContains(t, g.Alive(), "while running hooks")
		close(answer)
		time.Sleep(time.Hour)
		require.NoError(t, g.Alive(), "given up, and rests")
	})
}

// TestOnceIsPartOfTheOutcome runs hooks one time, and returns what failed.
func TestOnceIsPartOfTheOutcome(t *testing.T) {
	g := newRig(t, RunnerOptions{Hooks: []Options{{ReloadUnit: "a.service"}, {ReloadUnit: "b.service"}}})
	g.jobs.answer = func(int, string) error { return failure.New(failure.Refused, "no") }
	g.Changed(sampleChange())
	err := g.Once(t.Context())
	require.EqualError(t, err, "the credentials are in place, but a hook failed: reload_unit a.service: no")
	require.Equal(t, failure.Refused, failure.KindOf(err))
	require.Len(t, g.jobs.all(), 2)
}

func TestNewRunnerRefusesWhatCannotWork(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	_, err := NewRunner(RunnerOptions{Output: "x", Log: log, Hooks: []Options{{}}})
	require.ErrorContains(t, err, "on_renewal[0]: ")
	_, err = NewRunner(RunnerOptions{Output: "x", Log: log, Directory: "hooks.d"})
	require.ErrorContains(t, err, "give an absolute path")
	require.Equal(t, failure.Configuration, failure.KindOf(err))
}

func TestMetricsExistBeforeTheFirstRun(t *testing.T) {
	m := NewMetrics()
	newRig(t, RunnerOptions{Metrics: m, Hooks: []Options{{ReloadUnit: "a.service"}}})
	for _, result := range []string{"success", "failure", "timeout"} {
		require.Contains(t, scrape(t, m), `rollcall_hook_runs_total{hook="reload_unit a.service",output="grafana",result="`+result+`"} 0`)
	}
}

// scrape returns the metrics as Prometheus sees them.
func scrape(t *testing.T, m *Metrics) string {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(m)
	answer := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return answer.Body.String()
}
