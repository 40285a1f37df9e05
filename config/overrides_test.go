package config

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rollcall/destination"
	"rollcall/outputs"
)

func TestOverrides(t *testing.T) {
	c, err := Load("testdata/tbot-standard.good.yml", Overrides{
		ProxyServer:     "proxy.example.com:443",
		JoinMethod:      "kubernetes",
		Token:           "kube-bot",
		CAPath:          "/etc/ca.pem",
		Storage:         "memory://",
		CredentialTTL:   10 * time.Minute,
		RenewalInterval: time.Minute,
		DiagAddr:        "127.0.0.1:0",
		LogFormat:       "json",
		Oneshot:         true,
	})
	require.NoError(t, err)
	require.Equal(t, "proxy.example.com:443", c.Cluster.ProxyServer)
	require.Empty(t, c.Cluster.AuthServer, "a server from a flag replaces the file's of either kind")
	require.Equal(t, "kubernetes", c.Onboarding.JoinMethod)
	require.Equal(t, "kube-bot", c.Onboarding.Token)
	require.Empty(t, c.Onboarding.CAPins, "a CA from a flag replaces the file's pins")
	require.Equal(t, "/etc/ca.pem", c.Cluster.CAPath)
	require.Equal(t, destination.TypeMemory, c.Storage.Type)
	require.Equal(t, 10*time.Minute, c.CredentialTTL)
	require.Equal(t, time.Minute, c.RenewalInterval)
	require.Equal(t, LogFormatJSON, c.LogFormat)
	require.True(t, c.Oneshot)
	require.True(t, c.Debug, "a switch that isn't given leaves the file's")
	require.Len(t, c.Outputs, 3)
}

func TestFlagsOnly(t *testing.T) {
	c, err := Load("", Overrides{
		ProxyServer: "proxy.example.com:443", Token: "abc", DestinationDir: "./tbot-user", Storage: "file:///srv/storage",
	})
	require.NoError(t, err)
	require.Equal(t, "token", c.Onboarding.JoinMethod)
	require.Equal(t, "directory /srv/storage", c.Storage.String())
	require.Len(t, c.Outputs, 1)
	require.Equal(t, "identity-tbot-user", c.Outputs[0].Name)
	require.Equal(t, "./tbot-user", c.Outputs[0].Destination.Directory.Path)
	require.IsType(t, &outputs.IdentityOptions{}, c.Outputs[0].Options)
}

func TestDestinationFlagReplacesOutputs(t *testing.T) {
	c, err := Load("testdata/tbot-newest.good.yml", Overrides{DestinationDir: "/opt/other"})
	require.NoError(t, err)
	require.Len(t, c.Outputs, 1)
	require.Equal(t, time.Hour, c.Outputs[0].Common.CredentialTTL, "the replaced outputs leave nothing behind")
}

// TestOverrideErrors shows that an error names the flag or the variable that
// the value came from.
func TestOverrideErrors(t *testing.T) {
	file := "version: v2\nproxy_server: a.example.com:443\n"
	for _, test := range []struct {
		name string
		file string
		with Overrides
		want string
	}{
		{"no server", "", Overrides{}, "flags: neither proxy_server nor auth_server is given"},
		{"both servers", "", Overrides{ProxyServer: "a:1", AuthServer: "b:1"}, "proxy_server and auth_server are both given"},
		{"join method", file, Overrides{JoinMethod: "tokn"}, `--join-method: unknown join method "tokn"; did you mean "token"?`},
		{"TTL", file, Overrides{CredentialTTL: time.Second}, "--credential-ttl: credential_ttl is 1s, and must be from 1m to 24h"},
		{"interval", file, Overrides{RenewalInterval: 2 * time.Hour}, "--renewal-interval: renewal_interval is 2h, and must be shorter than credential_ttl (1h)"},
		{"log format", file, Overrides{LogFormat: "jsn"}, `--log-format: log_format must be text or json, not "jsn"; did you mean "json"?`},
		{"storage", file, Overrides{Storage: "s3://bucket"}, `--storage: the storage "s3://bucket" isn't a directory`},
		{"insecure", file, Overrides{Insecure: true, CAPins: []string{"x"}}, "--insecure: insecure contradicts onboarding.ca_pins"},
		{"pin", file, Overrides{CAPins: []string{"x"}}, "--ca-pin: onboarding.ca_pins[0] isn't a pin"},
		{"into storage", file, Overrides{DestinationDir: "/var/lib/teleport/bot"}, "--destination-dir: outputs[0] writes into /var/lib/teleport/bot, and so does storage"},
		{"variable", file, Overrides{Token: "${X}", Origin: map[string]string{"onboarding.token": "TELEPORT_BOT_TOKEN"}},
			"TELEPORT_BOT_TOKEN: onboarding.token looks like a variable"},
		{"a service's address", file + "services: [{type: application-proxy, listen: \"tcp://127.0.0.1:1234\"}]\n", Overrides{DiagAddr: "127.0.0.1:1234"},
			"services[0].listen is tcp://127.0.0.1:1234, and so is --diag-addr; give each service an address of its own"},
		{"wrong in the file, right in the flag", "version: v2\nproxy_server: nonsense\n", Overrides{ProxyServer: "a.example.com:x"},
			"--proxy-server: proxy_server must be host:port"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var err error
			if test.file == "" {
				_, err = Load("", test.with)
			} else {
				_, err = load(t, test.file, test.with)
			}
			require.ErrorContains(t, err, test.want)
		})
	}
}

// TestFlagMendsTheFile shows that checks look at the merged values only.
func TestFlagMendsTheFile(t *testing.T) {
	_, err := load(t, "version: v2\nproxy_server: nonsense\ncredential_ttl: 48h\n",
		Overrides{ProxyServer: "a.example.com:443", CredentialTTL: time.Hour})
	require.NoError(t, err)
}
