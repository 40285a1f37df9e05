package cluster

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"slices"
	"time"

	"golang.org/x/crypto/ssh"
)

// Key is a private key in every form that Teleport and its clients want. The
// same key is used for both certificates: servers before v17 make both from the
// SSH public key.
type Key struct {
	// Signer is the key itself.
	Signer crypto.Signer
	// PrivatePEM is the key as the file `key` holds it.
	PrivatePEM []byte
	// PublicSSH is the public key as an authorized_keys line (file `key.pub`).
	PublicSSH []byte
	// PublicTLS is the public key as PKIX PEM.
	PublicTLS []byte
}

// Credentials are one key with the certificates and authorities that the
// cluster issued for it. They don't change once made.
type Credentials struct {
	Key *Key
	// TLSCert is the client certificate, PEM.
	TLSCert []byte
	// SSHCert is the certificate, one authorized_keys line.
	SSHCert []byte
	// TLSCACerts are the authorities of the Auth Service, one or more PEM
	// blocks an item.
	TLSCACerts [][]byte
	// SSHCACerts are the SSH host authorities as authorized_keys lines.
	SSHCACerts [][]byte

	// X509 is TLSCert, parsed.
	X509 *x509.Certificate
	// SSH is SSHCert, parsed.
	SSH *ssh.Certificate
	// TLS is TLSCert with the key, ready for tls.Config.
	TLS tls.Certificate
	// ClusterName is the root cluster's name, from the certificate's issuer.
	ClusterName string
}

// NotAfter is when the TLS certificate ends.
func (c *Credentials) NotAfter() time.Time { return c.X509.NotAfter }

// NotBefore is when the TLS certificate began.
func (c *Credentials) NotBefore() time.Time { return c.X509.NotBefore }

// Username is the Teleport user, for a bot "bot-NAME".
func (c *Credentials) Username() string { return c.X509.Subject.CommonName }

// Trusts says whether the identity's roots have every host authority of its own
// cluster. An identity from before a rotation lacks the new one, and would stop
// to reach the cluster when its servers change over.
func (c *Credentials) Trusts(cas *Authorities) bool {
	var roots []*x509.Certificate
	for _, data := range c.TLSCACerts {
		certs, err := parseCertificates(data)
		if err != nil {
			return false
		}
		roots = append(roots, certs...)
	}
	for _, host := range cas.Host {
		if host.ClusterName != c.ClusterName {
			continue
		}
		for _, data := range host.TLSCerts {
			certs, err := parseCertificates(data)
			if err != nil {
				return false
			}
			for _, cert := range certs {
				if !slices.ContainsFunc(roots, cert.Equal) {
					return false
				}
			}
		}
	}
	return true
}

// Authority is a certificate authority's public half.
type Authority struct {
	// ClusterName is the cluster that the authority belongs to.
	ClusterName string
	// TLSCerts are PEM certificates; during a rotation there are two.
	TLSCerts [][]byte
	// SSHKeys are authorized_keys lines; during a rotation there are two.
	SSHKeys [][]byte
}

// Authorities are the cluster's authorities at one moment, each list in the
// server's order (root and leaf clusters).
type Authorities struct {
	Host, User, Database []Authority
}

// Info is what the cluster says of itself.
type Info struct {
	ClusterName string
	// ServerVersion is the Auth Service's, "14.2.3".
	ServerVersion string
	// ProxyPublicAddr is host:port as the Auth Service knows it.
	ProxyPublicAddr string
	// LeafClusters are the names of trusted leaf clusters that the caller may
	// see.
	LeafClusters []string
}
