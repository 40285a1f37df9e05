package e2e

import (
	"errors"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rollcall/e2e/harness"
)

// guest is a newcomer with a machine of their own: a fresh one, that has the
// program, a join token and the proxy's authority, and nothing else.
type guest struct {
	*stage
	machine *harness.Machine
	here    *strings.Replacer
}

func newGuest(t *testing.T) *guest {
	t.Helper()
	if reason := harness.CanBoot(); reason != "" {
		t.Skip(reason)
	}
	s := newStage(t)
	m := suite.Boot(t)
	m.Copy(t, s.cluster.Info().ProxyCA, "/etc/ssl/certs/ca-certificates.crt", 0o644)
	m.Write(t, "/srv/new/token", []byte(s.bot.Token+"\n"), 0o600)
	return &guest{s, m, strings.NewReplacer(
		"teleport.example.com:443", s.cluster.Info().ProxyAddr,
		"grafana-example", s.app.Name,
		"/dev/stdin", "/srv/new/token", // what is pasted
	)}
}

// types gives commands of a document to a shell, which ends with the first that
// fails, and returns what they print.
func (g *guest) types(t *testing.T, commands string) string {
	t.Helper()
	return g.machine.Must(t, "bash", "-euc", "cd /srv/new\n"+g.here.Replace(commands))
}

// TestReadersFromAnEmptyMachine types what docs/readers.md tells a new user to
// type, into a fresh machine with a systemd of its own.
func TestReadersFromAnEmptyMachine(t *testing.T) {
	g := newGuest(t)
	m := g.machine
	m.Copy(t, suite.Bin.Rollcall, "/srv/new/bin/rollcall", 0o755)
	blocks := blocksOf(t, "readers.md", "From an empty machine")
	require.Equal(t, []string{"sh", "sh", "sh", "sh", "sh", "console", "sh"}, languages(blocks))

	var said strings.Builder
	for _, b := range blocks {
		if b.language == "sh" {
			said.WriteString(g.types(t, b.text))
		}
	}

	require.Contains(t, said.String(), "app can read")
	require.NoError(t, g.tryPair(t, m.Path(unitDestination)))
	require.Equal(t, "active", m.Property(t, "rollcall.service", "ActiveState"))
	require.Equal(t, "teleport", m.Property(t, "rollcall.service", "User"))
	require.Zero(t, exitOf(m.Run(t, "rollcall", "status")))
	prompt, shown, _ := strings.Cut(blocks[5].text, "\n")
	refused, err := m.Run(t, "bash", "-c", strings.TrimPrefix(prompt, "# "))
	require.Equal(t, 1, exitOf(refused, err))
	require.Equal(t, shown, refused)
	require.Equal(t, 2, exitOf(m.Run(t, "runuser", "-u", "app", "--", "ls", "/var/lib/rollcall")))
	require.Contains(t, g.types(t, blocks[3].text), "nothing was changed")

	// Later, for a hook: the user needn't be said again.
	require.Contains(t, m.Must(t, "rollcall", "install", "systemd", "--write"), "rollcall.service is as it should be")

	// The command of the first section says the same of the directory.
	first := blocksOf(t, "readers.md", "In one command")[0]
	require.Contains(t, g.types(t, "rm /etc/rollcall.yaml\n"+first.text), "nothing was changed")
}

// TestReadersAfterRoot gives an agent that has run as root to a user, as
// docs/readers.md says: it goes on with the identity that it has.
func TestReadersAfterRoot(t *testing.T) {
	g := newGuest(t)
	m := g.machine
	m.Copy(t, suite.Bin.Rollcall, "/srv/new/bin/rollcall", 0o755)
	page := blocksOf(t, "readers.md", "From an empty machine")
	move := blocksOf(t, "readers.md", "From an agent that was root")
	require.Equal(t, []string{"sh"}, languages(move))
	users, configuration, tryOnce, install := page[0].text, page[2].text, page[4].text, page[6].text
	g.types(t, users+"install -d -m 0700 /var/lib/rollcall\ninstall -m 0600 /dev/stdin /etc/rollcall.token\n"+configuration)
	g.types(t, "rollcall start -c /etc/rollcall.yaml --oneshot")
	require.EqualValues(t, 1, g.cluster.Generation(t, g.bot))

	g.types(t, move[0].text)
	require.Contains(t, g.types(t, tryOnce), "app can read")
	g.types(t, install)

	require.EqualValues(t, "teleport", m.Property(t, "rollcall.service", "User"))
	require.NoError(t, g.tryPair(t, m.Path(unitDestination)))
	require.Empty(t, g.cluster.Locks(t, g.bot))
	require.LessOrEqual(t, g.cluster.Generation(t, g.bot), uint64(2), "it has joined once, and renewed")
}

// TestSystemdFromAnEmptyMachine types what docs/systemd.md tells to install the
// agent, for a user that it makes itself.
func TestSystemdFromAnEmptyMachine(t *testing.T) {
	g := newGuest(t)
	m := g.machine
	m.Copy(t, suite.Bin.Rollcall, "/usr/local/bin/rollcall", 0o755)
	blocks := blocksOf(t, "systemd.md", "Install")
	require.Equal(t, []string{"yaml", "sh"}, languages(blocks))
	m.Write(t, unitConfig, []byte(g.here.Replace(blocks[0].text)), 0o644)
	commands := blocks[1].commands()

	for _, command := range commands[:len(commands)-1] {
		t.Log(command, "\n", g.types(t, command))
	}
	require.True(t, strings.HasPrefix(commands[len(commands)-1], "rollcall status"))
	harness.Eventually(t, patience, "a healthy agent", func() error {
		_, err := m.Run(t, "bash", "-c", commands[len(commands)-1])
		return err
	})

	require.NoError(t, g.tryPair(t, m.Path(unitDestination)))
	require.Equal(t, "rollcall", m.Property(t, "rollcall.service", "User"))
	require.Equal(t, 1, exitOf(m.Run(t, "setpriv", "--reuid=rollcall", "--regid=rollcall", "--clear-groups", "cat", "/etc/rollcall.token")))
}

// exitOf is the exit code of a program in the machine; -1: it didn't run.
func exitOf(_ string, err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	return -1
}
