//go:build rollcall_e2e

package registry_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"
	"github.com/gravitational/teleport/api/types"
	"github.com/stretchr/testify/require"

	"rollcall/cluster"
	"rollcall/discovery/registry/agent"
	"rollcall/discovery/resource"
	"rollcall/failure"
)

// agentStage is a registry of agents on a real Engine, as a bot that may just do
// that.
type agentStage struct {
	docker *client.Client
	access *cluster.Access
	opts   agent.Options
	g      *agent.Registry
}

func newAgentStage(t *testing.T) *agentStage {
	t.Helper()
	s := &agentStage{docker: engine(t, nil), access: on.as(t, "agent")}
	s.opts = agent.Options{
		Image: on.TeleportImage, ProxyAddr: on.ProxyAddr, CAFile: on.ProxyCA,
		// The cluster listens on loopback.
		Network: "host",
		// A busy machine needs longer than the default.
		JoinTimeout: 3 * time.Minute,
	}
	t.Cleanup(func() { s.removeAll(t) })
	s.g = s.open(t, s.docker)
	return s
}

// engine returns a client of the Engine; through says how it's reached.
func engine(t *testing.T, through func(http.RoundTripper) http.RoundTripper) *client.Client {
	t.Helper()
	transport := &http.Transport{}
	doer := &http.Client{Transport: transport}
	options := []client.Opt{client.WithHTTPClient(doer), client.FromEnv, client.WithHost(engineHost()), client.WithAPIVersionNegotiation()}
	if through != nil {
		options = append(options, func(*client.Client) error {
			doer.Transport = through(doer.Transport)
			return nil
		})
	}
	docker, err := client.NewClientWithOpts(options...)
	require.NoError(t, err)
	t.Cleanup(transport.CloseIdleConnections)
	return docker
}

func engineHost() string {
	if host := os.Getenv(client.EnvOverrideHost); host != "" {
		return host
	}
	return client.DefaultDockerHost
}

// open is a start of rollcall: a registry that knows nothing yet.
func (s *agentStage) open(t *testing.T, docker *client.Client) *agent.Registry {
	t.Helper()
	g, err := agent.New(docker, s.access, s.opts, owner, key(1), on.log)
	require.NoError(t, err)
	t.Cleanup(g.Close)
	return g
}

// key is one of a service that has just that key.
func key(b byte) []byte { return bytes.Repeat([]byte{b}, agent.KeySize) }

// removeAll removes what the test has left: containers and records.
func (s *agentStage) removeAll(t *testing.T) {
	for _, c := range s.containers(t, "") {
		require.NoError(t, s.docker.ContainerRemove(cleanupContext(t), c.ID, container.RemoveOptions{Force: true, RemoveVolumes: true}))
	}
}

// containers are the owner's, of one application or all.
func (s *agentStage) containers(t *testing.T, app string) []container.Summary {
	t.Helper()
	args := filters.NewArgs(filters.Arg("label", resource.LabelOwner+"="+owner))
	if app != "" {
		args.Add("label", "rollcall/agent="+app)
	}
	all, err := s.docker.ContainerList(cleanupContext(t), container.ListOptions{All: true, Filters: args})
	require.NoError(t, err)
	return all
}

// app makes an application of ours: a web server in a container of its own.
func (s *agentStage) app(t *testing.T, uri string) resource.Resource {
	t.Helper()
	name := unique(t, "a")
	r, err := agent.Canonical(resource.Resource{
		Kind: resource.KindApp, Name: name, Description: "é \"quoted\"",
		Labels: map[string]string{
			resource.LabelOwner: owner, resource.LabelSource: "e2e", resource.LabelWorkload: "web/" + name, "env": "test",
		},
		Spec: resource.AppSpec{
			URI: uri, PublicAddr: name + ".apps.localhost",
			Rewrite:       &resource.Rewrite{Headers: []resource.Header{{Name: "X-Secret", Value: "hush: hush"}}, Redirect: []string{"localhost"}},
			DynamicLabels: map[string]resource.DynamicLabel{"up": {Period: time.Hour, Command: []string{"/bin/true", "-x"}}},
		},
	})
	require.NoError(t, err)
	return r
}

// web starts an application of RabbitMQ's kind and returns its address.
func (s *agentStage) web(t *testing.T, text string) string {
	t.Helper()
	made, err := s.docker.ContainerCreate(t.Context(), &container.Config{
		Image: on.WebImage, Cmd: []string{"-text", text}, Labels: map[string]string{resource.LabelOwner: owner},
	}, nil, nil, nil, unique(t, "web"))
	require.NoError(t, err)
	require.NoError(t, s.docker.ContainerStart(t.Context(), made.ID, container.StartOptions{}))
	now, err := s.docker.ContainerInspect(t.Context(), made.ID)
	require.NoError(t, err)
	return "http://" + net.JoinHostPort(now.NetworkSettings.Networks["bridge"].IPAddress, "15672")
}

