package systemd

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/gravitational/trace"
	"golang.org/x/sys/unix"
)

// Notifier tells systemd about the agent's state (sd_notify(3)). It does
// nothing where NOTIFY_SOCKET isn't set. A message that can't be delivered is
// logged and otherwise ignored: the agent's work doesn't depend on it. It's
// safe for concurrent use.
type Notifier struct {
	log      *slog.Logger
	socket   string
	interval time.Duration
}

// beatsPerTimeout lets a single beat get lost, to a moment's hang or a manager
// that is being re-executed, without the agent being killed for it.
const beatsPerTimeout = 4

// NewNotifier reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID through
// getenv. The library's own functions read the process's environment instead
// and would find it changed once a hook or a test has.
func NewNotifier(getenv func(string) string, log *slog.Logger) *Notifier {
	n := &Notifier{log: log, socket: getenv("NOTIFY_SOCKET")}
	if n.socket == "" {
		return n
	}
	timeout, err := watchdogTimeout(getenv("WATCHDOG_USEC"), getenv("WATCHDOG_PID"), os.Getpid())
	if err != nil {
		log.Warn("The watchdog stays off.", "err", err)
	}
	n.interval = timeout / beatsPerTimeout
	return n
}

// watchdogTimeout returns how long systemd waits for a beat; 0: it doesn't.
func watchdogTimeout(usec, watched string, pid int) (time.Duration, error) {
	if usec == "" || (watched != "" && watched != strconv.Itoa(pid)) {
		return 0, nil
	}
	n, err := strconv.ParseInt(usec, 10, 64)
	if err != nil || n <= 0 || n > int64(time.Duration(1<<63-1)/time.Microsecond) {
		return 0, trace.BadParameter("WATCHDOG_USEC is %q and must be a positive number of microseconds", usec)
	}
	return time.Duration(n) * time.Microsecond, nil
}

// Enabled says whether systemd listens.
func (n *Notifier) Enabled() bool { return n.socket != "" }

// WatchdogInterval returns the time between beats, a quarter of what
// systemd allows; 0: no watchdog.
func (n *Notifier) WatchdogInterval() time.Duration { return n.interval }

// Ready says that starting, or reloading, is done.
func (n *Notifier) Ready(status string) {
	n.send(daemon.SdNotifyReady, statusLine(status))
}

// Reloading says that a reload began; Ready must follow. The time lets systemd
// match it with its own request (Type=notify-reload).
func (n *Notifier) Reloading() {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		n.log.Warn("The clock can't be read.", "err", err)
		return
	}
	n.send(daemon.SdNotifyReloading, fmt.Sprintf("MONOTONIC_USEC=%d", now.Nano()/int64(time.Microsecond)))
}

// Stopping says that the agent is stopping.
func (n *Notifier) Stopping() { n.send(daemon.SdNotifyStopping) }

// Status shows one line in "systemctl status".
func (n *Notifier) Status(status string) { n.send(statusLine(status)) }

// Run beats the watchdog until ctx is cancelled, while alive returns nil. It
// returns at once if systemd asked for no beats. alive must not block.
func (n *Notifier) Run(ctx context.Context, alive func() error) {
	if n.interval <= 0 {
		return
	}
	ticker := time.NewTicker(n.interval)
	defer ticker.Stop()
	for {
		if err := alive(); err != nil {
			n.log.ErrorContext(ctx, "The watchdog isn't fed; systemd restarts the agent if this lasts.", "err", err)
		} else {
			n.send(daemon.SdNotifyWatchdog)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// statusLine keeps a text from carrying assignments of its own.
func statusLine(status string) string {
	return "STATUS=" + strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, status)
}

func (n *Notifier) send(assignments ...string) {
	if n.socket == "" {
		return
	}
	if err := n.write(strings.Join(assignments, "\n")); err != nil {
		n.log.Warn("systemd couldn't be told about the agent's state.", "err", err)
	}
}

// write sends one datagram. Package net takes a leading @ for an abstract
// socket, as systemd does.
func (n *Notifier) write(message string) error {
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: n.socket, Net: "unixgram"})
	if err != nil {
		return trace.Wrap(err)
	}
	defer conn.Close()
	// A full queue must not hold up whoever reports.
	if err := conn.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
		return trace.Wrap(err)
	}
	_, err = conn.Write([]byte(message))
	return trace.Wrap(err)
}
