package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rollcall/e2e/harness"
)

// recovery is how long a tunnel may be behind the cluster that is back.
const recovery = 2 * time.Second

// TestTunnelOutlivesTheProxy kills the cluster during traffic and starts it
// again: every way to an application is back as soon as the proxy is, without a
// restart.
func TestTunnelOutlivesTheProxy(t *testing.T) {
	t.Parallel()
	c := suite.NewCluster(t, harness.ClusterOptions{})
	s := newTunnelStageOn(t, c)
	agent := s.start(t, s.services(t, "", s.tunnel("tunnel", "")+s.tcpTunnel(t, "tcp")+
		"  - {type: application-proxy, name: all, listen: \"tcp://127.0.0.1:0\"}\n"))
	address := diagnostics(t, agent)
	awaitReady(t, agent, address)
	s.files(t, "credential_ttl: 1h")
	command, at := s.command(t, "--port=0")
	pages := map[string]*visitor{
		"service": visit(t, listening(t, agent, "tunnel")),
		"command": visit(t, at),
		"proxy":   visitThrough(t, listening(t, agent, "all"), s.app.Name),
	}
	tcp := listening(t, agent, "tcp")
	ways := map[string]func() error{"tcp": func() error { return tryCall(t, tcp) }}
	for name, v := range pages {
		ways[name] = func() error { return v.tryReach(t, s.web) }
	}
	for name, try := range ways {
		harness.Eventually(t, patience, name, try)
	}
	direct := s.direct(t)
	require.NoError(t, direct())
	endTraffic := keepTrying(t, ways)

	c.Kill()
	for name, v := range pages {
		began := time.Now()
		answer := v.get(t, "/echo")
		require.Contains(t, []int{http.StatusBadGateway, http.StatusServiceUnavailable}, answer.status, "%s: %s", name, answer.body)
		require.Equal(t, "upstream", answer.header.Get("X-Rollcall-Error"), answer.body)
		require.Less(t, time.Since(began), 15*time.Second, "%s keeps its clients waiting", name)
	}
	call(t, tcp).ends(t) // it's told by the end of its connection
	for _, service := range []string{"tunnel", "tcp", "all"} {
		require.Positive(t, measured(t, address, "rollcall_tunnel_dials_total", service, `result="failure"`), service)
	}
	c.Start(t)

	ways["direct"] = direct
	back := returns(t, ways)
	for name := range ways {
		behind := back[name].Sub(back["direct"])
		t.Logf("%s: %v after a direct request", name, behind.Round(time.Millisecond))
		require.Less(t, behind, recovery, name)
	}
	endTraffic()
	stop(t, agent)
	stop(t, command)
}

// direct makes a request of the proxy itself, with the certificate in dir/out.
func (s *tunnelStage) direct(t *testing.T) func() error {
	t.Helper()
	cert, err := pair(s.place("out"))
	require.NoError(t, err)
	return func() error {
		answer, err := s.cluster.FetchWith(t.Context(), s.app, cert, "/echo")
		if err != nil {
			return err
		}
		return reply{status: answer.Status, header: http.Header{"Webapp": {s.web.Name}}, body: answer.Body}.fromApplication(s.web)
	}
}

// keepTrying uses each way all the time, whatever comes of it, until it's told
// to end.
func keepTrying(t *testing.T, ways map[string]func() error) (end func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var traffic sync.WaitGroup
	for _, try := range ways {
		traffic.Go(func() {
			for ctx.Err() == nil {
				_ = try() // failures are what an outage is
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
	end = func() { cancel(); traffic.Wait() }
	t.Cleanup(end)
	return end
}

// returns waits until all ways work, and tells since when each does.
func returns(t *testing.T, ways map[string]func() error) map[string]time.Time {
	t.Helper()
	// mu protects the following.
	var mu sync.Mutex
	back := map[string]time.Time{}
	var watching sync.WaitGroup
	for name, try := range ways {
		watching.Go(func() {
			if harness.Poll(t.Context(), patience, try) == nil {
				mu.Lock()
				defer mu.Unlock()
				back[name] = time.Now()
			}
		})
	}
	watching.Wait()
	for name := range ways {
		require.Contains(t, back, name, "it isn't back")
	}
	return back
}

// TestTunnelRenewsUnderLoad outlives its first certificate, and several more:
// no request fails, and what was opened with the first stays open.
func TestTunnelRenewsUnderLoad(t *testing.T) {
	t.Parallel()
	s := newTunnelStage(t)
	agent := s.start(t, s.services(t, "credential_ttl: 1m\nrenewal_interval: 5s", s.tunnel("tunnel", "")+s.tcpTunnel(t, "tcp")))
	address := diagnostics(t, agent)
	services := awaitReady(t, agent, address)
	// Nothing here is of a later certificate than these.
	v, tcp := visit(t, listening(t, agent, "tunnel")), listening(t, agent, "tcp")
	socket, stream, conn := v.socketTo(t), visit(t, v.at).listen(t), call(t, tcp)
	conn.says(t, "hello")
	first := services["tunnel"].NotAfter
	if other := services["tcp"].NotAfter; other.After(first) {
		first = other
	}
	require.WithinDuration(t, time.Now(), first, time.Minute)
	end := first.Add(3 * time.Second)

	count := underLoad(t, end, map[string]func() error{
		"GET":  func() error { return v.tryReach(t, s.web) },
		"POST": func() error { _, err := v.tryPost(t, 20_000); return err },
		"TCP":  func() error { return tryCall(t, tcp) },
	})
	for n := 0; time.Now().Before(end); n++ {
		socket.says(t, fmt.Sprint("message ", n))
		stream.next(t, s.web, fmt.Sprint("event ", n))
		conn.says(t, fmt.Sprint("line ", n))
		time.Sleep(200 * time.Millisecond)
	}
	for name, n := range count() {
		t.Logf("%s: %d, none failed", name, n)
		require.Greater(t, n, 100, name)
	}
	for _, service := range []string{"tunnel", "tcp"} {
		renewed := renewals(t, address, service)
		t.Logf("%s: %d renewals", service, renewed)
		require.Greater(t, renewed, 5, service)
	}
	require.Empty(t, s.cluster.Locks(t, s.bot))
	stop(t, agent)
}

// underLoad has two clients of each kind try again and again until then. count
// waits for them, and fails the test if one failed even once.
func underLoad(t *testing.T, end time.Time, kinds map[string]func() error) (count func() map[string]int) {
	const each = 2
	type outcome struct {
		kind string
		n    int
		err  error
	}
	outcomes := make(chan outcome, each*len(kinds))
	for kind, try := range kinds {
		for range each {
			go func() {
				o := outcome{kind: kind}
				for ; o.err == nil && time.Now().Before(end); o.n++ {
					o.err = try()
					time.Sleep(20 * time.Millisecond)
				}
				outcomes <- o
			}()
		}
	}
	return func() map[string]int {
		t.Helper()
		counts := map[string]int{}
		for range cap(outcomes) {
			o := <-outcomes
			require.NoError(t, o.err, "%s %d", o.kind, o.n)
			counts[o.kind] += o.n
		}
		return counts
	}
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
