package hooks

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func sampleChange() Change {
	return Change{
		Output: "grafana", Directory: "/opt/grafana", Serial: "0A1B", Reason: "due",
		NotAfter: time.Date(2026, 11, 21, 12, 0, 0, 0, time.FixedZone("", 3600)),
		Files:    []string{"key", "tlscert"},
	}
}

// TestEnvironment has a real program print all of its environment: what isn't
// in the list isn't passed on, a token above all.
func TestEnvironment(t *testing.T) {
	secrets := map[string]string{
		"TELEPORT_BOT_TOKEN": "very-secret", "NOTIFY_SOCKET": "/run/notify", "CREDENTIALS_DIRECTORY": "/run/credentials",
		"PATH": "/usr/bin:/bin", "HOME": "/var/lib/rollcall", "LANG": "C.UTF-8",
	}
	for name, value := range secrets {
		t.Setenv(name, value)
	}
	g := newRig(t, RunnerOptions{Hooks: []Options{execute("/usr/bin/env")}})
	results, err := g.Test(t.Context(), sampleChange())
	require.NoError(t, err)
	require.NoError(t, results[0].Err)
	require.ElementsMatch(t, []string{
		"PATH=/usr/bin:/bin", "HOME=/var/lib/rollcall", "LANG=C.UTF-8",
		"ROLLCALL_OUTPUT=grafana", "ROLLCALL_DIRECTORY=/opt/grafana", "ROLLCALL_NOT_AFTER=2026-11-21T11:00:00Z",
		"ROLLCALL_SERIAL=0A1B", "ROLLCALL_REASON=due", "ROLLCALL_CHANGED_FILES=key tlscert",
	}, results[0].Output)
}

func TestEnvironmentOfABareAgent(t *testing.T) {
	env := environment(Change{Output: "x"}, func(string) string { return "" }, "")
	require.Equal(t, []string{
		"PATH=" + defaultPath, "ROLLCALL_OUTPUT=x", "ROLLCALL_DIRECTORY=", "ROLLCALL_NOT_AFTER=",
		"ROLLCALL_SERIAL=", "ROLLCALL_REASON=", "ROLLCALL_CHANGED_FILES=",
	}, env)
}

// TestNoShell passes what a shell would act on.
func TestNoShell(t *testing.T) {
	g := newRig(t, RunnerOptions{Hooks: []Options{execute("/bin/echo", "$HOME; `id` *", "two  words")}})
	results, err := g.Test(t.Context(), sampleChange())
	require.NoError(t, err)
	require.Equal(t, []string{"$HOME; `id` * two  words"}, results[0].Output)
}

func TestProgramFails(t *testing.T) {
	dir := t.TempDir()
	for name, test := range map[string]struct{ body, want string }{
		"exit code": {"echo first; echo no such host >&2; exit 3", "ended with exit status 3: no such host"},
		"signal":    {"kill -SEGV $$", "ended with signal: segmentation fault"},
	} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t, RunnerOptions{Hooks: []Options{execute(script(t, dir, "hook", test.body))}})
			results, err := g.Test(t.Context(), sampleChange())
			require.NoError(t, err)
			require.ErrorContains(t, results[0].Err, test.want)
			require.Equal(t, resultFailure, results[0].word())
		})
	}
	g := newRig(t, RunnerOptions{Hooks: []Options{execute(filepath.Join(dir, "none"))}})
	results, err := g.Test(t.Context(), sampleChange())
	require.NoError(t, err)
	require.ErrorContains(t, results[0].Err, "can't be started: no such file or directory")
}

