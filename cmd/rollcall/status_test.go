package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"rollcall/diagnostics"
)

// answering is an agent as far as status can see it.
func answering(t *testing.T, listener net.Listener, storage string) *diagnostics.Board {
	t.Helper()
	board := diagnostics.NewBoard(time.Now)
	board.Reporter("identity", "identity").Report(diagnostics.Report{NotAfter: time.Now().Add(time.Hour)})
	server := diagnostics.NewServer(diagnostics.ServerOptions{
		Listener: listener, Board: board, Registry: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler),
		Agent: func() diagnostics.Agent {
			return diagnostics.Agent{Version: "v1", Storage: storage, JoinMethod: "token", Started: time.Now()}
		},
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
	})
	return board
}

func TestStatus(t *testing.T) {
	storage := t.TempDir()
	file := configFile(t, "version: v2\nproxy_server: a.example.com:443\nonboarding: {join_method: token, token: x}\n"+
		"storage: {type: directory, path: "+storage+"}\noutputs: [{type: identity, destination: {type: memory}}]\n")

	code, stdout, stderr := runLine(t, nil, "status", "-c", file)
	require.Equal(t, statusNotRunning, code)
	require.Empty(t, stdout)
	require.Contains(t, stderr, "no agent with directory "+storage+" answers")
	code, stdout, _ = runLine(t, nil, "status", "-c", file, "--format=json")
	require.Equal(t, statusNotRunning, code)
	require.Contains(t, stdout, `"running": false`)

	socket := filepath.Join(storage, "status.sock")
	listener, err := diagnostics.ListenLocal(socket)
	require.NoError(t, err)
	board := answering(t, listener, "directory "+storage)
	for _, args := range [][]string{{"-c", file}, {"--socket", socket}} {
		code, stdout, stderr = runLine(t, nil, append([]string{"status"}, args...)...)
		require.Zero(t, code, stderr)
		require.Contains(t, stdout, "rollcall v1 is healthy")
	}

	board.Reporter("grafana", "application").Report(diagnostics.Report{Err: errors.New("not found")})
	code, stdout, stderr = runLine(t, nil, "status", "-c", file, "--format=json")
	require.Equal(t, statusDegraded, code)
	require.Empty(t, stderr)
	var answer struct {
		Running, Healthy bool
		Services         []diagnostics.Status
	}
	require.NoError(t, json.Unmarshal([]byte(stdout), &answer))
	require.True(t, answer.Running)
	require.False(t, answer.Healthy)
	require.Equal(t, "not found", answer.Services[0].LastError)
}

func TestStatusOverHTTP(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	answering(t, listener, "memory")
	code, stdout, stderr := runLine(t, nil, "status", "--diag-addr", listener.Addr().String())
	require.Zero(t, code, stderr)
	require.Contains(t, stdout, "storage memory")
}

func TestStatusIsNotAnothersAgents(t *testing.T) {
	storage := t.TempDir()
	file := configFile(t, "version: v2\nproxy_server: a.example.com:443\nonboarding: {join_method: token, token: x}\n"+
		"storage: {type: directory, path: "+storage+"}\noutputs: [{type: identity, destination: {type: memory}}]\n")
	listener, err := diagnostics.ListenLocal(filepath.Join(storage, "status.sock"))
	require.NoError(t, err)
	answering(t, listener, "directory /elsewhere")
	code, _, stderr := runLine(t, nil, "status", "-c", file)
	require.Equal(t, statusNotRunning, code)
	require.Contains(t, stderr, "answers")
}

func TestStatusRefusals(t *testing.T) {
	for want, args := range map[string][]string{
		"isn't text or json":   {"--format=yaml"},
		"doesn't exist":        {"-c", "/nonexistent.yaml"},
		"unknown flag --jsn":   {"--jsn"},
		"takes flags only":     {"rollcall"},
		"were all set":         {"--name=a", "--socket=/b"},
		"neither proxy_server": {"-c", configFile(t, "version: v2\n")},
	} {
		code, _, stderr := runLine(t, nil, append([]string{"status"}, args...)...)
		require.Equal(t, statusUnasked, code, stderr)
		require.Contains(t, stderr, want)
	}
}
