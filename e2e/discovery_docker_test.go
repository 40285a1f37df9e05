package e2e

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gravitational/teleport/api/client/proto"
	"github.com/gravitational/teleport/api/types"
	"github.com/stretchr/testify/require"

	"rollcall/e2e/harness"
)

// engine is the host's own Docker Engine for the agent.
const engine = harness.Engine

// rabbits are containers as the guide has them.
type rabbits struct {
	*registrar
	docker *harness.Docker
	image  string
	all    []*harness.RunningContainer
}

// newRabbits starts three containers, as the guide does.
func newRabbits(t *testing.T, r *registrar) *rabbits {
	t.Helper()
	d := suite.Docker(t)
	b := &rabbits{registrar: r, docker: d, image: d.WebImage("rabbit")}
	for i := range 3 {
		b.start(fmt.Sprintf("%s-rabbit-%d", r.name, i))
	}
	return b
}

func (b *rabbits) start(name string, options ...string) *harness.RunningContainer {
	c := b.docker.Start(harness.Container{Image: b.image, Name: name, Options: options, Args: []string{"--text", name}})
	b.all = append(b.all, c)
	return c
}

// fromDocker is the source of the guide's scenario: everything that was started
// from one image.
func (b *rabbits) fromDocker(host string, more ...string) string {
	return fmt.Sprintf("source: {%s}", strings.Join(append([]string{
		"type: docker", "host: " + host, "filters: {ancestor: ['" + b.image + "']}", "port: 15672"}, more...), ", "))
}

// resource is the template of the guide's scenario.
func (b *rabbits) resource() string {
	return fmt.Sprintf("resource: {name: '{{ .Name }}', public_addr: '{{ .Name }}.apps.localhost', labels: {team: %s}}", b.name)
}

// names of some of the containers.
func (b *rabbits) names(which ...int) []string {
	var names []string
	for _, i := range which {
		names = append(names, b.all[i].Name)
	}
	return names
}

// reach fetches each application through Teleport, with curl and a certificate
// that rollcall writes for it.
func (r *registrar) reach(t *testing.T, names ...string) {
	t.Helper()
	reader := harness.Unique(t, "reader")
	r.cluster.CreateAppRole(t, reader, map[string]string{"team": r.name})
	bot := r.cluster.CreateBot(t, reader, reader)
	dir := suite.Dir(t)
	var outputs strings.Builder
	for _, name := range names {
		r.cluster.WaitForApp(t, name)
		fmt.Fprintf(&outputs, "  - {type: application, app_name: %s, destination: {type: directory, path: %s}}\n", name, filepath.Join(dir, name))
	}
	config := suite.WriteFile(t, "reader.yaml", fmt.Sprintf(`
version: v2
proxy_server: %s
onboarding: {join_method: token, token: %s}
storage: {type: memory}
settle_time: 300ms
outputs:
%s`, r.cluster.Info().ProxyAddr, bot.Token, outputs.String()))
	r.cluster.Rollcall(t, "start", "-c", config, "--oneshot").Succeed(t)
	for _, name := range names {
		app := harness.App{Name: name, PublicAddr: name + ".apps.localhost"}
		var body string
		harness.Eventually(t, patience, "an answer of "+name, func() (err error) {
			body, err = r.cluster.Curl(t.Context(), app, filepath.Join(dir, name, "tlscert"), filepath.Join(dir, name, "key"), "/")
			return err
		})
		require.Contains(t, body, name, "the answer is another container's")
	}
}

// TestGuideScenarioDynamic is the scenario of Teleport's guide: three RabbitMQ
// management pages, registered, reached, and one stopped.
func TestGuideScenarioDynamic(t *testing.T) {
	t.Parallel()
	r := newRegistrar(t, suite.Cluster(t))
	unchanged := r.foreign(t, r.name+"-theirs", map[string]string{"env": "prod"})
	b := newRabbits(t, r)
	a := r.agent(t, r.service(b.fromDocker(engine), b.resource()))
	a.employ(t, r.name, nil)

	agent := a.run(t)

	r.await(t, agent, b.names(0, 1, 2)...)
	r.reach(t, b.names(0, 1, 2)...)

	b.all[1].Stop()
	r.await(t, agent, b.names(0, 2)...)
	r.reach(t, b.names(0, 2)...)

	// A restart of a container is no outage: its application is updated, if its
	// address has changed, and never deleted.
	b.all[0].Stop()
	// First this one: if another took its address while it's away, its
	// application would be taken away at once, since users would reach the other.
	b.all[0].StartAgain()
	b.all[1].StartAgain() // it may take the address that the restarted one had
	r.await(t, agent, b.names(0, 1, 2)...)
	// The names alone don't say if the new addresses are written yet.
	harness.Eventually(t, patience, "the restarted container's new address", func() error {
		if code, out, _ := a.discovery(t, "explain", "docker/"+b.all[0].Name); code != 0 {
			return fmt.Errorf("%d: %s", code, out)
		}
		return nil
	})
	harness.Eventually(t, patience, "an empty plan", func() error {
		if code, out, _ := a.discovery(t, "plan"); code != 0 {
			return fmt.Errorf("%d: %s", code, out)
		}
		return nil
	})
	r.reach(t, b.names(0, 1, 2)...)
	stop(t, agent)
	unchanged()
	for _, w := range r.writes(t) {
		require.False(t, w.What == "delete" && w.App == b.all[0].Name, "the container that was only restarted was deregistered")
	}
}

