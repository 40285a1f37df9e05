package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rollcall/e2e/harness"
)

// unitStage is a stage whose agent is a unit of a real systemd.
type unitStage struct {
	*stage
	machine *harness.Machine
}

const (
	unitDestination = "/opt/machine-id"
	unitConfig      = "/etc/rollcall.yaml"
	unitToken       = "/etc/rollcall.token"
)

// TestSystemd boots one machine for all: a boot takes a second, and the parts
// follow one another as an operator's day does.
func TestSystemd(t *testing.T) {
	if reason := harness.CanBoot(); reason != "" {
		t.Skip(reason)
	}
	t.Parallel()
	s := &unitStage{stage: newStage(t), machine: suite.Boot(t)}
	s.machine.Copy(t, suite.Bin.Rollcall, "/usr/local/bin/rollcall", 0o755)
	s.machine.Copy(t, s.cluster.Info().ProxyCA, "/etc/proxy-ca.pem", 0o644)
	s.machine.Write(t, unitToken, []byte(s.bot.Token+"\n"), 0o600)
	s.configure(t, s.cluster.Info().ProxyAddr)

	for _, part := range []struct {
		name string
		test func(s *unitStage, t *testing.T)
	}{
		{"install and start", (*unitStage).installAndStart},
		{"sandbox", (*unitStage).sandbox},
		{"token stays secret", (*unitStage).tokenStaysSecret},
		{"status", (*unitStage).status},
		{"reload renews", (*unitStage).reloadRenews},
		{"hooks of other units", (*unitStage).hooksOfUnits},
		{"hooks without polkit", (*unitStage).hooksWithoutPolkit},
		{"hooks of other users", (*unitStage).hooksOfUsers},
		{"stop", (*unitStage).stop},
		{"a spent token may be deleted", (*unitStage).spentToken},
		{"a passed socket", (*unitStage).passedSocket},
		{"a tunnel's socket", (*unitStage).tunnelSocket},
		{"a tunnel's own socket", (*unitStage).ownSocket},
		{"a stuck loop is restarted", (*unitStage).stuckLoop},
		{"a cluster that is down", (*unitStage).clusterDown},
		{"a refused join isn't tried again", (*unitStage).refusedJoin},
	} {
		ok := t.Run(part.name, func(t *testing.T) {
			t.Cleanup(func() {
				if t.Failed() {
					s.machine.ShowUnit(t, "rollcall.service")
				}
			})
			part.test(s, t)
		})
		if !ok {
			return // what follows builds on it
		}
	}
}

// configure writes the configuration for a proxy; more are further keys of the
// output.
func (s *unitStage) configure(t *testing.T, proxy string, more ...string) {
	t.Helper()
	s.machine.Write(t, unitConfig, fmt.Appendf(nil, `version: v2
proxy_server: %s
proxy_ca: /etc/proxy-ca.pem
onboarding: {join_method: token, token: "credential:token"}
storage: {type: directory, path: /var/lib/rollcall}
outputs:
  - {type: application, name: app, app_name: %s, destination: {type: directory, path: %s}%s}
`, proxy, s.app.Name, unitDestination, strings.Join(append([]string{""}, more...), ", ")), 0o644)
}

// credentials are the written files, seen from here.
func (s *unitStage) credentials() string { return s.machine.Path(unitDestination) }

func (s *unitStage) unitSerial(t *testing.T) string {
	t.Helper()
	cert, err := certificate(filepath.Join(s.credentials(), "tlscert"))
	require.NoError(t, err)
	return cert.SerialNumber.String()
}

// property is one of the unit's.
func (s *unitStage) property(t *testing.T, name string) string {
	t.Helper()
	return s.machine.Property(t, "rollcall.service", name)
}

