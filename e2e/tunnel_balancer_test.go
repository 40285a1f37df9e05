package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rollcall/e2e/harness"
)

// TestTunnelBehindALoadBalancer reaches applications through a load balancer
// that ends TLS and knows nothing of ALPN, in both forms.
func TestTunnelBehindALoadBalancer(t *testing.T) {
	t.Parallel()
	c := suite.Cluster(t)
	s := newTunnelStageOn(t, c)
	tcp := c.CreateApp(t, s.app.Name+"-tcp", harness.NewTCPApp(t).URL, map[string]string{"team": s.app.Name})
	balancer := c.Balancer(t)
	run := func(args ...string) *harness.Process {
		// The balancer's certificate is from an authority of its own, and the
		// proxy's is of no use here.
		return c.Run(t, harness.Command{Path: suite.Bin.Rollcall, Args: args, Env: []string{"SSL_CERT_FILE=" + balancer.CA}})
	}
	agent := run("start", "-c", s.servicesAt(t, balancer.Addr, "", s.tunnel("web", "")+
		fmt.Sprintf("  - {type: application-tunnel, name: tcp, listen: \"tcp://127.0.0.1:0\", app_name: %s}\n", tcp.Name)))
	awaitReady(t, agent, diagnostics(t, agent))

	t.Run("service", func(t *testing.T) {
		s.worksBalanced(t, balancer, listening(t, agent, "web"))
		call(t, listening(t, agent, "tcp")).says(t, "hello")
	})
	t.Run("command", func(t *testing.T) {
		s.files(t, "credential_ttl: 1h")
		command := run("proxy", "--destination-dir="+s.place("out"), "--proxy="+balancer.Addr, "app", "--port=0", s.app.Name)
		s.worksBalanced(t, balancer, proxying(t, command))
		stop(t, command)
	})
	stop(t, agent)
}

// worksBalanced uses a tunnel, and looks in the balancer's log for what that
// was by the time it came there.
func (s *tunnelStage) worksBalanced(t *testing.T, balancer *harness.Balancer, at string) {
	before := len(balancer.Requests())
	v := visit(t, at)
	v.reaches(t, s.web)
	v.post(t, 8<<20)
	v.socketTo(t).says(t, "hello")
	made := balancer.Requests()[before:]
	require.True(t, slices.ContainsFunc(made, func(request string) bool {
		return strings.HasPrefix(request, "101 GET ") && strings.Contains(request, "/webapi/connectionupgrade")
	}), "no connection was upgraded: %q", made)
	for _, request := range made {
		require.NotContains(t, request, "/echo", "a request went to the proxy without the certificate")
	}
}
