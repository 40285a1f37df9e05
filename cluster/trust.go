package cluster

import (
	"crypto/tls"
	"crypto/x509"
	"os"

	"github.com/gravitational/teleport/api/constants"
	"github.com/gravitational/teleport/api/utils"
	"github.com/gravitational/trace"

	"rollcall/failure"
)

// proxyTLS checks a proxy's web certificate against proxy_ca, or else the
// system's roots (SSL_CERT_FILE included). Only `insecure` turns it off.
func (c *Cluster) proxyTLS() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.opts.Insecure {
		config.InsecureSkipVerify = true
		return config, nil
	}
	if c.opts.ProxyCA == "" {
		return config, nil
	}
	roots, err := readRoots("proxy_ca", c.opts.ProxyCA)
	config.RootCAs = roots
	return config, trace.Wrap(err)
}

// credentialsTLS presents an identity to the Auth Service and checks the
// Service against the authorities that came with the identity. Nothing turns
// that off, `insecure` neither: from the join on there are roots.
func credentialsTLS(creds *Credentials) (*tls.Config, error) {
	roots := x509.NewCertPool()
	count := 0
	for _, authority := range creds.TLSCACerts {
		certs, err := parseCertificates(authority)
		if err != nil {
			return nil, trace.Wrap(err)
		}
		for _, cert := range certs {
			roots.AddCert(cert)
			count++
		}
	}
	if count == 0 {
		return nil, failure.New(failure.Trust, "the identity holds no certificate authority to check the cluster against: join again")
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{creds.TLS},
		RootCAs:      roots,
		ServerName:   utils.EncodeClusterName(creds.ClusterName),
	}, nil
}

// authTLS is for an Auth Service that nobody has authenticated to yet.
func authTLS(roots *x509.CertPool) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		RootCAs:    roots,
		ServerName: constants.APIDomain,
	}
}

// readRoots reads a PEM file of certificates that an option names.
func readRoots(option, path string) (*x509.CertPool, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, failure.Wrap(failure.Configuration, err, "%s: can't read the file %s", option, path)
	}
	certs, err := parseCertificates(content)
	if err != nil {
		return nil, failure.Wrap(failure.Configuration, err, "%s: the file %s must hold CA certificates in PEM", option, path)
	}
	roots := x509.NewCertPool()
	for _, cert := range certs {
		roots.AddCert(cert)
	}
	return roots, nil
}
