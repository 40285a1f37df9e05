package cluster

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"strconv"

	"github.com/gravitational/teleport/api/client/proto"
	"github.com/gravitational/trace"
	"golang.org/x/crypto/ssh"
)

// Teleport writes what it knows of an identity into the certificate's subject,
// as attributes below 1.3.9999.1 (lib/tlsca of Teleport 14). We read two.
var (
	oidRenewable  = asn1.ObjectIdentifier{1, 3, 9999, 1, 13}
	oidGeneration = asn1.ObjectIdentifier{1, 3, 9999, 1, 14}
)

// NewCredentials parses what the cluster issued for a key, and checks that it's
// whole: the certificates parse, they were made for this key, and every
// authority is a certificate. Whether they are still valid isn't checked. The
// SSH certificate may be absent.
func NewCredentials(key *Key, certs *proto.Certs) (*Credentials, error) {
	chain, err := parseCertificates(certs.TLS)
	if err != nil {
		return nil, trace.Wrap(err, "reading the TLS certificate")
	}
	leaf := chain[0]
	if !samePublicKey(leaf.PublicKey, key.Signer.Public()) {
		return nil, trace.BadParameter("the TLS certificate belongs to another key")
	}
	sshCert, err := parseSSHCertificate(certs.SSH, key)
	if err != nil {
		return nil, trace.Wrap(err, "reading the SSH certificate")
	}
	for _, authority := range certs.TLSCACerts {
		if _, err := parseCertificates(authority); err != nil {
			return nil, trace.Wrap(err, "reading the certificate authorities")
		}
	}
	pair := tls.Certificate{PrivateKey: key.Signer, Leaf: leaf}
	for _, cert := range chain {
		pair.Certificate = append(pair.Certificate, cert.Raw)
	}
	return &Credentials{
		Key:         key,
		TLSCert:     certs.TLS,
		SSHCert:     certs.SSH,
		TLSCACerts:  certs.TLSCACerts,
		SSHCACerts:  certs.SSHCACerts,
		X509:        leaf,
		SSH:         sshCert,
		TLS:         pair,
		ClusterName: issuingCluster(leaf.Issuer),
	}, nil
}

// Generation is how often the identity has been renewed; the server counts it
// and locks the bot if an older one is presented. 0 if the certificate carries
// none.
func (c *Credentials) Generation() uint64 {
	generation, err := strconv.ParseUint(subjectAttribute(c.X509.Subject, oidGeneration), 10, 64)
	if err != nil {
		return 0
	}
	return generation
}

// Renewable says whether the identity may be exchanged for its next generation.
// One that isn't comes from a join that can be repeated.
func (c *Credentials) Renewable() bool {
	return subjectAttribute(c.X509.Subject, oidRenewable) == "true"
}

// subjectAttribute returns a text attribute of a subject, or "".
func subjectAttribute(subject pkix.Name, oid asn1.ObjectIdentifier) string {
	for _, attribute := range subject.Names {
		if attribute.Type.Equal(oid) {
			text, _ := attribute.Value.(string)
			return text
		}
	}
	return ""
}

// issuingCluster reads the cluster's name from its authority's name.
func issuingCluster(issuer pkix.Name) string {
	if len(issuer.Organization) > 0 {
		return issuer.Organization[0]
	}
	return issuer.CommonName
}

// parseCertificates reads one or more PEM certificates; none is an error.
func parseCertificates(rest []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, trace.Wrap(err)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, trace.BadParameter("there's no PEM certificate in it")
	}
	return certs, nil
}

// parseSSHCertificate reads an authorized_keys line that holds a certificate
// for the key. Empty input gives nil.
func parseSSHCertificate(line []byte, key *Key) (*ssh.Certificate, error) {
	if len(line) == 0 {
		return nil, nil
	}
	public, _, _, _, err := ssh.ParseAuthorizedKey(line)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	cert, ok := public.(*ssh.Certificate)
	if !ok {
		return nil, trace.BadParameter("a plain key of type %s stands in its place", public.Type())
	}
	certified, ok := cert.Key.(ssh.CryptoPublicKey)
	if !ok || !samePublicKey(certified.CryptoPublicKey(), key.Signer.Public()) {
		return nil, trace.BadParameter("it belongs to another key")
	}
	return cert, nil
}

func samePublicKey(a, b crypto.PublicKey) bool {
	comparable, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && comparable.Equal(b)
}
