package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rollcall/e2e/harness"
)

// newcomer does what a document says, line by line. Only what can't be the same
// here is replaced: addresses, paths, names that others use at the same time.
type newcomer struct {
	cluster *harness.Cluster
	// root is where /etc and /var/lib are, and the working directory.
	root  string
	tools string
	here  *strings.Replacer
	// said is what the last command printed.
	said string
}

func newNewcomer(t *testing.T, more ...string) *newcomer {
	t.Helper()
	// A cluster of one's own: the documents' names are everybody's.
	n := &newcomer{cluster: suite.NewCluster(t, harness.ClusterOptions{}), root: suite.Dir(t), tools: suite.Tools(t)}
	for _, dir := range []string{"etc", "var/lib"} {
		require.NoError(t, os.MkdirAll(filepath.Join(n.root, dir), 0o755))
	}
	n.here = strings.NewReplacer(append(more,
		"teleport.example.com:443", n.cluster.Info().ProxyAddr,
		"/etc/", n.root+"/etc/", "/var/lib/", n.root+"/var/lib/")...)
	return n
}

// writes puts a block into a file.
func (n *newcomer) writes(t *testing.T, path string, b block) {
	t.Helper()
	require.Equal(t, "yaml", b.language)
	require.NoError(t, os.MkdirAll(filepath.Join(n.root, filepath.Dir(path)), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(n.root, path), []byte(n.here.Replace(b.text)), 0o600))
}

// types starts one command. What it pastes is the token that was printed last.
func (n *newcomer) types(t *testing.T, line string) *harness.Process {
	t.Helper()
	command := harness.Command{
		Path: "/bin/sh", Args: []string{"-c", "exec " + n.here.Replace(line)}, Dir: n.root,
		Env: []string{n.path()},
	}
	switch program, _, _ := strings.Cut(line, " "); {
	case program == "tctl":
		command.Env = append(command.Env, n.cluster.TctlEnv()...)
	case strings.Contains(line, "/dev/stdin"):
		token := regexp.MustCompile(`The bot token: (\S+)`).FindStringSubmatch(n.said)
		require.NotNil(t, token, "what was printed holds no token: %s", n.said)
		command.Stdin = strings.NewReader(token[1] + "\n")
	}
	return n.cluster.Run(t, command)
}

// path is PATH, with the programs that documents call by name.
func (n *newcomer) path() string { return "PATH=" + n.tools + ":" + os.Getenv("PATH") }

// does runs commands one after the other; each must succeed. The agent, if it's
// among them, goes on running, and is returned.
func (n *newcomer) does(t *testing.T, lines ...string) (agent *harness.Process) {
	t.Helper()
	for _, line := range lines {
		t.Logf("# %s", line)
		if strings.HasPrefix(line, "rollcall start") {
			agent = n.types(t, line)
			agent.WaitForLog(t, patience, "rollcall starts.")
			continue
		}
		p := n.types(t, line)
		require.Zero(t, p.Wait(t).ExitCode, "%s: %s%s", line, p.Stdout, p.Stderr)
		n.said = p.Stdout.String()
	}
	return agent
}

// sees waits until a command succeeds and prints a text, or no more.
func (n *newcomer) sees(t *testing.T, line, text string, there bool) {
	t.Helper()
	harness.Eventually(t, patience, fmt.Sprintf("%q in what %q prints: %v", text, line, there), func() error {
		p := n.types(t, line)
		code := p.Wait(t).ExitCode
		if code != 0 || strings.Contains(p.Stdout.String(), text) != there {
			return fmt.Errorf("it ends with %d and prints %s%s", code, p.Stdout, p.Stderr)
		}
		return nil
	})
}

// TestDiscoveryQuickStartWithDocker does what docs/discovery.md tells newcomers to.
func TestDiscoveryQuickStartWithDocker(t *testing.T) {
	t.Parallel()
	steps := blocksOf(t, "discovery.md", "Quick start with Docker")
	require.Equal(t, []string{"yaml", "yaml", "sh", "sh", "sh"}, languages(steps))
	docker := suite.Docker(t)
	queue := harness.Unique(t, "queue")
	t.Cleanup(func() { _, _ = docker.Try(context.Background(), "rm", "--force", "--volumes", queue) })
	n := newNewcomer(t, "rabbitmq:3-management", docker.WebImage("rabbit"), "queue", queue)

	// The first is the Application Service's, which the cluster has.
	n.writes(t, "etc/rollcall.yaml", steps[1])
	n.does(t, steps[2].commands()...)
	n.does(t, steps[3].commands()...)
	require.Contains(t, n.said, "0 to create")
	last := steps[4].commands()
	agent := n.does(t, last[:2]...)

	n.sees(t, last[2], "app/"+queue, true)
	n.sees(t, "tctl get apps", "name: "+queue, true)
	n.cluster.WaitForApp(t, queue)
	began := time.Now()
	n.does(t, "docker stop --time 1 queue")
	n.sees(t, "tctl get apps", "name: "+queue, false)
	require.Greater(t, time.Since(began), 8*time.Second, "the document says that it takes about ten")
	stop(t, agent)
}

// TestDiscoveryQuickStartWithAFile is the same for the other way.
func TestDiscoveryQuickStartWithAFile(t *testing.T) {
	t.Parallel()
	steps := blocksOf(t, "discovery.md", "Quick start with a file")
	require.Equal(t, []string{"yaml", "yaml", "sh"}, languages(steps))
	n := newNewcomer(t)

	n.writes(t, "etc/rollcall.yaml", steps[0])
	n.writes(t, "etc/rollcall/inventory.yaml", steps[1])
	commands := steps[2].commands()
	plan := len(commands) - 2
	n.does(t, commands[:plan]...)
	p := n.types(t, commands[plan])
	require.Equal(t, 2, p.Wait(t).ExitCode, "%s%s", p.Stdout, p.Stderr)
	require.Contains(t, p.Stdout.String(), "1 to create")
	n.sees(t, "tctl get apps", "grafana", false)
	agent := n.does(t, commands[plan+1:]...)

	n.sees(t, "tctl get apps", "name: grafana", true)
	steps[1].text = strings.ReplaceAll(steps[1].text, "grafana", "wiki")
	n.writes(t, "etc/rollcall/next.yaml", steps[1])
	n.does(t, "mv /etc/rollcall/next.yaml /etc/rollcall/inventory.yaml")
	n.sees(t, "tctl get apps", "name: wiki", true)
	n.sees(t, "tctl get apps", "name: grafana", false)
	stop(t, agent)
}
