package e2e

import (
	"net"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rollcall/e2e/harness"
)

// TestReadmeInFiveMinutes does what the README tells newcomers to, in directories
// of its own.
func TestReadmeInFiveMinutes(t *testing.T) {
	t.Parallel()
	steps := blocksOf(t, "../README.md", "In five minutes")
	require.Equal(t, []string{"sh", "sh", "yaml", "sh", "sh"}, languages(steps))
	n := newNewcomer(t)
	sample := harness.SampleApp(t)
	app := n.cluster.CreateApp(t, "grafana-example", sample.URL, map[string]string{"env": "prod"})
	n.here = strings.NewReplacer(
		"teleport.example.com:443", n.cluster.Info().ProxyAddr,
		"127.0.0.1:3001", "127.0.0.1:0",
		"/etc/", n.root+"/etc/", "/var/lib/", n.root+"/var/lib/", "/opt/", n.root+"/opt/",
		// The test's cluster has no name in the DNS, and no public authority.
		"https://grafana-example.teleport.example.com/", n.curlArguments(t, app),
	)

	n.runs(t, steps[0], n.cluster.TctlEnv()...)
	n.pastes(t, steps[1])
	n.writes(t, "etc/rollcall.yaml", steps[2])
	n.runs(t, steps[3])
	require.Contains(t, n.said, "grafana-example")
	n.runs(t, steps[4])
	require.Contains(t, n.said, sample.Text)

	// As the last step says: it's left running, and renews when it's told to.
	agent := n.does(t, "rollcall start -c /etc/rollcall.yaml")
	n.sees(t, "rollcall status -c /etc/rollcall.yaml", "healthy", true)
	agent.Terminate(t)
}

// curlArguments are what curl needs for an application of a cluster on loopback.
func (n *newcomer) curlArguments(t *testing.T, app harness.App) string {
	t.Helper()
	_, port, err := net.SplitHostPort(n.cluster.Info().ProxyAddr)
	require.NoError(t, err)
	host := app.PublicAddr + ":" + port
	return "--silent --show-error --fail --cacert " + n.cluster.Info().ProxyCA + " --resolve " + host + ":127.0.0.1 https://" + host + "/"
}

// runs gives a block to a shell, which ends with the first command that fails.
func (n *newcomer) runs(t *testing.T, b block, env ...string) {
	t.Helper()
	n.shell(t, b, "", env...)
}

// pastes is runs for a block that asks for the token that was printed last.
func (n *newcomer) pastes(t *testing.T, b block) {
	t.Helper()
	token := regexp.MustCompile(`The bot token: (\S+)`).FindStringSubmatch(n.said)
	require.NotNil(t, token, "what was printed holds no token: %s", n.said)
	n.shell(t, b, token[1]+"\n")
}

func (n *newcomer) shell(t *testing.T, b block, stdin string, env ...string) {
	t.Helper()
	require.Equal(t, "sh", b.language)
	p := n.cluster.Run(t, harness.Command{
		Path: "/bin/sh", Args: []string{"-euc", n.here.Replace(b.text)}, Dir: n.root,
		Env:   append(env, n.path()),
		Stdin: strings.NewReader(stdin),
	})
	require.Zero(t, p.Wait(t).ExitCode, "%s: %s%s", b.text, p.Stdout, p.Stderr)
	n.said = p.Stdout.String()
}
