package hooks

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"rollcall/failure"
)

// process is a running process, held by a descriptor: its number can't come to
// mean another process as long as that's open.
type process struct {
	pid     int
	fd      int
	uid     uint32
	started time.Time
}

// clockTicks is the unit of times in /proc, a constant of the kernel's
// interface.
const clockTicks = 100

// holdProcess takes hold of a process, and knows nothing else of it.
func holdProcess(pid int) (*process, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	switch {
	case errors.Is(err, unix.ESRCH), errors.Is(err, unix.EINVAL):
		return nil, failure.Wrap(failure.NotFound, err, "there is no process %d", pid)
	case err != nil:
		return nil, failure.Wrap(failure.Other, err, "process %d can't be opened: %s", pid, reason(err))
	}
	return &process{pid: pid, fd: fd}, nil
}

// openProcess takes hold of a process and finds out whose it is and since when
// it runs.
func openProcess(pid int) (*process, error) {
	p, err := holdProcess(pid)
	if err != nil {
		return nil, err
	}
	if err := p.look("/proc"); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// look reads /proc, and then asks the descriptor whether it was about the same
// process.
func (p *process) look(proc string) error {
	dir := fmt.Sprintf("%s/%d", proc, p.pid)
	var owner unix.Stat_t
	statErr := unix.Stat(dir, &owner)
	text, readErr := os.ReadFile(dir + "/stat")
	if err := p.send(0); errors.Is(err, unix.ESRCH) {
		return failure.Wrap(failure.NotFound, err, "process %d has just ended", p.pid)
	}
	// It's there, so what hides it is the way /proc is mounted.
	err := errors.Join(statErr, readErr)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return failure.Wrap(failure.Configuration, err, "process %d belongs to somebody else and is hidden from the agent, so it can't be told from another one; a signal by pid_file %s", p.pid, signalNeeds(true))
	}
	if err != nil {
		return failure.Wrap(failure.Other, err, "process %d can't be looked at: %s", p.pid, reason(err))
	}
	ticks, err := startTicks(text)
	if err != nil {
		return err
	}
	now, sinceBoot := time.Now(), unix.Timespec{}
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &sinceBoot); err != nil {
		return failure.Wrap(failure.Other, err, "the time since the boot can't be read: %s", reason(err))
	}
	age := time.Duration(sinceBoot.Nano()) - time.Duration(ticks)*(time.Second/clockTicks)
	p.uid, p.started = owner.Uid, now.Add(-age)
	return nil
}

// startTicks reads the 22nd field of /proc/PID/stat. The second one, the name,
// may hold blanks and brackets.
func startTicks(stat []byte) (uint64, error) {
	const startTime = 22 - 3 // counted from the third field
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) <= startTime {
		return 0, failure.New(failure.Other, "the kernel's description of the process can't be read")
	}
	ticks, err := strconv.ParseUint(fields[startTime], 10, 64)
	return ticks, failure.Wrap(failure.Other, err, "the kernel's description of the process can't be read")
}

// send sends a signal to this very process.
func (p *process) send(signal unix.Signal) error {
	return unix.PidfdSendSignal(p.fd, signal, nil, 0)
}

func (p *process) close() { _ = unix.Close(p.fd) }

// startSlack covers the grain of the clocks that are compared.
const startSlack = 2 * time.Second

// pidFile is what a program wrote of its own number.
type pidFile struct {
	path    string
	pid     int
	uid     uint32
	written time.Time
}

// readPIDFile reads the file, through no link at its own name.
func readPIDFile(path string) (pidFile, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return pidFile{}, failure.Wrap(failure.NotFound, err, "%s can't be read: %s", path, reason(err))
	}
	defer func() { _ = file.Close() }()
	var stat unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &stat); err != nil {
		return pidFile{}, failure.Wrap(failure.Other, err, "%s can't be read: %s", path, reason(err))
	}
	switch {
	case stat.Mode&unix.S_IFMT != unix.S_IFREG:
		return pidFile{}, failure.New(failure.Configuration, "%s isn't a file", path)
	case stat.Mode&0o022 != 0:
		return pidFile{}, failure.New(failure.Configuration, "%s can be written by others than its owner, who could name any process; have the program write it with mode 0644", path)
	}
	text, err := io.ReadAll(io.LimitReader(file, 64))
	if err != nil {
		return pidFile{}, failure.Wrap(failure.Other, err, "%s can't be read: %s", path, reason(err))
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || pid <= 1 {
		return pidFile{}, failure.New(failure.Configuration, "%s doesn't hold the number of a process", path)
	}
	return pidFile{path: path, pid: pid, uid: stat.Uid, written: time.Unix(stat.Mtim.Unix())}, nil
}

// check refuses a process that can't be the one that the file was written for:
// one that began after it, whose number is a used one, or another user's.
func (f pidFile) check(p *process) error {
	switch {
	case p.started.After(f.written.Add(startSlack)):
		return failure.New(failure.NotFound, "%s is stale: process %d began after it was written, and is another one", f.path, f.pid)
	case f.uid != 0 && f.uid != p.uid:
		return failure.New(failure.Configuration, "%s belongs to user %d, and process %d to user %d; only root may name another user's process", f.path, f.uid, f.pid, p.uid)
	}
	return nil
}

// signalByFile sends a signal to the process that a file names.
func signalByFile(path string, signal unix.Signal) error {
	file, err := readPIDFile(path)
	if err != nil {
		return err
	}
	if file.pid == os.Getpid() {
		return failure.New(failure.Configuration, "%s names rollcall itself", path)
	}
	p, err := openProcess(file.pid)
	if err != nil {
		if failure.KindOf(err) == failure.NotFound {
			return failure.Wrap(failure.NotFound, err, "%s is stale: %s", path, err.Error())
		}
		return err
	}
	defer p.close()
	if err := file.check(p); err != nil {
		return err
	}
	return p.signal(signal)
}

// looked says whether /proc was read about it.
func (p *process) looked() bool { return !p.started.IsZero() }

// signal sends, and explains a refusal.
func (p *process) signal(signal unix.Signal) error {
	err := p.send(signal)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EPERM):
		return failure.Wrap(failure.Configuration, err, "process %d isn't the agent's own, and may not be signalled: a signal %s", p.pid, signalNeeds(p.looked()))
	default:
		return failure.Wrap(failure.NotFound, err, "process %d has just ended", p.pid)
	}
}
