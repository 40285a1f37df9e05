package harness

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"rollcall/e2e/harness/build"
)

// bootTimeout is how long a machine may take to boot; it takes a second where
// nothing else runs.
const bootTimeout = 3 * time.Minute

const (
	// unitLines is how much is shown of a unit's journal beside the reason of a
	// failure.
	unitLines = 15
	// lookTimeout bounds a look at what explains a failure: the machine may be
	// what hangs.
	lookTimeout = 30 * time.Second
)

// CanBoot returns why no machine can be booted here; empty: it can.
func CanBoot() string {
	if os.Getuid() != 0 {
		return "booting a systemd of one's own needs root"
	}
	return ""
}

// Machine is a container with systemd as PID 1, this host's network (so that
// the cluster on loopback is there), and an own file system, which is gone
// when the test ends.
type Machine struct {
	leader int
}

// Boot boots a machine for one test.
func (s *Suite) Boot(t T) *Machine {
	t.Helper()
	for program, pkg := range map[string]string{"systemd-nspawn": "systemd-container", "debootstrap": "debootstrap", "nsenter": "util-linux"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("%s isn't installed (Debian's package %s)", program, pkg)
		}
	}
	root, err := build.SystemdRoot(t.Context(), os.Stderr)
	if err != nil {
		t.Fatalf("root file system: %v", err)
	}
	name := filepath.Base(s.Dir(t))
	// nspawn leaves this behind. It's registered first, and so runs last.
	t.Cleanup(func() { _ = os.Remove(filepath.Join("/run/systemd/nspawn/propagate", name)) })
	p := s.Start(t, Command{
		Path: "/bin/sh", name: "systemd-nspawn",
		Args: inCgroups(cgroups(t, name), "systemd-nspawn",
			"--directory="+root, "--volatile=overlay", "--machine="+name, "--quiet",
			"--register=no", "--keep-unit", "--console=pipe", "--boot",
		),
		onOrphaned: syscall.SIGTERM,
		// Killed, nspawn would leave it running; without its PID 1 the machine
		// is gone, and nspawn ends too.
		beforeKill: func(pid int) {
			if leader, err := leaderOf(pid); err == nil {
				_ = syscall.Kill(leader, syscall.SIGKILL)
			}
		},
	})
	m := &Machine{}
	p.WaitFor(t, bootTimeout, "the machine's PID 1", func() (err error) {
		m.leader, err = leaderOf(p.PID)
		return err
	})
	t.Cleanup(func() {
		if t.Failed() {
			s.showLog(t, "the machine's journal", m.journal())
		}
	})
	p.WaitFor(t, bootTimeout, "the end of the boot", func() error {
		state, err := m.Run(t, "systemctl", "is-system-running")
		if state = strings.TrimSpace(state); state == "running" || state == "degraded" {
			return nil
		}
		return fmt.Errorf("%s (%w)", state, err)
	})
	return m
}

// ShowUnit logs the end of a unit's journal, and its state. It's for a test that
// has failed, right after its reason.
func (m *Machine) ShowUnit(t T, unit string) {
	t.Helper()
	state := m.look("systemctl", "show", "--property=ActiveState,SubState,Result,StatusText,NRestarts,ExecMainStatus", unit)
	t.Logf("%s is\n%s\nand its journal ends with\n%s", unit, tail(state, unitLines), tail(m.journal("--unit="+unit, "--output=short-monotonic"), unitLines))
}

// journal is what the machine has logged since it was booted.
func (m *Machine) journal(more ...string) string {
	return m.look(append([]string{"journalctl", "-b", "--no-pager"}, more...)...)
}

// look runs what explains a failure, also of a test that has come to its end.
func (m *Machine) look(command ...string) string {
	ctx, cancel := context.WithTimeout(context.Background(), lookTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, "nsenter", m.enter(command...)...).CombinedOutput()
	if err != nil {
		return fmt.Sprintf("%s\n%s: %v", out, command[0], err)
	}
	return string(out)
}

// leaderOf returns the process that is PID 1 in nspawn's machine.
func leaderOf(nspawn int) (int, error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", nspawn, nspawn))
	if err != nil {
		return 0, err
	}
	for child := range strings.FieldsSeq(string(content)) {
		status, err := os.ReadFile("/proc/" + child + "/status")
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(status)) {
			if fields := strings.Fields(line); fields[0] == "NSpid:" && fields[len(fields)-1] == "1" {
				return strconv.Atoi(child)
			}
		}
	}
	return 0, errors.New("not there yet")
}

// enter is nsenter's command line for a program in the machine.
func (m *Machine) enter(command ...string) []string {
	return append([]string{
		"--target", strconv.Itoa(m.leader), "--all", "--wdns=/",
		"env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8",
	}, command...)
}

// Run runs a program in the machine, as root, and returns what it printed.
func (m *Machine) Run(t T, command ...string) (string, error) {
	out, err := exec.CommandContext(t.Context(), "nsenter", m.enter(command...)...).CombinedOutput()
	return string(out), err
}

// Must is Run for what must succeed.
func (m *Machine) Must(t T, command ...string) string {
	t.Helper()
	out, err := m.Run(t, command...)
	if err != nil {
		t.Fatalf("in the machine: %s: %v\n%s", strings.Join(command, " "), err, tail(out, reasonLines))
	}
	return out
}

// Property returns a property of a unit, as `systemctl show` has it.
func (m *Machine) Property(t T, unit, property string) string {
	t.Helper()
	return strings.TrimSpace(m.Must(t, "systemctl", "show", "--value", "--property="+property, unit))
}

// Path is a file of the machine as seen from here. Absolute links in it aren't
// followed as the machine would.
func (m *Machine) Path(inside string) string {
	return filepath.Join(fmt.Sprintf("/proc/%d/root", m.leader), inside)
}

// Write writes a file of root's in the machine, and its directory.
func (m *Machine) Write(t T, inside string, content []byte, mode os.FileMode) {
	t.Helper()
	path := m.Path(inside)
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		// Not in place: a program that runs can't be written to.
		err = os.WriteFile(path+".new", content, mode)
	}
	if err == nil {
		err = os.Chmod(path+".new", mode)
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		t.Fatalf("write %s in the machine: %v", inside, err)
	}
}

// Copy puts a file of this host's into the machine.
func (m *Machine) Copy(t T, from, inside string, mode os.FileMode) {
	t.Helper()
	content, err := os.ReadFile(from)
	if err != nil {
		t.Fatalf("copy into the machine: %v", err)
	}
	m.Write(t, inside, content, mode)
}