// TestGuideScenarioAgent is the same with an Application Service container for
// each application, as the guide has it. The tests' cluster listens on loopback,
// so that these containers use the host's network.
func TestGuideScenarioAgent(t *testing.T) {
	t.Parallel()
	r := newRegistrar(t, suite.Cluster(t))
	b := newRabbits(t, r)
	a := r.agent(t, r.service(b.fromDocker(engine), b.resource(), "guard: {settle: 0s}", "register: agent",
		fmt.Sprintf("agent: {image: '%s', network: host, ca_file: %s}", b.docker.TeleportImage(), r.cluster.Info().ProxyCA)))
	a.employ(t, r.name, nil)
	b.docker.RemoveLabelled("rollcall/owner=" + a.owner(t))

	agent := a.run(t)

	b.awaitServed(t, agent, b.names(0, 1, 2)...)
	// The next full comparison is minutes away: the agents' registering is heard of.
	a.state(t, agent, "sure of all three", func(s state) bool {
		return strings.Contains(s.Message, "3 registered") && !strings.Contains(s.Message, "hasn't registered")
	})
	require.Empty(t, r.registered(t), "no dynamic application is made in this mode")
	require.Equal(t, 3, b.agents(t, a))
	r.reach(t, b.names(0, 1, 2)...)

	b.all[1].Stop()
	b.awaitServed(t, agent, b.names(0, 2)...)
	require.Eventually(t, func() bool { return b.agents(t, a) == 2 }, patience, 200*time.Millisecond)
	r.reach(t, b.names(0, 2)...)

	// A kill of ours changes nothing: the containers are found again.
	before := b.agentIDs(t, a)
	agent.Kill()
	agent = a.run(t)
	a.state(t, agent, "ready", func(s state) bool { return s.Ready })
	require.Equal(t, before, b.agentIDs(t, a), "the agents were started anew")
	stop(t, agent)
	a.must(t, "purge", "--yes")
	require.Zero(t, b.agents(t, a))
	b.awaitServed(t, nil)
}

