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
// unit that isn't running is left alone, and that's a success.
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

func (m manager) job(ctx context.Context, v verb, unit string) error {
	return m.with(ctx, func(conn *systemd.Conn) error {
		runs, err := running(ctx, conn, unit)
		if err != nil || !runs {
			return err
		}
		results := make(chan string, 1)
		if v == reload {
			_, err = conn.ReloadUnitContext(ctx, unit, "replace", results)
		} else {
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
	})
}

// jobResult turns systemd's word for the end of a job into an error.
func jobResult(result string, v verb, unit string) error {
	if result == "done" {
		return nil
	}
	return failure.New(failure.Other, "systemd couldn't %s %s: the job's result is %q; `journalctl -u %s` says more", v, unit, result, unit)
}

// running says whether there's something to reload. A program that starts
// later reads the new files by itself.
func running(ctx context.Context, conn *systemd.Conn, unit string) (bool, error) {
	loaded, err := conn.GetUnitPropertyContext(ctx, unit, "LoadState")
	if err != nil {
		return false, explainBus(err, "look at", unit)
	}
	if text, _ := loaded.Value.Value().(string); text == "not-found" {
		return false, failure.New(failure.NotFound, "there is no systemd unit %s on this host", unit)
	}
	active, err := conn.GetUnitPropertyContext(ctx, unit, "ActiveState")
	if err != nil {
		return false, explainBus(err, "look at", unit)
	}
	text, _ := active.Value.Value().(string)
	return text != "inactive" && text != "failed", nil
}

func (m manager) mainPID(ctx context.Context, unit string) (int, error) {
	pid := 0
	err := m.with(ctx, func(conn *systemd.Conn) error {
		if _, err := running(ctx, conn, unit); err != nil {
			return err
		}
		property, err := conn.GetServicePropertyContext(ctx, unit, "MainPID")
		if err != nil {
			return explainBus(err, "look at", unit)
		}
		number, ok := property.Value.Value().(uint32)
		if !ok {
			return failure.New(failure.Other, "systemd gave no number as the main process of %s", unit)
		}
		pid = int(number)
		return nil
	})
	return pid, err
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
// once the process is held, so that it can't be a used one. A service that
// isn't running gets none, and that's a success.
func signalUnit(ctx context.Context, pids mainPIDs, unit string, signal unix.Signal) error {
	for range 3 {
		pid, err := pids.mainPID(ctx, unit)
		if err != nil || pid == 0 {
			return err
		}
		if pid == os.Getpid() {
			return failure.New(failure.Configuration, "%s is rollcall itself", unit)
		}
		p, err := openProcess(pid)
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
