package e2e

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rollcall/e2e/harness"
)

// TestTunnelOutlivesItsSession has somebody delete the sessions that the
// certificates live from, while clients ask on and on: those whose requests may
// be made once more don't notice.
func TestTunnelOutlivesItsSession(t *testing.T) {
	t.Parallel()
	s := newTunnelStage(t)
	s.settle = "1s" // the default: beside other tests the proxy takes more than 200ms now and then
	agent := s.start(t, s.services(t, "", s.tunnel("plain", "")+s.tunnel("usual", "")+s.tunnel("posts", "")))
	address := diagnostics(t, agent)
	awaitReady(t, agent, address)
	clients := map[string]*visitor{}
	for _, name := range []string{"plain", "usual", "posts"} {
		clients[name] = visit(t, listening(t, agent, name))
	}
	clients["usual"].header.Set("Te", "trailers") // what has this doesn't go the short way
	clients["posts"].post(t, 1000)
	before := map[string]int{}
	polls := map[string]*poll{}
	for _, name := range []string{"plain", "usual"} {
		before[name] = renewals(t, address, name)
		polls[name] = clients[name].asksOn(t, s.web)
		polls[name].goesOn(t, 5)
	}

	dead := s.deleteSessions(t)

	for name, p := range polls {
		agent.WaitFor(t, patience, "a renewal of "+name, func() error {
			if n := renewals(t, address, name); n <= before[name] {
				return fmt.Errorf("there were %d", n)
			}
			return nil
		})
		p.goesOn(t, 5)
		t.Logf("%s: %d requests, none failed", name, p.ends(t))
		clients[name].post(t, 20_000)
		require.Equal(t, before[name]+1, renewals(t, address, name), "one renewal of %s is enough", name)
	}
	clients["posts"].refusedUntilRenewed(t)
	for _, session := range s.cluster.AppSessions(t, s.bot.User) {
		require.NotContains(t, dead, session.GetName())
	}
	stop(t, agent)
}

// poll is a client that gets a page again and again, until the application isn't
// who answers.
type poll struct {
	answered atomic.Int64
	cancel   context.CancelFunc
	// failed has why it ended, once it has.
	failed chan error
}

func (v *visitor) asksOn(t *testing.T, web *harness.WebApp) *poll {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	p := &poll{cancel: cancel, failed: make(chan error, 1)}
	var asking sync.WaitGroup
	asking.Go(func() {
		for ctx.Err() == nil {
			if err := v.tryReach(t, web); err != nil {
				p.failed <- err
				return
			}
			p.answered.Add(1)
			time.Sleep(5 * time.Millisecond) // others need the processor as well
		}
		p.failed <- nil
	})
	t.Cleanup(func() { cancel(); asking.Wait() })
	return p
}

// goesOn waits for some more answers.
func (p *poll) goesOn(t *testing.T, more int64) {
	t.Helper()
	least := p.answered.Load() + more
	harness.Eventually(t, patience, "more answers", func() error {
		select {
		case err := <-p.failed:
			t.Fatalf("request %d: %v", p.answered.Load(), err)
		default:
		}
		if n := p.answered.Load(); n < least {
			return fmt.Errorf("%d of %d", n, least)
		}
		return nil
	})
}

// ends returns the number of answers, and fails if there was another one.
func (p *poll) ends(t *testing.T) int64 {
	t.Helper()
	p.cancel()
	require.NoError(t, <-p.failed)
	return p.answered.Load()
}

// refusedUntilRenewed posts with a certificate whose session is gone. That isn't
// done again behind the client's back: an application may give the same answer as
// Teleport does. But the answer brings a new certificate.
func (v *visitor) refusedUntilRenewed(t *testing.T) {
	t.Helper()
	answer, err := v.tryPost(t, 20_000)
	require.Error(t, err, "its certificate lives from a session that isn't there")
	harness.Eventually(t, patience, "a POST", func() error {
		require.Equal(t, http.StatusForbidden, answer.status, answer.body)
		require.Equal(t, "Forbidden\n", answer.body)
		answer, err = v.tryPost(t, 20_000)
		return err
	})
}
