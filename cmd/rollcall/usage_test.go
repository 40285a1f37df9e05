package main

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
)

// runLine runs a whole command line as main does.
func runLine(t *testing.T, vars map[string]string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	env := environment{Getenv: func(name string) string { return vars[name] }, Stdout: &out, Stderr: &errs}
	code = run(t.Context(), args, env)
	return code, out.String(), errs.String()
}

func TestWrongCommandLines(t *testing.T) {
	for _, test := range []struct{ line, want string }{
		{"strat", `unknown command "strat"; did you mean "start"?`},
		{"frobnicate", "unknown command \"frobnicate\"; `rollcall help` lists the commands"},
		{"help valdate", `unknown command "valdate"; did you mean "validate"?`},
		{"start now", "rollcall start takes flags only, and \"now\" isn't one; see `rollcall start --help`"},
		{"version 1", "rollcall version takes flags only, and \"1\" isn't one; see `rollcall version --help`"},
		{"start --oneshoot", `unknown flag --oneshoot; did you mean "--oneshot"?`},
		{"start --proxy_sever=a", `unknown flag --proxy_sever; did you mean "--proxy-server"?`},
		{"start --zzz", "unknown flag --zzz; see `rollcall start --help`"},
		{"--configg=x validate", `unknown flag --configg; did you mean "--config"?`},
		{"start -x", "unknown flag -x; see `rollcall start --help`"},
		{"start --token", "flag needs an argument: --token; see `rollcall start --help`"},
		{"start --certificate-ttl=60", `--certificate-ttl must be a duration, like 20m or 1h, not "60"; give a unit: 60s, 60m or 60h; see ` + "`rollcall start --help`"},
		{"start --renewal-interval=often", `--renewal-interval must be a duration, like 20m or 1h, not "often"; see ` + "`rollcall start --help`"},
		{"start --oneshot=maybe", `--oneshot must be true or false, not "maybe"; see ` + "`rollcall start --help`"},
		{"version --format=xml", `--format "xml" isn't text or json`},
		{"completion", "name one shell: bash, zsh or fish, as in `rollcall completion bash`"},
		{"completion bsh", `unknown shell "bsh"; did you mean "bash"?`},
	} {
		t.Run(test.line, func(t *testing.T) {
			code, stdout, stderr := runLine(t, nil, strings.Fields(test.line)...)
			require.Equal(t, exitConfiguration, code)
			require.Empty(t, stdout)
			require.Equal(t, "rollcall: "+test.want+"\n", stderr)
		})
	}
}

func TestStartRefusesBeforeItStarts(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "none.yaml")
	bad := configFile(t, "version: v2\nproxy_serve: a.example.com:443\n")
	complete := configFile(t, validConfig+"onboarding: {join_method: token, token: x}\n")
	for _, test := range []struct {
		name string
		vars map[string]string
		args []string
		want string
	}{
		{"no file", nil, []string{"start", "-c", missing}, missing + " doesn't exist"},
		{"flag before the command", nil, []string{"-c", missing, "start"}, missing + " doesn't exist"},
		{"file from the environment", map[string]string{"TBOT_CONFIG_PATH": missing}, []string{"start"}, missing + " doesn't exist"},
		{"the flag wins over the environment", map[string]string{"TBOT_CONFIG_PATH": missing}, []string{"start", "-c", bad},
			bad + `:2:1: unknown key "proxy_serve"; did you mean "proxy_server"?`},
		{"address from the environment", map[string]string{"TELEPORT_PROXY": "https://a.example.com"}, []string{"start"},
			"environment TELEPORT_PROXY: proxy_server is host:port, without https://"},
		{"address of the Auth Service from the environment", map[string]string{"TELEPORT_AUTH_SERVER": "a.example.com"}, []string{"start"},
			"environment TELEPORT_AUTH_SERVER: auth_server has no port"},
		{"a variable as token", map[string]string{"TELEPORT_BOT_TOKEN": "${TOKEN}"}, []string{"start", "--proxy-server=a.example.com:443"},
			"environment TELEPORT_BOT_TOKEN: onboarding.token looks like a variable"},
		{"two servers", nil, []string{"start", "-a", "a.example.com:3025", "--proxy-server=a.example.com:443"}, "both given"},
		{"the official agent's names of flags", nil, []string{"start", "-c", complete, "--data-dir=/opt/grafana", "--certificate-ttl=48h"},
			"--certificate-ttl: credential_ttl is 48h, and must be from 1m to 24h"},
		{"output and storage in one place", nil, []string{"start", "--proxy-server=a.example.com:443", "--storage=/opt/a", "--destination-dir=/opt/a/out"},
			"which is inside the directory of storage (/opt/a)"},
		{"no such format", nil, []string{"start", "-c", complete, "--format=xml"}, `--format "xml" isn't text or json`},
	} {
		t.Run(test.name, func(t *testing.T) {
			code, stdout, stderr := runLine(t, test.vars, test.args...)
			require.Equal(t, exitConfiguration, code)
			require.Empty(t, stdout)
			require.Contains(t, stderr, test.want)
		})
	}
}

