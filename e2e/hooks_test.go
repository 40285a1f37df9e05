package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"rollcall/e2e/harness"
)

// TestHooksRunAfterAChange has a program note what it's told: at the first
// issue, at a renewal, and not at a restart that renews nothing. A hook that
// fails beside it does no harm.
func TestHooksRunAfterAChange(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	notes := filepath.Join(s.dir, "notes")
	const told = `echo "$ROLLCALL_OUTPUT $ROLLCALL_DIRECTORY $ROLLCALL_SERIAL $ROLLCALL_REASON" >> "$0"`
	config := s.document(t, document{outputs: s.application("out", fmt.Sprintf(
		`on_renewal: [{exec: [/bin/false]}, {exec: [/bin/sh, -c, '%s', %s]}],`, told, notes))})
	lines := func() []string {
		text, _ := os.ReadFile(notes)
		return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	}
	awaitLines := func(agent *harness.Process, n int) {
		agent.WaitFor(t, patience, fmt.Sprintf("%d runs of the hook", n), func() error {
			if found := lines(); len(found) != n || found[0] == "" {
				return fmt.Errorf("the hook wrote %q", found)
			}
			return nil
		})
	}

	agent := s.start(t, config)
	awaitLines(agent, 1)
	require.Equal(t, fmt.Sprintf("out %s %s nothing is there yet", s.place("out"), s.hexSerial(t, "out")), lines()[0])
	agent.WaitForLog(t, patience, "A hook failed; the credentials are in place.")
	s.fetches(t, "out")

	agent.Signal(t, syscall.SIGHUP)
	awaitLines(agent, 2)
	require.Equal(t, fmt.Sprintf("out %s %s signal hangup", s.place("out"), s.hexSerial(t, "out")), lines()[1])
	stop(t, agent)

	agent = s.start(t, config)
	agent.WaitForLog(t, patience, "The credentials in place aren't due yet.")
	stop(t, agent)
	require.Len(t, lines(), 2, "a restart that renewed nothing ran the hooks")
}

// hexSerial is the serial number of the certificate in dir/NAME as openssl
// prints it.
func (s *stage) hexSerial(t *testing.T, name string) string {
	t.Helper()
	cert, err := certificate(filepath.Join(s.place(name), "tlscert"))
	require.NoError(t, err)
	return fmt.Sprintf("%X", cert.SerialNumber.Bytes())
}
