package diagnostics

import (
	"context"
	"encoding/json"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"rollcall/failure"
)

func TestStatusOverALocalSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "status.sock")
	left, err := net.Listen("unix", path)
	require.NoError(t, err)
	left.(*net.UnixListener).SetUnlinkOnClose(false)
	require.NoError(t, left.Close(), "an earlier run left its socket")

	listener, err := ListenLocal(path)
	require.NoError(t, err)
	info, err := os.Lstat(path)
	require.NoError(t, err)
	require.Equal(t, fs.ModeSocket|0o600, info.Mode())

	board := NewBoard(time.Now)
	board.Reporter("identity", "identity").Report(Report{NotAfter: time.Now().Add(time.Hour)})
	server := NewServer(ServerOptions{
		Name: "status", Listener: listener, Board: board, Registry: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler),
		Agent: func() Agent { return Agent{Version: "v1", JoinMethod: "token"} },
	})
	require.Equal(t, "status", server.Name())
	require.NoError(t, server.Bind(t.Context()))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()

	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport}).Get("http://agent/status")
	require.NoError(t, err)
	defer response.Body.Close()
	var overview Overview
	require.NoError(t, json.NewDecoder(response.Body).Decode(&overview))
	require.True(t, overview.Healthy)
	require.Equal(t, "v1", overview.Version)
	require.Equal(t, "identity", overview.Services[0].Name)

	cancel()
	require.NoError(t, <-ended)
	require.NoFileExists(t, path)
}

func TestListenLocalLeavesOtherFilesAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "status.sock")
	require.NoError(t, os.WriteFile(path, []byte("mine"), 0o600))
	_, err := ListenLocal(path)
	require.ErrorContains(t, err, "it's no socket")
	require.Equal(t, failure.Configuration, failure.KindOf(err))
	require.FileExists(t, path)
}

func TestListenLocalDropsStrangers(t *testing.T) {
	listener, err := ListenLocal(filepath.Join(t.TempDir(), "s"))
	require.NoError(t, err)
	defer listener.Close()
	// Nobody but root has this number; as root, the caller is let in anyway.
	listener.(*localListener).uid = -1
	accepted := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			conn.Close()
		}
		accepted <- err
	}()
	conn, err := net.Dial("unix", listener.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(10*time.Second)))
	_, err = conn.Read(make([]byte, 1))
	require.Error(t, err, "closed either way, and not timed out")
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
	if os.Getuid() != 0 {
		require.NoError(t, listener.Close())
		require.Error(t, <-accepted, "a stranger's connection was accepted")
		return
	}
	require.NoError(t, <-accepted)
}
