package tunnel

import (
	"context"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"rollcall/cluster"
)

// refusingIssuer issues nothing, and notes whether a session of its own was asked
// for.
type refusingIssuer struct {
	Issuer
	asked []bool
}

func (i *refusingIssuer) RoutedApplication(_ context.Context, request cluster.ApplicationRequest) (*cluster.Credentials, cluster.App, error) {
	i.asked = append(i.asked, request.NewSession)
	return nil, cluster.App{}, errTest
}

// TestSuspicionAsksForAnotherSession: the one that is kept may
// be next to go, or gone for the proxy alone.
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
	k.suspect("test", false)
	fetch()
	fetch()

	require.Equal(t, []bool{false, true, true}, issuer.asked, "until one is there")
}
