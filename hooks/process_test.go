package hooks

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rollcall/failure"
)

// daemon is a real program that notes each HUP.
type daemon struct {
	pid   int
	notes string
	end   func()
}

func startDaemon(t *testing.T) *daemon {
	t.Helper()
	dir := t.TempDir()
	d := &daemon{notes: filepath.Join(dir, "notes")}
	cmd := exec.Command(script(t, dir, "daemon", fmt.Sprintf(
		"trap 'echo hup >> %s' HUP; echo ready > %s; while :; do sleep 0.02; done", d.notes, d.notes)))
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	require.NoError(t, cmd.Start())
	d.pid = cmd.Process.Pid
	ended := false
	d.end = func() {
		if !ended {
			ended = true
			killGroup(d.pid)
			_ = cmd.Wait()
		}
	}
	t.Cleanup(d.end)
	await(t, "the daemon", func() bool { return content(d.notes) == "ready\n" })
	return d
}

func (d *daemon) file(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "daemon.pid")
	require.NoError(t, os.WriteFile(path, fmt.Appendln(nil, d.pid), 0o644))
	require.NoError(t, os.Chmod(path, 0o644))
	return path
}

func TestSignalByPIDFile(t *testing.T) {
	d := startDaemon(t)
	file := d.file(t)
	g := newRig(t, RunnerOptions{Hooks: []Options{{Signal: "HUP", PIDFile: file}}})
	g.start(t)
	g.Changed(sampleChange())
	await(t, "the signal", func() bool { return content(d.notes) == "ready\nhup\n" })
}

// TestStalePIDFile shows every kind of file that mustn't be believed. None of
// the signals may reach the daemon.
func TestStalePIDFile(t *testing.T) {
	d := startDaemon(t)
	gone := startDaemon(t)
	ended := gone.file(t)
	gone.end()
	write := func(text string) string {
		path := filepath.Join(t.TempDir(), "x.pid")
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
		require.NoError(t, os.Chmod(path, 0o644))
		return path
	}
	old := d.file(t)
	require.NoError(t, os.Chtimes(old, time.Time{}, time.Now().Add(-time.Hour)))
	open := d.file(t)
	require.NoError(t, os.Chmod(open, 0o666))
	link := filepath.Join(t.TempDir(), "link.pid")
	require.NoError(t, os.Symlink(d.file(t), link))

	for name, test := range map[string]struct{ file, want string }{
		"ended":                  {ended, "is stale: there is no process"},
		"older than the process": {old, "is stale: process " + fmt.Sprint(d.pid) + " began after it was written"},
		"writable by others":     {open, "can be written by others"},
		"a link":                 {link, "can't be read"},
		"missing":                {"/nonexistent/x.pid", "can't be read: no such file or directory"},
		"a directory":            {t.TempDir(), "isn't a file"},
		"empty":                  {write(""), "doesn't hold the number of a process"},
		"a word":                 {write("12a\n"), "doesn't hold the number of a process"},
		"a group":                {write(fmt.Sprint(-d.pid)), "doesn't hold the number of a process"},
		"init":                   {write("1\n"), "doesn't hold the number of a process"},
		"rollcall":               {write(fmt.Sprint(os.Getpid())), "names rollcall itself"},
	} {
		t.Run(name, func(t *testing.T) {
			require.ErrorContains(t, signalByFile(test.file, unix.SIGHUP), test.want)
		})
	}
	require.Equal(t, "ready\n", content(d.notes))
}

func TestPIDFileOfAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root may give a file away")
	}
	d := startDaemon(t)
	file := d.file(t)
	require.NoError(t, os.Chown(file, 12345, 12345))
	require.ErrorContains(t, signalByFile(file, unix.SIGHUP), "only root may name another user's process")
	require.Equal(t, "ready\n", content(d.notes))
}

func TestStartTicks(t *testing.T) {
	ticks, err := startTicks([]byte("7 (a) b) c) S 1 7 7 0 -1 4 0 0 0 0 0 0 0 0 20 0 1 0 4711 0 0"))
	require.NoError(t, err)
	require.EqualValues(t, 4711, ticks)
	_, err = startTicks([]byte("7 (x) S 1"))
	require.Error(t, err)
	_, err = startTicks(nil)
	require.Error(t, err)
}

func TestStartedIsTheTimeOfStart(t *testing.T) {
	before := time.Now()
	d := startDaemon(t)
	p, err := openProcess(d.pid)
	require.NoError(t, err)
	defer p.close()
	require.WithinRange(t, p.started, before.Add(-100*time.Millisecond), time.Now())
	require.EqualValues(t, os.Geteuid(), p.uid)
}

