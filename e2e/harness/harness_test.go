package harness_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gravitational/teleport/api/types"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rollcall/e2e/harness"
)

// patience is how long a test waits for what takes a second or two on a quiet
// machine.
const patience = 90 * time.Second

// suite is set by TestMain before any test runs.
var suite *harness.Suite

func TestMain(m *testing.M) {
	if mode := os.Getenv("HARNESS_VICTIM"); mode != "" {
		os.Exit(harness.Main(victim(mode), func(s *harness.Suite) { suite = s }))
	}
	// Without the agent under test: these tests stand below it.
	os.Exit(harness.Main(m, func(s *harness.Suite) { suite = s }, "cluster", "web", "tbot", "measure"))
}

// tbotConfig is a configuration of the official agent with one application
// output into dir/out.
func tbotConfig(onboarding, server, dir, app string) string {
	return fmt.Sprintf(`
version: v2
%s
onboarding: %s
storage: {type: directory, path: %s/storage}
oneshot: true
outputs:
  - type: application
    app_name: %s
    destination: {type: directory, path: %s/out}
`, server, onboarding, dir, app, dir)
}

// TestClusterServesTbot proves the cluster and the harness with the official
// agent: a token join through the proxy, the written certificate used by Go
// and by curl.
func TestClusterServesTbot(t *testing.T) {
	c := suite.Cluster(t)
	t.Logf("the cluster was ready after %v", c.ReadyAfter)
	sample := harness.SampleApp(t)
	name := harness.Unique(t, "app")
	app := c.CreateApp(t, name, sample.URL, map[string]string{"team": name})
	c.CreateAppRole(t, name+"-access", map[string]string{"team": name})
	bot := c.CreateBot(t, name, name+"-access")

	dir := suite.Dir(t)
	config := suite.WriteFile(t, "tbot.yaml", tbotConfig(
		fmt.Sprintf("{join_method: token, token: %s}", bot.Token),
		"auth_server: "+c.Info().ProxyAddr, dir, app.Name))
	result := c.Run(t, harness.Command{
		Path: suite.Bin.Tbot, Args: []string{"start", "-c", config}, Measured: true,
	}).Succeed(t)
	t.Logf("tbot --oneshot: %v, CPU %v, peak %d MiB", result.Wall, result.CPU(), result.MaxRSS>>20)
	require.Positive(t, result.MaxRSS)

	cert, key := filepath.Join(dir, "out", "tlscert"), filepath.Join(dir, "out", "key")
	// The official agent publishes before the proxy's cache has the session.
	harness.Eventually(t, patience, "the application's answer", func() error {
		return c.TryFetch(t.Context(), app, sample, cert, key)
	})
	c.MustFetch(t, app, sample, cert, key)
	t.Log(c.CurlLine(app, cert, key, "/hello"))
	body, err := c.Curl(t.Context(), app, cert, key, "/hello")
	require.NoError(t, err)
	require.Contains(t, body, sample.Text)
	require.Contains(t, sample.Requests(), "GET /hello")

	require.Equal(t, uint64(1), c.Generation(t, bot))
	require.Empty(t, c.Locks(t, bot))
	require.Len(t, c.AppSessions(t, bot.User), 1)
}

// TestKubernetesJoin proves the fake issuer: the cluster takes a good token,
// directly at the Auth Service, and refuses one for another audience.
func TestKubernetesJoin(t *testing.T) {
	c := suite.Cluster(t)
	sample := harness.SampleApp(t)
	name := harness.Unique(t, "kube")
	app := c.CreateApp(t, name, sample.URL, map[string]string{"team": name})
	c.CreateAppRole(t, name+"-access", map[string]string{"team": name})
	bot := c.CreateBot(t, name, name+"-access")
	issuer := harness.NewFakeServiceAccountIssuer(t)
	c.CreateKubernetesToken(t, name+"-token", bot, issuer, "apps:agent")

	join := func(server, audience string) *harness.Process {
		dir := suite.Dir(t)
		config := suite.WriteFile(t, "tbot.yaml", tbotConfig(
			fmt.Sprintf("{join_method: kubernetes, token: %s-token, ca_pins: [%q]}", name, c.Info().CAPin),
			"auth_server: "+server, dir, app.Name))
		token := suite.WriteFile(t, "token", issuer.Mint(t, harness.ServiceAccount{
			Namespace: "apps", Name: "agent", Audience: audience,
		}))
		return c.Run(t, harness.Command{
			Path: suite.Bin.Tbot, Args: []string{"start", "-c", config},
			Env: []string{"KUBERNETES_TOKEN_PATH=" + token},
		})
	}
	join(c.Info().AuthAddr, c.Info().ClusterName).Succeed(t)
	join(c.Info().ProxyAddr, c.Info().ClusterName).Succeed(t)
	refused := join(c.Info().ProxyAddr, "another-cluster")
	require.NotZero(t, refused.Wait(t).ExitCode)
	require.Contains(t, refused.Stderr.String(), "aud")
}