func (s *unitStage) installAndStart(t *testing.T) {
	m := s.machine
	out := m.Must(t, "rollcall", "install", "systemd")
	require.Contains(t, out, "Nothing was changed.")
	m.Must(t, "rollcall", "install", "systemd", "--write")
	require.Contains(t, m.Must(t, "rollcall", "install", "systemd", "--write"), "as it should be")
	require.Empty(t, m.Must(t, "systemd-analyze", "verify", "--man=no", "/etc/systemd/system/rollcall.service"))
	m.Must(t, "rollcall", "init", "--bot-user=rollcall", "--reader-user=www-data")

	m.Must(t, "systemctl", "start", "rollcall")

	// READY came after the first round: each service has been tried. On a busy
	// machine an attempt may fail, and is made again.
	require.Equal(t, "active", s.property(t, "ActiveState"))
	s.allReady(t)
	require.NoError(t, s.tryPair(t, s.credentials()))
	require.EqualValues(t, 1, s.cluster.Generation(t, s.bot))
	info := s.journal(t, "The bot joined the cluster.", "--priority=info..info")
	require.NotContains(t, info, "<6>", "the journal has the priority by itself")
}

// allReady fails unless every service has been tried, and waits until all have
// what they want.
func (s *unitStage) allReady(t *testing.T) {
	t.Helper()
	require.NotContains(t, s.property(t, "StatusText"), "is starting")
	harness.Eventually(t, patience, "ready services", func() error {
		if text := s.property(t, "StatusText"); !strings.Contains(text, "all 2 services are ready; next renewal ") {
			return errors.New(text)
		}
		return nil
	})
}

// journal waits until the unit's journal has a text, which it gets a moment later,
// and returns all of it.
func (s *unitStage) journal(t *testing.T, text string, more ...string) string {
	t.Helper()
	journal := ""
	harness.Eventually(t, patience, fmt.Sprintf("%q in the journal", text), func() error {
		journal = s.machine.Must(t, append([]string{"journalctl", "--unit=rollcall", "-b", "--no-pager", "--output=cat"}, more...)...)
		if !strings.Contains(journal, text) {
			return errors.New(journal)
		}
		return nil
	})
	return journal
}

func (s *unitStage) sandbox(t *testing.T) {
	m, pid := s.machine, s.property(t, "MainPID")
	status, err := os.ReadFile(m.Path("/proc/" + pid + "/status"))
	require.NoError(t, err)
	for _, want := range []string{"NoNewPrivs:\t1\n", "CapBnd:\t0000000000000000\n", "CapEff:\t0000000000000000\n", "Seccomp:\t2\n"} {
		require.Contains(t, string(status), want)
	}
	// As root in its mount namespace: what stops the write is the sandbox.
	out, err := m.Run(t, "nsenter", "--target", pid, "--mount", "touch", "/etc/written", "/opt/written", "/usr/written")
	require.Error(t, err)
	require.Equal(t, 3, strings.Count(out, "Read-only file system"), out)
	m.Must(t, "nsenter", "--target", pid, "--mount", "test", "-w", unitDestination)

	// ACLs work in it: the reader given to init reads, others don't.
	as := func(user string) error {
		_, err := m.Run(t, "setpriv", "--reuid="+user, "--regid=nogroup", "--clear-groups", "cat", unitDestination+"/key")
		return err
	}
	require.NoError(t, as("www-data"))
	require.Error(t, as("games"))
}

func (s *unitStage) tokenStaysSecret(t *testing.T) {
	m, pid := s.machine, s.property(t, "MainPID")
	for what, text := range map[string]string{
		"the unit":            m.Must(t, "systemctl", "cat", "rollcall.service"),
		"systemctl show":      m.Must(t, "systemctl", "show", "rollcall.service"),
		"the environment":     m.Must(t, "cat", "/proc/"+pid+"/environ"),
		"the argument list":   m.Must(t, "cat", "/proc/"+pid+"/cmdline"),
		"the journal":         m.Must(t, "journalctl", "-b", "--no-pager", "--output=verbose"),
		"the configuration":   m.Must(t, "cat", unitConfig),
		"what status answers": m.Must(t, "rollcall", "status", "--format=json"),
	} {
		require.NotEmpty(t, text, what)
		// Without the text, which is long.
		require.False(t, strings.Contains(text, s.bot.Token), "the token is in %s", what)
	}
	// It's where it belongs, or the above would prove nothing.
	environment := m.Must(t, "cat", "/proc/"+pid+"/environ")
	require.Contains(t, environment, "CREDENTIALS_DIRECTORY=/run/credentials/rollcall.service")
	require.Equal(t, s.bot.Token+"\n", m.Must(t, "nsenter", "--target", pid, "--mount", "cat", "/run/credentials/rollcall.service/token"))
}

