package outputs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"slices"
	"time"

	"golang.org/x/crypto/ssh"

	"rollcall/failure"
	"rollcall/internal/renewal"
)

// expectation is what the set in a destination must be for a restart to leave
// it alone.
type expectation struct {
	// files are the names that the set must have, none of them empty but the
	// database authorities, which a cluster may lack.
	files []string
	// roles are compared if they're configured; the default, all that the bot
	// may impersonate, is known to the cluster only.
	roles []string
	// appName is the application that the certificate is routed to; empty:
	// none.
	appName string
	// cluster is the leaf that the certificate is routed to; empty: the root.
	cluster string
	// ttl is the life that is asked for.
	ttl time.Duration
}

// lifetime is when the credentials that are in place were issued and when they
// end. The zero value means that there are none.
type lifetime struct {
	issued, notAfter time.Time
}

// left is how long the credentials can still be used; negative: since when
// not, zero: there are none.
func (l lifetime) left(now time.Time) time.Duration {
	if l.notAfter.IsZero() {
		return 0
	}
	return l.notAfter.Sub(now)
}

// appNameOID is where Teleport's certificates carry the application's name.
func appNameOID() asn1.ObjectIdentifier { return asn1.ObjectIdentifier{1, 3, 9999, 1, 10} }

// lifeSlack is how much longer than asked a certificate's life may look: the
// server sets NotBefore back by a minute.
const lifeSlack = 2 * time.Minute

// inspect reads the set that a destination holds and returns its lifetime, and
// the reason for renewing it at once or "". The lifetime is also returned with
// a reason if the credentials there can be used for now.
//
// A longer TTL than the certificate's isn't a reason: it can't be told from
// one that a role has capped, and those would be renewed at every start.
func inspect(now time.Time, want expectation, read func(name string) ([]byte, error)) (lifetime, string) {
	set := make(map[string][]byte)
	missing := ""
	for _, name := range want.files {
		data, err := read(name)
		if err != nil || (len(data) == 0 && name != fileDatabaseCA) {
			missing = name
			continue
		}
		set[name] = data
	}
	if len(set) == 0 {
		return lifetime{}, "nothing is there yet"
	}
	cert, reason := checkPair(set)
	if reason != "" {
		return lifetime{}, reason
	}
	life := lifetime{issued: renewal.IssuedAt(cert.NotBefore, cert.NotAfter, want.ttl), notAfter: cert.NotAfter}
	switch {
	case missing != "":
		return life, fmt.Sprintf("file %s is missing", missing)
	case !now.Before(cert.NotAfter):
		return life, "the certificate has ended"
	}
	if reason := checkSSHAndCopies(set); reason != "" {
		return life, reason
	}
	return life, checkSubject(cert, want)
}

// checkPair returns the TLS certificate if it belongs to the key.
func checkPair(set map[string][]byte) (*x509.Certificate, string) {
	pair, err := tls.X509KeyPair(set[fileTLSCert], set[fileKey])
	if err != nil {
		return nil, "the certificate and the key there don't make a pair"
	}
	cert, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		return nil, "the certificate there can't be read"
	}
	return cert, ""
}

// checkSSHAndCopies finds sets that were torn by a writer without atomic sets.
func checkSSHAndCopies(set map[string][]byte) string {
	signer, err := ssh.ParsePrivateKey(set[fileKey])
	if err != nil {
		return "the key there can't be used for SSH"
	}
	public, _, _, _, err := ssh.ParseAuthorizedKey(set[fileSSHCert])
	cert, ok := public.(*ssh.Certificate)
	if err != nil || !ok || !bytes.Equal(cert.Key.Marshal(), signer.PublicKey().Marshal()) {
		return "the SSH certificate there doesn't belong to the key"
	}
	for _, part := range []string{fileKey, fileTLSCert, fileSSHCert} {
		if !bytes.Contains(set[fileIdentity], bytes.TrimSpace(set[part])) {
			return fmt.Sprintf("file %s there has another content than file %s", fileIdentity, part)
		}
	}
	for copied, original := range map[string]string{fileTLSNamedCert: fileTLSCert, fileTLSNamedKey: fileKey} {
		if data, ok := set[copied]; ok && !bytes.Equal(data, set[original]) {
			return fmt.Sprintf("file %s there has another content than file %s", copied, original)
		}
	}
	return ""
}

// checkSubject compares what the certificate is for with what is configured.
func checkSubject(cert *x509.Certificate, want expectation) string {
	if app := subjectApp(cert); app != want.appName {
		return fmt.Sprintf("the certificate there is for application %q", app)
	}
	if len(want.roles) > 0 && !sameStrings(cert.Subject.Organization, want.roles) {
		return "the certificate there is for other roles"
	}
	if !routedTo(cert, want.cluster) {
		return fmt.Sprintf("the certificate there is for cluster %q", cert.Subject.StreetAddress[0])
	}
	if cert.NotAfter.Sub(cert.NotBefore) > want.ttl+lifeSlack {
		return "the certificate there lives longer than is configured now"
	}
	return ""
}

func subjectApp(cert *x509.Certificate) string {
	for _, attribute := range cert.Subject.Names {
		if attribute.Type.Equal(appNameOID()) {
			name, _ := attribute.Value.(string)
			return name
		}
	}
	return ""
}

// routedTo says whether cert is routed to the named leaf, or to the root if
// that's empty. Teleport's authorities carry their cluster's name.
func routedTo(cert *x509.Certificate, leaf string) bool {
	route := cert.Subject.StreetAddress
	if leaf == "" {
		return len(route) == 0 || route[0] == "" || slices.Contains(cert.Issuer.Organization, route[0])
	}
	return slices.Contains(route, leaf)
}

func sameStrings(a, b []string) bool {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return slices.Equal(slices.Compact(a), slices.Compact(b))
}

// checkIssued refuses a certificate that has ended by this host's clock: it
// would be renewed at once, and so without end.
func checkIssued(now, notAfter time.Time) error {
	if notAfter.After(now) {
		return nil
	}
	return failure.New(failure.Configuration,
		"the cluster issued a certificate that ended at %s, while this host's clock says %s; set the clock of this host (or the cluster's)",
		notAfter.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
}
