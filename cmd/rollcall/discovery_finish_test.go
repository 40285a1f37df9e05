package main

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"rollcall/discovery"
	"rollcall/discovery/plan"
)

// A single run applies what had to wait for what it has begun itself, and ends when
// nothing more comes of that, or when that has failed.
func TestFinishAppliesWhatHadToWait(t *testing.T) {
	waits := errors.New("two waits for the address of one")
	run := func(joins ...error) (rounds int, sum discovery.Result, err, unsettled error) {
		_, sum, err, unsettled = finish(t.Context(), func(context.Context) (plan.Plan, discovery.Result, error) {
			rounds++
			switch {
			case rounds > len(joins):
				return plan.Plan{Follows: true}, discovery.Result{}, waits
			case rounds == 2:
				return plan.Plan{}, discovery.Result{Created: 1}, nil
			default:
				return plan.Plan{Follows: true}, discovery.Result{Updated: 1}, waits
			}
		}, func(context.Context) error {
			if rounds > len(joins) {
				return nil
			}
			return joins[rounds-1]
		})
		return rounds, sum, err, unsettled
	}
	rounds, sum, err, unsettled := run(nil, nil)
	require.NoError(t, err)
	require.NoError(t, unsettled)
	require.Equal(t, 2, rounds)
	require.Equal(t, discovery.Result{Created: 1, Updated: 1}, sum)

	rounds, sum, err, unsettled = run(nil)
	require.ErrorIs(t, err, waits, "nothing was done any more")
	require.NoError(t, unsettled)
	require.Equal(t, 2, rounds)
	require.Equal(t, 1, sum.Updated)

	rounds, _, err, unsettled = run(errors.New("it didn't register"))
	require.ErrorIs(t, err, waits)
	require.EqualError(t, unsettled, "it didn't register")
	require.Equal(t, 1, rounds)
}
