package harness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Binaries are the paths of what Build builds.
type Binaries struct {
	// Cluster is the Teleport cluster (cmd/cluster).
	Cluster string
	// Tbot is the official agent at the cluster's version.
	Tbot string
	// Rollcall is the agent under test, built as a release is.
	Rollcall string
	// Measure runs a command and tells what it used (cmd/measure).
	Measure string
}

// target is one go build.
type target struct {
	name, dir, pkg string
	flags          []string
	hint           string
}

// Build builds the binaries with the names given (cluster, tbot, rollcall,
// measure; none: all) into e2e/bin; Go's own cache decides what has to be
// done. Only one process builds at a time. What takes long is told to out.
// With ROLLCALL_E2E_BIN set to a directory, the binaries there are taken as
// they are.
func Build(ctx context.Context, out io.Writer, only ...string) (Binaries, error) {
	if built := os.Getenv("ROLLCALL_E2E_BIN"); built != "" {
		return binariesIn(built), nil
	}
	e2e, err := moduleDir()
	if err != nil {
		return Binaries{}, err
	}
	bin := filepath.Join(e2e, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return Binaries{}, err
	}
	lock, err := lockFile(filepath.Join(bin, ".lock"))
	if err != nil {
		return Binaries{}, err
	}
	defer lock.Close()
	release := []string{"-trimpath", "-ldflags", "-s -w"}
	// Not -trimpath: it would compile Teleport a second time. purego: it
	// doesn't link otherwise.
	stripped := []string{"-ldflags", "-s -w", "-tags", "purego"}
	for _, t := range []target{
		{"rollcall", filepath.Dir(e2e), "./cmd/rollcall", release, "about a minute the first time"},
		{"measure", e2e, "./cmd/measure", stripped, "seconds"},
		// The official agent is measured too: stripped like ours.
		{"tbot", e2e, "github.com/gravitational/teleport/tool/tbot", stripped, "about 3 minutes the first time"},
		{"cluster", e2e, "./cmd/cluster", stripped, "about 7 minutes the first time"},
	} {
		if len(only) > 0 && !slices.Contains(only, t.name) {
			continue
		}
		if err := t.build(ctx, bin, out); err != nil {
			return Binaries{}, err
		}
	}
	return binariesIn(bin), nil
}

func binariesIn(dir string) Binaries {
	return Binaries{
		Cluster:  filepath.Join(dir, "cluster"),
		Tbot:     filepath.Join(dir, "tbot"),
		Rollcall: filepath.Join(dir, "rollcall"),
		Measure:  filepath.Join(dir, "measure"),
	}
}

// build runs one go build, and tells every half minute that it still does.
func (b target) build(ctx context.Context, bin string, out io.Writer) error {
	args := append([]string{"build", "-o", filepath.Join(bin, b.name)}, b.flags...)
	cmd := exec.CommandContext(ctx, "go", append(args, b.pkg)...)
	cmd.Dir = b.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var problems strings.Builder
	cmd.Stdout, cmd.Stderr = &problems, &problems
	begun := time.Now()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("build %s: %w", b.name, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	progress := time.NewTimer(3 * time.Second)
	defer progress.Stop()
	for told := false; ; {
		select {
		case <-progress.C:
			fmt.Fprintf(out, "harness: building %s (%s), %ds so far\n", b.name, b.hint, int(time.Since(begun).Seconds()))
			told = true
			progress.Reset(30 * time.Second)
		case err := <-ended:
			if err != nil {
				return fmt.Errorf("build %s: %w\n%s", b.name, err, problems.String())
			}
			if told {
				fmt.Fprintf(out, "harness: built %s in %ds\n", b.name, int(time.Since(begun).Seconds()))
			}
			return nil
		}
	}
}

// moduleDir finds the e2e module from the working directory upwards.
func moduleDir() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		for _, candidate := range []string{dir, filepath.Join(dir, "e2e")} {
			content, err := os.ReadFile(filepath.Join(candidate, "go.mod"))
			if err == nil && strings.HasPrefix(string(content), "module rollcall/e2e\n") {
				return candidate, nil
			}
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("the e2e module isn't above the working directory: run inside the repository")
		}
		dir = parent
	}
}

// lockFile takes an exclusive lock that ends when the file is closed.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
