package hooks

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"strings"
	"time"

	"rollcall/failure"
)

// task is one thing to do after a change: an item of on_renewal, or a program
// of the hooks directory.
type task struct {
	label   string
	options Options
	// guarded programs are looked at before each run: nobody else may have
	// been able to change them.
	guarded bool
}

// key names a task so that it's known again at the next start. The arguments are
// part of it, in a form that shows none.
func (t task) key() string {
	if len(t.options.Exec) < 2 {
		return t.label
	}
	sum := fnv.New64a()
	for _, arg := range t.options.Exec {
		_, _ = sum.Write([]byte(arg + "\x00")) // it never fails
	}
	return fmt.Sprintf("%s #%x", t.label, sum.Sum64())
}

// Result is what one hook came to.
type Result struct {
	// Hook names the hook: "exec /usr/local/bin/notify".
	Hook string
	// Err is nil if it worked.
	Err error
	// Output is what a program printed, line by line, cut short.
	Output []string
	// Took is how long it took.
	Took time.Duration
}

// do runs one task within its timeout.
func (r *Runner) do(ctx context.Context, t task, change Change) Result {
	ctx, cancel := context.WithTimeoutCause(ctx, t.options.Timeout, errTimeout)
	defer cancel()
	began := time.Now()
	output, err := r.perform(ctx, t, change)
	return Result{Hook: t.label, Err: err, Output: output, Took: time.Since(began)}
}

func (r *Runner) perform(ctx context.Context, t task, change Change) ([]string, error) {
	o := t.options
	switch {
	case len(o.Exec) > 0:
		return r.start(ctx, t, change)
	case o.Signal != "" && o.PIDFile != "":
		return nil, signalByFile(o.PIDFile, o.number())
	case o.Signal != "":
		return nil, signalUnit(ctx, r.pids, o.Unit, o.number())
	case o.ReloadUnit != "":
		return nil, r.jobs.job(ctx, reload, o.ReloadUnit)
	case o.RestartUnit != "":
		return nil, r.jobs.job(ctx, restart, o.RestartUnit)
	default:
		return nil, failure.New(failure.Configuration, "the hook does nothing")
	}
}

// start runs a program, unless an earlier run of the same can't be ended.
func (r *Runner) start(ctx context.Context, t task, change Change) ([]string, error) {
	key := strings.Join(t.options.Exec, "\x00")
	if gone := r.unended[key]; gone != nil {
		select {
		case <-gone:
			delete(r.unended, key)
		default:
			return nil, failure.New(failure.Transient, "an earlier run of %s can't be ended; it isn't run again before that is gone", t.options.Exec[0])
		}
	}
	p, err := r.prepare(t, change)
	if err != nil {
		return nil, err
	}
	output, err := p.run(ctx)
	var left *unended
	if errors.As(err, &left) {
		r.unended[key] = left.gone
	}
	return output, err
}

func (r *Runner) prepare(t task, change Change) (program, error) {
	p := program{argv: t.options.Exec, ending: r.ending}
	switch {
	case t.guarded:
		path, err := trusted(p.argv[0])
		if err != nil {
			return p, err
		}
		p.argv = []string{path}
	default:
		path, err := checkPrivileged(t.options)
		if errors.Is(err, os.ErrNotExist) {
			return p, failure.Wrap(failure.Configuration, err, "%s can't be started: no such file or directory", p.argv[0])
		}
		if err != nil {
			return p, err
		}
		p.path = path
	}
	home := ""
	if t.options.User != "" {
		who, err := lookUp(t.options.User)
		if err != nil {
			return p, err
		}
		p.as, home = who.credential, who.home
	}
	p.env = environment(change, r.options.Getenv, home)
	return p, nil
}