// settled waits for all joins.
func (s *agentStage) settled(t *testing.T, g *agent.Registry) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	require.NoError(t, g.Settle(ctx))
}

// shown is the resource as it's listed; read alone, it's the same.
func shown(t *testing.T, g *agent.Registry, name string) (resource.Resource, bool) {
	t.Helper()
	var now resource.Resource
	var there bool
	// Between two calls a state can change.
	eventually(t, "List and Get of one mind", func() error {
		all, err := g.List(t.Context())
		require.NoError(t, err)
		at := slices.IndexFunc(all, func(r resource.Resource) bool { return r.Name == name })
		alone, err := g.Get(t.Context(), name)
		if there = at >= 0; !there {
			if failure.KindOf(err) != failure.NotFound {
				return fmt.Errorf("not listed, and there (%v)", err)
			}
			return nil
		}
		now = all[at]
		if err == nil && !resource.Equal(now, alone) {
			err = fmt.Errorf("they differ: %v", resource.Diff(&now, &alone))
		}
		return err
	})
	return now, there
}

// asWanted fails unless the resource is listed just as it's wanted.
func asWanted(t *testing.T, g *agent.Registry, wanted resource.Resource) {
	t.Helper()
	now, there := shown(t, g, wanted.Name)
	require.True(t, there)
	require.True(t, resource.Equal(now, wanted), "%v", resource.Diff(&now, &wanted))
}

// trouble waits until the resource is listed with that state.
func trouble(t *testing.T, g *agent.Registry, name, want string) resource.Resource {
	t.Helper()
	var now resource.Resource
	eventually(t, "the state "+want, func() error {
		now, _ = shown(t, g, name)
		if state := now.Labels[agent.LabelState]; state != want {
			return fmt.Errorf("it's %q", state)
		}
		return nil
	})
	require.Equal(t, owner, now.Owner())
	require.Equal(t, "e2e", now.Labels[resource.LabelSource])
	require.Equal(t, "web/"+name, now.Workload())
	return now
}

// token reads an agent's token out of its container; empty: it was taken away.
func (s *agentStage) token(t *testing.T, id string) string {
	t.Helper()
	stream, _, err := s.docker.CopyFromContainer(t.Context(), id, "/etc/teleport/rollcall-token")
	require.NoError(t, err)
	defer stream.Close()
	content, err := io.ReadAll(stream)
	require.NoError(t, err)
	return strings.Trim(string(content[512:min(len(content), 512+64)]), "\x00")
}

// tokenIsGone fails unless the cluster knows the token no more.
func tokenIsGone(t *testing.T, secret string) {
	t.Helper()
	require.Len(t, secret, 64)
	err := on.admin(t).DeleteToken(t.Context(), secret)
	require.Equal(t, failure.NotFound, failure.KindOf(err), "%v", err)
	require.NotContains(t, err.Error(), secret)
}

// records are the hosts that serve an application.
func (s *agentStage) records(t *testing.T, name string) []string {
	t.Helper()
	servers, err := s.access.AppServers(t.Context(), name)
	require.NoError(t, err)
	var hosts []string
	for _, server := range servers {
		hosts = append(hosts, server.GetHostname())
	}
	return hosts
}

// served waits until exactly n agents serve an application.
func (s *agentStage) served(t *testing.T, name string, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d records of %s", n, name), func() error {
		if hosts := s.records(t, name); len(hosts) != n {
			return fmt.Errorf("there are %v", hosts)
		}
		return nil
	})
}

// fetch asks for an application through Teleport.
func fetch(t *testing.T, r resource.Resource) (string, error) {
	t.Helper()
	creds, err := on.issuer(t, "agent").Application(t.Context(), cluster.ApplicationRequest{
		AppName: r.Name, CertRequest: cluster.CertRequest{TTL: time.Hour},
	})
	if err != nil {
		return "", err
	}
	return get(t.Context(), r.Spec.(resource.AppSpec).PublicAddr, creds)
}

// reaches waits until the application answers through Teleport.
func reaches(t *testing.T, r resource.Resource, text string) {
	t.Helper()
	eventually(t, "an answer of "+r.Name, func() error {
		body, err := fetch(t, r)
		if err == nil && !strings.HasPrefix(body, text+"\n") {
			err = fmt.Errorf("%.200q", body)
		}
		return err
	})
}

