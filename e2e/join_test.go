package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rollcall/e2e/harness"
)

// TestJoin joins in every way, and proves each by the application's answer.
func TestJoin(t *testing.T) {
	t.Parallel()
	proxy := func(_ *testing.T, c *harness.Cluster) (server, trust string) {
		return "proxy_server: " + c.Info().ProxyAddr, ""
	}
	pinned := func(_ *testing.T, c *harness.Cluster) (server, trust string) {
		return "auth_server: " + c.Info().AuthAddr, ", ca_pins: ['" + c.Info().CAPin + "']"
	}
	// What the seed guides and most users write: an auth_server that is a
	// proxy, with pins beside it.
	disguised := func(_ *testing.T, c *harness.Cluster) (server, trust string) {
		return "auth_server: " + c.Info().ProxyAddr, ", ca_pins: ['" + c.Info().CAPin + "']"
	}
	withCA := func(t *testing.T, c *harness.Cluster) (server, trust string) {
		return "auth_server: " + c.Info().AuthAddr, ", ca_path: " + clusterCA(t, c)
	}
	tests := []struct {
		name   string
		method func(t *testing.T, s *stage) string
		way    func(t *testing.T, c *harness.Cluster) (server, trust string)
	}{
		{"token through the proxy", tokenJoin, proxy},
		{"token to auth with a pin", tokenJoin, pinned},
		{"token to auth with ca_path", tokenJoin, withCA},
		{"token to an auth_server that is a proxy", tokenJoin, disguised},
		{"kubernetes through the proxy", kubernetesJoin, proxy},
		{"kubernetes to auth with a pin", kubernetesJoin, pinned},
		{"kubernetes to auth with ca_path", kubernetesJoin, withCA},
		{"kubernetes to an auth_server that is a proxy", kubernetesJoin, disguised},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			server, trust := tt.way(t, s.cluster)

			s.oneshot(t, s.document(t, document{
				server:     server,
				onboarding: "{" + tt.method(t, s) + trust + "}",
				outputs:    s.application("out", "") + s.output("identity", "ssh", ""),
			}))

			s.fetches(t, "out")
			require.FileExists(t, filepath.Join(s.place("ssh"), "known_hosts"))
		})
	}
}

func tokenJoin(_ *testing.T, s *stage) string {
	return "join_method: token, token: " + s.bot.Token
}

// kubernetesJoin makes a token that trusts an issuer of ServiceAccount tokens,
// and a file with such a token.
func kubernetesJoin(t *testing.T, s *stage) string {
	name, path, _ := kubernetesToken(t, s)
	return fmt.Sprintf("join_method: kubernetes, token: %s, kubernetes: {token_path: %s}", name, path)
}

// kubernetesToken returns the join token's name, the path of the file with the
// ServiceAccount's token, and what replaces that as Kubernetes does, by a
// token that's good for the given time.
func kubernetesToken(t *testing.T, s *stage) (name, path string, rotate func(life time.Duration)) {
	t.Helper()
	issuer := harness.NewFakeServiceAccountIssuer(t)
	name = harness.Unique(t, "kube")
	s.cluster.CreateKubernetesToken(t, name, s.bot, issuer, "apps:agent")
	path = filepath.Join(suite.Dir(t), "token")
	rotate = func(life time.Duration) {
		now := time.Now()
		token := issuer.Mint(t, harness.ServiceAccount{
			Namespace: "apps", Name: "agent", Audience: s.cluster.Info().ClusterName,
			IssuedAt: now, Expires: now.Add(life),
		})
		require.NoError(t, os.WriteFile(path+".new", []byte(token+"\n"), 0o600))
		require.NoError(t, os.Rename(path+".new", path))
	}
	rotate(10 * time.Minute)
	return name, path, rotate
}

// clusterCA writes the cluster's own authority to a file, as an administrator
// would copy it to the host.
func clusterCA(t *testing.T, c *harness.Cluster) string {
	t.Helper()
	answer, err := c.Client(t).GetClusterCACert(t.Context())
	require.NoError(t, err)
	return suite.WriteFile(t, "cluster-ca.pem", string(answer.TLSCA))
}
