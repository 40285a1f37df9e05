package harness

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// waitTimeout is how long Wait waits if it isn't told.
const waitTimeout = 2 * time.Minute

// Command says what to run.
type Command struct {
	// Path and Args are the program and its arguments.
	Path string
	Args []string
	// Env is added to PATH and HOME (a fresh directory); nothing else of the
	// test's own environment is passed on.
	Env []string
	// Dir is the working directory; empty: the HOME directory.
	Dir string
	// Stdin is the standard input; nil: empty.
	Stdin io.Reader
	// Files are further open files, as descriptors from 3 on. Not with Measured.
	Files []*os.File
	// Measured runs the program below cmd/measure, for a true MaxRSS. Signals
	// INT, TERM, HUP and USR1 are passed on; PID isn't the program's.
	Measured bool
	// As is who runs the program, which needs root; nil: who runs the test. Dir
	// must be given, and be within their reach.
	As *syscall.Credential

	// name is what messages call it; empty: the program's.
	name string
	// onOrphaned is the signal that the program gets when this process dies;
	// 0: SIGKILL.
	onOrphaned syscall.Signal
	// beforeKill ends what would outlive the program; nil: nothing does.
	beforeKill func(pid int)
}

// Result is how a process ended and what it used.
type Result struct {
	// ExitCode is -1 if a signal ended the process.
	ExitCode int
	// Signal is what ended it, or 0.
	Signal syscall.Signal
	// Wall, User and System are times.
	Wall, User, System time.Duration
	// MaxRSS is the peak resident memory in bytes; 0 unless Measured.
	MaxRSS int64
}

// CPU is user and system time together.
func (r Result) CPU() time.Duration { return r.User + r.System }

// Process is a started command. It's safe for concurrent use.
type Process struct {
	// PID is the process id, and that of its process group.
	PID int
	// Stdout and Stderr are what it has written so far.
	Stdout, Stderr *Output

	name   string
	before func(pid int)
	cmd    *exec.Cmd
	done   chan struct{}
	result Result
	usage  *os.File
}

// Start starts a command for one test: it's killed when the test ends, and
// its output shown if the test failed.
func (s *Suite) Start(t T, c Command) *Process {
	t.Helper()
	p, err := s.start(c, s.Dir(t))
	if err != nil {
		t.Fatalf("start %s: %v", filepath.Base(c.Path), err)
	}
	t.Cleanup(func() {
		p.kill()
		<-p.done
		if t.Failed() {
			t.Logf("%s was process %d and ended with exit code %d", p.name, p.PID, p.result.ExitCode)
			s.showLog(t, p.name+"'s standard output", p.Stdout.String())
			s.showLog(t, p.name+"'s log", p.Stderr.String())
		}
	})
	return p
}

// start starts a command that lives until it ends, is killed, or the suite is
// closed.
func (s *Suite) start(c Command, home string) (*Process, error) {
	p := &Process{
		name:   cmp.Or(c.name, filepath.Base(c.Path)),
		before: c.beforeKill,
		Stdout: newOutput(), Stderr: newOutput(),
		done: make(chan struct{}),
	}
	path, args := c.Path, c.Args
	if c.Measured {
		path, args = s.Bin.Measure, append([]string{c.Path}, c.Args...)
	}
	p.cmd = exec.Command(path, args...)
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + home}, c.Env...)
	p.cmd.Dir = c.Dir
	if c.Dir == "" {
		p.cmd.Dir = home
	}
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = c.Stdin, p.Stdout, p.Stderr
	p.cmd.ExtraFiles = c.Files
	// An own group, so that what the program starts ends with it.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Credential: c.As}
	if c.onOrphaned != 0 {
		p.cmd.SysProcAttr.Pdeathsig = c.onOrphaned
	}
	// Output pipes that a daemon of its own holds open don't hold up Wait.
	p.cmd.WaitDelay = 2 * time.Second
	if c.Measured {
		usage, err := os.CreateTemp(home, ".usage-")
		if err != nil {
			return nil, err
		}
		p.usage = usage
		p.cmd.ExtraFiles = []*os.File{usage}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errors.New("the suite is closed")
	}
	started := make(chan error, 1)
	go p.live(s, started)
	if err := <-started; err != nil {
		return nil, err
	}
	s.processes[p] = struct{}{}
	return p, nil
}

// live starts the process and waits for its end, on one thread that it keeps for
// itself: Linux signals the death of a parent when the thread is gone that made
// the child, and threads go, whenever a goroutine that has locked its own ends.
func (p *Process) live(s *Suite, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	begun := time.Now()
	err := p.cmd.Start()
	if err == nil {
		p.PID = p.cmd.Process.Pid
	}
	started <- err
	if err != nil {
		return
	}
	p.endGroup()
	_ = p.cmd.Wait() // the state says it all
	p.result = p.finish(time.Since(begun))
	s.mu.Lock()
	delete(s.processes, p)
	s.mu.Unlock()
	close(p.done)
}

