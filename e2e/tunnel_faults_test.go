package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rollcall/e2e/harness"
)

// recovery is how long a tunnel may be behind the cluster that is back.
const recovery = 2 * time.Second

// TestTunnelOutlivesTheProxy kills the cluster during traffic and starts it
// again: the tunnel is back as soon as the proxy is, without a restart.
func TestTunnelOutlivesTheProxy(t *testing.T) {
	t.Parallel()
	c := suite.NewCluster(t, harness.ClusterOptions{})
	s := newTunnelStageOn(t, c)
	agent := s.start(t, s.services(t, "", s.tunnel("tunnel", "")))
	awaitReady(t, agent, diagnostics(t, agent))
	s.files(t, "credential_ttl: 1h")
	command, at := s.command(t, "--port=0")
	ways := map[string]*visitor{"service": visit(t, listening(t, agent, "tunnel")), "command": visit(t, at)}
	cert, err := pair(s.place("out"))
	require.NoError(t, err)
	direct := func() error {
		answer, err := c.FetchWith(t.Context(), s.app, cert, "/echo")
		if err != nil {
			return err
		}
		return reply{status: answer.Status, header: http.Header{"Webapp": {s.web.Name}}, body: answer.Body}.fromApplication(s.web)
	}
	require.NoError(t, direct())

	var traffic sync.WaitGroup
	ctx, endTraffic := context.WithCancel(t.Context())
	defer traffic.Wait()
	defer endTraffic()
	for _, v := range ways {
		traffic.Go(func() {
			for ctx.Err() == nil {
				_ = v.tryReach(t, s.web) // failures are what an outage is
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
	for name, v := range ways {
		harness.Eventually(t, patience, name, func() error { return v.tryReach(t, s.web) })
	}

	c.Kill()
	for name, v := range ways {
		began := time.Now()
		answer := v.get(t, "/echo")
		require.Contains(t, []int{http.StatusBadGateway, http.StatusServiceUnavailable}, answer.status, "%s: %s", name, answer.body)
		require.Equal(t, "upstream", answer.header.Get("X-Rollcall-Error"), answer.body)
		require.Less(t, time.Since(began), 15*time.Second, "%s keeps its clients waiting", name)
	}
	c.Start(t)

	// Each is timed from the moment that the proxy itself serves again.
	back := map[string]time.Time{}
	var mu sync.Mutex
	var watching sync.WaitGroup
	watch := func(name string, check func() error) {
		watching.Go(func() {
			if harness.Poll(t.Context(), patience, check) == nil {
				mu.Lock()
				back[name] = time.Now()
				mu.Unlock()
			}
		})
	}
	watch("direct", direct)
	for name, v := range ways {
		watch(name, func() error { return v.tryReach(t, s.web) })
	}
	watching.Wait()
	for name := range ways {
		require.Contains(t, back, "direct")
		require.Contains(t, back, name)
		t.Logf("%s: %v after a direct request", name, back[name].Sub(back["direct"]).Round(time.Millisecond))
		require.Less(t, back[name].Sub(back["direct"]), recovery, name)
	}
	endTraffic()
	traffic.Wait()
	stop(t, agent)
	stop(t, command)
}

// TestTunnelRenewsUnderLoad outlives its first certificate, and several more:
// no request fails, and what was opened with the first stays open.
func TestTunnelRenewsUnderLoad(t *testing.T) {
	t.Parallel()
	s := newTunnelStage(t)
	agent := s.start(t, s.services(t, "credential_ttl: 1m\nrenewal_interval: 5s", s.tunnel("tunnel", "")))
	address := diagnostics(t, agent)
	services := awaitReady(t, agent, address)
	first := services["tunnel"].NotAfter
	require.WithinDuration(t, time.Now(), first, time.Minute)
	v := visit(t, listening(t, agent, "tunnel"))
	socket, stream := v.socketTo(t), visit(t, v.at).listen(t)

	var requests atomic.Int64
	problems := make(chan error, 4)
	for range cap(problems) {
		go func() {
			for time.Now().Before(first.Add(3 * time.Second)) {
				if err := v.tryReach(t, s.web); err != nil {
					problems <- fmt.Errorf("request %d: %w", requests.Load(), err)
					return
				}
				requests.Add(1)
				time.Sleep(20 * time.Millisecond)
			}
			problems <- nil
		}()
	}
	for n := 0; time.Now().Before(first.Add(3 * time.Second)); n++ {
		socket.says(t, fmt.Sprint("message ", n))
		stream.next(t, s.web, fmt.Sprint("event ", n))
		time.Sleep(200 * time.Millisecond)
	}
	for range cap(problems) {
		require.NoError(t, <-problems)
	}

	renewed := renewals(t, address, "tunnel")
	t.Logf("%d requests, %d renewals", requests.Load(), renewed)
	require.Greater(t, renewed, 5)
	require.Empty(t, s.cluster.Locks(t, s.bot))
	stop(t, agent)
}

// TestTunnelAwaitsItsApplication starts before there is an application.
func TestTunnelAwaitsItsApplication(t *testing.T) {
	t.Parallel()
	c := suite.Cluster(t)
	web := harness.NewWebApp(t)
	name := harness.Unique(t, "app")
	c.CreateAppRole(t, name+"-access", map[string]string{"team": name})
	s := &stage{cluster: c, app: harness.App{Name: name, PublicAddr: name + ".apps.localhost"}, bot: c.CreateBot(t, name, name+"-access"), dir: suite.Dir(t)}
	neighbour := harness.NewWebApp(t)
	c.CreateApp(t, name+"-2", neighbour.URL, map[string]string{"team": name})
	agent := s.start(t, s.services(t, "", s.tunnel("tunnel", "")+
		fmt.Sprintf("  - {type: application-tunnel, name: other, listen: \"tcp://127.0.0.1:0\", app_name: %s-2}\n", name)))
	address := diagnostics(t, agent)
	v, other := visit(t, listening(t, agent, "tunnel")), visit(t, listening(t, agent, "other"))

	agent.WaitFor(t, patience, "the neighbour", func() error { return other.tryReach(t, neighbour) })
	var services map[string]state
	agent.WaitFor(t, patience, "the missing application in /readyz", func() error {
		if _, _, services = readyz(t, address); !strings.Contains(services["tunnel"].LastError, name) {
			return fmt.Errorf("%+v", services)
		}
		return nil
	})
	require.False(t, services["tunnel"].Ready)
	require.True(t, services["other"].Ready, "one failure is all")
	answer := v.get(t, "/echo")
	answer.refused(t, http.StatusServiceUnavailable, "unavailable", name)
	require.NotEmpty(t, answer.header.Get("Retry-After"))

	c.CreateApp(t, name, web.URL, map[string]string{"team": name})
	began := time.Now()
	agent.WaitFor(t, patience, "the application", func() error { return v.tryReach(t, web) })
	t.Logf("served %v after the application was there", time.Since(began).Round(time.Millisecond))
	awaitReady(t, agent, address)
	stop(t, agent)
}

// TestTunnelStops lets what is under way come to its end, and a reload harms
// nothing that is open.
func TestTunnelStops(t *testing.T) {
	t.Parallel()
	s := newTunnelStage(t)
	agent := s.start(t, s.services(t, "", s.tunnel("tunnel", "")))
	address := diagnostics(t, agent)
	awaitReady(t, agent, address)
	v := visit(t, listening(t, agent, "tunnel"))
	socket, stream := v.socketTo(t), visit(t, v.at).listen(t)

	before := renewals(t, address, "tunnel")
	agent.Signal(t, syscall.SIGHUP)
	agent.WaitFor(t, patience, "a renewal", func() error {
		if renewals(t, address, "tunnel") == before {
			return errors.New("none yet")
		}
		return nil
	})
	socket.says(t, "still here")
	stream.next(t, s.web, "still here")
	v.reaches(t, s.web)

	type outcome struct {
		body string
		err  error
	}
	underWay := make(chan outcome, 1)
	response, err := v.Do(v.request(t, http.MethodGet, "/slow?ms=1500", nil))
	require.NoError(t, err)
	go func() {
		body, err := io.ReadAll(response.Body)
		underWay <- outcome{string(body), err}
	}()
	stop(t, agent) // streams without end don't hold it up
	last := <-underWay
	require.NoError(t, last.err, "a request that was under way was cut off")
	require.Equal(t, "slow", last.body)
	_, err = v.try(v.request(t, http.MethodGet, "/echo", nil))
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
}
