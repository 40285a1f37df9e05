package tunnel

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rollcall/cluster"
)

// refusingIssuer issues nothing, and notes what it's asked for.
type refusingIssuer struct {
	Issuer
	after []time.Time
}

func (i *refusingIssuer) RoutedApplication(_ context.Context, request cluster.ApplicationRequest) (*cluster.Credentials, cluster.App, error) {
	i.after = append(i.after, request.SessionAfter)
	return nil, cluster.App{}, errTest
}

// TestSuspicionAsksForAnotherSession: the one that is kept may be next to go, or
// gone for the proxy alone. Attempts that fail, and suspicions that didn't help,
// ask for no more than that: each session stays in the cluster for hours.
func TestSuspicionAsksForAnotherSession(t *testing.T) {
	place := cluster.New(cluster.Options{ProxyServer: "127.0.0.1:1"}, slog.New(slog.DiscardHandler))
	issuer := &refusingIssuer{}
	k := newTestKeeper()
	k.source = NewIssued(issuer, cluster.NewAppDialer(place), cluster.CertRequest{}).Source(appName)
	fetch := func() {
		_, err := k.source.Fetch(t.Context())
		require.ErrorIs(t, err, errTest)
	}

	fetch()
	began := time.Now()
	for range doubtsMost + 2 {
		k.suspect("test", false)
		k.asked.last, k.asked.unsure.last = time.Time{}, time.Now().Add(-longestFutilePause) // as if that was long ago
		fetch()
		fetch()
	}

	require.Zero(t, issuer.after[0])
	require.True(t, issuer.after[1].After(began))
	sessions := slices.Compact(slices.Clone(issuer.after[1:]))
	require.Len(t, sessions, doubtsMost)

	k.asked.doubted = time.Now().Add(-doubtAgain)
	k.asked.last, k.asked.unsure.last = time.Time{}, time.Now().Add(-longestFutilePause)
	k.suspect("test", false)
	fetch()
	require.True(t, issuer.after[len(issuer.after)-1].After(sessions[len(sessions)-1]), "an hour later it may be another fault")
}
