package build

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// quiet is how long a build may take without a word.
	quiet = 3 * time.Second
	// between is the time between two words about one build.
	between = 10 * time.Second
)

// target is one thing to build.
type target struct {
	// name is what callers call it; what is for people.
	name, what string
	// dir is where command runs.
	dir     string
	command []string
	// tests says that the tests need it.
	tests bool
}

// build runs the command, and tells every few seconds that it still does.
func (b target) build(ctx context.Context, out io.Writer) error {
	cmd := exec.CommandContext(ctx, b.command[0], b.command[1:]...)
	cmd.Dir = b.dir
	// The signal comes when this thread ends, so that nobody else may have it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	// An interrupted go build ends its compilers; a killed one leaves them.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	said := &progress{}
	cmd.Stdout, cmd.Stderr = said, said
	begun := time.Now()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("build %s: %w", b.name, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	timer := time.NewTimer(quiet)
	defer timer.Stop()
	told := false
	for {
		select {
		case <-timer.C:
			if !told {
				fmt.Fprintf(out, "building %s\n", b.what)
			}
			told = true
			fmt.Fprintf(out, "  %4.0f s%s\n", time.Since(begun).Seconds(), said.now())
			timer.Reset(between)
		case err := <-ended:
			switch {
			case ctx.Err() != nil:
				return fmt.Errorf("build %s: %w", b.name, context.Cause(ctx))
			case err != nil:
				return fmt.Errorf("build %s: %w\n%s", b.name, err, said.all())
			case told:
				fmt.Fprintf(out, "  %4.0f s, done\n", time.Since(begun).Seconds())
			}
			return nil
		}
	}
}

// progress keeps what a build writes: with -v, a line for each package.
type progress struct {
	// mu protects the following.
	mu   sync.Mutex
	text strings.Builder
}

// Write adds to what was said.
func (p *progress) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.Write(b)
}

// now says how far the build is, or nothing if that isn't known.
func (p *progress) now() string {
	lines := strings.Split(strings.TrimSpace(p.all()), "\n")
	last := lines[len(lines)-1]
	if last == "" {
		return ""
	}
	return fmt.Sprintf(", %d packages, now %.70s", len(lines), last)
}

func (p *progress) all() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}
