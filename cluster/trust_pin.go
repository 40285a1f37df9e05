package cluster

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"strings"
	"time"

	"github.com/gravitational/trace"

	"rollcall/failure"
)

// pinPrefix is the one hash that pins are made with.
const pinPrefix = "sha256:"

// trustAuth decides how an Auth Service is checked before there's an identity:
// insecure, if that was asked for; else the pins; else ca_path; else not at
// all, which is refused.
func (c *Cluster) trustAuth(ctx context.Context, found Endpoint) (*tls.Config, error) {
	switch {
	case c.opts.Insecure:
		c.log.WarnContext(ctx, "insecure: the Auth Service isn't checked; whoever answers gets the join token", "addr", found.Addr)
		config := authTLS(nil)
		config.InsecureSkipVerify = true
		return config, nil
	case len(c.opts.CAPins) > 0:
		roots, err := c.pinnedRoots(ctx, found)
		return authTLS(roots), trace.Wrap(err)
	case c.opts.CAPath != "":
		roots, err := readRoots("ca_path", c.opts.CAPath)
		return authTLS(roots), trace.Wrap(err)
	case found.untrusted:
		return nil, failure.New(failure.Trust,
			"the certificate of %s comes from an unknown authority, and nothing says whom to trust. If it's a proxy, set proxy_ca (or SSL_CERT_FILE) to its CA's file; if it's an Auth Service, set ca_pins (`tctl status` shows the pin) or ca_path", found.Addr)
	default:
		return nil, failure.New(failure.Configuration,
			"%s is an Auth Service, and nothing says whom to trust: set ca_pins (`tctl status` shows the pin) or ca_path, or give a proxy's address as proxy_server", found.Addr)
	}
}

// pinnedRoots fetches the cluster's authority without checking who answers and
// believes it if it matches the pins. Nothing secret is sent on that
// connection.
func (c *Cluster) pinnedRoots(ctx context.Context, found Endpoint) (*x509.CertPool, error) {
	pins, err := parsePins(c.opts.CAPins)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	config := authTLS(nil)
	config.InsecureSkipVerify = true
	clt, err := c.anonymousClient(ctx, found.Addr, config)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	defer clt.Close()
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	answer, err := clt.GetClusterCACert(ctx)
	if err != nil {
		return nil, c.explainAuth(found, err)
	}
	certs, err := parseCertificates(answer.TLSCA)
	if err != nil {
		return nil, failure.Wrap(failure.Trust, err, "%s sent no usable cluster authority", found.Addr)
	}
	if err := checkPins(pins, certs, time.Now()); err != nil {
		return nil, trace.Wrap(err)
	}
	roots := x509.NewCertPool()
	for _, cert := range certs {
		roots.AddCert(cert)
	}
	return roots, nil
}

// explainAuth adds what to do where auth_server didn't turn out to be the Auth
// Service that the options describe.
func (c *Cluster) explainAuth(found Endpoint, err error) error {
	switch {
	case found.untrusted && isOtherServer(err):
		return failure.Wrap(failure.Trust, err,
			"%s doesn't answer as an Auth Service does. If it's a proxy with a private CA, set proxy_ca (or SSL_CERT_FILE) to that CA's file; ca_pins and ca_path are for Auth Services only", found.Addr)
	case isOtherServer(err):
		return failure.Wrap(failure.Configuration, err,
			"%s is neither a Teleport proxy nor an Auth Service: check auth_server's address and port", found.Addr)
	case isUnknownAuthority(err) && c.opts.CAPath != "":
		return failure.Wrap(failure.Trust, err,
			"the certificate of %s wasn't issued by the authority in ca_path (%s): if the authority was rotated, export it again (`tctl auth export --type=tls-host`); if not, somebody else is answering", found.Addr, c.opts.CAPath)
	default:
		return err
	}
}

// parsePins checks the form of pins and returns their hashes.
func parsePins(pins []string) ([][]byte, error) {
	var hashes [][]byte
	for _, pin := range pins {
		text, ok := strings.CutPrefix(strings.TrimSpace(pin), pinPrefix)
		hash, err := hex.DecodeString(text)
		if !ok || err != nil || len(hash) != sha256.Size {
			return nil, failure.New(failure.Configuration,
				"ca_pins: %q isn't a pin: it must be sha256: and 64 hexadecimal digits, as `tctl status` shows it", pin)
		}
		hashes = append(hashes, hash)
	}
	return hashes, nil
}

// checkPins requires each authority to match a pin (during a rotation there are
// two of both) and to be valid now.
func checkPins(pins [][]byte, certs []*x509.Certificate, now time.Time) error {
	for _, cert := range certs {
		if !matchesPin(pins, cert) {
			return failure.New(failure.Trust,
				"the cluster's authority has the pin %s, which ca_pins doesn't list: if the authority was rotated, take the new pin from `tctl status`; if not, somebody else is answering", pinOf(cert))
		}
		if now.Before(cert.NotBefore) || now.After(cert.NotAfter) {
			return failure.New(failure.Trust,
				"the cluster's authority with the pin %s is valid from %s to %s only: check this host's clock, or rotate the authority",
				pinOf(cert), cert.NotBefore.UTC().Format(time.RFC3339), cert.NotAfter.UTC().Format(time.RFC3339))
		}
	}
	return nil
}

func matchesPin(pins [][]byte, cert *x509.Certificate) bool {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	for _, pin := range pins {
		if subtle.ConstantTimeCompare(pin, sum[:]) == 1 {
			return true
		}
	}
	return false
}

func pinOf(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return pinPrefix + hex.EncodeToString(sum[:])
}
