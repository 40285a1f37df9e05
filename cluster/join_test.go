package cluster

import (
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gravitational/teleport/api/client/webclient"
	"github.com/gravitational/teleport/api/types"
	"github.com/gravitational/trace"
	"github.com/stretchr/testify/require"

	"rollcall/failure"
)

const testToken = "0123456789abcdef0123456789abcdef"

func newTestCluster(opts Options) *Cluster {
	c := New(opts, slog.New(slog.DiscardHandler))
	c.timeout = 3 * time.Second
	return c
}

func tokenJoin(t *testing.T) JoinRequest {
	t.Helper()
	key, err := NewKey()
	require.NoError(t, err)
	return JoinRequest{Method: JoinMethodToken, Token: testToken, Key: key, TTL: time.Hour, NodeName: "host1"}
}

func kubernetesJoin(t *testing.T, previous *Credentials) JoinRequest {
	t.Helper()
	req := tokenJoin(t)
	req.Method, req.Token, req.IDToken, req.Previous = JoinMethodKubernetes, "kube-token", "header.claims.signature", previous
	return req
}

func TestJoinChoosesTheEndpointByVersion(t *testing.T) {
	const viaProxyHTTP, viaAuthHTTP, viaGRPC = "http /v1/webapi/host/credentials", "http /v2/tokens/register", "grpc"
	withoutService := func(f *fakeTeleport) *fakeTeleport {
		f.joinService = false
		return f
	}
	tests := map[string]struct {
		server *fakeTeleport
		want   []string
	}{
		"v14 proxy":                          {fakeV14Proxy(), []string{viaProxyHTTP}},
		"v17 proxy":                          {fakeV17Proxy(), []string{viaGRPC}},
		"v17 proxy without the protocol":     {withoutService(fakeV17Proxy()), []string{viaProxyHTTP}},
		"v17 proxy without the service":      {&fakeTeleport{version: "17.0.0", proxy: true, httpJoin: true, joinALPN: true}, []string{viaProxyHTTP}},
		"v17 proxy behind a load balancer":   {&fakeTeleport{version: "17.0.0", proxy: true, httpJoin: true, joinService: true, noALPN: true}, []string{viaProxyHTTP}},
		"v19 proxy":                          {&fakeTeleport{version: "19.0.0", proxy: true, httpJoin: true, joinService: true}, []string{viaGRPC}},
		"v16 auth":                           {fakeV16Auth(), []string{viaAuthHTTP}},
		"v17 auth":                           {fakeV17Auth(), []string{viaGRPC}},
		"v17 auth without the service":       {withoutService(fakeV17Auth()), []string{viaAuthHTTP}},
		"v18 auth":                           {fakeV18Auth(), []string{viaGRPC}},
		"auth of unknown version":            {&fakeTeleport{joinService: true}, []string{viaGRPC}},
		"auth of unknown version, HTTP only": {&fakeTeleport{httpJoin: true}, []string{viaAuthHTTP}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			server := test.server.start(t)
			creds, err := newTestCluster(server.options()).Join(t.Context(), tokenJoin(t))
			require.NoError(t, err)
			require.Equal(t, test.want, server.ways())
			require.Equal(t, "bot-test", creds.Username())
			require.Equal(t, testClusterName, creds.ClusterName)
			require.Equal(t, uint64(1), creds.Generation())
			require.True(t, creds.Renewable())
		})
	}
}

func TestJoinSendsWhatServersRead(t *testing.T) {
	for name, server := range map[string]*fakeTeleport{"HTTP": fakeV14Proxy(), "gRPC": fakeV17Proxy()} {
		t.Run(name, func(t *testing.T) {
			server.start(t)
			req := kubernetesJoin(t, nil)
			_, err := newTestCluster(server.options()).Join(t.Context(), req)
			require.NoError(t, err)
			got := server.lastRequest()
			require.Equal(t, types.RoleBot, got.Role)
			require.Equal(t, "kube-token", got.Token)
			require.Equal(t, "header.claims.signature", got.IDToken)
			require.Equal(t, "host1", got.NodeName)
			require.Equal(t, req.Key.PublicSSH, got.PublicSSHKey)
			require.Equal(t, req.Key.PublicTLS, got.PublicTLSKey)
			require.WithinDuration(t, time.Now().Add(time.Hour), *got.Expires, time.Minute)
		})
	}
}

