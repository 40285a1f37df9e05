package identity

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"rollcall/failure"
)

func TestLostReplyThatHadNoEffect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t).holds(5, 20*time.Minute, time.Hour)
		s.joiner.renewErr = lostReply(t)
		s.start()
		require.Equal(t, []uint64{5}, s.joiner.presented())
		require.NotNil(t, s.store.intent)
		s.joiner.set(func(j *stubJoiner) { j.renewErr = nil })
		s.pass(time.Minute)
		require.Equal(t, []uint64{5, 5}, s.joiner.presented())
		require.EqualValues(t, 6, s.keeper.Current().Generation())
		require.Nil(t, s.store.intent)
	})
}

// The cluster has moved on: what it would lock the bot for is never presented,
// and what is valid serves to its end.
func TestLostReplyOfARenewalThatHappened(t *testing.T) {
	for name, held := range map[string]uint64{"ahead": 6, "recreated": 0, "restored": 3} {
		for _, restarted := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				s := newStage(t).holds(5, 20*time.Minute, time.Hour)
				presented := 0
				if restarted {
					s.store.intent = &Intent{Generation: 5, Since: time.Now()}
				} else {
					s.joiner.renewErr = lostReply(t)
					presented = 1
				}
				s.joiner.generation = held
				s.joiner.joinErr = failure.New(failure.Refused, "the token was used already")
				s.start()
				s.pass(40*time.Minute - time.Second)
				require.Len(t, s.joiner.presented(), presented, name)
				require.True(t, s.keeper.usable())
				require.ErrorContains(t, s.reports.last().Err, "presenting it would lock the bot")
				require.Equal(t, failure.Refused, failure.KindOf(s.reports.last().Err))
				require.NotNil(t, s.store.intent, "the next start must be as careful")

				s.pass(10 * time.Minute)
				require.ErrorContains(t, s.end(), "delete and recreate the bot", name)
				require.Len(t, s.joiner.presented(), presented, name)
			})
		}
	}
}

func TestLostReplyWhereTheClusterDoesNotTell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t).holds(5, 20*time.Minute, time.Hour)
		s.joiner.known = false
		s.joiner.renewErr = lostReply(t)
		s.start()
		s.joiner.set(func(j *stubJoiner) { j.renewErr = nil })
		s.pass(20*time.Minute - time.Second)
		require.Equal(t, []uint64{5}, s.joiner.presented())
		require.ErrorContains(t, s.reports.last().Err, "to be safe, give this host a new token")
		s.pass(3 * time.Minute)
		require.Equal(t, []uint64{5, 5}, s.joiner.presented())
		require.Contains(t, s.log.String(), "Presenting an identity whose generation may be behind")
		require.EqualValues(t, 6, s.keeper.Current().Generation())
	})
}

// A new token ends the doubt; one that doesn't work leaves it as it was, on the
// disk too.
func TestNewTokenEndsADoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t).holds(5, 20*time.Minute, time.Hour)
		path := filepath.Join(t.TempDir(), "token")
		require.NoError(t, os.WriteFile(path, []byte("the-token\n"), 0o600))
		s.opts.Tokens.Options.Token = path
		s.joiner.renewErr = lostReply(t)
		s.joiner.generation = 6
		s.joiner.joinErr = failure.New(failure.Unreachable, "down")
		s.start()
		require.NoError(t, os.WriteFile(path, []byte("another\n"), 0o600))
		s.pass(10 * time.Minute)
		require.NotZero(t, s.joiner.joined())
		require.Equal(t, []uint64{5}, s.joiner.presented())
		require.NotNil(t, s.store.intent)
		require.False(t, s.store.intent.settledBy(s.store.stored), "the doubt was forgotten")

		s.joiner.set(func(j *stubJoiner) { j.joinErr, j.renewErr = nil, nil })
		s.pass(5 * time.Minute)
		require.EqualValues(t, 1, s.keeper.Current().Generation())
		require.Equal(t, HashToken("another"), s.store.stored.TokenHash)
		require.Nil(t, s.store.intent)
	})
}
