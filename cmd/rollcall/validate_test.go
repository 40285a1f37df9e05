package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
)

// execute runs one command by itself and returns what it printed.
func execute(t *testing.T, g *globals, vars map[string]string,
	command func(environment, *globals) *cobra.Command, args ...string,
) (stdout, stderr string, err error) {
	t.Helper()
	var out, errs bytes.Buffer
	env := environment{Getenv: func(name string) string { return vars[name] }, Stdout: &out, Stderr: &errs}
	cmd := command(env, g)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(&errs)
	err = cmd.ExecuteContext(t.Context())
	return out.String(), errs.String(), err
}

func configFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "rollcall.yaml")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	return file
}

const validConfig = `version: v2
proxy_server: teleport.example.com:443
storage: {type: directory, path: /var/lib/rollcall}
outputs:
  - {type: application, app_name: grafana, destination: {type: directory, path: /opt/grafana}}
`

const invalidConfig = "version: v2\nproxy_serve: teleport.example.com:443\ncredential_ttl: 1\n"

func TestValidateText(t *testing.T) {
	file := configFile(t, validConfig)
	stdout, stderr, err := execute(t, &globals{configPath: file}, nil, newValidateCommand)
	require.NoError(t, err)
	require.Equal(t, file+" is valid: 1 output, storage directory /var/lib/rollcall\n", stdout)
	require.Empty(t, stderr)

	file = configFile(t, invalidConfig)
	stdout, stderr, err = execute(t, &globals{configPath: file}, nil, newValidateCommand)
	require.Equal(t, exitConfiguration, exitCode(err))
	require.Empty(t, stdout)
	require.Equal(t, file+`:2:1: unknown key "proxy_serve"; did you mean "proxy_server"?
`+file+`:3:17: credential_ttl must be a duration, like 20m or 1h, not "1"; give a unit: 1s, 1m or 1h
`, stderr)
}

func TestValidateJSON(t *testing.T) {
	stdout, _, err := execute(t, &globals{configPath: configFile(t, validConfig)}, nil, newValidateCommand, "--format", "json")
	require.NoError(t, err)
	var v verdict
	require.NoError(t, json.Unmarshal([]byte(stdout), &v))
	require.True(t, v.Valid)
	require.Equal(t, []verdictOutput{{"application-grafana", "application", "directory /opt/grafana"}}, v.Outputs)

	stdout, stderr, err := execute(t, &globals{configPath: configFile(t, invalidConfig)}, nil, newValidateCommand, "--format", "json")
	require.Equal(t, exitConfiguration, exitCode(err))
	require.Empty(t, stderr)
	v = verdict{}
	require.NoError(t, json.Unmarshal([]byte(stdout), &v))
	require.False(t, v.Valid)
	require.Len(t, v.Errors, 2)
	require.Equal(t, 2, v.Errors[0].Line)
	require.Equal(t, `did you mean "proxy_server"?`, v.Errors[0].Suggestion)
}

func TestValidateWithoutFile(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "none.yaml")
	_, _, err := execute(t, &globals{}, map[string]string{"TBOT_CONFIG_PATH": missing}, newValidateCommand)
	require.Equal(t, exitConfiguration, exitCode(err))
	require.ErrorContains(t, err, missing+" doesn't exist")

	stdout, _, err := execute(t, &globals{configPath: missing}, nil, newValidateCommand, "--format", "json")
	require.Equal(t, exitConfiguration, exitCode(err))
	require.Contains(t, stdout, "doesn't exist")

	_, _, err = execute(t, &globals{configPath: missing}, nil, newValidateCommand, "--format", "xml")
	require.ErrorContains(t, err, `--format "xml" isn't text or json`)
	require.Equal(t, exitConfiguration, exitCode(err))
}