// TestAgentScenario is the guide's: an application comes, is reached through
// Teleport, changes and goes.
func TestAgentScenario(t *testing.T) {
	s := newAgentStage(t)
	wanted := s.app(t, s.web(t, "rabbit one"))

	require.NoError(t, s.g.Create(t.Context(), wanted))

	// Not registered yet, but known: a second comparison starts no second one.
	asWanted(t, s.g, wanted)
	require.NoError(t, s.g.Create(t.Context(), wanted))
	require.Len(t, s.containers(t, wanted.Name), 1)
	id := s.containers(t, wanted.Name)[0].ID
	secret := s.token(t, id)
	require.Len(t, secret, 64)
	s.settled(t, s.g)
	asWanted(t, s.g, wanted)
	reaches(t, wanted, "rabbit one")

	// The token is nowhere, and of no use any more.
	tokenIsGone(t, secret)
	require.Empty(t, s.token(t, id))
	_, raw, err := s.docker.ContainerInspectWithRaw(t.Context(), id, false)
	require.NoError(t, err)
	require.NotContains(t, string(raw), secret)
	require.NotContains(t, string(raw), "hush")
	logs, err := s.docker.ContainerLogs(t.Context(), id, container.LogsOptions{ShowStdout: true, ShowStderr: true})
	require.NoError(t, err)
	defer logs.Close()
	words, err := io.ReadAll(logs)
	require.NoError(t, err)
	require.NotContains(t, string(words), secret)
	require.Contains(t, string(words), "App", "it's the log of an Application Service")

	// A change: the new agent serves before the old one goes.
	changed := wanted.Clone()
	spec := changed.Spec.(resource.AppSpec)
	spec.URI = s.web(t, "rabbit two")
	changed.Spec = spec
	require.NoError(t, s.g.Update(t.Context(), changed))
	asWanted(t, s.g, changed)
	_, err = fetch(t, wanted)
	require.NoError(t, err)
	s.settled(t, s.g)
	reaches(t, changed, "rabbit two")
	require.Len(t, s.containers(t, wanted.Name), 1)
	s.served(t, wanted.Name, 1)

	// The end: the agent, its record, its container.
	require.NoError(t, s.g.Delete(t.Context(), changed))
	require.Empty(t, s.containers(t, wanted.Name))
	s.served(t, wanted.Name, 0)
	_, err = s.g.Get(t.Context(), wanted.Name)
	require.Equal(t, failure.NotFound, failure.KindOf(err), "%v", err)
	require.NoError(t, s.g.Delete(t.Context(), changed))
}

// TestAgentReadopted: after a restart of ours everything is known again by its
// labels, whatever state it was in.
func TestAgentReadopted(t *testing.T) {
	s := newAgentStage(t)
	uri := s.web(t, "still here")
	wanted := s.app(t, uri)
	require.NoError(t, s.g.Create(t.Context(), wanted))
	secret := s.token(t, s.containers(t, wanted.Name)[0].ID)
	s.g.Close() // before it has registered: nobody takes the token away

	again := s.open(t, s.docker)
	asWanted(t, again, wanted) // pending, as far as anybody can tell
	s.served(t, wanted.Name, 1)
	trouble(t, again, wanted.Name, "open token")
	require.NoError(t, again.Update(t.Context(), wanted))
	asWanted(t, again, wanted)
	tokenIsGone(t, secret)
	require.Len(t, s.containers(t, wanted.Name), 1, "the agent itself is kept")
	reaches(t, wanted, "still here")

	// Stopped by somebody: seen, and replaced.
	old := s.containers(t, wanted.Name)[0].ID
	require.NoError(t, s.docker.ContainerStop(t.Context(), old, container.StopOptions{}))
	third := s.open(t, s.docker)
	trouble(t, third, wanted.Name, "stopped")
	require.NoError(t, third.Update(t.Context(), wanted))
	s.settled(t, third)
	asWanted(t, third, wanted)
	require.Len(t, s.containers(t, wanted.Name), 1)
	require.NotEqual(t, old, s.containers(t, wanted.Name)[0].ID)
	reaches(t, wanted, "still here")

	// Killed and removed by somebody: only its record is left, for a while.
	require.NoError(t, s.docker.ContainerRemove(t.Context(), s.containers(t, wanted.Name)[0].ID, container.RemoveOptions{Force: true}))
	stale := trouble(t, third, wanted.Name, "stale record")
	require.NoError(t, third.Delete(t.Context(), stale))
	s.served(t, wanted.Name, 0)

	// Another image, or CA: every agent is replaced.
	require.NoError(t, third.Create(t.Context(), wanted))
	s.settled(t, third)
	s.opts.ExtraHosts = []string{"example.internal:192.0.2.1"}
	fourth := s.open(t, s.docker)
	trouble(t, fourth, wanted.Name, "old settings")
	require.NoError(t, fourth.Update(t.Context(), wanted))
	s.settled(t, fourth)
	asWanted(t, fourth, wanted)
	require.Len(t, s.containers(t, wanted.Name), 1)
	s.served(t, wanted.Name, 1)
}

