package identity

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/gravitational/teleport/api/client/proto"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"

	"rollcall/cluster"
	"rollcall/destination"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(holderEnv); path != "" {
		holdLock(path)
		return
	}
	goleak.VerifyTestMain(m)
}

// Attributes that Teleport writes into a bot's certificate.
var (
	oidRenewable  = asn1.ObjectIdentifier{1, 3, 9999, 1, 13}
	oidGeneration = asn1.ObjectIdentifier{1, 3, 9999, 1, 14}
)

// authority issues a bot's certificates as a cluster does.
type authority struct {
	t    testing.TB
	key  *cluster.Key
	cert *x509.Certificate
	pem  []byte
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := cluster.NewKey()
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "teleport.example.com", Organization: []string{"teleport.example.com"}},
		NotBefore:             time.Unix(0, 0),
		NotAfter:              time.Unix(1<<33, 0),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Signer.Public(), key.Signer)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return &authority{t: t, key: key, cert: cert, pem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

// issue makes an identity that begins a minute before issued, as Teleport's do.
// Generation 0 isn't renewable.
func (a *authority) issue(generation uint64, issued time.Time, ttl time.Duration) *cluster.Credentials {
	key, err := cluster.NewKey()
	require.NoError(a.t, err)
	subject := pkix.Name{CommonName: "bot-test", Organization: []string{"bot-test"}}
	if generation > 0 {
		subject.ExtraNames = []pkix.AttributeTypeAndValue{
			{Type: oidRenewable, Value: "true"},
			{Type: oidGeneration, Value: strconv.FormatUint(generation, 10)},
		}
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2),
		Subject:      subject,
		NotBefore:    issued.Add(-backdated),
		NotAfter:     issued.Add(ttl),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Signer.Public(), a.key.Signer)
	require.NoError(a.t, err)
	public, err := ssh.NewPublicKey(key.Signer.Public())
	require.NoError(a.t, err)
	signer, err := ssh.NewSignerFromSigner(a.key.Signer)
	require.NoError(a.t, err)
	cert := &ssh.Certificate{Key: public, CertType: ssh.UserCert, KeyId: "bot-test", ValidPrincipals: []string{"bot-test"}, ValidBefore: ssh.CertTimeInfinity}
	require.NoError(a.t, cert.SignCert(rand.Reader, signer))
	creds, err := cluster.NewCredentials(key, &proto.Certs{
		TLS:        pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		SSH:        ssh.MarshalAuthorizedKey(cert),
		TLSCACerts: [][]byte{a.pem, a.pem},
		SSHCACerts: [][]byte{a.key.PublicSSH},
	})
	require.NoError(a.t, err)
	return creds
}

// stored is what a token join leaves.
func (a *authority) stored(generation uint64) Stored {
	return Stored{
		Credentials: a.issue(generation, time.Now().Add(time.Duration(generation)*time.Second), time.Hour),
		JoinMethod:  cluster.JoinMethodToken,
		TokenHash:   HashToken("the-token"),
	}
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func open(t testing.TB, path string) *Directory {
	t.Helper()
	d, err := OpenDirectory(path, destination.SymlinksTrySecure, discard())
	require.NoError(t, err)
	t.Cleanup(func() { crash(d) })
	return d
}

// crash gives back what the kernel gives back when a process ends, and nothing
// else happens.
func crash(d *Directory) {
	d.hook = nil
	if d.next != nil {
		_ = d.next.Close()
		d.next = nil
	}
	_ = d.lock.Close()
	_ = d.root.Close()
}

// logged collects the messages of a logger.
type logged struct {
	mu   sync.Mutex // protects the following
	text []byte
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, p...)
	return len(p), nil
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.text)
}

func (l *logged) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }
