package hooks

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"rollcall/failure"
)

// verb is what is done to a unit.
type verb string

const (
	reload  verb = "reload"
	restart verb = "restart"
)

// jobs has systemd do something to a unit, and waits for what comes of it. A
// unit that was stopped is left alone, and that's a success; one that has failed
// is restarted, but can't be reloaded.
type jobs interface {
	job(ctx context.Context, v verb, unit string) error
}

// mainPIDs knows the main process of a service; 0: it has none.
type mainPIDs interface {
	mainPID(ctx context.Context, unit string) (int, error)
}

// manager is the systemd of this host, reached over D-Bus, with a connection
// for each hook: they're rare.
type manager struct{}

// with calls work with a connection.
func (manager) with(ctx context.Context, work func(*systemd.Conn) error) error {
	conn, err := systemd.NewSystemConnectionContext(ctx)
	if err != nil {
		return failure.Wrap(failure.Unreachable, err, "systemd can't be reached over D-Bus: %s", err)
	}
	defer conn.Close()
	if err := work(conn); err != nil {
		if ctx.Err() != nil {
			return timedOut(ctx, "systemd wasn't done with it")
		}
		return err
	}
	return nil
}

// bus is what's asked of systemd; *systemd.Conn is one.
type bus interface {
	GetUnitPropertyContext(ctx context.Context, unit, property string) (*systemd.Property, error)
	GetServicePropertyContext(ctx context.Context, unit, property string) (*systemd.Property, error)
	ReloadUnitContext(ctx context.Context, unit, mode string, results chan<- string) (int, error)
	RestartUnitContext(ctx context.Context, unit, mode string, results chan<- string) (int, error)
	TryRestartUnitContext(ctx context.Context, unit, mode string, results chan<- string) (int, error)
}

func (m manager) job(ctx context.Context, v verb, unit string) error {
	return m.with(ctx, func(conn *systemd.Conn) error { return runJob(ctx, conn, v, unit) })
}

