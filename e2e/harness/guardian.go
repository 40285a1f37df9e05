package harness

import (
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
)

// guardian is the shell's program that removes $1 when its standard input has
// ended. Others that die with the test binary may write for a moment longer, so
// it tries again until the directory has stayed away for five seconds, and gives
// up after a minute. What ends everything at once, Ctrl-C or a service manager,
// is to leave it alone.
const guardian = `
trap '' HUP INT TERM
while read -r _; do :; done
test -e "$1" || exit 0
tries=0 away=0
while test "$away" -lt 5 && test "$tries" -lt 60; do
	if test -e "$1"; then rm -rf -- "$1"; away=0; else away=$((away + 1)); fi
	tries=$((tries + 1))
	sleep 1
done
`

// guard starts a process that removes dir, an absolute path, when this one has
// ended without doing so, however it ended: its standard input is a pipe whose only
// write end is here. Nothing that ends with this process could be trusted with
// that, and nothing that has more to do than to wait.
//
// The returned function lets the process go and waits for its end. That is at
// once if dir is gone. It may be called again, and from several goroutines.
func guard(dir string) (release func(), err error) {
	cmd := exec.Command("/bin/sh", "-c", guardian, "guardian", dir)
	// Nothing of the test's own: go test would wait for an output that is held
	// open, and a working directory couldn't be removed or unmounted.
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	cmd.Dir = "/"
	// An own session: neither a terminal's signals nor those to the test's group.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	leash, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("the process that removes %s: %w", dir, err)
	}
	return sync.OnceFunc(func() {
		_ = leash.Close()
		_ = cmd.Wait() // dir says how it went
	}), nil
}
