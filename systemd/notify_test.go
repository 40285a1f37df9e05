package systemd

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// environment is a process's environment.
type environment map[string]string

func (e environment) get(name string) string { return e[name] }

// manager is the receiving end of sd_notify.
type manager struct {
	*net.UnixConn
	path string
}

func listen(t *testing.T, path string) *manager {
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(10*time.Second)))
	return &manager{UnixConn: conn, path: path}
}

func newManager(t *testing.T) *manager {
	return listen(t, filepath.Join(t.TempDir(), "notify"))
}

func (m *manager) next(t *testing.T) string {
	buffer := make([]byte, 4096)
	n, err := m.Read(buffer)
	require.NoError(t, err)
	return string(buffer[:n])
}

// pending takes the messages that wait in the socket and counts them.
func (m *manager) pending(t *testing.T) (count int) {
	require.NoError(t, m.SetReadDeadline(time.Now().Add(20*time.Millisecond)))
	for {
		_, err := m.Read(make([]byte, 64))
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return count
		}
		require.NoError(t, err)
		count++
	}
}

func (m *manager) env() environment { return environment{"NOTIFY_SOCKET": m.path} }

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestMessages(t *testing.T) {
	m := newManager(t)
	n := NewNotifier(m.env().get, discard())
	require.True(t, n.Enabled())
	for _, test := range []struct {
		name string
		send func()
		want string
	}{
		{"ready", func() { n.Ready("3 services") }, "READY=1\nSTATUS=3 services"},
		{"status", func() { n.Status("all well") }, "STATUS=all well"},
		{"a status can't carry assignments", func() { n.Status("x\nMAINPID=1\r") }, "STATUS=x MAINPID=1 "},
		{"stopping", func() { n.Stopping() }, "STOPPING=1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.send()
			require.Equal(t, test.want, m.next(t))
		})
	}
}

func TestReloadingHasTheMonotonicTime(t *testing.T) {
	m := newManager(t)
	before := monotonic(t)
	NewNotifier(m.env().get, discard()).Reloading()
	text, ok := strings.CutPrefix(m.next(t), "RELOADING=1\nMONOTONIC_USEC=")
	require.True(t, ok)
	usec, err := strconv.ParseInt(text, 10, 64)
	require.NoError(t, err)
	require.GreaterOrEqual(t, usec, before)
	require.LessOrEqual(t, usec, monotonic(t))
}

func monotonic(t *testing.T) int64 {
	var now unix.Timespec
	require.NoError(t, unix.ClockGettime(unix.CLOCK_MONOTONIC, &now))
	return now.Nano() / 1000
}

func TestAbstractSocket(t *testing.T) {
	m := listen(t, "@rollcall-test-"+strconv.Itoa(os.Getpid()))
	NewNotifier(m.env().get, discard()).Stopping()
	require.Equal(t, "STOPPING=1", m.next(t))
}

func TestInertOutsideSystemd(t *testing.T) {
	var out bytes.Buffer
	n := NewNotifier(environment{"WATCHDOG_USEC": "1000000"}.get, slog.New(slog.NewTextHandler(&out, nil)))
	require.False(t, n.Enabled())
	require.Zero(t, n.WatchdogInterval())
	n.Ready("x")
	n.Reloading()
	n.Stopping()
	n.Run(t.Context(), func() error { t.Error("asked without a watchdog"); return nil })
	require.Empty(t, out.String())
}

func TestManagerThatIsGoneIsLogged(t *testing.T) {
	var out bytes.Buffer
	env := environment{"NOTIFY_SOCKET": filepath.Join(t.TempDir(), "gone")}
	NewNotifier(env.get, slog.New(slog.NewTextHandler(&out, nil))).Stopping()
	require.Contains(t, out.String(), "couldn't be told")
}

func TestWatchdogTimeout(t *testing.T) {
	for _, test := range []struct {
		name, usec, pid string
		want            time.Duration
		fails           bool
	}{
		{name: "off"},
		{name: "on", usec: "30000000", want: 30 * time.Second},
		{name: "for us", usec: "30000000", pid: "42", want: 30 * time.Second},
		{name: "for another process", usec: "30000000", pid: "43"},
		{name: "no number", usec: "soon", fails: true},
		{name: "zero", usec: "0", fails: true},
		{name: "negative", usec: "-5", fails: true},
		{name: "too large", usec: "9223372036854775807", fails: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := watchdogTimeout(test.usec, test.pid, 42)
			require.Equal(t, test.want, got)
			require.Equal(t, test.fails, err != nil)
		})
	}
}

func TestWatchdogBeatsOnlyWhileAlive(t *testing.T) {
	m := newManager(t)
	env := m.env()
	env["WATCHDOG_USEC"] = "20000"
	env["WATCHDOG_PID"] = strconv.Itoa(os.Getpid())
	n := NewNotifier(env.get, discard())
	require.Equal(t, 5*time.Millisecond, n.WatchdogInterval())

	var sick atomic.Bool
	asked := make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.Run(ctx, func() error {
			if !sick.Load() {
				return nil
			}
			select {
			case asked <- struct{}{}:
			default:
			}
			return errors.New("a loop hangs")
		})
	}()
	for range 3 {
		require.Equal(t, "WATCHDOG=1", m.next(t))
	}
	sick.Store(true)
	for range 3 {
		<-asked
	}
	// What was sent before is still in the socket; from here on nothing may come.
	require.LessOrEqual(t, m.pending(t), 1)
	for range 3 {
		<-asked
	}
	require.Zero(t, m.pending(t))
	cancel()
	<-done
}
