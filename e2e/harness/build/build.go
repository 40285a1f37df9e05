// Package build knows how every binary of the end-to-end tests is built: the
// real cluster, the official agent, the agent under test and the programs that
// use them. It's the only place that knows, so that the Makefile and the tests
// never build one thing in two ways, and nothing is linked twice (the cluster
// takes 13 s). It knows nothing of what the binaries do, and uses the standard
// library alone, so that it runs at once on a fresh machine.
package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// Binaries are the paths of what All builds for the tests.
type Binaries struct {
	// Cluster is the Teleport cluster (cmd/cluster).
	Cluster string
	// Tbot is the official agent at the cluster's version.
	Tbot string
	// Tsh is the official client, which Tbot's local proxy needs: on request
	// only.
	Tsh string
	// Rollcall is the agent under test: the release binary that `make build`
	// makes.
	Rollcall string
	// Stuck is the agent under test, but for a signal that makes it hang: on
	// request only.
	Stuck string
	// Measure runs a command and tells what it used (cmd/measure).
	Measure string
	// Web is a static web server for containers (cmd/web).
	Web string
	// Registry are the tests of the registries (discovery/registry), compiled:
	// they use the agent's own client, which can't be linked here.
	Registry string
}

// All builds the binaries with the names given (cluster, tbot, rollcall,
// All builds the binaries with the names given (cluster, tbot, rollcall,
// measure, web, registry, and on request rollcall-stuck, tsh, demo and bench;
// none: all that the tests need). Go's own cache decides what has to be done.
// Only one process builds at a time.
// What takes long is told to out. The working directory must be inside the
// repository.
//
// With ROLLCALL_E2E_BIN set to a directory, the binaries there are taken as
// they are.
func All(ctx context.Context, out io.Writer, only ...string) (Binaries, error) {
	if built := os.Getenv("ROLLCALL_E2E_BIN"); built != "" {
		return binariesIn(built, built), nil
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
	for _, t := range targets(e2e, bin) {
		if !slices.Contains(only, t.name) && (len(only) > 0 || !t.tests) {
			continue
		}
		if err := t.build(ctx, out); err != nil {
			return Binaries{}, err
		}
	}
	return binariesIn(bin, filepath.Join(filepath.Dir(e2e), "bin")), nil
}

func binariesIn(bin, release string) Binaries {
	return Binaries{
		Cluster:  filepath.Join(bin, "cluster"),
		Tbot:     filepath.Join(bin, "tbot"),
		Tsh:      filepath.Join(bin, "tsh"),
		Rollcall: filepath.Join(release, "rollcall"),
		Stuck:    filepath.Join(bin, "rollcall-stuck"),
		Measure:  filepath.Join(bin, "measure"),
		Web:      filepath.Join(bin, "web"),
		Registry: filepath.Join(bin, "registry.test"),
	}
}

// targets is the table of what can be built, quick things first.
func targets(e2e, bin string) []target {
	module := func(name, pkg, hint string) target {
		return target{
			name: name, what: hint, dir: e2e, tests: true,
			command: []string{
				"go", "build", "-v", "-o", filepath.Join(bin, name),
				// Not -trimpath: it would compile Teleport a second time. Without
				// the commit: it would be linked again after each.
				"-buildvcs=false",
				// Teleport at this version (its parquet-go) uses symbols of the
				// runtime that today's linker keeps to itself unless told
				// otherwise. The tag purego would help as well, but leaves out all
				// assembly: cryptography is fifty times slower then, and a
				// comparison with what is built so isn't fair. The official agent
				// is measured too: stripped like ours.
				"-ldflags", "-s -w -checklinkname=0", pkg,
			},
		}
	}
	program := func(name, pkg, hint string) target {
		t := module(name, pkg, hint)
		t.tests = false
		return t
	}
	return []target{
		module("measure", "./cmd/measure", "the measuring program"),
		{
			name: "web", what: "a web server for containers", dir: e2e, tests: true,
			command: []string{
				"env", "CGO_ENABLED=0", "go", "build", "-v", "-o", filepath.Join(bin, "web"),
				"-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "./cmd/web",
			},
		},
		{
			name: "registry", what: "the registries' tests (a minute the first time)", dir: filepath.Dir(e2e), tests: true,
			command: []string{
				"go", "test", "-c", "-v", "-o", filepath.Join(bin, "registry.test"),
				"-tags", "rollcall_e2e", "-vet=off", "./discovery/registry",
			},
		},
		program("demo", "./cmd/demo", "the demo (a minute the first time)"),
		program("bench", "./cmd/bench", "the benchmark (a minute the first time)"),
		{
			name: "rollcall", what: "rollcall (a minute or two the first time)", dir: filepath.Dir(e2e), tests: true,
			// As a release is built, by the one recipe for that.
			command: []string{"make", "-s", "build", "BUILD_ARGS=-v"},
		},
		{
			name: "rollcall-stuck", what: "rollcall with a loop that hangs", dir: filepath.Dir(e2e),
			command: []string{"make", "-s", "build", "BUILD_ARGS=-v", "TAGS=rollcall_stuck", "OUT=" + filepath.Join(bin, "rollcall-stuck")},
		},
		module("tbot", "github.com/gravitational/teleport/tool/tbot", "the official tbot (about 3 minutes the first time)"),
		program("tsh", "github.com/gravitational/teleport/tool/tsh", "the official tsh (about 3 minutes the first time)"),
		module("cluster", "./cmd/cluster", "the Teleport cluster (about 7 minutes the first time)"),
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
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}