func (s *unitStage) status(t *testing.T) {
	m := s.machine
	text := m.Must(t, "rollcall", "status")
	require.Contains(t, text, "is healthy")
	require.Contains(t, text, "bot "+s.bot.User+" of cluster "+s.cluster.Info().ClusterName+", join method token, generation 1, expires ")
	var answer struct {
		Running, Healthy bool
		PID              int
		Services         []struct {
			Name, State    string
			NotAfter, Next time.Time
		}
	}
	require.NoError(t, json.Unmarshal([]byte(m.Must(t, "rollcall", "status", "--format=json")), &answer))
	require.True(t, answer.Running)
	require.True(t, answer.Healthy)
	require.Equal(t, s.property(t, "MainPID"), strconv.Itoa(answer.PID))
	require.Len(t, answer.Services, 2)

	own := m.Must(t, "setpriv", "--reuid=rollcall", "--regid=rollcall", "--clear-groups", "rollcall", "status")
	require.Contains(t, own, "is healthy")
	out, err := m.Run(t, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "rollcall", "status")
	require.ErrorContains(t, err, "exit status 2")
	require.Contains(t, out, "only root and the agent's own user may ask")
}

func (s *unitStage) reloadRenews(t *testing.T) {
	before, pid := s.unitSerial(t), s.property(t, "MainPID")
	s.machine.Must(t, "systemctl", "reload", "rollcall")
	harness.Eventually(t, patience, "another certificate", func() error {
		if s.unitSerial(t) == before {
			return errors.New("it's still the old one")
		}
		return nil
	})
	harness.Eventually(t, patience, "the end of the reload", func() error {
		if state := s.property(t, "ActiveState"); state != "active" {
			return errors.New(state)
		}
		return nil
	})
	require.EqualValues(t, 2, s.cluster.Generation(t, s.bot))
	require.Equal(t, pid, s.property(t, "MainPID"), "a reload restarts nothing")
	require.NoError(t, s.tryPair(t, s.credentials()))
}

func (s *unitStage) stop(t *testing.T) {
	s.machine.Must(t, "systemctl", "stop", "rollcall")
	require.Equal(t, "inactive", s.property(t, "ActiveState"))
	// By its own clock: after five seconds the agent ends with an error, and after
	// ten systemd kills it.
	require.Equal(t, "success", s.property(t, "Result"))
	out, err := s.machine.Run(t, "rollcall", "status")
	require.ErrorContains(t, err, "exit status 2", out)
}

func (s *unitStage) spentToken(t *testing.T) {
	reached := s.cluster.Generation(t, s.bot)
	require.NoError(t, os.Remove(s.machine.Path(unitToken)))
	s.machine.Must(t, "systemctl", "start", "rollcall")
	s.allReady(t)
	require.Equal(t, reached, s.cluster.Generation(t, s.bot), "nothing was due, and the token counts as unchanged")
	// A renewal looks at the token again.
	s.reload(t)
	require.Equal(t, reached+1, s.cluster.Generation(t, s.bot))
	require.Empty(t, s.cluster.Locks(t, s.bot))
	s.machine.Must(t, "systemctl", "stop", "rollcall")
}

// reload reloads and waits for its end.
func (s *unitStage) reload(t *testing.T) {
	t.Helper()
	before := s.unitSerial(t)
	s.machine.Must(t, "systemctl", "reload", "rollcall")
	harness.Eventually(t, patience, "the end of the reload", func() error {
		if state := s.property(t, "ActiveState"); state != "active" || s.unitSerial(t) == before {
			return errors.New(state)
		}
		return nil
	})
}

func (s *unitStage) passedSocket(t *testing.T) {
	m := s.machine
	m.Write(t, "/etc/systemd/system/rollcall.socket", []byte("[Socket]\nListenStream=/run/diag.sock\nFileDescriptorName=diag\n"), 0o644)
	m.Must(t, "systemctl", "daemon-reload")
	m.Must(t, "systemctl", "start", "rollcall.socket")
	require.Equal(t, "inactive", s.property(t, "ActiveState"))

	// The first question starts the agent. Whether it's healthy by then, and so
	// the exit code, is a matter of luck.
	harness.Eventually(t, patience, "the agent's answer", func() error {
		out, _ := m.Run(t, "rollcall", "status", "--socket=/run/diag.sock")
		if !strings.Contains(out, "storage directory /var/lib/rollcall") {
			return errors.New(out)
		}
		return nil
	})
	require.Contains(t, []string{"active", "activating"}, s.property(t, "ActiveState"))
	m.Must(t, "systemctl", "stop", "rollcall.socket", "rollcall.service")
	require.NoError(t, os.Remove(m.Path("/etc/systemd/system/rollcall.socket")))
	m.Must(t, "systemctl", "daemon-reload")
}