// The names in the JSON are the protocol; recorded as a proxy receives them.
func TestJoinJSON(t *testing.T) {
	req := kubernetesJoin(t, nil)
	content, err := json.Marshal(req.message())
	require.NoError(t, err)
	var fields map[string]any
	require.NoError(t, json.Unmarshal(content, &fields))
	for _, name := range []string{"role", "token", "node_name", "public_tls_key", "public_ssh_key", "expires", "id_token"} {
		require.NotEmpty(t, fields[name], name)
	}
	require.Equal(t, "Bot", fields["role"])
}

func TestKubernetesRejoin(t *testing.T) {
	const asBot = "grpc with certificate of bot-test"
	tests := map[string]struct {
		server   *fakeTeleport
		previous userCert
		foreign  bool
		token    bool
		want     []string
	}{
		"v17 auth":                      {server: fakeV17Auth(), want: []string{asBot}},
		"v17 proxy":                     {server: fakeV17Proxy(), want: []string{asBot}},
		"v18 auth":                      {server: fakeV18Auth(), want: []string{asBot}},
		"v16 auth knows no rejoin":      {server: fakeV16Auth(), want: []string{"http /v2/tokens/register"}},
		"v14 proxy knows no rejoin":     {server: fakeV14Proxy(), want: []string{"http /v1/webapi/host/credentials"}},
		"expired identity joins as new": {server: fakeV17Auth(), previous: userCert{expires: time.Now().Add(-time.Second)}, want: []string{"grpc"}},
		"foreign identity joins as new": {server: fakeV17Auth(), foreign: true, want: []string{"grpc"}},
		"token joins aren't repeated":   {server: fakeV17Auth(), token: true, want: []string{"grpc"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			server := test.server.start(t)
			issuer := server.authority
			if test.foreign {
				issuer = newTestAuthority(t, testClusterName)
			}
			test.previous.name = "bot-test"
			req := kubernetesJoin(t, issuer.credentials(test.previous))
			if test.token {
				req.Method, req.IDToken = JoinMethodToken, ""
			}
			_, err := newTestCluster(server.options()).Join(t.Context(), req)
			require.NoError(t, err)
			require.Equal(t, test.want, server.ways())
		})
	}
}

func TestJoinRejected(t *testing.T) {
	tests := map[string]struct {
		refuse error
		kind   failure.Kind
		want   string
	}{
		"unknown token": {trace.AccessDenied(`"" can not join the cluster with role "Bot", token expired or not found`),
			failure.Refused, "unknown to the cluster, has expired or was used already"},
		"used token": {trace.BadParameter(`user "bot-test" has already been issued a renewable certificate and cannot be issued another; consider deleting and recreating the bot`),
			failure.Refused, "the token was used already"},
		"expired ServiceAccount token": {trace.Wrap(trace.Errorf("go-jose/go-jose/jwt: validation failed, token is expired (exp)"), "reviewing kubernetes token with static_jwks"),
			failure.Refused, "the ServiceAccount token has expired"},
		"the server quotes the token": {trace.AccessDenied("token %s is odd", testToken),
			failure.Refused, "token [token] is odd"},
		// It may have acted: the token must not be presented again.
		"the server fails": {trace.ConnectionProblem(nil, "no backend"), failure.Other, ""},
	}
	for name, test := range tests {
		for _, server := range []*fakeTeleport{fakeV14Proxy(), fakeV17Proxy(), fakeV16Auth(), fakeV17Auth()} {
			t.Run(name+" "+server.version, func(t *testing.T) {
				server.refuse = test.refuse
				server.start(t)
				_, err := newTestCluster(server.options()).Join(t.Context(), tokenJoin(t))
				require.Error(t, err)
				require.Len(t, server.ways(), 1)
				require.NotContains(t, errorTexts(err), testToken)
				if test.want == "" {
					require.Contains(t, []failure.Kind{failure.Transient, failure.Unreachable}, failure.KindOf(err))
					return
				}
				require.ErrorContains(t, err, test.want)
				require.Equal(t, test.kind, failure.KindOf(err))
			})
		}
	}
}

