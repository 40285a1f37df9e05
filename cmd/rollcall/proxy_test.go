package main

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rollcall/diagnostics"
	"rollcall/tunnel"
)

// TestProxyNamesItsFlags: whoever has typed a command line knows its flags, and
// no key of a file.
func TestProxyNamesItsFlags(t *testing.T) {
	key := regexp.MustCompile(`[a-z]+_[a-z]+`)
	for _, test := range []struct {
		flags []string
		want  string
	}{
		{[]string{"--listen=tcp://0.0.0.0:0"}, "--listen: 0.0.0.0 isn't for this host alone: whoever can reach it would use the application with the bot's rights; listen on 127.0.0.1, or set --allow-remote together with --bearer-token"},
		{[]string{"--listen=unix:///run/a.sock", "--allow-remote"}, "--allow-remote: goes with a TCP address only: a unix socket is never remote"},
		{[]string{"--port=1234", "--socket-mode=0660"}, "--socket-…: goes with a unix:// address only: a TCP port has no owner; use --peer-user or --bearer-token"},
		{[]string{"--listen=tcp://192.0.2.1:0", "--allow-remote", "--peer-user=alice"}, "--peer-user: the user of a program on another host can't be known: listen on a loopback address, or use --bearer-token"},
		{[]string{"--peer-user=alice", "--peer-user=alice"}, `--peer-user: "alice" is there twice; name each user once`},
		{[]string{"--allowed-host=a:80"}, `--allowed-host: is "a:80": give a host name or an address, without a port, or * for all`},
		{[]string{"--bearer-token=secret"}, "--bearer-token: give the absolute path of a file that holds the token, or credential:NAME for a systemd credential; the token itself doesn't belong here"},
		{[]string{"--max-connections=-1"}, `--max-connections must be a whole number from 1 to 100000, not "-1"; see ` + "`rollcall proxy app --help`"},
		{[]string{"--max-connections=0"}, `--max-connections must be a whole number from 1 to 100000, not "0"; see ` + "`rollcall proxy app --help`"},
		{[]string{"--port=abc"}, `--port must be a whole number from 0 to 65535, not "abc"; see ` + "`rollcall proxy app --help`"},
		{[]string{"-p", "65536"}, `--port must be a whole number from 0 to 65535, not "65536"; see ` + "`rollcall proxy app --help`"},
		{[]string{"--port="}, `--port must be a whole number from 0 to 65535, not ""; see ` + "`rollcall proxy app --help`"},
		{[]string{"--listen=unix:///run/a/"}, "--listen: it names a directory; add the socket's name, as in unix:///run/rollcall/app.sock"},
		{[]string{"--listen=unix:///run/a.sock", "--socket-mode=0444"}, `--socket-mode: is "0444", by which nobody but root may connect, since to connect one needs write permission: give "0600" for the owner, "0660" for the group too, or "0666" for all`},
		{[]string{"--diag-addr=localhost"}, `--diag-addr must be host:port, not "localhost"; for example 127.0.0.1:3001`},
		{[]string{"--diag-addr=localhost:http"}, `--diag-addr must be host:port, not "localhost:http"; for example 127.0.0.1:3001`},
	} {
		t.Run(strings.Join(test.flags, " "), func(t *testing.T) {
			line := append([]string{"proxy", "--destination-dir=/nowhere", "--proxy=a.example.com:443", "app", "grafana"}, test.flags...)
			code, stdout, stderr := runLine(t, nil, line...)
			require.Equal(t, exitConfiguration, code)
			require.Empty(t, stdout)
			require.Equal(t, "rollcall: "+test.want+"\n", stderr)
			require.NotRegexp(t, key, stderr)
		})
	}
}

// TestProxyShowsHowItIs asks on --diag-addr what a monitor would.
func TestProxyShowsHowItIs(t *testing.T) {
	board, metrics, log := diagnostics.NewBoard(nowIs), tunnel.NewMetrics(), slog.New(slog.DiscardHandler)
	none, err := bindDiagnostics(t.Context(), "", board, metrics, log, false)
	require.NoError(t, err)
	require.Nil(t, none)

	addr := freeAddress(t)
	server, err := bindDiagnostics(t.Context(), addr, board, metrics, log, false)
	require.NoError(t, err)
	_, err = bindDiagnostics(t.Context(), addr, board, metrics, log, false)
	require.ErrorContains(t, err, `--diag-addr "`+addr+`" can't be listened on`)
	built, err := tunnel.New(proxyOptions(), tunnel.Dependencies{
		Source: nil, Interval: pollInterval, Reporter: board.Reporter("proxy", tunnel.TypeTunnel), Log: log, Metrics: metrics,
	})
	require.NoError(t, err)
	defer built.Close()
	ended := make(chan error, 1)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go func() { ended <- server.Run(ctx) }()

	code, body := get(t, "http://"+addr+"/readyz")
	require.Equal(t, http.StatusServiceUnavailable, code, "there's no certificate yet")
	var ready struct {
		Services map[string]struct{ State string }
	}
	require.NoError(t, json.Unmarshal([]byte(body), &ready))
	require.Contains(t, ready.Services, "proxy")
	board.Reporter("proxy", "").Report(diagnostics.Report{})
	code, _ = get(t, "http://"+addr+"/readyz")
	require.Equal(t, http.StatusOK, code)
	_, body = get(t, "http://"+addr+"/metrics")
	require.Contains(t, body, `rollcall_tunnel_connections{service="proxy"} 0`)
	code, _ = get(t, "http://"+addr+"/status")
	require.Equal(t, http.StatusNotFound, code, "there's no bot to tell of")
	_, body = get(t, "http://"+addr+"/")
	require.NotContains(t, body, "/status")

	stop()
	require.NoError(t, <-ended)
}

// TestProxysNumbersHaveDefaults: a command line without them is complete.
func TestProxysNumbersHaveDefaults(t *testing.T) {
	f := new(appFlags)
	cmd := newProxyAppCommand(environment{}, new(globals), f)
	require.NoError(t, cmd.Flags().Parse(nil))
	require.Equal(t, tunnel.DefaultMaxConnections, f.MaxConnections)
	require.Zero(t, f.port)
	require.NoError(t, cmd.Flags().Parse([]string{"-p", "1234", "--max-connections=5"}))
	require.Equal(t, 5, f.MaxConnections)
	require.Equal(t, 1234, f.port)
	usage := cmd.Flags().FlagUsages()
	require.Contains(t, usage, "number of connections at a time (default 1000)")
	require.NotContains(t, usage, "(default 0)")
}

func proxyOptions() tunnel.Options {
	opts := tunnel.Options{AppName: "grafana", ListenOptions: tunnel.ListenOptions{Listen: "tcp://127.0.0.1:0"}}
	opts.Name = "proxy"
	return opts
}

// freeAddress is one that nobody listens at now.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	return listener.Addr().String()
}

func get(t *testing.T, url string) (code int, body string) {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: transport}).Get(url)
	require.NoError(t, err)
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(content)
}