// stuckLoop uses a build in which SIGUSR2 makes the next write hang.
func (s *unitStage) stuckLoop(t *testing.T) {
	_, err := harness.Build(t.Context(), os.Stderr, "rollcall-stuck")
	require.NoError(t, err)
	m := s.machine
	m.Copy(t, suite.Bin.Stuck, "/usr/local/bin/rollcall", 0o755)
	m.Write(t, "/etc/systemd/system/rollcall.service.d/test.conf", []byte("[Service]\nWatchdogSec=10s\nRestartSec=100ms\n"), 0o644)
	m.Must(t, "systemctl", "daemon-reload")
	m.Must(t, "systemctl", "start", "rollcall")
	pid, before := s.property(t, "MainPID"), s.unitSerial(t)
	require.Equal(t, "0", s.property(t, "NRestarts"))

	m.Must(t, "kill", "-USR2", pid)
	m.Must(t, "kill", "-USR1", pid)

	harness.Eventually(t, patience, "a restart", func() error {
		if now := s.property(t, "MainPID"); now == pid || s.property(t, "ActiveState") != "active" {
			return fmt.Errorf("pid %s", now)
		}
		return nil
	})
	require.Equal(t, "1", s.property(t, "NRestarts"))
	s.journal(t, "app is stuck for ")
	s.journal(t, "Watchdog timeout")
	// The one that was started works, and nothing was lost.
	s.reload(t)
	require.NotEqual(t, before, s.unitSerial(t))
	require.NoError(t, s.tryPair(t, s.credentials()))
	require.Empty(t, s.cluster.Locks(t, s.bot))
	m.Must(t, "systemctl", "stop", "rollcall")
	m.Copy(t, suite.Bin.Rollcall, "/usr/local/bin/rollcall", 0o755)
	require.NoError(t, os.Remove(m.Path("/etc/systemd/system/rollcall.service.d/test.conf")))
	m.Must(t, "systemctl", "daemon-reload")
}

// clusterDown starts an agent without an identity while nobody answers.
func (s *unitStage) clusterDown(t *testing.T) {
	m := s.machine
	m.Must(t, "find", "/var/lib/rollcall", unitDestination, "-mindepth", "1", "-delete")
	m.Write(t, unitToken, []byte("a-token-that-is-nobodys\n"), 0o600)
	s.configure(t, "localhost:1")

	m.Must(t, "systemctl", "start", "rollcall")

	require.Equal(t, "active", s.property(t, "ActiveState"))
	require.Contains(t, s.property(t, "StatusText"), "2 of 2 services need attention: identity: ")
	out, err := m.Run(t, "rollcall", "status")
	require.ErrorContains(t, err, "exit status 1")
	require.Contains(t, out, "the bot has no identity yet")
	m.Must(t, "systemctl", "stop", "rollcall")
}

func (s *unitStage) refusedJoin(t *testing.T) {
	m := s.machine
	s.configure(t, s.cluster.Info().ProxyAddr)
	m.Run(t, "systemctl", "start", "rollcall") // whether it's seen to start or not
	s.endsFor(t, "3")
	_, err := os.Lstat(m.Path("/run/rollcall/status.sock"))
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// endsFor waits until the agent has ended with an exit code, and fails unless
// systemd leaves it at that.
func (s *unitStage) endsFor(t *testing.T, code string) {
	t.Helper()
	harness.Eventually(t, patience, "the end of the agent", func() error {
		if state := s.property(t, "ActiveState"); state != "failed" {
			return errors.New(state)
		}
		return nil
	})
	require.Equal(t, code, s.property(t, "ExecMainStatus"))
	require.Equal(t, "0", s.property(t, "NRestarts"))
}