func TestJoinRefusesVersionsBeforeItSends(t *testing.T) {
	tests := map[string]struct {
		server *fakeTeleport
		want   string
	}{
		"proxy too new":            {&fakeTeleport{version: "20.0.0", proxy: true, httpJoin: true, joinService: true}, "too new"},
		"proxy wants newer client": {&fakeTeleport{version: "19.5.0", minClient: "19.0.0", proxy: true, httpJoin: true, joinService: true}, "too new"},
		"proxy too old":            {&fakeTeleport{version: "13.4.2", proxy: true, httpJoin: true}, "too old"},
		"auth too new":             {&fakeTeleport{version: "20.0.0", joinService: true}, "too new"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			server := test.server.start(t)
			_, err := newTestCluster(server.options()).Join(t.Context(), tokenJoin(t))
			require.ErrorContains(t, err, test.want)
			require.Equal(t, failure.Refused, failure.KindOf(err))
			require.Empty(t, server.ways())
		})
	}
}

func TestV18AuthWithoutJoinService(t *testing.T) {
	server := (&fakeTeleport{version: "18.0.0", httpJoin: true}).start(t)
	_, err := newTestCluster(server.options()).Join(t.Context(), tokenJoin(t))
	require.Equal(t, failure.Refused, failure.KindOf(err))
	require.Empty(t, server.ways())
}

func TestJoinRequestIsChecked(t *testing.T) {
	tests := map[string]struct {
		change func(*JoinRequest)
		want   string
	}{
		"no token":   {func(r *JoinRequest) { r.Token = "" }, "set onboarding.token"},
		"method":     {func(r *JoinRequest) { r.Method = "iam" }, `"iam" isn't supported`},
		"no idtoken": {func(r *JoinRequest) { r.Method = JoinMethodKubernetes }, "ServiceAccount token is empty"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			req := tokenJoin(t)
			test.change(&req)
			_, err := newTestCluster(Options{ProxyServer: "127.0.0.1:1"}).Join(t.Context(), req)
			require.ErrorContains(t, err, test.want)
			require.Equal(t, failure.Configuration, failure.KindOf(err))
		})
	}
}

// A redirect would carry the join token to whoever it names.
func TestJoinFollowsNoRedirect(t *testing.T) {
	var elsewhere int
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere++ }))
	t.Cleanup(other.Close)
	opts := fakeProxyAnswering(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
	})
	_, err := newTestCluster(opts).Join(t.Context(), tokenJoin(t))
	require.ErrorContains(t, err, "set proxy_server to the proxy's own address")
	require.Equal(t, failure.Configuration, failure.KindOf(err))
	require.Zero(t, elsewhere)
}

func TestJoinHTTPAnswers(t *testing.T) {
	tests := map[string]struct {
		status int
		body   string
		kind   failure.Kind
		want   string
	}{
		"a load balancer's page":  {http.StatusBadGateway, "<html>bad gateway</html>", failure.Transient, "HTTP status 502: Bad Gateway"},
		"an error without words":  {http.StatusInternalServerError, "{}", failure.Transient, "HTTP status 500"},
		"auth is away":            {http.StatusInternalServerError, `{"error":{"message":"dial tcp 10.0.0.1:3025: connect: connection refused"}}`, failure.Transient, "HTTP status 500"},
		"rate limit":              {http.StatusTooManyRequests, `{"error":{"message":"slow down"}}`, failure.Transient, "limits how often"},
		"no such path":            {http.StatusNotFound, "404 page not found\n", failure.Configuration, "knows no joins there"},
		"a firewall's page":       {http.StatusForbidden, "<html>blocked</html>", failure.Refused, "in front of the cluster refuses"},
		"an answer that isn't it": {http.StatusOK, "<html>welcome</html>", failure.Refused, "isn't a set of certificates"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			opts := fakeProxyAnswering(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(test.status)
				_, _ = w.Write([]byte(test.body))
			})
			_, err := newTestCluster(opts).Join(t.Context(), tokenJoin(t))
			require.ErrorContains(t, err, test.want)
			require.Equal(t, test.kind, failure.KindOf(err))
		})
	}
}

// fakeProxyAnswering answers /webapi/ping as a v14 proxy and everything else by
// the handler; the options trust it.
func fakeProxyAnswering(t *testing.T, handler http.HandlerFunc) Options {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/webapi/ping" {
			_ = json.NewEncoder(w).Encode(webclient.PingResponse{ServerVersion: "14.2.3", Proxy: webclient.ProxySettings{TLSRoutingEnabled: true}})
			return
		}
		handler(w, r)
	}))
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.StartTLS()
	t.Cleanup(server.Close)
	path := filepath.Join(t.TempDir(), "ca.pem")
	content := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	require.NoError(t, os.WriteFile(path, content, 0o600))
	return Options{ProxyServer: strings.TrimPrefix(server.URL, "https://"), ProxyCA: path}
}
