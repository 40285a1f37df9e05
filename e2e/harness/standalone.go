package harness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
)

// Standalone runs fn with a T that is no test, for programs such as the demo:
// Fatalf ends fn and becomes the returned error, Logf and Errorf go to out.
// Cleanups run before it returns, the last one first.
func Standalone(ctx context.Context, name string, out io.Writer, fn func(T)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &standalone{name: name, ctx: ctx, out: out}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer s.cleanup(cancel)
		defer s.recover()
		fn(s)
	}()
	<-ended
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

type standalone struct {
	name string
	ctx  context.Context
	out  io.Writer

	// mu protects the following.
	mu       sync.Mutex
	err      error
	cleanups []func()
}

func (s *standalone) Helper()                  {}
func (s *standalone) Name() string             { return s.name }
func (s *standalone) Context() context.Context { return s.ctx }

func (s *standalone) Cleanup(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cleanups = append(s.cleanups, f)
}

func (s *standalone) Failed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err != nil
}

func (s *standalone) Logf(format string, args ...any) {
	fmt.Fprintf(s.out, format+"\n", args...)
}

func (s *standalone) Errorf(format string, args ...any) {
	s.fail(fmt.Errorf(format, args...))
	s.Logf(format, args...)
}

func (s *standalone) Fatalf(format string, args ...any) {
	s.fail(fmt.Errorf(format, args...))
	runtime.Goexit()
}

func (s *standalone) FailNow() {
	s.fail(errors.New("failed"))
	runtime.Goexit()
}

// fail keeps the first error.
func (s *standalone) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
}

// recover turns a panic into an error, so that cleanups still run.
func (s *standalone) recover() {
	if r := recover(); r != nil {
		s.fail(fmt.Errorf("panic: %v", r))
	}
}

func (s *standalone) cleanup(cancel context.CancelFunc) {
	cancel()
	for {
		s.mu.Lock()
		n := len(s.cleanups)
		if n == 0 {
			s.mu.Unlock()
			return
		}
		last := s.cleanups[n-1]
		s.cleanups = s.cleanups[:n-1]
		s.mu.Unlock()
		last()
	}
}