func TestEveryCommandTeachesByExample(t *testing.T) {
	root := newRootCommand(environment{Getenv: func(string) string { return "" }})
	root.InitDefaultHelpCmd()
	commands := append([]*cobra.Command{root}, root.Commands()...)
	require.Len(t, commands, 13, "the root, start, init, validate, configure, proxy, hooks, discovery, status, install, version, completion and help")
	for _, cmd := range commands {
		require.Contains(t, cmd.Example, "rollcall "+strings.TrimPrefix(cmd.Name(), "rollcall"), cmd.Name())
		require.NotEmpty(t, cmd.Short, cmd.Name())

		code, help, stderr := runLine(t, nil, "help", strings.TrimPrefix(cmd.Name(), "rollcall"))
		if cmd == root {
			code, help, stderr = runLine(t, nil, "help")
		}
		require.Equal(t, exitOK, code, stderr)
		require.Empty(t, stderr)
		require.Contains(t, help, "Examples:\n"+cmd.Example)

		code, same, _ := runLine(t, nil, append(strings.Fields(cmd.CommandPath())[1:], "--help")...)
		require.Equal(t, exitOK, code)
		require.Contains(t, same, "Examples:\n"+cmd.Example)
	}
}

func TestVersion(t *testing.T) {
	code, stdout, stderr := runLine(t, nil, "version", "--format", "json")
	require.Equal(t, exitOK, code, stderr)
	var answer struct{ Version, Go, Platform string }
	require.NoError(t, json.Unmarshal([]byte(stdout), &answer))
	require.NotEmpty(t, answer.Version)
	require.Contains(t, answer.Go, "go1.")
	require.Contains(t, answer.Platform, "/")

	code, stdout, _ = runLine(t, nil, "version")
	require.Equal(t, exitOK, code)
	require.Contains(t, stdout, "rollcall "+answer.Version+" (")
}

func TestCompletionIsAScriptThatBashReads(t *testing.T) {
	code, script, stderr := runLine(t, nil, "completion", "bash")
	require.Equal(t, exitOK, code, stderr)
	require.Contains(t, script, "complete ")
	check := exec.CommandContext(t.Context(), "bash", "-n")
	check.Stdin = strings.NewReader(script)
	output, err := check.CombinedOutput()
	require.NoError(t, err, string(output))
	require.Empty(t, string(output))

	for shell, sign := range map[string]string{"zsh": "#compdef rollcall", "fish": "complete -c rollcall"} {
		code, script, _ := runLine(t, nil, "completion", shell)
		require.Equal(t, exitOK, code)
		require.Contains(t, script, sign)
	}
}

func TestCompletionKnowsCommandsAndFlags(t *testing.T) {
	_, stdout, _ := runLine(t, nil, "__complete", "va")
	require.Contains(t, stdout, "validate\t")
	_, stdout, _ = runLine(t, nil, "__complete", "start", "--pro")
	require.Contains(t, stdout, "--proxy-server")
	_, stdout, _ = runLine(t, nil, "__complete", "help", "")
	require.Contains(t, stdout, "configure\t")
	_, stdout, _ = runLine(t, nil, "__complete", "completion", "")
	require.Contains(t, stdout, "fish")
}
