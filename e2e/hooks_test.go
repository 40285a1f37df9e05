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

// TestHooksThatWereCutOff kills the agent, and stops it, while a hook runs: the
// next one makes up for that hook and the one behind it, and for no other.
func TestHooksThatWereCutOff(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(t *testing.T, agent *harness.Process){
		"stopped": stop,
		"killed":  func(_ *testing.T, agent *harness.Process) { agent.Kill() },
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			notes, hold := filepath.Join(s.dir, "notes"), filepath.Join(s.dir, "hold")
			require.NoError(t, os.WriteFile(hold, nil, 0o600))
			note := func(hook string) string {
				return fmt.Sprintf(`{exec: [/bin/sh, -c, 'echo %s $ROLLCALL_REASON >> %s']}`, hook, notes)
			}
			config := s.document(t, document{outputs: s.application("out", fmt.Sprintf(
				`on_renewal: [%s, {exec: [/bin/sh, -c, 'echo begun >> %s; while test -e %s; do sleep 0.1; done']}, %s],`, note("first"), notes, hold, note("last")))})
			text := func() string { data, _ := os.ReadFile(notes); return string(data) }
			await := func(agent *harness.Process, want string) {
				agent.WaitFor(t, patience, "the hooks", func() error {
					if got := text(); got != want {
						return fmt.Errorf("they wrote %q", got)
					}
					return nil
				})
			}
			agent := s.start(t, config)
			await(agent, "first nothing is there yet\nbegun\n")
			serial := s.hexSerial(t, "out")

			end(t, agent)
			require.NoError(t, os.Remove(hold))
			require.NoError(t, os.Remove(notes))
			agent = s.start(t, config)

			// A stop notes what has worked; after a kill nothing is known, and
			// all of them run.
			want := "begun\nlast missed before the start\n"
			if name == "killed" {
				want = "first missed before the start\n" + want
			}
			await(agent, want)
			agent.WaitForLog(t, patience, "Hooks haven't worked for the files in place, and run now.")
			require.Equal(t, serial, s.hexSerial(t, "out"), "nothing was renewed for it")
			stop(t, agent)
			agent = s.start(t, config)
			agent.WaitForLog(t, patience, "The credentials in place aren't due yet.")
			stop(t, agent)
			require.Equal(t, want, text(), "it's made up for once")
		})
	}
}

// hexSerial is the serial number of the certificate in dir/NAME as openssl
// prints it.
func (s *stage) hexSerial(t *testing.T, name string) string {
	t.Helper()
	cert, err := certificate(filepath.Join(s.place(name), "tlscert"))
	require.NoError(t, err)
	return fmt.Sprintf("%X", cert.SerialNumber.Bytes())
}
