package hooks

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"os/user"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"rollcall/failure"
)

// pipePatience is how long the output of a program that has ended is waited
// for. Only a process that has left its group can keep it open.
const pipePatience = time.Second

// endPatience is how long a killed program gets to be gone. One that hangs in
// the kernel, on a file system that doesn't answer, takes as long as that does.
const endPatience = 5 * time.Second

// program is one run of a program.
type program struct {
	argv []string
	// path is the real one, where that was looked at; empty: the first of argv.
	path string
	env  []string
	// as is the user to run as; nil: the agent's.
	as *syscall.Credential
	ending
}

// ending is how a program's group is ended.
type ending struct {
	kill     func(group int)
	patience time.Duration
}

// unended is the error of a program that was killed and is still there.
type unended struct {
	error
	// gone is closed once it has ended.
	gone <-chan struct{}
}

func (u *unended) Unwrap() error { return u.error }

// run runs the program in a process group of its own until it ends or ctx does,
// and then kills whatever is left of the group. It returns the output in either
// case, unless the program can't be ended: the error is an *unended then.
func (p program) run(ctx context.Context) ([]string, error) {
	var out captured
	cmd := &exec.Cmd{
		Path: cmp.Or(p.path, p.argv[0]), Args: p.argv, Env: p.env, Dir: "/",
		Stdout: &out, Stderr: &out, WaitDelay: pipePatience,
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true, Credential: p.as},
	}
	if err := startBare(cmd); err != nil {
		return nil, failure.Wrap(failure.Configuration, err, "%s can't be started: %s", p.argv[0], reason(err))
	}
	group := cmd.Process.Pid
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		awaitEnd(group)
	}()
	late := false
	select {
	case <-ended:
	case <-ctx.Done():
		late = true
		p.kill(group)
		if !within(p.patience, ended) {
			return nil, p.abandon(ctx, cmd, ended)
		}
	}
	// The leader isn't reaped yet, so its number is still the group's: all
	// killing is done before Wait, and by this goroutine.
	p.kill(group)
	err := cmd.Wait()
	if err == nil || errors.Is(err, exec.ErrWaitDelay) {
		return out.lines(), nil
	}
	if late {
		return out.lines(), timedOut(ctx, "it was killed, with all that it had started")
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return out.lines(), failure.Wrap(failure.Other, err, "%s ended with %s%s", p.argv[0], exit, lastWords(out.lines()))
	}
	return out.lines(), failure.Wrap(failure.Other, err, "%s: %s", p.argv[0], reason(err))
}

// abandon leaves a program that can't be ended to a goroutine that reaps it one
// day. Nobody waits for that but the hook's next run: the agent must be able to
// stop without it.
func (p program) abandon(ctx context.Context, cmd *exec.Cmd, ended <-chan struct{}) error {
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		<-ended
		p.kill(cmd.Process.Pid)
		_ = cmd.Wait()
	}()
	return &unended{gone: gone, error: failure.Wrap(failure.Transient, context.Cause(ctx),
		"%s can't be ended: it was killed, and process %d is still there after %s; it may wait for a disk or a network file system that doesn't answer", p.argv[0], cmd.Process.Pid, p.patience)}
}

// within says whether done is closed in that time.
func within(limit time.Duration, done <-chan struct{}) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}

// startBare starts a program without the agent's ambient capabilities. A unit's
// drop-in gives those to the agent alone; they'd go on to programs, and stay
// with them even as another user. They belong to a thread, so a thread is used
// up for it: it isn't unlocked, and ends with its goroutine.
func startBare(cmd *exec.Cmd) error {
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
		if err == nil {
			err = cmd.Start()
		}
		started <- err
	}()
	return <-started
}

// awaitEnd waits until a child has ended, and leaves it to be reaped.
func awaitEnd(pid int) {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// killGroup kills every process of a group; there may be none left.
func killGroup(group int) { _ = unix.Kill(-group, unix.SIGKILL) }

// lastWords is the last line of the output, which mostly says what went wrong.
func lastWords(lines []string) string {
	if len(lines) == 0 {
		return ""
	}
	return ": " + lines[len(lines)-1]
}

// reason is an error without the words that os puts before it.
func reason(err error) string {
	var number syscall.Errno
	if errors.As(err, &number) {
		return number.Error()
	}
	return err.Error()
}

// errTimeout is the cause of a hook's context that has come to its time.
var errTimeout = errors.New("the hook's time is up")

// timedOut says why ctx ended.
func timedOut(ctx context.Context, what string) error {
	if errors.Is(context.Cause(ctx), errTimeout) {
		return failure.Wrap(failure.Transient, errTimeout, "it took longer than its timeout; %s", what)
	}
	return failure.Wrap(failure.Transient, context.Cause(ctx), "the agent is stopping; %s", what)
}

// account is a user to run programs as.
type account struct {
	home       string
	credential *syscall.Credential
}

// lookUp finds a user by name or number. A number need not be in the user
// database; it has no group but its own number then.
func lookUp(name string) (account, error) {
	found, err := user.Lookup(name)
	if err != nil {
		found, err = user.LookupId(name)
	}
	if err != nil {
		id, parseErr := strconv.ParseUint(name, 10, 32)
		if parseErr != nil {
			return account{}, failure.Wrap(failure.Configuration, err, "there is no user %q on this host", name)
		}
		return account{home: "/", credential: &syscall.Credential{Uid: uint32(id), Gid: uint32(id)}}, nil
	}
	uid, uidErr := strconv.ParseUint(found.Uid, 10, 32)
	gid, gidErr := strconv.ParseUint(found.Gid, 10, 32)
	if err := errors.Join(uidErr, gidErr); err != nil {
		return account{}, fmt.Errorf("user %q: %w", name, err)
	}
	credential := &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	ids, err := found.GroupIds()
	if err != nil {
		return account{}, failure.Wrap(failure.Configuration, err, "the groups of user %q can't be read", name)
	}
	for _, text := range ids {
		if id, err := strconv.ParseUint(text, 10, 32); err == nil {
			credential.Groups = append(credential.Groups, uint32(id))
		}
	}
	return account{home: found.HomeDir, credential: credential}, nil
}
