package cluster

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"

	"github.com/gravitational/trace"
	"golang.org/x/crypto/ssh"
)

const (
	pemPKCS8 = "PRIVATE KEY"
	pemPKCS1 = "RSA PRIVATE KEY"
	pemSEC1  = "EC PRIVATE KEY"
	pemPKIX  = "PUBLIC KEY"

	rsaBits = 2048
)

// NewKey makes an ECDSA P-256 key: every server from 14 on signs it, and making
// one costs a thousandth of an RSA key.
func NewKey() (*Key, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	return newKey(private, pem.EncodeToMemory(&pem.Block{Type: pemPKCS8, Bytes: der}))
}

// NewRSAKey makes an RSA-2048 key, in the encoding that older programs read,
// for clusters or clients that take nothing else.
func NewRSAKey() (*Key, error) {
	private, err := rsa.GenerateKey(rand.Reader, rsaBits)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	der := x509.MarshalPKCS1PrivateKey(private)
	return newKey(private, pem.EncodeToMemory(&pem.Block{Type: pemPKCS1, Bytes: der}))
}

// LoadKey reads a private key: PKCS#8 (RSA, ECDSA, Ed25519), PKCS#1 or SEC 1.
// The PEM is kept as it is, so that what was loaded is written back unchanged.
func LoadKey(privatePEM []byte) (*Key, error) {
	block, _ := pem.Decode(privatePEM)
	if block == nil {
		return nil, trace.BadParameter("the private key isn't PEM")
	}
	private, err := parsePrivateKey(block)
	if err != nil {
		return nil, trace.Wrap(err, "reading the private key")
	}
	signer, ok := private.(crypto.Signer)
	if !ok {
		return nil, trace.BadParameter("the private key can't sign")
	}
	return newKey(signer, privatePEM)
}

func parsePrivateKey(block *pem.Block) (any, error) {
	switch block.Type {
	case pemPKCS8:
		return x509.ParsePKCS8PrivateKey(block.Bytes)
	case pemPKCS1:
		return x509.ParsePKCS1PrivateKey(block.Bytes)
	case pemSEC1:
		return x509.ParseECPrivateKey(block.Bytes)
	default:
		return nil, trace.BadParameter("a PEM block %q holds no private key that can be used", block.Type)
	}
}

// newKey derives the public forms.
func newKey(signer crypto.Signer, privatePEM []byte) (*Key, error) {
	sshPublic, err := ssh.NewPublicKey(signer.Public())
	if err != nil {
		return nil, trace.Wrap(err)
	}
	der, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil {
		return nil, trace.Wrap(err)
	}
	return &Key{
		Signer:     signer,
		PrivatePEM: privatePEM,
		PublicSSH:  ssh.MarshalAuthorizedKey(sshPublic),
		PublicTLS:  pem.EncodeToMemory(&pem.Block{Type: pemPKIX, Bytes: der}),
	}, nil
}
