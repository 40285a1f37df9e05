package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"rollcall/config"
	"rollcall/outputs"
)

func TestConfigurePrintsAWorkingFile(t *testing.T) {
	stdout, stderr, err := execute(t, &globals{}, nil, newConfigureCommand,
		"--proxy-server=teleport.example.com:443", "--join-method=token", "--token=/etc/rollcall/token",
		"--output-type=application", "--app-name=grafana", "--destination=/opt/machine-id", "--specific-tls-naming",
		"--roles=access", "--roles=audit", "--certificate-ttl=2h", "--renewal-interval=30m")
	require.NoError(t, err)
	require.Empty(t, stderr)
	cfg, err := config.Load(configFile(t, stdout))
	require.NoError(t, err, stdout)
	require.Equal(t, "teleport.example.com:443", cfg.Cluster.ProxyServer)
	require.Equal(t, "/etc/rollcall/token", cfg.Onboarding.Token)
	require.Equal(t, "2h0m0s", cfg.CredentialTTL.String())
	app, ok := cfg.Outputs[0].Options.(*outputs.ApplicationOptions)
	require.True(t, ok)
	require.Equal(t, "grafana", app.AppName)
	require.True(t, app.SpecificTLSNaming)
	require.Equal(t, []string{"access", "audit"}, app.Roles)
	require.Equal(t, "directory /opt/machine-id", cfg.Outputs[0].Destination.String())
}

func TestConfigureTakesTheOfficialFlags(t *testing.T) {
	const pin = "sha256:abdc1245efab5678abdc1245efab5678abdc1245efab5678abdc1245efab5678"
	stdout, _, err := execute(t, &globals{}, map[string]string{"TELEPORT_BOT_TOKEN": "from-environment"}, newConfigureCommand,
		"-a", "auth.example.com:3025", "--ca-pin="+pin, "--data-dir=/var/lib/rollcall", "--join-method=token", "--oneshot")
	require.NoError(t, err)
	cfg, err := config.Load(configFile(t, stdout))
	require.NoError(t, err, stdout)
	require.Equal(t, "auth.example.com:3025", cfg.Cluster.AuthServer)
	require.Equal(t, []string{pin}, cfg.Cluster.CAPins)
	require.Equal(t, "directory /var/lib/rollcall", cfg.Storage.String())
	require.Equal(t, "from-environment", cfg.Onboarding.Token)
	require.True(t, cfg.Oneshot)
	require.Empty(t, cfg.Outputs)
}

// TestConfigureTellsOfServices, for which it has no flags.
func TestConfigureTellsOfServices(t *testing.T) {
	stdout, _, err := execute(t, &globals{}, nil, newConfigureCommand, "--proxy-server=a.example.com:443")
	require.NoError(t, err)
	require.Contains(t, stdout, "docs/local-proxy.md")
	_, help, _ := runLine(t, nil, "help", "configure")
	require.Contains(t, help, "docs/local-proxy.md")
	for _, doc := range []string{"local-proxy.md", "discovery.md"} {
		require.FileExists(t, filepath.Join("../../docs", doc))
	}
}

func TestConfigureWritesANewFileOnly(t *testing.T) {
	file := filepath.Join(t.TempDir(), "rollcall.yaml")
	args := []string{"--proxy-server=teleport.example.com:443", "--destination-dir=/opt/machine-id", "-o", file}
	stdout, stderr, err := execute(t, &globals{}, nil, newConfigureCommand, args...)
	require.NoError(t, err)
	require.Empty(t, stdout)
	require.Contains(t, stderr, "rollcall validate -c "+file)
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode())
	_, err = config.Load(file)
	require.NoError(t, err)

	before, err := os.ReadFile(file)
	require.NoError(t, err)
	_, _, err = execute(t, &globals{}, nil, newConfigureCommand, args...)
	require.ErrorContains(t, err, "is there already")
	require.Equal(t, exitConfiguration, exitCode(err))
	after, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, before, after)

	_, _, err = execute(t, &globals{}, nil, newConfigureCommand, "--proxy-server=a.example.com:443", "-o", filepath.Join(file, "x"))
	require.ErrorContains(t, err, "can't be made")
}

func TestConfigureRefusesNonsense(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string
	}{
		{nil, "give the proxy's address"},
		{[]string{"--proxy-server=https://a.example.com"}, "--proxy-server: proxy_server is host:port, without https://"},
		{[]string{"--proxy-server=a.example.com:443", "--join-method=iam"}, `--join-method: join method "iam" isn't built yet`},
		{[]string{"--proxy-server=a.example.com:443", "--credential-ttl=48h"}, "must be from 1m to 24h"},
		{[]string{"--proxy-server=a.example.com:443", "--output-type=kubernetes", "--destination=/a"}, `output type "kubernetes" isn't built yet`},
	} {
		stdout, _, err := execute(t, &globals{}, nil, newConfigureCommand, test.args...)
		require.ErrorContains(t, err, test.want)
		require.Equal(t, exitConfiguration, exitCode(err))
		require.Empty(t, stdout)
	}
}
