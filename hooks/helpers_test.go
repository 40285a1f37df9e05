package hooks

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// patience is for what takes some milliseconds on a quiet machine.
const patience = 20 * time.Second

func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	require.Eventually(t, done, patience, 5*time.Millisecond, what)
}

// journal collects a log; it's safe for concurrent use.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(data []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(data)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// said is what a runner reported last.
type said struct {
	mu     sync.Mutex
	times  int
	err    error
	detail string
}

func (s *said) Hook(err error, detail string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.times++
	s.err, s.detail = err, detail
}

func (s *said) last() (int, error, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.times, s.err, s.detail
}

// stubJobs stands for systemd: it notes the jobs, and answers what it's told.
type stubJobs struct {
	mu     sync.Mutex
	done   []string
	answer func(n int, unit string) error
}

func (s *stubJobs) job(_ context.Context, v verb, unit string) error {
	s.mu.Lock()
	s.done = append(s.done, string(v)+" "+unit)
	n, answer := len(s.done), s.answer
	s.mu.Unlock()
	if answer == nil {
		return nil
	}
	return answer(n, unit)
}

func (s *stubJobs) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.done...)
}

// rig is a runner with everything around it.
type rig struct {
	*Runner
	log  *journal
	said *said
	jobs *stubJobs
}

func newRig(t *testing.T, options RunnerOptions) *rig {
	t.Helper()
	g := &rig{log: &journal{}, said: &said{}, jobs: &stubJobs{}}
	options.Output, options.Reporter = "grafana", g.said
	options.Log = slog.New(slog.NewTextHandler(g.log, nil))
	if options.Getenv == nil {
		options.Getenv = os.Getenv
	}
	runner, err := NewRunner(options)
	require.NoError(t, err)
	runner.jobs = g.jobs
	g.Runner = runner
	return g
}

// start runs the runner until the test ends.
func (g *rig) start(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
	})
}

// script writes a program and returns its path.
func script(t *testing.T, dir, name, body string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o755))
	require.NoError(t, os.Chmod(path, 0o755)) // whatever the umask
	return path
}

func content(path string) string {
	data, _ := os.ReadFile(path)
	return string(data)
}

func execute(argv ...string) Options { return Options{Exec: argv} }