// TestRestartKeepsTheCluster stops a cluster, finds it gone, and finds it the
// same after its start: addresses, CA and resources.
func TestRestartKeepsTheCluster(t *testing.T) {
	c := suite.NewCluster(t, harness.ClusterOptions{})
	c.CreateAppRole(t, "kept", nil)
	before := c.Info()
	c.Stop(t)
	require.False(t, c.Process().Running())
	c.Start(t)
	require.Equal(t, before, c.Info())
	_, err := c.Client(t).GetRole(t.Context(), "kept")
	require.NoError(t, err)
	c.Kill()
	c.Start(t)
	_, err = c.Client(t).GetRole(t.Context(), "kept")
	require.NoError(t, err)
	t.Logf("the cluster was ready again after %v", c.ReadyAfter)
}

// TestRotation walks both CAs through a whole rotation; the administrator's
// client works after every step.
func TestRotation(t *testing.T) {
	c := suite.NewCluster(t, harness.ClusterOptions{})
	pin := c.Info().CAPin
	for _, authority := range []types.CertAuthType{types.UserCA, types.HostCA} {
		for _, phase := range []string{"init", "update_clients", "update_servers", "standby"} {
			begun := time.Now()
			c.Rotate(t, authority, phase)
			_, err := c.Client(t).Ping(t.Context())
			require.NoError(t, err, "%s %s", authority, phase)
			t.Logf("%s CA, %s: %v", authority, phase, time.Since(begun))
		}
	}
	require.NotEqual(t, pin, c.Info().CAPin)
}

// TestProcess checks the runner: output, signals, exit codes, process groups.
func TestProcess(t *testing.T) {
	p := suite.Start(t, harness.Command{Path: "/bin/sh", Args: []string{"-c",
		`trap 'echo bye; exit 7' TERM; sleep 100 & echo "child $!"; while :; do sleep 0.02; done`}})
	p.WaitForLog(t, 30*time.Second, "child ")
	var child int
	_, err := fmt.Sscanf(p.Stdout.String(), "child %d", &child)
	require.NoError(t, err)
	now, peak := p.Memory(t)
	require.Positive(t, now)
	require.LessOrEqual(t, now, peak)
	require.Equal(t, 7, p.Terminate(t).ExitCode)
	require.True(t, strings.HasSuffix(p.Stdout.String(), "bye\n"))
	harness.Eventually(t, patience, "the end of what it had started", func() error { return ended(child) })
	killed := suite.Start(t, harness.Command{Path: "/bin/sleep", Args: []string{"100"}}).Kill()
	require.Equal(t, syscall.SIGKILL, killed.Signal)
}

// TestProcessOutlivesTheThread starts a process from a thread that ends: Linux
// takes that for the parent's death.
func TestProcessOutlivesTheThread(t *testing.T) {
	started, thread := make(chan *harness.Process, 1), make(chan int, 1)
	go func() {
		runtime.LockOSThread() // and it's never unlocked: the thread ends with this
		thread <- unix.Gettid()
		started <- suite.Start(t, harness.Command{Path: "/bin/sleep", Args: []string{"100"}})
	}()
	p, tid := <-started, <-thread
	harness.Eventually(t, patience, "the thread's end", func() error {
		if _, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", tid)); err == nil {
			return errors.New("it's there")
		}
		return nil
	})
	// For as long as another process takes to come and go.
	suite.Start(t, harness.Command{Path: "/bin/true"}).Succeed(t)
	require.True(t, p.Running())
}

// zombie says whether a process is dead and only waits for init.
func zombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && strings.Contains(string(stat), ") Z ")
}

// TestMeasuredDoesNotCountTheParent checks that a small program's peak isn't
// that of the test binary.
func TestMeasuredDoesNotCountTheParent(t *testing.T) {
	ballast := make([]byte, 200<<20)
	for i := 0; i < len(ballast); i += 4096 {
		ballast[i] = 1
	}
	r := suite.Start(t, harness.Command{Path: "/bin/sh", Args: []string{"-c", "exit 3"}, Measured: true}).Wait(t)
	require.Equal(t, 3, r.ExitCode)
	require.Positive(t, r.MaxRSS)
	require.Less(t, r.MaxRSS, int64(50<<20))
	require.Equal(t, byte(1), ballast[0])
}

// TestStandalone checks the T for programs: the first failure is the error,
// cleanups run in reverse order, also after a panic.
func TestStandalone(t *testing.T) {
	var order []string
	err := harness.Standalone(context.Background(), "demo", t.Output(), func(s harness.T) {
		s.Cleanup(func() { order = append(order, "first") })
		s.Cleanup(func() { order = append(order, "second") })
		s.Fatalf("no %s", "luck")
	})
	require.EqualError(t, err, "no luck")
	require.Equal(t, []string{"second", "first"}, order)
	err = harness.Standalone(context.Background(), "demo", t.Output(), func(harness.T) { panic("oh") })
	require.EqualError(t, err, "panic: oh")
	require.NoError(t, harness.Standalone(context.Background(), "demo", t.Output(), func(harness.T) {}))
}
