package diagnostics

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSummary(t *testing.T) {
	in := func(d time.Duration) time.Time { return start.Add(d) }
	well := Report{NotAfter: in(time.Hour), Next: in(20 * time.Minute)}
	for _, test := range []struct {
		name    string
		do      func(b *Board)
		want    string
		healthy bool
	}{
		{"nothing", func(*Board) {}, "no services", false},
		{"starting", func(b *Board) { b.Reporter("identity", "") }, "1 of 1 services need attention: identity is starting", false},
		{"one", func(b *Board) { b.Reporter("identity", "").Report(well) },
			"1 service is ready; next renewal 2026-01-02T03:24:05Z (identity)", true},
		{"all well, the nearest renewal", func(b *Board) {
			b.Reporter("identity", "").Report(well)
			b.Reporter("app", "").Report(Report{NotAfter: in(time.Hour), Next: in(time.Minute)})
		}, "all 2 services are ready; next renewal 2026-01-02T03:05:05Z (app)", true},
		{"degraded", func(b *Board) {
			b.Reporter("identity", "").Report(well)
			b.Reporter("identity", "").Report(Report{Err: errors.New("nobody\nanswers"), Next: in(time.Second)})
		}, "1 of 1 services need attention: identity: nobody answers; next renewal 2026-01-02T03:04:06Z (identity)", false},
		{"what provides nothing comes first", func(b *Board) {
			b.Reporter("a", "").Report(Report{NotAfter: in(time.Hour)})
			b.Reporter("a", "").Report(Report{Err: errors.New("slow")})
			b.Reporter("b", "")
			b.Reporter("c", "").Report(Report{Err: errors.New("not found")})
		}, "3 of 3 services need attention: c: not found", false},
		{"expired", func(b *Board) {
			b.Reporter("a", "").Report(Report{Err: errors.New("down"), NotAfter: in(-time.Second)})
		}, "1 of 1 services need attention: a has expired: down", false},
		{"stopped", func(b *Board) { b.Reporter("a", "").Stopped() }, "1 of 1 services need attention: a has stopped", false},
		{"a hook", func(b *Board) {
			b.Reporter("a", "").Report(Report{})
			b.Reporter("a", "").Hook(errors.New("exit status 1"), "reload nginx.service")
		}, "1 of 1 services need attention: a: a hook failed: exit status 1", false},
		{"a hook that works again", func(b *Board) {
			b.Reporter("a", "").Report(Report{})
			b.Reporter("a", "").Hook(errors.New("exit status 1"), "reload nginx.service")
			b.Reporter("a", "").Hook(nil, "reload nginx.service")
		}, "1 service is ready", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			board := NewBoard(newClock().Now)
			test.do(board)
			require.Equal(t, test.want, Summary(board.Snapshot()))
			require.Equal(t, test.healthy, Healthy(board.Snapshot()))
		})
	}
}

func TestSummaryIsShort(t *testing.T) {
	board := NewBoard(newClock().Now)
	board.Reporter("a", "").Report(Report{Err: errors.New(strings.Repeat("überlang ", 100)), Next: start})
	text := Summary(board.Snapshot())
	require.LessOrEqual(t, len(text), maxSummary)
	require.True(t, strings.HasSuffix(text, "…; next renewal 2026-01-02T03:04:05Z (a)"), text)
	require.NotContains(t, text, "\uFFFD")
}

func TestChangedTellsOfReports(t *testing.T) {
	board := NewBoard(newClock().Now)
	entry := board.Reporter("a", "")
	for _, change := range []func(){
		func() { entry.Report(Report{}) },
		func() { entry.Hook(nil, "x") },
		func() { entry.Stopped() },
	} {
		changed := board.Changed()
		select {
		case <-changed:
			t.Fatal("nothing has changed yet")
		default:
		}
		change()
		<-changed
	}
	require.EqualValues(t, 1, entry.Status().Reports)
}
