package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"time"
)

// layout says where everything in the state directory is.
type layout struct{ dir string }

func (l layout) config() string        { return filepath.Join(l.dir, "teleport.yaml") }
func (l layout) ports() string         { return filepath.Join(l.dir, "ports.json") }
func (l layout) data() string          { return filepath.Join(l.dir, "data") }
func (l layout) proxyCA() string       { return filepath.Join(l.dir, "proxy-ca.pem") }
func (l layout) proxyCert() string     { return filepath.Join(l.dir, "proxy-cert.pem") }
func (l layout) proxyKey() string      { return filepath.Join(l.dir, "proxy-key.pem") }
func (l layout) adminIdentity() string { return filepath.Join(l.dir, "admin-identity.pem") }
func (l layout) control() string       { return filepath.Join(l.dir, "control.sock") }

// ports are the cluster's addresses; they're remembered in the state directory.
type ports struct {
	Auth  int `json:"auth"`
	Proxy int `json:"proxy"`
}

func (p ports) authAddr() string  { return fmt.Sprintf("127.0.0.1:%d", p.Auth) }
func (p ports) proxyAddr() string { return fmt.Sprintf("localhost:%d", p.Proxy) }

// prepare makes the state directory (or finds it made) and returns the ports.
func prepare(opts options) (layout, ports, error) {
	l := layout{dir: opts.dir}
	if err := os.MkdirAll(l.data(), 0o700); err != nil {
		return l, ports{}, err
	}
	p, err := choosePorts(l.ports())
	if err != nil {
		return l, p, err
	}
	if _, err := os.Stat(l.proxyCert()); errors.Is(err, fs.ErrNotExist) {
		if err := makeProxyCerts(l); err != nil {
			return l, p, err
		}
	}
	return l, p, writeWhole(l.config(), []byte(configText(opts, l, p)))
}

// choosePorts reads the remembered ports, or picks free ones. All are held
// open until the last is picked, so that they differ. They're below the range
// that the kernel takes ports from by itself: a cluster that was stopped must
// find its own again, whatever others have opened meanwhile.
func choosePorts(path string) (ports, error) {
	var p ports
	content, err := os.ReadFile(path)
	if err == nil {
		return p, json.Unmarshal(content, &p)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return p, err
	}
	for _, target := range []*int{&p.Auth, &p.Proxy} {
		listener, err := listenBelow(lowestOwn())
		if err != nil {
			return p, err
		}
		defer listener.Close()
		*target = listener.Addr().(*net.TCPAddr).Port
	}
	content, err = json.Marshal(p)
	if err != nil {
		return p, err
	}
	return p, writeWhole(path, content)
}

// lowestOwn is the first port that the kernel takes by itself.
func lowestOwn() int {
	first := 0
	content, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err == nil {
		_, err = fmt.Sscan(string(content), &first)
	}
	if err != nil {
		return 32768 // Linux's own default
	}
	return first
}

// listenBelow listens on a random port between 10000 and the limit; on any free
// one if there's no room there.
func listenBelow(limit int) (net.Listener, error) {
	const least = 10000
	for range 100 {
		if limit <= least {
			break
		}
		port := least + mathrand.IntN(limit-least)
		if listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			return listener, nil
		}
	}
	return net.Listen("tcp", "127.0.0.1:0")
}

// makeProxyCerts makes a CA and the proxy's certificate. Application addresses
// are NAME.apps.localhost, because OpenSSL refuses the wildcard *.localhost.
func makeProxyCerts(l layout) error {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	ca := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "end-to-end test CA"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().AddDate(1, 0, 0),
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2),
		Subject:      pkix.Name{CommonName: "localhost"},
		NotBefore:    ca.NotBefore,
		NotAfter:     ca.NotAfter,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:     []string{"localhost", "*.apps.localhost"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := writePEM(l.proxyCA(), "CERTIFICATE", caDER); err != nil {
		return err
	}
	if err := writePEM(l.proxyKey(), "PRIVATE KEY", keyDER); err != nil {
		return err
	}
	// The certificate comes last: its presence says that all three are there.
	return writePEM(l.proxyCert(), "CERTIFICATE", leafDER)
}

func writePEM(path, kind string, der []byte) error {
	return writeWhole(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// configText is the cluster's configuration file. The Application Service
// takes up every dynamic application, if there is one; caches lag by the backend's poll period.
func configText(opts options, l layout, p ports) string {
	return fmt.Sprintf(`version: v3
teleport:
  nodename: %[1]s
  data_dir: %[2]q
  log: {output: stderr, severity: %[3]s}
  storage: {type: sqlite, path: %[4]q, sync: %[5]q, poll_stream_period: %[6]d}
auth_service:
  enabled: true
  cluster_name: %[1]s
  listen_addr: %[7]s
  public_addr: %[7]s
  proxy_listener_mode: multiplex
  authentication: {type: local, second_factor: "off"}
ssh_service: {enabled: false}
proxy_service:
  enabled: true
  web_listen_addr: 127.0.0.1:%[8]d
  public_addr: localhost:%[8]d
  https_keypairs: [{key_file: %[9]q, cert_file: %[10]q}]
app_service:
  enabled: %[11]t
  debug_app: false
  resources: [{labels: {"*": "*"}}]
`, opts.name, l.data(), opts.severity, filepath.Join(l.data(), "backend"), opts.sync, opts.poll.Nanoseconds(),
		p.authAddr(), p.Proxy, l.proxyKey(), l.proxyCert(), opts.apps)
}
