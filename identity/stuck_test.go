package identity

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"rollcall/cluster"
)

// TestFollowerThatHangs: whoever is told of a change may hang, on a file system
// that doesn't answer; a silent watch is no hanging.
func TestFollowerThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t).holds(5, 0, 24*time.Hour).start()
		source := &stubAuthorities{}
		source.rotate(cluster.Authority{ClusterName: "teleport.example.com", TLSCerts: [][]byte{s.joiner.ca.pem}})
		release := make(chan struct{})
		follower := NewFollower(source, s.keeper, Listeners{
			Changed: func(context.Context) { <-release },
			Same:    func(context.Context, *cluster.Authorities) {},
		}, discard())
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- follower.Run(ctx) }()
		time.Sleep(time.Hour)
		require.NoError(t, follower.Alive(), "nothing happens, and it's watching")

		source.rotate(cluster.Authority{ClusterName: "leaf"})
		// It hangs at the latest when it polls.
		time.Sleep(stuckAfter)
		require.NoError(t, follower.Alive())
		time.Sleep(authorityPoll + time.Second)
		require.ErrorContains(t, follower.Alive(), "while comparing certificate authorities")

		close(release)
		synctest.Wait()
		require.NoError(t, follower.Alive())
		cancel()
		require.NoError(t, <-ended)
	})
}

// hangingHeart takes a heartbeat and doesn't answer, whatever the context says.
type hangingHeart struct{ release chan struct{} }

func (h hangingHeart) SubmitHeartbeat(context.Context, *cluster.Credentials, cluster.Heartbeat) (bool, error) {
	<-h.release
	return true, nil
}

func TestHeartThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t).holds(5, 0, 24*time.Hour).start()
		sender := hangingHeart{make(chan struct{})}
		heart := NewHeart(sender, s.keeper, cluster.Heartbeat{}, discard())
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- heart.Run(ctx) }()
		time.Sleep(stuckAfter)
		require.NoError(t, heart.Alive())
		time.Sleep(time.Second)
		require.ErrorContains(t, heart.Alive(), "while sending a heartbeat")

		close(sender.release)
		time.Sleep(heartbeatInterval - time.Second)
		require.NoError(t, heart.Alive(), "between two beats it rests")
		cancel()
		require.NoError(t, <-ended)
	})
}
