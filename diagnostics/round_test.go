package diagnostics

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRound(t *testing.T) {
	board := NewBoard(newClock().Now)
	identity, app := board.Reporter("identity", ""), board.Reporter("app", "")
	over := func(r Round) bool { return r.Over(board.Snapshot(), "identity") }

	first := FirstRound()
	require.False(t, over(first))
	identity.Report(Report{NotAfter: start.Add(time.Hour)})
	require.False(t, over(first), "the app hasn't tried yet")
	app.Report(Report{Err: errors.New("not found")})
	require.True(t, over(first), "a reported failure ends it too")

	next := NextRound(board.Snapshot())
	require.False(t, over(next), "what was reported before doesn't count")
	app.Report(Report{})
	require.False(t, over(next))
	identity.Report(Report{Err: errors.New("down")})
	require.True(t, over(next), "the identity is valid and both have reported")
}

func TestRoundEndsWithoutPrerequisite(t *testing.T) {
	board := NewBoard(newClock().Now)
	identity := board.Reporter("identity", "")
	board.Reporter("app", "")
	round := FirstRound()
	identity.Report(Report{Err: errors.New("nobody answers")})
	require.True(t, round.Over(board.Snapshot(), "identity"), "the app can only wait")
}
