package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rollcall/e2e/harness"
)

// hookPatience is how long a hook may take that has failed, or was held up by
// polkit: by its back-off its next attempt may be two minutes after the one before.
const hookPatience = 4 * time.Minute

// watched are services that write down what is done to them.
func (s *unitStage) watched(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		s.machine.Write(t, "/etc/systemd/system/"+name+".service", []byte(`[Service]
ExecStart=/bin/sh -c 'echo started >>/run/%N.log; exec sleep infinity'
ExecReload=/bin/sh -c 'echo reloaded >>/run/%N.log'
`), 0o644)
	}
	s.machine.Must(t, "systemctl", "daemon-reload")
	for _, name := range names {
		s.machine.Must(t, "systemctl", "start", name)
		s.done(t, name, "started")
	}
}

// done waits until this was done to a watched service, and forgets it.
func (s *unitStage) done(t *testing.T, name, what string) {
	t.Helper()
	path := s.machine.Path("/run/" + name + ".log")
	harness.Eventually(t, hookPatience, name+" being "+what, func() error {
		content, err := os.ReadFile(path)
		if err == nil && !strings.Contains(string(content), what+"\n") {
			err = errors.New(string(content))
		}
		return err
	})
	require.NoError(t, os.Remove(path))
}

func (s *unitStage) untouched(t *testing.T, name string) {
	t.Helper()
	_, err := os.Lstat(s.machine.Path("/run/" + name + ".log"))
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// lastHook is what status says of the output's hooks.
func (s *unitStage) lastHook(t *testing.T) (ok bool, text string) {
	t.Helper()
	out, _ := s.machine.Run(t, "rollcall", "status", "--format=json") // 1 if a hook failed
	var answer struct {
		Services []struct {
			Name     string
			LastHook *struct {
				OK    bool
				Error string
			} `json:"last_hook"`
		}
	}
	require.NoError(t, json.Unmarshal([]byte(out), &answer), out)
	for _, service := range answer.Services {
		if service.Name == "app" && service.LastHook != nil {
			return service.LastHook.OK, service.LastHook.Error
		}
	}
	return false, "no hook has run"
}

// hookSays waits for words in the last hook's error; "": for success.
func (s *unitStage) hookSays(t *testing.T, want string) {
	t.Helper()
	harness.Eventually(t, hookPatience, "the hooks' result", func() error {
		if ok, text := s.lastHook(t); ok != (want == "") || !strings.Contains(text, want) {
			return fmt.Errorf("ok %v: %s", ok, text)
		}
		return nil
	})
}

// tested is what `hooks test` prints as the agent's user.
func (s *unitStage) tested(t *testing.T) string {
	t.Helper()
	out, _ := s.machine.Run(t, "setpriv", "--reuid=rollcall", "--regid=rollcall", "--clear-groups", "rollcall", "hooks", "test", "app")
	return out
}

// hooksOfUnits has an agent that isn't root reload another unit by a polkit
// rule, and no more than the rule allows.
func (s *unitStage) hooksOfUnits(t *testing.T) {
	m := s.machine
	s.watched(t, "front", "other")
	require.NoError(t, os.Symlink("front.service", m.Path("/etc/systemd/system/alias.service")))
	m.Must(t, "systemctl", "daemon-reload")
	s.configure(t, s.cluster.Info().ProxyAddr, "on_renewal: [{reload_unit: front.service}]")
	require.Contains(t, m.Must(t, "rollcall", "install", "systemd"), "add --allow-reload front.service.")
	m.Must(t, "systemctl", "restart", "rollcall")
	require.Equal(t, "rollcall", s.property(t, "User"))

	// Without a rule.
	s.reload(t)
	const sentence = "the agent may not reload front.service: an agent that isn't root needs a polkit rule to reload front.service: " +
		"`rollcall install systemd --allow-reload front.service --write` writes one"
	s.hookSays(t, sentence)
	s.untouched(t, "front")
	out, err := m.Run(t, "rollcall", "status")
	require.ErrorContains(t, err, "exit status 1")
	require.Contains(t, out, sentence)
	require.NoError(t, s.tryPair(t, s.credentials()), "the files are in place")

	// With it. polkit sees the new file a moment later.
	out = m.Must(t, "rollcall", "install", "systemd", "--allow-reload=front.service", "--write")
	require.Contains(t, out, "Wrote /etc/polkit-1/rules.d/50-rollcall-rollcall.rules")
	require.NotContains(t, out, "Note:")
	harness.Eventually(t, patience, "polkit's reading the rule", func() error {
		if out := s.tested(t); !strings.Contains(out, " ok ") {
			return errors.New(out)
		}
		return nil
	})
	s.hookSays(t, "") // it's tried again
	s.done(t, "front", "reloaded")
	s.reload(t)
	s.done(t, "front", "reloaded")
	s.hookSays(t, "")

	// No other unit, and no other verb.
	s.configure(t, s.cluster.Info().ProxyAddr,
		"on_renewal: [{reload_unit: front.service}, {reload_unit: other.service}, {restart_unit: front.service}, {restart_unit: other.service}, {reload_unit: alias.service}]")
	// Waited for: see docs/hooks.md for why polkit may take its time.
	exact := regexp.MustCompile(`(?s)reload_unit front.service +ok .*` +
		`reload_unit other.service +failed .*--allow-reload other.service.*` +
		`restart_unit front.service +failed .*--allow-restart front.service.*` +
		`restart_unit other.service +failed .*--allow-restart other.service.*` +
		`reload_unit alias.service +ok `) // polkit is asked about the unit's own name
	harness.Eventually(t, patience, "what the rule allows", func() error {
		if out := s.tested(t); !exact.MatchString(out) {
			return errors.New(out)
		}
		return nil
	})
	s.done(t, "front", "reloaded")
	s.untouched(t, "other")
	m.Must(t, "systemctl", "restart", "rollcall")
	s.reload(t)
	s.hookSays(t, "the agent may not reload other.service")
	s.done(t, "front", "reloaded")
	s.untouched(t, "other")
	for _, verb := range []string{"start", "stop", "restart", "kill"} {
		harness.Eventually(t, patience, "polkit's refusal of "+verb, func() error {
			out, err := m.Run(t, "setpriv", "--reuid=rollcall", "--regid=rollcall", "--clear-groups", "systemctl", "--no-ask-password", verb, "front.service")
			require.Error(t, err, verb)
			if !strings.Contains(out, "nteractive authentication required") {
				return errors.New(out)
			}
			return nil
		})
	}

	// A rule that is written anew counts too, for a restart as well.
	m.Must(t, "rollcall", "install", "systemd", "--allow-restart=other.service", "--allow-reload=alias.service", "--write", "--force")
	harness.Eventually(t, patience, "polkit's reading the new rule", func() error {
		if out := s.tested(t); strings.Count(out, " ok ") != 1 || !strings.Contains(out, "--allow-reload front.service") {
			return errors.New(out)
		}
		return nil
	})
	s.done(t, "other", "started")
	require.NoError(t, os.Remove(m.Path("/etc/polkit-1/rules.d/50-rollcall-rollcall.rules")))
}

// hooksWithoutPolkit has `install systemd` write its .path unit, as on a host
// that has no polkit.
func (s *unitStage) hooksWithoutPolkit(t *testing.T) {
	m := s.machine
	// By this file it knows of polkit.
	polkit := m.Path("/usr/share/dbus-1/system-services/org.freedesktop.PolicyKit1.service")
	require.NoError(t, os.Rename(polkit, polkit+".away"))
	out := m.Must(t, "rollcall", "install", "systemd", "--allow-reload=front.service", "--write", "--force")
	require.Contains(t, out, "polkit isn't installed")
	require.Contains(t, out, `write exec: [/usr/bin/touch, "/run/rollcall/reload-front.service"]`)
	require.Contains(t, out, "Next: systemctl enable --now rollcall rollcall-reload-front.path")
	require.NoError(t, os.Rename(polkit+".away", polkit))

	s.configure(t, s.cluster.Info().ProxyAddr, `on_renewal: [{exec: [/usr/bin/touch, "/run/rollcall/reload-front.service"]}]`)
	m.Must(t, "systemctl", "enable", "--now", "rollcall-reload-front.path")
	// What polkit held up before it was taken away.
	require.NoError(t, os.RemoveAll(m.Path("/run/front.log")))
	m.Must(t, "systemctl", "restart", "rollcall")
	s.untouched(t, "front")
	for range 2 { // the file is new, and then it's there
		s.reload(t)
		s.done(t, "front", "reloaded")
		s.hookSays(t, "")
	}
	// A unit that is stopped stays so.
	m.Must(t, "systemctl", "stop", "front")
	s.reload(t)
	s.hookSays(t, "")
	harness.Eventually(t, patience, "the end of what the file has triggered", func() error {
		if result := m.Property(t, "rollcall-reload-front.service", "Result"); result != "exec-condition" {
			return errors.New(result)
		}
		return nil
	})
	require.Equal(t, "inactive", m.Property(t, "front.service", "ActiveState"))
	m.Must(t, "systemctl", "disable", "--now", "rollcall-reload-front.path")
	m.Must(t, "systemctl", "stop", "front", "other")
	s.configure(t, s.cluster.Info().ProxyAddr)
	m.Must(t, "systemctl", "restart", "rollcall")
}

// hooksOfUsers runs a program as another user and signals another user's
// processes. Without the drop-in of docs/hooks.md both are refused.
func (s *unitStage) hooksOfUsers(t *testing.T) {
	m := s.machine
	const dropIn = "/etc/systemd/system/rollcall.service.d/hooks.conf"
	m.Write(t, "/etc/systemd/system/listener.service", []byte(`[Service]
ExecStart=/bin/sh -c 'trap "echo signalled >>/run/%N.log" HUP; echo $$$$ >/run/%N.pid; while :; do sleep infinity & wait $$!; done'
`), 0o644)
	m.Must(t, "systemctl", "daemon-reload")
	m.Must(t, "systemctl", "start", "listener")
	harness.Eventually(t, patience, "the listener's pid file", func() error {
		_, err := os.Lstat(m.Path("/run/listener.pid"))
		return err
	})
	const (
		program = `{exec: [/usr/bin/id, -un], user: www-data}`
		byUnit  = `{signal: HUP, unit: listener.service}`
		byFile  = `{signal: HUP, pid_file: /run/listener.pid}`
	)

	// Refused: a program at the start, as a wrong configuration is, and a signal
	// when it's due.
	s.configure(t, s.cluster.Info().ProxyAddr, "on_renewal: ["+program+"]")
	m.Run(t, "systemctl", "restart", "rollcall")
	s.endsFor(t, "1")
	s.journal(t, "running as www-data needs an agent with CAP_SETUID, CAP_SETGID")
	s.configure(t, s.cluster.Info().ProxyAddr, "on_renewal: ["+byUnit+"]")
	m.Must(t, "systemctl", "start", "rollcall")
	s.reload(t)
	s.hookSays(t, "isn't the agent's own, and may not be signalled: a signal reaches processes of the agent's own user; another user's needs CAP_KILL")
	s.untouched(t, "listener")
	s.configure(t, s.cluster.Info().ProxyAddr, "on_renewal: ["+byFile+"]")
	m.Must(t, "systemctl", "restart", "rollcall")
	s.reload(t)
	s.hookSays(t, "belongs to somebody else and is hidden from the agent")
	s.untouched(t, "listener")

	// With the document's drop-in, and what it says of pid_file.
	blocks := blocksOf(t, "hooks.md", "Rights")
	require.Equal(t, "ini", blocks[0].language)
	m.Write(t, dropIn, []byte(blocks[0].text+"ProtectProc=default\n"), 0o644)
	m.Must(t, "systemctl", "daemon-reload")
	for _, signal := range []string{byUnit, byFile} {
		s.configure(t, s.cluster.Info().ProxyAddr, "on_renewal: ["+program+", "+signal+"]")
		m.Must(t, "systemctl", "restart", "rollcall")
		s.reload(t)
		s.hookSays(t, "")
		s.done(t, "listener", "signalled")
	}
	// What the program printed: the refusal above has the user's name as well.
	require.Regexp(t, `(?m)^.*msg="A hook printed\." .*\bline=www-data$`, s.journal(t, " line=www-data\n"))

	m.Must(t, "systemctl", "stop", "listener")
	require.NoError(t, os.Remove(m.Path(dropIn)))
	m.Must(t, "systemctl", "daemon-reload")
	s.configure(t, s.cluster.Info().ProxyAddr)
	m.Must(t, "systemctl", "restart", "rollcall")
}