// endGroup waits until the process is dead, and kills what it had started
// before its id is given back: afterwards the group could be another's.
func (p *Process) endGroup() {
	for {
		err := unix.Waitid(unix.P_PID, p.PID, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	_ = syscall.Kill(-p.PID, syscall.SIGKILL)
}

// finish collects the result of an ended process.
func (p *Process) finish(wall time.Duration) Result {
	state := p.cmd.ProcessState
	r := Result{ExitCode: state.ExitCode(), Wall: wall, User: state.UserTime(), System: state.SystemTime()}
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		r.Signal = status.Signal()
	}
	if p.usage == nil {
		return r
	}
	defer p.usage.Close()
	var u struct {
		Wall, User, System time.Duration
		MaxRSS             int64 `json:"max_rss"`
	}
	if content, err := os.ReadFile(p.usage.Name()); err == nil && json.Unmarshal(content, &u) == nil {
		r.Wall, r.User, r.System, r.MaxRSS = u.Wall, u.User, u.System, u.MaxRSS
	}
	return r
}

// Wait waits until the process has ended, a minute at most.
func (p *Process) Wait(t T) Result {
	t.Helper()
	return p.WaitAtMost(t, waitTimeout)
}

// WaitAtMost waits until the process has ended, and fails the test if that
// takes longer than timeout.
func (p *Process) WaitAtMost(t T, timeout time.Duration) Result {
	t.Helper()
	select {
	case <-p.done:
		return p.result
	case <-time.After(timeout):
		t.Fatalf("%s (pid %d) still runs after %v", p.name, p.PID, timeout)
	case <-t.Context().Done():
		t.Fatalf("%s (pid %d): %v", p.name, p.PID, t.Context().Err())
	}
	return Result{}
}

// Succeed waits for the end and fails the test unless the exit code is 0.
func (p *Process) Succeed(t T) Result {
	t.Helper()
	r := p.Wait(t)
	if r.ExitCode != 0 {
		t.Fatalf("%s ended with exit code %d (signal %v), want 0", p.name, r.ExitCode, r.Signal)
	}
	return r
}

// Running says whether the process hasn't ended yet.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Signal sends a signal to the process (not to its group).
func (p *Process) Signal(t T, sig syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		t.Fatalf("signal %v to %s: %v", sig, p.name, err)
	}
}

// Terminate sends SIGTERM and waits for the end.
func (p *Process) Terminate(t T) Result {
	t.Helper()
	p.Signal(t, syscall.SIGTERM)
	return p.Wait(t)
}

// Kill ends the process and its group with SIGKILL and waits for the end.
func (p *Process) Kill() Result {
	p.kill()
	<-p.done
	return p.result
}

func (p *Process) kill() {
	if p.Running() {
		if p.before != nil {
			p.before(p.PID)
		}
		_ = syscall.Kill(-p.PID, syscall.SIGKILL)
	}
}

// WaitForLog waits until the output (either of the two) contains text.
func (p *Process) WaitForLog(t T, timeout time.Duration, text string) {
	t.Helper()
	p.WaitFor(t, timeout, fmt.Sprintf("%q in the output of %s", text, p.name), func() error {
		if strings.Contains(p.Stdout.String(), text) || strings.Contains(p.Stderr.String(), text) {
			return nil
		}
		return errors.New("not there")
	})
}

// WaitFor is Eventually that fails at once when the process ends.
func (p *Process) WaitFor(t T, timeout time.Duration, what string, check func() error) {
	t.Helper()
	ended := false
	err := Poll(t.Context(), timeout, func() error {
		running := p.Running()
		err := check()
		if err != nil && !running {
			ended = true
			return nil
		}
		return err
	})
	if ended {
		t.Fatalf("%s: %s has ended (exit code %d) before", what, p.name, p.result.ExitCode)
	}
	if err != nil {
		t.Fatalf("%s: not within %v: %s", what, timeout, reason(err))
	}
}

// Memory returns the resident memory now and its peak so far, in bytes (of a
// process that isn't Measured).
func (p *Process) Memory(t T) (now, peak int64) {
	t.Helper()
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID))
	if err != nil {
		t.Fatalf("memory of %s: %v", p.name, err)
	}
	for line := range strings.Lines(string(content)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		kib, _ := strconv.ParseInt(fields[1], 10, 64)
		switch fields[0] {
		case "VmRSS:":
			now = kib * 1024
		case "VmHWM:":
			peak = kib * 1024
		}
	}
	return now, peak
}

// Output collects what a process writes. It's safe for concurrent use.
type Output struct {
	// mu protects the following.
	mu  sync.Mutex
	buf bytes.Buffer
}

func newOutput() *Output { return &Output{} }

// Write adds to the output.
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

// String returns everything written so far.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}
