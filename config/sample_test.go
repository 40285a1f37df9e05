package config

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestSamplesWork parses what `rollcall configure` prints and compares it with
// what was asked for.
func TestSamplesWork(t *testing.T) {
	const pin = "sha256:abdc1245efab5678abdc1245efab5678abdc1245efab5678abdc1245efab5678"
	for name, sample := range map[string]Sample{
		"least": {Overrides: Overrides{ProxyServer: "proxy.example.com:443"}},
		"application": {
			Overrides: Overrides{ProxyServer: "proxy.example.com:443", JoinMethod: "token", Token: "0x12: #'\""},
			AppName:   "grafana: yes", SpecificTLSNaming: true, Destination: "/opt/machine id",
		},
		"everything": {
			Overrides: Overrides{
				AuthServer: "auth.example.com:3025", JoinMethod: "kubernetes", Token: "kube-bot", CAPins: []string{pin},
				Storage: "memory://", CredentialTTL: 90 * time.Minute, RenewalInterval: 10 * time.Minute,
				DiagAddr: "127.0.0.1:3001", LogFormat: "json", Oneshot: true, Debug: true, ProxyCA: "/etc/ca.pem",
			},
			OutputType: "identity", Roles: []string{"access", "true"}, Destination: "memory://",
		},
		"insecure": {Overrides: Overrides{AuthServer: "auth.example.com:3025", Insecure: true}},
		"CA":       {Overrides: Overrides{AuthServer: "auth.example.com:3025", CAPath: "/etc/ca.pem", Token: "a"}},
	} {
		t.Run(name, func(t *testing.T) {
			text, err := sample.YAML()
			require.NoError(t, err)
			got, err := load(t, string(text))
			require.NoError(t, err, "%s", text)

			want := New()
			want.Apply(sample.Overrides)
			require.NoError(t, want.Check())
			require.Equal(t, want.Cluster, got.Cluster)
			require.Equal(t, want.Onboarding, got.Onboarding)
			require.Equal(t, want.Storage.String(), got.Storage.String())
			require.Equal(t, want.CredentialTTL, got.CredentialTTL)
			require.Equal(t, want.RenewalInterval, got.RenewalInterval)
			require.Equal(t, want.DiagAddr, got.DiagAddr)
			require.Equal(t, want.LogFormat, got.LogFormat)
			require.Equal(t, want.Oneshot, got.Oneshot)
			require.Equal(t, want.Debug, got.Debug)
			if sample.Destination != "" {
				out, err := sample.output(New())
				require.NoError(t, err)
				require.Len(t, got.Outputs, 1)
				require.Equal(t, out.Type, got.Outputs[0].Type)
				require.Equal(t, out.Destination.String(), got.Outputs[0].Destination.String())
				require.Equal(t, sample.Roles, got.Outputs[0].Common.Roles)
			}
			golden(t, "testdata/sample-"+name+".golden", string(text))
		})
	}
}

func TestSamplesThatCannotWork(t *testing.T) {
	server := Overrides{ProxyServer: "proxy.example.com:443"}
	for _, test := range []struct {
		sample Sample
		want   string
	}{
		{Sample{}, "flags: neither proxy_server nor auth_server is given; give the proxy's address, for example --proxy-server"},
		{Sample{Overrides: server, OutputType: "application", Destination: "/a"}, "--app-name: outputs[0].app_name"},
		{Sample{Overrides: server, OutputType: "identity"}, "give --destination"},
		{Sample{Overrides: server, OutputType: "database", Destination: "/a"}, `output type "database" isn't built yet`},
		{Sample{Overrides: server, OutputType: "app", Destination: "/a"}, `unknown output type "app"; use application or identity`},
		{Sample{Overrides: server, AppName: "x"}, "give --destination"},
		{Sample{Overrides: server, Roles: []string{"x"}}, "an output needs --destination"},
		{Sample{Overrides: server, OutputType: "identity", AppName: "x", Destination: "/a"}, "not identity"},
		{Sample{Overrides: server, Destination: "/var/lib/teleport/bot"}, "and so does storage"},
		{Sample{Overrides: server, Destination: "s3://x"}, "isn't a directory or memory://"},
	} {
		_, err := test.sample.YAML()
		require.ErrorContains(t, err, test.want)
	}
}