// TestTimeoutKillsTheGroup has a program that starts another one, and waits for
// it: both must be gone, and at once.
func TestTimeoutKillsTheGroup(t *testing.T) {
	dir := t.TempDir()
	numbers := filepath.Join(dir, "pids")
	hook := execute(script(t, dir, "hook", fmt.Sprintf("sleep 600 & echo $! $$ > %s; echo working; wait", numbers)))
	hook.Timeout = 500 * time.Millisecond
	g := newRig(t, RunnerOptions{Hooks: []Options{hook}})
	began := time.Now()

	results, err := g.Test(t.Context(), sampleChange())

	require.NoError(t, err)
	require.ErrorContains(t, results[0].Err, "took longer than its timeout")
	require.Equal(t, resultTimeout, results[0].word())
	require.Equal(t, []string{"working"}, results[0].Output)
	require.Less(t, time.Since(began), patience)
	allGone(t, numbers)
}

// TestProgramThatCannotBeEnded has a kill that does nothing, as it is for a
// process that hangs in the kernel: the hook's time is bounded all the same,
// and there's no second process.
func TestProgramThatCannotBeEnded(t *testing.T) {
	dir := t.TempDir()
	numbers, gate := filepath.Join(dir, "pids"), filepath.Join(dir, "gate")
	hook := execute(script(t, dir, "hook", fmt.Sprintf("echo $$ >> %s; until [ -e %s ]; do sleep 0.01; done", numbers, gate)))
	hook.Timeout = 300 * time.Millisecond
	g := newRig(t, RunnerOptions{Hooks: []Options{hook}})
	g.ending = ending{kill: func(int) {}, patience: 50 * time.Millisecond}
	run := func() error {
		results, err := g.Test(t.Context(), sampleChange())
		require.NoError(t, err)
		return results[0].Err
	}
	defer func() { require.NoError(t, os.WriteFile(gate, nil, 0o600)) }()

	err := run()
	require.ErrorContains(t, err, "can't be ended: it was killed, and process ")
	require.Equal(t, resultTimeout, Result{Err: err}.word())
	require.ErrorContains(t, run(), "an earlier run of "+hook.Exec[0]+" can't be ended")
	await(t, "the first run", func() bool { return content(numbers) != "" })
	require.Len(t, strings.Fields(content(numbers)), 1)

	require.NoError(t, os.WriteFile(gate, nil, 0o600))
	await(t, "a run that works", func() bool { return run() == nil })
	require.Empty(t, g.unended)
	allGone(t, numbers)
}

// TestNothingIsLeftBehind has a program that leaves another one running in its
// group, with its output open.
func TestNothingIsLeftBehind(t *testing.T) {
	dir := t.TempDir()
	numbers := filepath.Join(dir, "pids")
	g := newRig(t, RunnerOptions{Hooks: []Options{execute(script(t, dir, "hook", "sleep 600 & echo $! > "+numbers))}})
	results, err := g.Test(t.Context(), sampleChange())
	require.NoError(t, err)
	require.NoError(t, results[0].Err)
	allGone(t, numbers)
}

// allGone fails the test unless every process whose number is in the file has
// ended. One that was orphaned may be there until its new parent has reaped it.
func allGone(t *testing.T, file string) {
	t.Helper()
	fields := strings.Fields(content(file))
	require.NotEmpty(t, fields)
	for _, field := range fields {
		pid, err := strconv.Atoi(field)
		require.NoError(t, err)
		await(t, "the end of process "+field, func() bool {
			stat := content(fmt.Sprintf("/proc/%d/stat", pid))
			return unix.Kill(pid, 0) != nil || strings.Contains(stat, ") Z ")
		})
	}
}

func TestRunsAsAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root may become somebody else")
	}
	hook := execute("/usr/bin/id", "-u")
	hook.User = "12345"
	g := newRig(t, RunnerOptions{Hooks: []Options{hook}})
	results, err := g.Test(t.Context(), sampleChange())
	require.NoError(t, err)
	require.NoError(t, results[0].Err)
	require.Equal(t, []string{"12345"}, results[0].Output)

	hook.User = "nobody-of-that-name"
	g = newRig(t, RunnerOptions{Hooks: []Options{hook}})
	results, err = g.Test(t.Context(), sampleChange())
	require.NoError(t, err)
	require.ErrorContains(t, results[0].Err, `there is no user "nobody-of-that-name" on this host`)
}

