package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/gravitational/trace"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rollcall/failure"
)

func TestJudgeProbe(t *testing.T) {
	certificate := func(err error) error { return trace.Wrap(&tls.CertificateVerificationError{Err: err}) }
	authCert := &x509.Certificate{DNSNames: []string{"*.teleport.cluster.local", "teleport.cluster.local"}}
	tests := map[string]struct {
		err  error
		want verdict
	}{
		"a proxy answers":         {nil, isProxy},
		"another server answers":  {trace.Wrap(errNotProxy), isNoProxy},
		"unknown authority":       {certificate(x509.UnknownAuthorityError{}), isUntrusted},
		"an Auth Service's name":  {certificate(x509.HostnameError{Certificate: authCert, Host: "auth.example.com"}), isUntrusted},
		"another name":            {certificate(x509.HostnameError{Certificate: &x509.Certificate{}, Host: "a"}), isSilent},
		"expired":                 {certificate(x509.CertificateInvalidError{Reason: x509.Expired}), isSilent},
		"TLS alert":               {&net.OpError{Op: "remote error", Err: trace.Errorf("tls: handshake failure")}, isNoProxy},
		"refused":                 {&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, isSilent},
		"unknown host":            {&net.DNSError{Name: "a", IsNotFound: true}, isSilent},
		"timeout":                 {context.DeadlineExceeded, isSilent},
		"no TLS":                  {tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"}, isSilent},
		"the proxy is in trouble": {httpError(502, nil), isSilent},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, test.want, judgeProbe(test.err))
		})
	}
}

func TestWithPort(t *testing.T) {
	tests := map[string]string{
		"example.com":              "example.com:443",
		"example.com:3080":         "example.com:3080",
		"https://example.com":      "example.com:443",
		"https://example.com:1/x":  "example.com:1",
		"192.0.2.1":                "192.0.2.1:443",
		"[2001:db8::1]":            "[2001:db8::1]:443",
		"[2001:db8::1]:3080":       "[2001:db8::1]:3080",
		"2001:db8::1":              "[2001:db8::1]:443",
		"tcp://auth.example.com:9": "auth.example.com:9",
	}
	for addr, want := range tests {
		require.Equal(t, want, withPort(addr, "443"), addr)
	}
}

func TestReplaceUnspecifiedHost(t *testing.T) {
	tests := map[string]string{
		"0.0.0.0:3024":            "proxy.example.com:3024",
		"[::]:3024":               "proxy.example.com:3024",
		":3024":                   "proxy.example.com:3024",
		"tunnel.example.com:3024": "tunnel.example.com:3024",
		"192.0.2.1:3024":          "192.0.2.1:3024",
	}
	for addr, want := range tests {
		require.Equal(t, want, replaceUnspecifiedHost(addr, "proxy.example.com:443"), addr)
	}
}

func TestCheckServerVersion(t *testing.T) {
	tests := []struct {
		version, minClient string
		want               string
	}{
		{"14.2.3", "13.0.0", ""},
		{"v19.9.9", "18.0.0-aa", ""},
		{"18.0.0-dev.1", "", ""},
		{"", "", ""},
		{"unreadable", "x", ""},
		{"20.0.0", "19.0.0", "too new"},
		{"19.0.0", "19.0.0", "too new"},
		{"13.4.2", "12.0.0", "too old"},
	}
	for _, test := range tests {
		err := checkServerVersion(test.version, test.minClient)
		if test.want == "" {
			require.NoError(t, err, test.version)
			continue
		}
		require.ErrorContains(t, err, test.want, test.version)
		require.Equal(t, failure.Refused, failure.KindOf(err))
	}
}

func TestEndpointNeedsAServer(t *testing.T) {
	_, err := newTestCluster(Options{}).Endpoint(t.Context())
	require.ErrorContains(t, err, "set proxy_server")
	require.Equal(t, failure.Configuration, failure.KindOf(err))
}

func TestEndpointIsAskedOnce(t *testing.T) {
	server := fakeV14Proxy().start(t)
	c := newTestCluster(server.options())
	for range 3 {
		found, err := c.Endpoint(t.Context())
		require.NoError(t, err)
		require.Equal(t, Endpoint{Addr: server.addr, Proxy: true, ClusterName: testClusterName,
			ServerVersion: "14.2.3", ServerMajor: 14, TLSRouting: true}, found)
	}
	require.Equal(t, 1, server.pings)

	// A join asks again: the cluster may have been upgraded since.
	_, err := c.Join(t.Context(), tokenJoin(t))
	require.NoError(t, err)
	require.Equal(t, 2, server.pings)
}

// TestConnUpgradeByEnvironment: what it says counts, whatever a look at the proxy
// would show.
func TestConnUpgradeByEnvironment(t *testing.T) {
	for name, c := range map[string]struct {
		value          string // PROXY stands for the proxy's address
		noALPN, wanted bool
	}{
		"yes, where ALPN passes":  {"yes", false, true},
		"no, where it's stripped": {"no", true, false},
		"yes for this proxy":      {"no,PROXY=yes", false, true},
		"no for this proxy":       {"yes,PROXY=no", true, false},
		"yes for another":         {"other.example.com:443=yes", true, false},
	} {
		t.Run(name, func(t *testing.T) {
			server := fakeV14Proxy()
			server.noALPN = c.noALPN
			server.start(t)
			t.Setenv("TELEPORT_TLS_ROUTING_CONN_UPGRADE", strings.ReplaceAll(c.value, "PROXY", server.addr))

			found, err := newTestCluster(server.options()).Endpoint(t.Context())

			require.NoError(t, err)
			require.Equal(t, c.wanted, found.ConnUpgrade)
		})
	}
}

// TestADialledConnectionIsKeptAlive, so that what stands between doesn't forget
// it, and a proxy that has vanished is noticed.
func TestADialledConnectionIsKeptAlive(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()

	conn, err := newTestCluster(Options{}).dialer(t.Context()).DialContext(t.Context(), "tcp", listener.Addr().String())

	require.NoError(t, err)
	defer conn.Close()
	raw, err := conn.(syscall.Conn).SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) {
		alive, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_KEEPALIVE)
		require.NoError(t, err)
		require.Equal(t, 1, alive)
		idle, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_KEEPIDLE)
		require.NoError(t, err)
		require.EqualValues(t, keepAlivePeriod.Seconds(), idle)
	}))
}

func TestConnUpgradeWhereALPNIsStripped(t *testing.T) {
	server := fakeV17Proxy()
	server.noALPN = true
	server.start(t)
	found, err := newTestCluster(server.options()).Endpoint(t.Context())
	require.NoError(t, err)
	require.True(t, found.ConnUpgrade)
}

func TestUnreachable(t *testing.T) {
	// A port that was free a moment ago.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := listener.Addr().String()
	require.NoError(t, listener.Close())

	for name, opts := range map[string]Options{
		"proxy": {ProxyServer: addr},
		"auth":  {AuthServer: addr, CAPins: []string{"sha256:00"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := newTestCluster(opts).Join(t.Context(), tokenJoin(t))
			require.ErrorContains(t, err, addr)
			require.ErrorContains(t, err, "refused")
			require.Equal(t, failure.Unreachable, failure.KindOf(err))
		})
	}
}

func TestProxyServerNamesAnAuthService(t *testing.T) {
	server := fakeV17Auth().start(t)
	_, err := newTestCluster(Options{ProxyServer: server.addr}).Join(t.Context(), tokenJoin(t))
	require.ErrorContains(t, err, "set auth_server to it in place of proxy_server")
	require.Empty(t, server.ways())
}