// TestHiddenProcess has a /proc that shows nothing of a process that runs, as
// ProtectProc=invisible does, and one that shows nothing but its name.
func TestHiddenProcess(t *testing.T) {
	d := startDaemon(t)
	p, err := holdProcess(d.pid)
	require.NoError(t, err)
	defer p.close()
	proc := t.TempDir()
	for _, step := range []string{"invisible", "without its files"} {
		err = p.look(proc)
		require.ErrorContains(t, err, "is hidden from the agent", step)
		require.ErrorContains(t, err, "ProtectProc=default", step)
		require.Equal(t, failure.Configuration, failure.KindOf(err))
		require.NoError(t, os.MkdirAll(filepath.Join(proc, fmt.Sprint(d.pid)), 0o755))
	}
	d.end()
	err = p.look(proc)
	require.ErrorContains(t, err, "has just ended")
	require.Equal(t, failure.NotFound, failure.KindOf(err))
}

// TestSignalUnitOfAnotherUser signals another user's process without the right
// to: that's said, and /proc isn't needed for it. It runs this test again as
// somebody who isn't root.
func TestSignalUnitOfAnotherUser(t *testing.T) {
	if pid := os.Getenv("ROLLCALL_TEST_VICTIM"); pid != "" {
		number, err := strconv.Atoi(pid)
		require.NoError(t, err)
		err = signalUnit(t.Context(), &stubPIDs{pids: []int{number}}, "x.service", unix.SIGHUP)
		require.ErrorContains(t, err, "isn't the agent's own, and may not be signalled")
		require.ErrorContains(t, err, "CAP_KILL")
		require.NotContains(t, err.Error(), "ProtectProc")
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("only root may become somebody else")
	}
	d := startDaemon(t)
	again := exec.Command("/proc/self/exe", "-test.run=^TestSignalUnitOfAnotherUser$", "-test.v")
	again.Env = []string{fmt.Sprint("ROLLCALL_TEST_VICTIM=", d.pid), "PATH=" + defaultPath}
	again.Dir = "/"
	again.SysProcAttr = &unix.SysProcAttr{Credential: &syscall.Credential{Uid: 12345, Gid: 12345}}
	out, err := again.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "--- PASS: TestSignalUnitOfAnotherUser")
	require.Equal(t, "ready\n", content(d.notes))
}

// stubPIDs stands for systemd: it names main processes in turn, the last one
// for good.
type stubPIDs struct {
	pids []int
	err  error
}

func (s *stubPIDs) mainPID(context.Context, string) (int, error) {
	pid := s.pids[0]
	if len(s.pids) > 1 {
		s.pids = s.pids[1:]
	}
	return pid, s.err
}

func TestSignalUnit(t *testing.T) {
	d := startDaemon(t)
	gone := startDaemon(t)
	gone.end()
	for name, test := range map[string]struct {
		stub     stubPIDs
		want     string
		signaled bool
	}{
		"runs":                {stub: stubPIDs{pids: []int{d.pid}}, signaled: true},
		"doesn't run":         {stub: stubPIDs{pids: []int{0}}},
		"restarted meanwhile": {stub: stubPIDs{pids: []int{gone.pid, d.pid}}, signaled: true},
		"replaced meanwhile":  {stub: stubPIDs{pids: []int{d.pid, gone.pid}}, want: "restarts all the time"},
		"stops meanwhile":     {stub: stubPIDs{pids: []int{d.pid, 0}}},
		"rollcall":            {stub: stubPIDs{pids: []int{os.Getpid()}}, want: "is rollcall itself"},
		"no systemd":          {stub: stubPIDs{pids: []int{0}, err: failure.New(failure.Unreachable, "no bus")}, want: "no bus"},
	} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, os.WriteFile(d.notes, nil, 0o644))
			err := signalUnit(t.Context(), &test.stub, "x.service", unix.SIGHUP)
			if test.want != "" {
				require.ErrorContains(t, err, test.want)
			} else {
				require.NoError(t, err)
			}
			if test.signaled {
				await(t, "the signal", func() bool { return content(d.notes) == "hup\n" })
			} else {
				require.Empty(t, content(d.notes))
			}
		})
	}
}

func TestJobResult(t *testing.T) {
	require.NoError(t, jobResult("done", reload, "x.service"))
	for _, result := range []string{"failed", "timeout", "canceled", "dependency", "skipped", ""} {
		require.ErrorContains(t, jobResult(result, reload, "x.service"), "couldn't reload x.service")
	}
}

func TestExplainBus(t *testing.T) {
	denied := dbus.Error{Name: "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired", Body: []any{"Interactive authentication required."}}
	err := explainBus(denied, reload, "nginx.service")
	require.ErrorContains(t, err, "`rollcall install systemd --allow-reload nginx.service --write`")
	require.Equal(t, failure.Configuration, failure.KindOf(err))
	err = explainBus(dbus.Error{Name: "org.freedesktop.systemd1.Busy", Body: []any{"Job is busy."}}, restart, "nginx.service")
	require.EqualError(t, err, "systemd won't restart nginx.service: Job is busy")
}

// TestNoSystemd is what a host without D-Bus shows.
func TestNoSystemd(t *testing.T) {
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent/bus")
	require.ErrorContains(t, manager{}.job(t.Context(), reload, "x.service"), "systemd can't be reached over D-Bus")
	_, err := manager{}.mainPID(t.Context(), "x.service")
	require.ErrorContains(t, err, "systemd can't be reached over D-Bus")
}