// TestCapabilitiesStayWithTheAgent runs this test again as an agent that isn't
// root and has what the drop-in gives it.
func TestCapabilitiesStayWithTheAgent(t *testing.T) {
	if os.Getenv("ROLLCALL_TEST_CAPABLE") == "" {
		if os.Geteuid() != 0 {
			t.Skip("only root may give capabilities away")
		}
		again := exec.Command("/proc/self/exe", "-test.run=^TestCapabilitiesStayWithTheAgent$", "-test.v")
		again.Env = []string{"ROLLCALL_TEST_CAPABLE=yes", "PATH=" + defaultPath}
		again.Dir = "/"
		again.SysProcAttr = &unix.SysProcAttr{
			Credential:  &syscall.Credential{Uid: 12345, Gid: 12345},
			AmbientCaps: []uintptr{unix.CAP_SETUID, unix.CAP_SETGID, unix.CAP_KILL},
		}
		out, err := again.CombinedOutput()
		require.NoError(t, err, "%s", out)
		require.Contains(t, string(out), "--- PASS: TestCapabilitiesStayWithTheAgent")
		return
	}
	require.True(t, mayChangeUser())
	as, late := execute("/bin/grep", "-E", "^(Uid|CapAmb|CapPrm|CapEff)", "/proc/self/status"), execute("/bin/sleep", "600")
	own := as
	as.User, late.User, late.Timeout = "12346", "12346", 200*time.Millisecond
	g := newRig(t, RunnerOptions{Hooks: []Options{own, as, late}})
	results, err := g.Test(t.Context(), sampleChange())
	require.NoError(t, err)
	none := "0000000000000000"
	require.Equal(t, []string{"Uid: 12345 12345 12345 12345", "CapPrm: " + none, "CapEff: " + none, "CapAmb: " + none}, words(results[0].Output))
	require.Equal(t, []string{"Uid: 12346 12346 12346 12346", "CapPrm: " + none, "CapEff: " + none, "CapAmb: " + none}, words(results[1].Output))
	require.ErrorContains(t, results[2].Err, "took longer than its timeout")
}

// words are the lines with one blank between words.
func words(lines []string) []string {
	for i, line := range lines {
		lines[i] = strings.Join(strings.Fields(line), " ")
	}
	return lines
}

func TestCaptured(t *testing.T) {
	var out captured
	fmt.Fprintf(&out, "plain\n\x1b[31mred\x1b[0m\n-----BEGIN EC PRIVATE KEY-----\nc2VjcmV0\n-----END EC PRIVATE KEY-----\n\nlast\n")
	require.Equal(t, []string{"plain", "[31mred[0m", "(a private key, left out)", "last"}, out.lines())

	out = captured{}
	fmt.Fprintf(&out, "-----BEGIN PRIVATE KEY-----\nc2Vj")
	require.Equal(t, []string{"(a private key, left out)"}, out.lines(), "a key that was cut off")

	out = captured{}
	fmt.Fprintf(&out, "-----END CERTIFICATE----------BEGIN PRIVATE KEY-----\nc2Vj\n-----END PRIVATE KEY-----\nlast\n")
	require.NotContains(t, out.lines(), "c2Vj", "a key after a file without a newline at its end")
	require.Contains(t, out.lines(), "last")

	out = captured{}
	for range 3 * maxLines {
		fmt.Fprintln(&out, "a line")
	}
	require.Len(t, out.lines(), maxLines+1)
	require.Equal(t, "(more was printed)", out.lines()[maxLines])

	out = captured{}
	n, err := out.Write([]byte(strings.Repeat("x", 3*maxCaptured)))
	require.NoError(t, err)
	require.Equal(t, 3*maxCaptured, n, "a program must be able to print on")
	require.Equal(t, []string{strings.Repeat("x", maxLine) + "…", "(more was printed)"}, out.lines())
}
