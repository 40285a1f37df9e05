package harness

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Balancer is a real HAProxy in front of a cluster's proxy. It ends TLS with a
// certificate of its own, offers no ALPN, and speaks TLS anew with the proxy:
// what Teleport's clients have to do with it is the connection upgrade.
type Balancer struct {
	// Addr is localhost:PORT.
	Addr string
	// CA is the file of the authority that its certificate is from: itself.
	CA string

	process *Process
}

// balancerConfig logs each request at once, also those that become tunnels.
const balancerConfig = `
global
  log stdout format raw local0
defaults
  mode http
  log global
  option logasap
  log-format "%%ST %%HM %%HU"
  timeout connect 5s
  timeout client 5m
  timeout server 5m
  timeout tunnel 5m
frontend tls
  bind fd@3 ssl crt %s
  default_backend proxy
backend proxy
  server teleport %s ssl verify required ca-file %s sni str(localhost) verifyhost localhost
`

// Balancer starts a load balancer for one test.
func (c *Cluster) Balancer(t T) *Balancer {
	t.Helper()
	path, err := exec.LookPath("haproxy")
	if err != nil {
		t.Fatalf("haproxy isn't installed (Debian's package haproxy)")
	}
	listener, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatalf("load balancer: %v", err)
	}
	defer listener.Close()
	file, err := listener.File()
	if err != nil {
		t.Fatalf("load balancer: %v", err)
	}
	defer file.Close()
	dir := c.Suite.Dir(t)
	b := &Balancer{
		Addr: fmt.Sprintf("localhost:%d", listener.Addr().(*net.TCPAddr).Port),
		CA:   filepath.Join(dir, "ca.pem"),
	}
	pair := filepath.Join(dir, "pair.pem")
	if err := selfSigned(b.CA, pair); err != nil {
		t.Fatalf("load balancer: %v", err)
	}
	config := filepath.Join(dir, "haproxy.cfg")
	text := fmt.Sprintf(balancerConfig, pair, c.proxyIP(), c.Info().ProxyCA)
	if err := os.WriteFile(config, []byte(strings.TrimLeft(text, "\n")), 0o600); err != nil {
		t.Fatalf("load balancer: %v", err)
	}
	b.process = c.Suite.Start(t, Command{Path: path, Args: []string{"-db", "-f", config}, Files: []*os.File{file}})
	return b
}

// Requests are the requests so far that were answered, as "STATUS METHOD URI".
func (b *Balancer) Requests() []string {
	return strings.Split(strings.TrimSpace(b.process.Stdout.String()), "\n")
}

// selfSigned writes a certificate for localhost, and the pair of it with its
// key.
func selfSigned(certFile, pairFile string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "load balancer"},
		DNSNames: []string{"localhost"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := os.WriteFile(certFile, cert, 0o644); err != nil {
		return err
	}
	pair := append(cert, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...)
	return os.WriteFile(pairFile, pair, 0o600)
}
