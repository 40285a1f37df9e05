package e2e

import (
	"encoding/pem"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// FakeV20Proxy answers /webapi/ping as a proxy of Teleport 20 would. It's no
// proxy: whatever else it's asked it keeps, for the test to see that there was
// nothing.
type FakeV20Proxy struct {
	// Addr is host:port; CA is its certificate's authority in PEM.
	Addr, CA string

	// mu protects the following.
	mu    sync.Mutex
	other []string
}

func newFakeV20Proxy(t *testing.T) *FakeV20Proxy {
	fake := &FakeV20Proxy{}
	server := httptest.NewTLSServer(fake)
	t.Cleanup(server.Close)
	fake.Addr = strings.TrimPrefix(server.URL, "https://")
	fake.CA = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	return fake
}

// ServeHTTP answers the ping, and keeps any other request.
func (f *FakeV20Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet && r.URL.Path == "/webapi/ping" {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"auth":{"type":"local"},"proxy":{"tls_routing_enabled":true},` +
			`"server_version":"20.0.1","min_client_version":"19.0.0","cluster_name":"fake-v20"}`))
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.other = append(f.other, r.Method+" "+r.URL.Path)
	http.NotFound(w, r)
}

// Others are the requests other than pings.
func (f *FakeV20Proxy) Others() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.other
}

// newPlainServer is an HTTPS server that has nothing to do with Teleport.
func newPlainServer(t *testing.T) (addr, ca string) {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "https://"),
		string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
}

// closedPort is an address where nobody listens.
func closedPort(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := listener.Addr().String()
	require.NoError(t, listener.Close())
	return addr
}