// crash is a transport after whose last call nothing goes through any more, as if
// the process had died.
type crash struct {
	next http.RoundTripper
	// at says whether this is the call that isn't made any more.
	at   func(*http.Request) bool
	dead bool
}

func (c *crash) RoundTrip(request *http.Request) (*http.Response, error) {
	c.dead = c.dead || c.at(request)
	if c.dead {
		return nil, errors.New("dead")
	}
	return c.next.RoundTrip(request)
}

// leftToken puts the token that a container holds, if it holds one, back into the
// cluster: a process that dies doesn't take it away any more.
func (s *agentStage) leftToken(t *testing.T, id string) string {
	t.Helper()
	if _, err := s.docker.ContainerStatPath(t.Context(), id, "/etc/teleport/rollcall-token"); err != nil {
		return ""
	}
	secret := s.token(t, id)
	token, err := types.NewProvisionToken(secret, types.SystemRoles{types.RoleApp}, time.Now().Add(time.Hour))
	require.NoError(t, err)
	require.NoError(t, on.admin(t).CreateToken(t.Context(), token))
	return secret
}

// TestAgentCrash: wherever we die between token, container and record, the next
// start finds what is left and clears it up.
func TestAgentCrash(t *testing.T) {
	for name, at := range map[string]func(*http.Request) bool{
		"before the container is made": func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/containers/create") },
		"before its files are written": func(r *http.Request) bool { return r.Method == http.MethodPut },
		"before it is started":         func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/start") },
	} {
		t.Run(name, func(t *testing.T) {
			s := newAgentStage(t)
			wanted := s.app(t, s.web(t, "after a crash"))
			dying := s.open(t, engine(t, func(next http.RoundTripper) http.RoundTripper { return &crash{next: next, at: at} }))
			require.Error(t, dying.Create(t.Context(), wanted))
			dying.Close()
			left := s.containers(t, wanted.Name)

			secret := ""
			if len(left) > 0 {
				secret = s.leftToken(t, left[0].ID)
				trouble(t, s.g, wanted.Name, "not started")
			}
			require.NoError(t, s.g.Update(t.Context(), wanted))
			if secret != "" {
				tokenIsGone(t, secret)
			}
			s.settled(t, s.g)
			asWanted(t, s.g, wanted)
			require.Len(t, s.containers(t, wanted.Name), 1)
			reaches(t, wanted, "after a crash")
		})
	}
	t.Run("while it's deleted", func(t *testing.T) {
		s := newAgentStage(t)
		wanted := s.app(t, s.web(t, "to be deleted"))
		require.NoError(t, s.g.Create(t.Context(), wanted))
		s.settled(t, s.g)
		dying := s.open(t, engine(t, func(next http.RoundTripper) http.RoundTripper {
			return &crash{next: next, at: func(r *http.Request) bool { return r.Method == http.MethodDelete }}
		}))
		require.Error(t, dying.Delete(t.Context(), wanted))
		s.served(t, wanted.Name, 0)
		next := s.open(t, s.docker)
		now := trouble(t, next, wanted.Name, "stopped")
		require.NoError(t, next.Delete(t.Context(), now))
		require.Empty(t, s.containers(t, wanted.Name))
		s.served(t, wanted.Name, 0)
	})
}

// TestAgentThatCantJoin is stopped when its time is over, without its token, and
// says why.
func TestAgentThatCantJoin(t *testing.T) {
	s := newAgentStage(t)
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s.opts.ProxyAddr, s.opts.JoinTimeout = nobody.Addr().String(), 5*time.Second
	require.NoError(t, nobody.Close())
	g := s.open(t, s.docker)
	wanted := s.app(t, "http://127.0.0.1:1")
	require.NoError(t, g.Create(t.Context(), wanted))
	id := s.containers(t, wanted.Name)[0].ID
	secret := s.token(t, id)

	err = g.Settle(t.Context())

	require.ErrorContains(t, err, "didn't register within 5s")
	require.NotContains(t, err.Error(), secret)
	tokenIsGone(t, secret)
	require.Empty(t, s.token(t, id))
	now, err := s.docker.ContainerInspect(t.Context(), id)
	require.NoError(t, err)
	require.False(t, now.State.Running)
	trouble(t, g, wanted.Name, "didn't join")
	// The next update begins anew, and leaves nothing of the first.
	s.opts.ProxyAddr, s.opts.JoinTimeout = on.ProxyAddr, 3*time.Minute
	mended := s.open(t, s.docker)
	require.NoError(t, mended.Update(t.Context(), wanted))
	s.settled(t, mended)
	require.Len(t, s.containers(t, wanted.Name), 1)
	s.served(t, wanted.Name, 1)
}

