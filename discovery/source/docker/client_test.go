package docker

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rollcall/failure"
)

// behindProxy puts the documented read-only proxy in front of the engine: GET
// of five paths and nothing else, HEAD neither.
func behindProxy(t *testing.T, f *FakeEngine) (socket string, refused *[]string) {
	t.Helper()
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: "docker"})
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", f.socket)
	}}
	proxy.Transport, proxy.FlushInterval = transport, -1
	allowed := regexp.MustCompile(`^(/v[0-9.]+)?/(_ping|version|containers/.*|networks|events)$`)
	refused = &[]string{}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || !allowed.MatchString(r.URL.Path) {
			*refused = append(*refused, r.Method+" "+r.URL.Path)
			http.Error(w, "403 Forbidden", http.StatusForbidden)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	socket = filepath.Join(t.TempDir(), "proxy.sock")
	listener, err := net.Listen("unix", socket)
	require.NoError(t, err)
	_ = server.Listener.Close()
	server.Listener = listener
	server.Start()
	t.Cleanup(func() { server.CloseClientConnections(); server.Close(); transport.CloseIdleConnections() })
	return socket, refused
}

// TestReadOnlyProxy does everything through a proxy that lets only looks pass.
func TestReadOnlyProxy(t *testing.T) {
	f := newFakeEngine(t)
	f.lenient = true
	socket, refused := behindProxy(t, f)
	options := everything()
	options.Host = "unix://" + socket
	options.Filters.Name = []string{"rollcall-src"}
	s := f.source(t, options)

	candidates, err := s.Read(t.Context())
	require.NoError(t, err)
	require.Len(t, candidates, 10)
	_, err = s.Explain(t.Context(), "rollcall-src-plain")
	require.NoError(t, err)
	hints := watching(t, s)
	awaitHint(t, hints)
	f.emit(`{"Type":"container","Action":"start"}` + "\n")
	awaitHint(t, hints)

	for _, call := range *refused {
		require.Equal(t, "HEAD /_ping", call, "the client tries HEAD first, and goes on with GET")
	}
}

// TestGuard refuses whatever does more than look, before it reaches anybody.
func TestGuard(t *testing.T) {
	f := newFakeEngine(t)
	s := f.source(t, everything())
	conn, err := s.endpoint.connect(t.Context(), nil)
	require.NoError(t, err)
	defer conn.close()
	f.took()

	_, err = conn.ContainersPrune(t.Context(), Filters{}.args())
	require.Equal(t, failure.Refused, failure.KindOf(err), "%v", err)
	_, err = conn.Info(t.Context())
	require.Equal(t, failure.Refused, failure.KindOf(err), "%v", err)
	_, err = conn.ContainerLogs(t.Context(), "x", logs())
	require.Equal(t, failure.Refused, failure.KindOf(err), "%v", err)

	require.Empty(t, f.took())
}

func TestLooking(t *testing.T) {
	for path, want := range map[string]bool{
		"/_ping": true, "/v1.41/events": true, "/v1.41/containers/json": true, "/v1.41/containers/0123/json": true,
		"/containers/json": true, "/v1.41/networks": true,
		"/v1.41/info": false, "/v1.41/containers/0123/start": false, "/v1.41/containers/a/../../info/json": false,
		"/v1.41/containers/0123/logs": false, "/v1.41/secrets": false, "/events/x": false, "": false,
	} {
		require.Equal(t, want, looking(path), path)
	}
}

// TestRemote reaches an Engine over TLS with certificates of its own, by the
// options and by the environment, and trusts nobody else.
func TestRemote(t *testing.T) {
	f := newFakeEngine(t)
	f.only("plain")
	f.lenient = true
	dir := t.TempDir()
	pool, certificate := authority(t, dir)
	server := httptest.NewUnstartedServer(http.HandlerFunc(f.serve))
	server.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool, Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}
	server.StartTLS()
	t.Cleanup(server.Close)
	host := strings.Replace(server.URL, "https", "tcp", 1)
	file := func(name string) string { return filepath.Join(dir, name) }

	t.Run("by options", func(t *testing.T) {
		options := everything()
		options.Host, options.TLS = host, TLSOptions{CA: file("ca.pem"), Cert: file("cert.pem"), Key: file("key.pem")}
		candidates, err := f.source(t, options).Read(t.Context())
		require.NoError(t, err)
		require.Len(t, candidates, 1)
	})
	t.Run("by the environment", func(t *testing.T) {
		environment := map[string]string{"DOCKER_HOST": host, "DOCKER_CERT_PATH": dir, "DOCKER_API_VERSION": "1.41"}
		options := everything()
		s, err := New(options, Deps{Template: sourceOf(t, options).decider.template, Getenv: func(key string) string { return environment[key] }})
		require.NoError(t, err)
		defer s.Close()
		candidates, err := s.Read(t.Context())
		require.NoError(t, err)
		require.Len(t, candidates, 1)
	})
	t.Run("an Engine that nobody vouches for", func(t *testing.T) {
		options := everything()
		options.Host, options.TLS = host, TLSOptions{Cert: file("cert.pem"), Key: file("key.pem")}
		_, err := f.source(t, options).Read(t.Context())
		require.Equal(t, failure.Unreachable, failure.KindOf(err), "%v", err)
		require.ErrorContains(t, err, "certificate")
	})
	t.Run("a key that isn't there", func(t *testing.T) {
		options := everything()
		options.Host, options.TLS = host, TLSOptions{Cert: file("cert.pem"), Key: file("none.pem")}
		_, err := f.source(t, options).Read(t.Context())
		require.Equal(t, failure.Configuration, failure.KindOf(err), "%v", err)
	})
}

// authority writes ca.pem, cert.pem and key.pem, for both ends.
func authority(t *testing.T, dir string) (*x509.CertPool, tls.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	form := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "engine"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:    x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, form, form, key.Public(), key)
	require.NoError(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	for name, data := range map[string][]byte{"ca.pem": certPEM, "cert.pem": certPEM, "key.pem": keyPEM} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(certPEM)
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	require.NoError(t, err)
	return pool, pair
}
