package identity

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"rollcall/cluster"
	"rollcall/failure"
)

// mismatch is what Bot.Renew returns when the server has locked the bot because
// an older generation was presented, as after a restored backup.
func mismatch() error {
	return cluster.NewUncertain(failure.New(failure.Refused, "renewable cert generation mismatch: stored=7, presented=5"))
}

// An operator removes the lock before giving the host its new token. Neither
// the next attempts nor a restart may lock the bot again.
func TestRefusedGenerationIsNotPresentedAgain(t *testing.T) {
	for name, known := range map[string]bool{"the cluster tells its generation": true, "it doesn't": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStage(t).holds(5, 20*time.Minute, time.Hour)
				s.joiner.generation, s.joiner.known = 7, known
				s.joiner.renewErr = mismatch()
				s.start()
				require.Equal(t, []uint64{5}, s.joiner.presented())

				s.joiner.set(func(j *stubJoiner) { j.renewErr = nil }) // unlocked
				s.pass(39 * time.Minute)
				require.NoError(t, s.end())
				require.Equal(t, []uint64{5}, s.joiner.presented())
				require.Equal(t, failure.Refused, failure.KindOf(s.reports.last().Err))
				require.ErrorContains(t, s.reports.last().Err, "new token")

				s.start() // a restart, with a third of a minute left
				require.Equal(t, []uint64{5}, s.joiner.presented())
				require.Contains(t, s.log.String(), "has refused the stored identity")
			})
		})
	}
}

// An operator who sets the cluster's count right, or a new token, ends it.
func TestRefusedGenerationIsPresentedOnceTheClusterHoldsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t).holds(5, 20*time.Minute, time.Hour)
		s.joiner.generation = 7
		s.joiner.renewErr = mismatch()
		s.start()
		s.joiner.set(func(j *stubJoiner) { j.renewErr, j.generation = nil, 5 })
		s.pass(10 * time.Minute)
		require.Equal(t, []uint64{5, 5}, s.joiner.presented())
		require.EqualValues(t, 6, s.keeper.Current().Generation())
		require.Nil(t, s.store.intent)
	})
}

// The official agent's storage may lack the token's hash.
func TestImportedIdentityGetsItsTokensHash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t).holds(5, 20*time.Minute, time.Hour)
		s.store.stored.TokenHash = ""
		s.start()
		require.Equal(t, []uint64{5}, s.joiner.presented())
		require.Equal(t, HashToken("the-token"), s.store.stored.TokenHash)
	})
}