// awaitServed waits until exactly these of the containers' applications are
// served.
func (b *rabbits) awaitServed(t *testing.T, agent *harness.Process, names ...string) {
	t.Helper()
	want := append([]string{}, names...)
	slices.Sort(want)
	check := func() error {
		got := []string{}
		for _, c := range b.all {
			found, err := b.cluster.Client(t).ListResources(t.Context(), proto.ListResourcesRequest{
				ResourceType: types.KindAppServer, Limit: 10, PredicateExpression: fmt.Sprintf("name == %q", c.Name)})
			if err != nil {
				return err
			}
			if len(found.Resources) > 0 {
				got = append(got, c.Name)
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			return fmt.Errorf("served are %v, not %v", got, want)
		}
		return nil
	}
	what := fmt.Sprintf("the served applications %v", want)
	if agent == nil {
		harness.Eventually(t, 2*patience, what, check)
		return
	}
	agent.WaitFor(t, 2*patience, what, check)
}

// agentIDs are the containers of the service's own agents.
func (b *rabbits) agentIDs(t *testing.T, a *registrarAgent) []string {
	t.Helper()
	ids := strings.Fields(b.docker.Run("ps", "--all", "--quiet", "--filter", "label=rollcall/owner="+a.owner(t)))
	slices.Sort(ids)
	return ids
}

func (b *rabbits) agents(t *testing.T, a *registrarAgent) int {
	t.Helper()
	return len(b.agentIDs(t, a))
}

// TestDiscoveryExplainsContainers has containers that aren't registered, each
// for another reason.
func TestDiscoveryExplainsContainers(t *testing.T) {
	t.Parallel()
	r := newRegistrar(t, suite.Cluster(t))
	d := suite.Docker(t)
	b := &rabbits{registrar: r, docker: d, image: d.WebImage("rabbit")}
	quiet := b.start(r.name + "-quiet")
	loud := d.Start(harness.Container{Image: b.image, Name: r.name + "-loud", Labels: map[string]string{"rollcall.enable": "true", "rollcall.name": r.name + "-called", "rollcall.port": "15672"}})
	stopped := d.Start(harness.Container{Image: b.image, Name: r.name + "-stopped", Labels: map[string]string{"rollcall.enable": "true"}})
	stopped.Stop()
	a := r.agent(t, r.service(b.fromDocker(engine, "select: labelled"), b.resource(), "guard: {absent_for: 0s, settle: 0s}"))
	a.employ(t, r.name, nil)
	agent := a.run(t)
	r.await(t, agent, r.name+"-called")

	for name, want := range map[string]struct {
		code int
		text string
	}{
		loud.Name:    {0, r.name + "-called"},
		quiet.Name:   {3, "rollcall.enable"},
		stopped.Name: {3, "running"},
	} {
		code, out, problems := a.discovery(t, "explain", "docker/"+name)
		require.Equal(t, want.code, code, "%s: %s%s", name, out, problems)
		require.Contains(t, out, want.text)
	}
	code, _, problems := a.discovery(t, "explain", "docker/no-such-container")
	require.Equal(t, 3, code, problems)
	loud.Remove()
	r.await(t, agent)
}

// TestDiscoveryOutlivesDocker has the Engine absent at the start, cut off, slow
// and answering half. The Engine is the real one, behind a socket that can be
// disturbed.
func TestDiscoveryOutlivesDocker(t *testing.T) {
	t.Parallel()
	r := newRegistrar(t, suite.Cluster(t))
	b := newRabbits(t, r)
	socket := newDisturbedSocket(t, filepath.Join(r.dir, "docker.sock"), strings.TrimPrefix(engine, "unix://"))
	a := r.agent(t, r.service(b.fromDocker("unix://"+socket.path, "timeout: 2s"), b.resource(), "interval: 2s", "guard: {absent_for: 100ms, absent_reads: 1, settle: 1s, max_delete: 100%}"))
	a.employ(t, r.name, nil)

	agent := a.run(t)
	a.state(t, agent, "without an Engine", func(s state) bool { return s.LastError != "" })
	socket.open(t)
	r.await(t, agent, b.names(0, 1, 2)...)

	t.Run("cut off", func(t *testing.T) {
		socket.close()
		a.state(t, agent, "without an Engine", func(s state) bool { return s.Failures > 0 })
		b.all[1].Stop()
		require.Len(t, r.registered(t), 3, "an Engine that doesn't answer isn't one without containers")
		socket.open(t)
		r.await(t, agent, b.names(0, 2)...)
	})
	for _, how := range []string{slow, half, refusing, garbage} {
		t.Run(how, func(t *testing.T) {
			before := r.registered(t)
			socket.disturb(how)
			a.state(t, agent, "disturbed", func(s state) bool { return s.Failures > 0 })
			require.Equal(t, before, r.registered(t), "what can't be read isn't empty")
			socket.disturb("")
			a.state(t, agent, "well", func(s state) bool { return s.Failures == 0 })
			require.Equal(t, before, r.registered(t))
		})
	}
	b.all[1].StartAgain()
	r.await(t, agent, b.names(0, 1, 2)...)
	stop(t, agent)
}

// TestDiscoveryBehindAReadOnlyProxy is the documented way to the Engine: a proxy
// that lets through what the source needs, and nothing that changes anything.
func TestDiscoveryBehindAReadOnlyProxy(t *testing.T) {
	t.Parallel()
	r := newRegistrar(t, suite.Cluster(t))
	b := newRabbits(t, r)
	proxy := newReadOnlyProxy(t, filepath.Join(r.dir, "ro.sock"), strings.TrimPrefix(engine, "unix://"))
	a := r.agent(t, r.service(b.fromDocker("unix://"+proxy.path), b.resource(), "guard: {settle: 0s}"))
	a.employ(t, r.name, nil)

	agent := a.run(t)

	r.await(t, agent, b.names(0, 1, 2)...)
	b.all[2].Stop()
	r.await(t, agent, b.names(0, 1)...)
	require.Empty(t, proxy.refused(), "the source asked for more than the documentation says")
	stop(t, agent)
}
