package e2e

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rollcall/e2e/harness"
)

// TestReadersFromAnEmptyMachine types what docs/readers.md tells a new user to
// type, into a fresh machine with a systemd of its own.
func TestReadersFromAnEmptyMachine(t *testing.T) {
	if reason := harness.CanBoot(); reason != "" {
		t.Skip(reason)
	}
	s := newStage(t)
	m := suite.Boot(t)
	m.Copy(t, suite.Bin.Rollcall, "/srv/new/bin/rollcall", 0o755)
	m.Copy(t, s.cluster.Info().ProxyCA, "/etc/ssl/certs/ca-certificates.crt", 0o644)
	m.Write(t, "/srv/new/token", []byte(s.bot.Token+"\n"), 0o600)
	mine := strings.NewReplacer(
		"teleport.example.com:443", s.cluster.Info().ProxyAddr,
		"grafana-example", s.app.Name,
		"/dev/stdin", "/srv/new/token",
	)
	blocks := shellBlocks(t, filepath.Join("..", "docs", "readers.md"), "From an empty machine")
	require.Len(t, blocks, 6)

	var said strings.Builder
	for _, block := range blocks {
		said.WriteString(m.Must(t, "bash", "-euc", "cd /srv/new\n"+mine.Replace(block)))
	}

	require.Contains(t, said.String(), "app can read")
	require.NoError(t, s.tryPair(t, m.Path(unitDestination)))
	require.Equal(t, "active", m.Property(t, "rollcall.service", "ActiveState"))
	require.Equal(t, "teleport", m.Property(t, "rollcall.service", "User"))
	require.Zero(t, exitOf(m.Run(t, "rollcall", "status")))
	require.Equal(t, 1, exitOf(m.Run(t, "runuser", "-u", "nobody", "--", "cat", unitDestination+"/key")))
	require.Equal(t, 2, exitOf(m.Run(t, "runuser", "-u", "app", "--", "ls", "/var/lib/rollcall")))
	again := m.Must(t, "bash", "-euc", mine.Replace(blocks[3]))
	require.Contains(t, again, "nothing was changed")
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

// shellBlocks are the sh blocks of one section of a document.
func shellBlocks(t *testing.T, path, heading string) (blocks []string) {
	t.Helper()
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	_, section, found := strings.Cut(string(content), "\n## "+heading+"\n")
	require.True(t, found, heading)
	section, _, _ = strings.Cut(section, "\n## ")
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(section, -1) {
		blocks = append(blocks, block[1])
	}
	return blocks
}