// TestAgentForeign: what another's agent serves is seen and never touched.
func TestAgentForeign(t *testing.T) {
	s := newAgentStage(t)
	theirs, err := agent.New(s.docker, s.access, s.opts, owner+"-else", key(2), on.log)
	require.NoError(t, err)
	t.Cleanup(theirs.Close)
	wanted := s.app(t, s.web(t, "theirs"))
	foreign := wanted.Clone()
	foreign.Labels[resource.LabelOwner] = owner + "-else"
	require.NoError(t, theirs.Create(t.Context(), foreign))
	t.Cleanup(func() { require.NoError(t, theirs.Delete(cleanupContext(t), foreign)) })
	s.settled(t, theirs)

	seen, there := shown(t, s.g, wanted.Name)
	require.True(t, there)
	require.Equal(t, owner+"-else", seen.Owner())
	for _, err := range []error{
		s.g.Create(t.Context(), wanted), s.g.Update(t.Context(), wanted), s.g.Delete(t.Context(), wanted),
	} {
		require.Equal(t, failure.Conflict, failure.KindOf(err), "%v", err)
	}
	require.Empty(t, s.containers(t, wanted.Name))
	reaches(t, wanted, "theirs")
	content, err := json.Marshal(foreign)
	require.NoError(t, err)
	require.False(t, bytes.Contains(content, []byte("agent-state")))
}

// TestAgentStranger: a container made of an agent's own image and labels, by
// whoever may start containers, is never touched, and gets nothing deleted.
func TestAgentStranger(t *testing.T) {
	s := newAgentStage(t)
	wanted := s.app(t, s.web(t, "ours"))
	require.NoError(t, s.g.Create(t.Context(), wanted))
	s.settled(t, s.g)
	ours := s.containers(t, wanted.Name)[0]
	admin := on.admin(t)
	theirs, err := types.NewProvisionToken(unique(t, "theirs"), types.SystemRoles{types.RoleNode}, time.Now().Add(time.Hour))
	require.NoError(t, err)
	require.NoError(t, admin.CreateToken(t.Context(), theirs))

	// Whatever the agent's container has, labels and files included.
	committed, err := s.docker.ContainerCommit(t.Context(), ours.ID, container.CommitOptions{})
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := s.docker.ImageRemove(cleanupContext(t), committed.ID, image.RemoveOptions{Force: true})
		require.NoError(t, err)
	})
	made, err := s.docker.ContainerCreate(t.Context(), &container.Config{Image: committed.ID}, nil, nil, nil, unique(t, "stranger"))
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, s.docker.ContainerRemove(cleanupContext(t), made.ID, container.RemoveOptions{Force: true}))
	})
	stranger, err := s.docker.ContainerInspect(t.Context(), made.ID)
	require.NoError(t, err)
	require.Equal(t, wanted.Name, stranger.Config.Labels["rollcall/agent"], "the labels are inherited")
	var files bytes.Buffer
	archive := tar.NewWriter(&files)
	require.NoError(t, archive.WriteHeader(&tar.Header{Name: "etc/teleport/rollcall-token", Typeflag: tar.TypeReg, Mode: 0o600, Size: int64(len(theirs.GetName()))}))
	_, err = archive.Write([]byte(theirs.GetName()))
	require.NoError(t, err)
	require.NoError(t, archive.Close())
	for _, id := range []string{made.ID, ours.ID} {
		require.NoError(t, s.docker.CopyToContainer(t.Context(), id, "/", bytes.NewReader(files.Bytes()), container.CopyToContainerOptions{}))
	}

	again := s.open(t, s.docker)
	asWanted(t, again, wanted)
	require.NoError(t, again.Update(t.Context(), wanted))
	reaches(t, wanted, "ours")
	require.NoError(t, again.Delete(t.Context(), wanted))

	s.served(t, wanted.Name, 0)
	left := s.containers(t, wanted.Name)
	require.Len(t, left, 1)
	require.Equal(t, made.ID, left[0].ID)
	require.NoError(t, admin.DeleteToken(t.Context(), theirs.GetName()), "it's still there")
}
