package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rollcall/diagnostics"
	"rollcall/service"
	"rollcall/systemd"
)

// talking is an agent without services that talks to a systemd of the test's.
type talking struct {
	board   *diagnostics.Board
	signals chan os.Signal
	manager *net.UnixConn
	stop    func()
}

func talk(t *testing.T) *talking {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	require.NoError(t, err)
	t.Cleanup(func() { manager.Close() })
	log := slog.New(slog.DiscardHandler)
	a := &agent{
		log: log, board: diagnostics.NewBoard(time.Now), host: service.NewHost(log, nil),
		notifier: systemd.NewNotifier(func(name string) string { return map[string]string{"NOTIFY_SOCKET": path}[name] }, log),
	}
	signals := make(chan os.Signal, 1)
	a.board.Reporter("identity", "identity")
	a.board.Reporter("app", "application")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.converse(ctx, signals)
	}()
	stop := func() { cancel(); <-done }
	t.Cleanup(stop)
	return &talking{board: a.board, signals: signals, manager: manager, stop: stop}
}

// until reads messages up to one that has the text, and returns those before.
func (w *talking) until(t *testing.T, text string) (before []string) {
	t.Helper()
	require.NoError(t, w.manager.SetReadDeadline(time.Now().Add(20*time.Second)))
	for {
		buffer := make([]byte, 4096)
		n, err := w.manager.Read(buffer)
		require.NoError(t, err, "waiting for %q after %q", text, before)
		if strings.Contains(string(buffer[:n]), text) {
			return before
		}
		before = append(before, string(buffer[:n]))
	}
}

func none(t *testing.T, messages []string, text string) {
	t.Helper()
	require.NotContains(t, strings.Join(messages, "\n"), text)
}

func TestReadyAfterTheFirstRound(t *testing.T) {
	w := talk(t)
	well := diagnostics.Report{NotAfter: time.Now().Add(time.Hour)}
	// A reload asked for so early renews, and isn't announced.
	w.signals <- syscall.SIGHUP
	require.Eventually(t, func() bool { return len(w.signals) == 0 }, 20*time.Second, time.Millisecond)
	w.board.Reporter("identity", "").Report(well)
	none(t, w.until(t, "STATUS=1 of 2 services need attention: app is starting"), "READY")
	w.board.Reporter("app", "").Report(diagnostics.Report{Err: errors.New("not found")})
	before := w.until(t, "READY=1\nSTATUS=1 of 2 services need attention: app: not found")
	none(t, before, "READY")
	none(t, before, "RELOADING")

	w.signals <- syscall.SIGHUP
	none(t, w.until(t, "RELOADING=1"), "READY")
	w.board.Reporter("app", "").Report(well)
	none(t, w.until(t, "STATUS=all 2 services are ready"), "READY")
	w.board.Reporter("identity", "").Report(diagnostics.Report{Err: errors.New("slow"), NotAfter: well.NotAfter})
	none(t, w.until(t, "READY=1\nSTATUS=1 of 2 services need attention: identity: slow"), "READY")

	w.stop()
	w.until(t, "STOPPING=1")
}

func TestReadyAlthoughTheClusterIsDown(t *testing.T) {
	w := talk(t)
	w.board.Reporter("identity", "").Report(diagnostics.Report{Err: errors.New("nobody answers")})
	w.until(t, "READY=1\nSTATUS=2 of 2 services need attention: identity: nobody answers")
}
