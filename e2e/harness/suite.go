// Package harness knows how to run a real Teleport cluster, the official tbot
// and the agent under test as processes on this machine, and how to do the
// administrator's work on the cluster. It links only Teleport's API client,
// never its server, so that test binaries link quickly; it knows nothing of
// the agent's insides.
//
// Everything that it starts ends with it: after a test, a failure, Ctrl-C
// (Suite.Close), and also when the test binary panics or is killed (children
// die with their parent, and a guardian removes the suite's directory: see
// guard).
package harness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// T is the part of testing.TB that the harness uses, so that programs without
// a test (the demo) can use it too: see Standalone.
type T interface {
	Helper()
	Name() string
	Context() context.Context
	Cleanup(func())
	Failed() bool
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	FailNow()
}

// Suite owns the binaries, the directory and the processes of one test binary.
// It's safe for concurrent use.
type Suite struct {
	// Bin are the paths of the built binaries.
	Bin Binaries
	// root holds every directory of the suite; it's gone after Close.
	root string
	// out is told what goes wrong at the end.
	out io.Writer
	// release lets the guardian of root go.
	release func()
	// kept counts the logs of failed tests.
	kept atomic.Int64

	// sharedMu protects shared, and is held while it starts.
	sharedMu sync.Mutex
	shared   *Cluster

	// mu protects the following.
	mu        sync.Mutex
	processes map[*Process]struct{}
	clusters  []*Cluster
	closed    bool
}

// Main is the body of a TestMain: it builds the binaries (those named, or
// all), hands the suite to use, runs the tests and cleans up, also after
// Ctrl-C.
//
//	var suite *harness.Suite
//
//	func TestMain(m *testing.M) {
//		os.Exit(harness.Main(m, func(s *harness.Suite) { suite = s }))
//	}
func Main(m interface{ Run() int }, use func(*Suite), only ...string) int {
	suite, err := Open(context.Background(), os.Stderr, only...)
	if err != nil {
		fmt.Fprintf(os.Stderr, "harness: %v\n", err)
		return 1
	}
	defer suite.Close()
	stop := suite.closeOnSignal()
	defer stop()
	use(suite)
	code := m.Run()
	if code != 0 {
		suite.keepLogs(os.Stderr)
	}
	return code
}

// Open builds the binaries (those named, or all; progress goes to out) and
// makes an empty suite. The caller closes it.
func Open(ctx context.Context, out io.Writer, only ...string) (*Suite, error) {
	bin, err := Build(ctx, out, only...)
	if err != nil {
		return nil, err
	}
	// A short path: unix sockets below it must stay under 108 characters.
	// An absolute one: the guardian's working directory is another, and the tests'
	// own may change.
	parent, err := filepath.Abs(os.TempDir())
	if err != nil {
		return nil, err
	}
	root, err := os.MkdirTemp(parent, "rollcall-e2e-")
	if err != nil {
		return nil, err
	}
	release, err := guard(root)
	if err != nil {
		_ = os.RemoveAll(root)
		return nil, err
	}
	// Others may pass through (readers in ACL tests), but not look around.
	if err := os.Chmod(root, 0o711); err != nil {
		_ = os.RemoveAll(root)
		release()
		return nil, err
	}
	return &Suite{Bin: bin, root: root, out: out, release: release, processes: map[*Process]struct{}{}}, nil
}

// Close ends every process of the suite and removes its directory. If that stays,
// it says so.
func (s *Suite) Close() {
	s.mu.Lock()
	s.closed = true
	processes := make([]*Process, 0, len(s.processes))
	for p := range s.processes {
		processes = append(processes, p)
	}
	clusters := s.clusters
	s.mu.Unlock()
	for _, c := range clusters {
		c.closeClient()
	}
	for _, p := range processes {
		p.kill()
	}
	for _, p := range processes {
		<-p.done
	}
	_ = os.RemoveAll(s.root) // or else the guardian does
	s.release()
	if _, err := os.Lstat(s.root); !errors.Is(err, fs.ErrNotExist) {
		fmt.Fprintf(s.out, "harness: the directory %s couldn't be removed\n", s.root)
	}
}

// closeOnSignal closes the suite on SIGINT, SIGTERM and SIGHUP and then dies
// of the same signal. The returned function stops the watch.
func (s *Suite) closeOnSignal() (stop func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	done := make(chan struct{})
	go func() {
		select {
		case got := <-signals:
			s.Close()
			signal.Reset()
			_ = syscall.Kill(os.Getpid(), got.(syscall.Signal))
		case <-done:
		}
	}()
	return func() {
		signal.Stop(signals)
		close(done)
	}
}

// keepLogs copies the clusters' logs beside the binaries and says so.
func (s *Suite) keepLogs(out io.Writer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, c := range s.clusters {
		path := filepath.Join(filepath.Dir(s.Bin.Cluster), fmt.Sprintf("cluster-%d.log", i))
		if os.WriteFile(path, []byte(c.Log()), 0o600) == nil {
			fmt.Fprintf(out, "harness: the cluster's log is in %s\n", path)
		}
	}
}

// Dir returns a fresh directory (mode 0700) that's removed after the test.
func (s *Suite) Dir(t T) string {
	t.Helper()
	dir, err := os.MkdirTemp(s.root, "t-")
	if err != nil {
		t.Fatalf("temporary directory: %v", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// WriteFile writes a file (mode 0600) into a fresh directory and returns its
// path. Leading tabs common to Go's indented raw strings are not touched: YAML
// goes in flush left.
func (s *Suite) WriteFile(t T, name, content string) string {
	t.Helper()
	path := filepath.Join(s.Dir(t), name)
	if err := os.WriteFile(path, []byte(strings.TrimLeft(content, "\n")), 0o600); err != nil {
		t.Fatalf("write %s: %v", name, err)
	}
	return path
}

// Eventually calls check every few milliseconds until it returns nil, and
// fails the test with its last error after timeout.
func Eventually(t T, timeout time.Duration, what string, check func() error) {
	t.Helper()
	if err := Poll(t.Context(), timeout, check); err != nil {
		t.Fatalf("%s: not within %v: %s", what, timeout, reason(err))
	}
}

// Poll calls check every few milliseconds until it returns nil, and returns its
// last error when timeout or ctx ends first.
func Poll(ctx context.Context, timeout time.Duration, check func() error) error {
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (%w)", err, ctx.Err())
		case <-deadline.C:
			return err
		case <-tick.C:
		}
	}
}
