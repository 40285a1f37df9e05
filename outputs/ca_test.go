package outputs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"github.com/gravitational/teleport/api/client/proto"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"rollcall/cluster"
)

const testCluster = "example.com"

// testCA signs as a cluster's user authority does, and serves as its host and
// database authority too.
type testCA struct {
	t    *testing.T
	name string
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newTestCA(t *testing.T, name string) *testCA {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: name, Organization: []string{name}},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().AddDate(10, 0, 0),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return &testCA{t: t, name: name, key: key, cert: cert}
}

// certSpec is what a certificate is for. It's issued now.
type certSpec struct {
	roles []string
	app   string
	route string
	ttl   time.Duration
}

// issue makes credentials as an Auth Service does: backdated by a minute, with
// what they are for in the subject.
func (ca *testCA) issue(spec certSpec) *cluster.Credentials {
	ca.t.Helper()
	key, err := cluster.NewKey()
	require.NoError(ca.t, err)
	subject := pkix.Name{
		CommonName: "bot-test", Organization: spec.roles, StreetAddress: []string{spec.route},
	}
	if spec.app != "" {
		subject.ExtraNames = []pkix.AttributeTypeAndValue{{Type: appNameOID(), Value: spec.app}}
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: subject,
		NotBefore: now.Add(-time.Minute), NotAfter: now.Add(spec.ttl),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, key.Signer.Public(), ca.key)
	require.NoError(ca.t, err)

	public, err := ssh.NewPublicKey(key.Signer.Public())
	require.NoError(ca.t, err)
	sshCert := &ssh.Certificate{
		Key: public, CertType: ssh.UserCert, KeyId: "bot-test",
		ValidAfter: uint64(template.NotBefore.Unix()), ValidBefore: uint64(template.NotAfter.Unix()),
	}
	signer, err := ssh.NewSignerFromKey(ca.key)
	require.NoError(ca.t, err)
	require.NoError(ca.t, sshCert.SignCert(rand.Reader, signer))

	creds, err := cluster.NewCredentials(key, &proto.Certs{
		TLS: pemCert(der), SSH: ssh.MarshalAuthorizedKey(sshCert), TLSCACerts: [][]byte{ca.pem()},
	})
	require.NoError(ca.t, err)
	return creds
}

func (ca *testCA) pem() []byte { return pemCert(ca.cert.Raw) }

func (ca *testCA) authority() cluster.Authority {
	ca.t.Helper()
	public, err := ssh.NewPublicKey(ca.key.Public())
	require.NoError(ca.t, err)
	return cluster.Authority{
		ClusterName: ca.name, TLSCerts: [][]byte{ca.pem()}, SSHKeys: [][]byte{ssh.MarshalAuthorizedKey(public)},
	}
}

// authorities returns those of a cluster and its leaves. Each kind has keys of
// its own, so that a file with the wrong kind is noticed.
func testAuthorities(t *testing.T, leaves ...string) *cluster.Authorities {
	t.Helper()
	of := func(name string) cluster.Authority { return newTestCA(t, name).authority() }
	cas := &cluster.Authorities{
		Host: []cluster.Authority{of(testCluster)}, User: []cluster.Authority{of(testCluster)},
		Database: []cluster.Authority{of(testCluster)},
	}
	for _, leaf := range leaves {
		cas.Host = append(cas.Host, of(leaf))
	}
	return cas
}

func pemCert(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
