package cluster

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/gravitational/teleport/api/client/proto"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"
)

// testAuthority issues what a cluster's host and user authorities issue.
type testAuthority struct {
	t    *testing.T
	key  *Key
	cert *x509.Certificate
	pem  []byte
}

func newTestAuthority(t *testing.T, name string) *testAuthority {
	t.Helper()
	key, err := NewKey()
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(time.Now().UnixNano()),
		Subject:               pkix.Name{CommonName: name, Organization: []string{name}},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Signer.Public(), key.Signer)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return &testAuthority{t: t, key: key, cert: cert, pem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

// pool is the authority as roots.
func (a *testAuthority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// file is the authority as a PEM file.
func (a *testAuthority) file() string {
	path := filepath.Join(a.t.TempDir(), "ca.pem")
	require.NoError(a.t, os.WriteFile(path, a.pem, 0o600))
	return path
}

// server issues a server's certificate.
func (a *testAuthority) server(names ...string) tls.Certificate {
	key, err := NewKey()
	require.NoError(a.t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Signer.Public(), a.key.Signer)
	require.NoError(a.t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key.Signer}
}

// userCert says what a user's certificate carries.
type userCert struct {
	name       string
	generation int // 0: not renewable
	expires    time.Time
}

// user issues both certificates for the SSH public key of a request, as servers
// before v17 do.
func (a *testAuthority) user(publicSSH []byte, what userCert) *proto.Certs {
	public, _, _, _, err := ssh.ParseAuthorizedKey(publicSSH)
	require.NoError(a.t, err)
	if what.expires.IsZero() {
		what.expires = time.Now().Add(time.Hour)
	}
	subject := pkix.Name{CommonName: what.name, Organization: []string{what.name}}
	if what.generation > 0 {
		subject.ExtraNames = []pkix.AttributeTypeAndValue{
			{Type: oidRenewable, Value: "true"},
			{Type: oidGeneration, Value: strconv.Itoa(what.generation)},
		}
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      subject,
		NotBefore:    time.Now().Add(-time.Minute),
		NotAfter:     what.expires,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, public.(ssh.CryptoPublicKey).CryptoPublicKey(), a.key.Signer)
	require.NoError(a.t, err)
	signer, err := ssh.NewSignerFromSigner(a.key.Signer)
	require.NoError(a.t, err)
	cert := &ssh.Certificate{Key: public, CertType: ssh.UserCert, KeyId: what.name, ValidPrincipals: []string{"-teleport-internal-join"}, ValidBefore: ssh.CertTimeInfinity}
	require.NoError(a.t, cert.SignCert(rand.Reader, signer))
	return &proto.Certs{
		TLS:        pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		SSH:        ssh.MarshalAuthorizedKey(cert),
		TLSCACerts: [][]byte{a.pem},
		SSHCACerts: [][]byte{a.key.PublicSSH},
	}
}

// credentials issues an identity.
func (a *testAuthority) credentials(what userCert) *Credentials {
	key, err := NewKey()
	require.NoError(a.t, err)
	creds, err := NewCredentials(key, a.user(key.PublicSSH, what))
	require.NoError(a.t, err)
	return creds
}
