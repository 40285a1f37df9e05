// Command measure runs one command and writes what it used as JSON to the file
// descriptor 3. It's small on purpose: Linux counts the memory of the program
// that starts a child as the child's peak, so a test binary of 60 MB could
// never see that an agent needs 20.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"time"
)

// usage is what the command used. The harness reads the same fields.
type usage struct {
	Wall   time.Duration `json:"wall"`
	User   time.Duration `json:"user"`
	System time.Duration `json:"system"`
	// MaxRSS is the peak resident memory in bytes.
	MaxRSS int64 `json:"max_rss"`
}

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: measure COMMAND [ARGUMENT…] 3>RESULT")
		os.Exit(2)
	}
	os.Exit(run(os.Args[1], os.Args[2:]))
}

// run returns the command's exit code, or 128 plus the signal that ended it.
func run(name string, args []string) int {
	cmd := exec.Command(name, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	runtime.LockOSThread() // the signal comes when this thread ends
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGUSR1)
	begun := time.Now()
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, "measure:", err)
		return 127
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case s := <-signals:
			_ = cmd.Process.Signal(s)
		case err := <-ended:
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				fmt.Fprintln(os.Stderr, "measure:", err)
			}
			return report(cmd.ProcessState, time.Since(begun))
		}
	}
}

func report(state *os.ProcessState, wall time.Duration) int {
	u := usage{Wall: wall, User: state.UserTime(), System: state.SystemTime()}
	if r, ok := state.SysUsage().(*syscall.Rusage); ok {
		u.MaxRSS = r.Maxrss * 1024
	}
	if err := json.NewEncoder(os.NewFile(3, "result")).Encode(u); err != nil {
		fmt.Fprintln(os.Stderr, "measure:", err)
	}
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return state.ExitCode()
}