// runJob does one thing to a unit that is up or has failed.
func runJob(ctx context.Context, conn bus, v verb, unit string) error {
	is, err := stateOf(ctx, conn, unit)
	if err != nil || is == stopped {
		return err
	}
	if err := refuseOwn(ctx, conn, v, unit); err != nil {
		return err
	}
	results := make(chan string, 1)
	switch {
	case v == reload && is == broken:
		return isBroken(unit)
	case v == reload:
		_, err = conn.ReloadUnitContext(ctx, unit, "replace", results)
	case is == broken:
		// A try-restart leaves it alone, and would call that a success: also in
		// the attempt after the one in which the restart broke it.
		_, err = conn.RestartUnitContext(ctx, unit, "replace", results)
	default:
		_, err = conn.TryRestartUnitContext(ctx, unit, "replace", results)
	}
	if err != nil {
		return explainBus(err, v, unit)
	}
	select {
	case result := <-results:
		return jobResult(result, v, unit)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// refuseOwn refuses the agent's own unit, by whatever name: a restart would end
// the agent in the middle of its hooks, and bring it back to renew and restart
// again; a reload renews, and so would run the hooks for ever.
func refuseOwn(ctx context.Context, conn bus, v verb, unit string) error {
	if !strings.HasSuffix(unit, ".service") {
		return nil // it has no process
	}
	pid, err := mainPIDOf(ctx, conn, unit)
	if err == nil && pid == os.Getpid() {
		return failure.New(failure.Configuration, "%s is rollcall's own unit, and can't %s itself after a renewal; take it out of the hooks", unit, v)
	}
	return err
}

// jobResult turns systemd's word for the end of a job into an error.
func jobResult(result string, v verb, unit string) error {
	if result == "done" {
		return nil
	}
	return failure.New(failure.Other, "systemd couldn't %s %s: the job's result is %q; `journalctl -u %s` says more", v, unit, result, unit)
}

// state is what matters of a unit's state.
type state int

const (
	// stopped is a unit that nobody wants to run. It's left alone: a program
	// that starts later reads the new files by itself.
	stopped state = iota
	// up is a unit that runs, or is about to.
	up
	// broken is a unit that should run and doesn't.
	broken
)

// stateOf looks at a unit; one that can't be run at all is an error.
func stateOf(ctx context.Context, conn bus, unit string) (state, error) {
	loaded, err := property(ctx, conn, unit, "LoadState")
	if err != nil {
		return stopped, err
	}
	switch loaded {
	case "not-found":
		return stopped, failure.New(failure.NotFound, "there is no systemd unit %s on this host", unit)
	case "masked":
		return stopped, failure.New(failure.Configuration, "%s is masked; take it out of the hooks, or run `systemctl unmask %s`", unit, unit)
	case "bad-setting", "error":
		return stopped, failure.New(failure.Configuration, "systemd can't load %s; `systemctl status %s` says why", unit, unit)
	}
	active, err := property(ctx, conn, unit, "ActiveState")
	switch {
	case err != nil || active == "inactive":
		return stopped, err
	case active == "failed":
		return broken, nil
	default:
		return up, nil
	}
}

// property reads a property that is a word.
func property(ctx context.Context, conn bus, unit, name string) (string, error) {
	found, err := conn.GetUnitPropertyContext(ctx, unit, name)
	if err != nil {
		return "", explainBus(err, "look at", unit)
	}
	text, ok := found.Value.Value().(string)
	if !ok {
		return "", failure.New(failure.Other, "systemd gave no word as the %s of %s", name, unit)
	}
	return text, nil
}

func isBroken(unit string) error {
	return failure.New(failure.Other, "%s has failed and doesn't run; `systemctl status %s` says why", unit, unit)
}

func (m manager) mainPID(ctx context.Context, unit string) (int, error) {
	pid := 0
	err := m.with(ctx, func(conn *systemd.Conn) error {
		is, err := stateOf(ctx, conn, unit)
		if err != nil {
			return err
		}
		if is == broken {
			return isBroken(unit)
		}
		pid, err = mainPIDOf(ctx, conn, unit)
		return err
	})
	return pid, err
}

func mainPIDOf(ctx context.Context, conn bus, unit string) (int, error) {
	found, err := conn.GetServicePropertyContext(ctx, unit, "MainPID")
	if err != nil {
		return 0, explainBus(err, "look at", unit)
	}
	number, ok := found.Value.Value().(uint32)
	if !ok {
		return 0, failure.New(failure.Other, "systemd gave no number as the main process of %s", unit)
	}
	return int(number), nil
}

// explainBus says what a refusal over D-Bus means for the user.
func explainBus(err error, v verb, unit string) error {
	var refused dbus.Error
	if errors.As(err, &refused) {
		switch refused.Name {
		case "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired", "org.freedesktop.DBus.Error.AccessDenied":
			return failure.Wrap(failure.Configuration, err, "the agent may not %s %s: %s", v, unit, unitNeeds(string(v), unit))
		}
	}
	return failure.Wrap(failure.Other, err, "systemd won't %s %s: %s", v, unit, strings.TrimSuffix(fmt.Sprint(err), "."))
}

// signalUnit signals a service's main process. The number is asked for again
// once the process is held, so that it can't be a used one; /proc, which may
// hide it, isn't needed. A service that was stopped gets none, and that's a
// success.
func signalUnit(ctx context.Context, pids mainPIDs, unit string, signal unix.Signal) error {
	for range 3 {
		pid, err := pids.mainPID(ctx, unit)
		if err != nil || pid == 0 {
			return err
		}
		if pid == os.Getpid() {
			return failure.New(failure.Configuration, "%s is rollcall itself", unit)
		}
		p, err := holdProcess(pid)
		if failure.KindOf(err) == failure.NotFound {
			continue // it has just restarted
		}
		if err != nil {
			return err
		}
		again, err := pids.mainPID(ctx, unit)
		if err == nil && again == pid {
			err = p.signal(signal)
			p.close()
			return err
		}
		p.close()
		if err != nil {
			return err
		}
	}
	return failure.New(failure.Transient, "%s restarts all the time", unit)
}
