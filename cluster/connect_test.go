package cluster

import (
	"crypto/tls"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/gravitational/teleport/api/client"
	"github.com/gravitational/teleport/api/defaults"
	"github.com/stretchr/testify/require"

	"rollcall/failure"
)

func TestConnect(t *testing.T) {
	for name, server := range map[string]*fakeTeleport{
		"through a proxy": fakeV17Proxy(), "through an older proxy": fakeV14Proxy(), "directly": fakeV17Auth(),
	} {
		t.Run(name, func(t *testing.T) {
			server.start(t)
			creds := server.authority.credentials(userCert{name: "bot-test"})
			clt, err := newTestCluster(server.options()).connect(t.Context(), creds)
			require.NoError(t, err)
			answer, err := clt.Ping(t.Context())
			require.NoError(t, err)
			require.Equal(t, server.version, answer.ServerVersion)
			require.NoError(t, clt.Close())
		})
	}
}

// Once there's an identity, neither pins nor ca_path are needed.
func TestConnectDirectlyWithoutPins(t *testing.T) {
	server := fakeV17Auth().start(t)
	creds := server.authority.credentials(userCert{name: "bot-test"})
	clt, err := newTestCluster(Options{AuthServer: server.addr}).connect(t.Context(), creds)
	require.NoError(t, err)
	require.NoError(t, clt.Close())
}

func TestConnectRefuses(t *testing.T) {
	stranger := newTestAuthority(t, testClusterName)
	tests := map[string]struct {
		change func(*Credentials)
		kind   failure.Kind
		want   string
	}{
		"a server of another authority": {func(c *Credentials) { c.TLSCACerts = [][]byte{stranger.pem} }, failure.Trust, "unknown authority"},
		"no authority at all":           {func(c *Credentials) { c.TLSCACerts = nil }, failure.Trust, "no certificate authority"},
		"an expired identity":           {func(c *Credentials) { c.X509.NotAfter = time.Now().Add(-time.Second) }, failure.Refused, "the identity expired at"},
		"an identity of another cluster": {func(c *Credentials) {
			foreign := stranger.credentials(userCert{name: "bot-test"})
			foreign.TLSCACerts = c.TLSCACerts
			*c = *foreign
		}, failure.Refused, "join again"},
	}
	for name, test := range tests {
		for _, server := range []*fakeTeleport{fakeV17Proxy(), fakeV17Auth()} {
			t.Run(name+" "+server.version, func(t *testing.T) {
				server.start(t)
				creds := server.authority.credentials(userCert{name: "bot-test"})
				test.change(creds)
				_, err := newTestCluster(server.options()).connect(t.Context(), creds)
				require.ErrorContains(t, err, test.want)
				require.Equal(t, test.kind, failure.KindOf(err))
			})
		}
	}
}

func TestConnectAsLockedBot(t *testing.T) {
	server := fakeV17Proxy()
	server.locked = true
	server.start(t)
	_, err := newTestCluster(server.options()).connect(t.Context(), server.authority.credentials(userCert{name: "bot-test"}))
	require.ErrorContains(t, err, "THE BOT IS LOCKED OR GONE")
	require.ErrorContains(t, err, "tctl bots instances add")
	require.Equal(t, failure.Refused, failure.KindOf(err))
}

func TestConnectToNewerCluster(t *testing.T) {
	server := (&fakeTeleport{version: "20.0.0"}).start(t)
	creds := server.authority.credentials(userCert{name: "bot-test"})
	_, err := newTestCluster(server.options()).connect(t.Context(), creds)
	require.ErrorContains(t, err, "too new")
	require.Equal(t, failure.Refused, failure.KindOf(err))
}

// A load balancer that ends TLS without our noticing is told from an attack by
// what the user knows; the connection isn't made either way.
func TestConnectThroughLoadBalancerWithoutUpgrade(t *testing.T) {
	server := fakeV17Proxy()
	server.noALPN = true
	server.start(t)
	t.Setenv("TELEPORT_TLS_ROUTING_CONN_UPGRADE", "no")
	_, err := newTestCluster(server.options()).connect(t.Context(), server.authority.credentials(userCert{name: "bot-test"}))
	require.ErrorContains(t, err, "TELEPORT_TLS_ROUTING_CONN_UPGRADE=yes")
	require.Equal(t, failure.Trust, failure.KindOf(err))
}

// A host that takes connections and says nothing holds nobody up.
func TestSilentServer(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var accepting sync.WaitGroup
	var conns []net.Conn
	accepting.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conns = append(conns, conn)
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		accepting.Wait()
		for _, conn := range conns {
			_ = conn.Close()
		}
	})
	addr := listener.Addr().String()
	creds := newTestAuthority(t, testClusterName).credentials(userCert{name: "bot-test"})
	for name, found := range map[string]*Endpoint{
		"finding the way": nil,
		"TLS routing":     {Addr: addr, Proxy: true, TLSRouting: true},
		"conn upgrade":    {Addr: addr, Proxy: true, TLSRouting: true, ConnUpgrade: true},
		"tunnel":          {Addr: addr, Proxy: true, TunnelAddr: addr},
		"auth":            {Addr: addr},
	} {
		t.Run(name, func(t *testing.T) {
			c := newTestCluster(Options{ProxyServer: addr})
			c.timeout = 200 * time.Millisecond
			c.endpoint, c.learned = found, time.Now()
			begun := time.Now()
			_, err := c.connect(t.Context(), creds)
			require.Equal(t, failure.Unreachable, failure.KindOf(err), "%v", err)
			require.ErrorContains(t, err, addr)
			require.Less(t, time.Since(begun), 15*time.Second)
		})
	}
}

// An Auth Service cuts connections that ping more often than its own period,
// which is the api's default (lib/auth/apiserver.go of Teleport). A ping that is
// late by some seconds comes nearer to the next, and isn't to count as one too
// many.
func TestPingsAreTolerated(t *testing.T) {
	config := New(Options{}, slog.New(slog.DiscardHandler)).clientConfig("localhost:1")
	config.Credentials = []client.Credentials{client.LoadTLS(&tls.Config{})}
	require.NoError(t, config.CheckAndSetDefaults())
	require.GreaterOrEqual(t, config.KeepAlivePeriod, defaults.ServerKeepAliveTTL()+5*time.Second)
}
