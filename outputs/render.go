package outputs

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/gravitational/teleport/api/identityfile"
	"github.com/gravitational/trace"

	"rollcall/cluster"
	"rollcall/destination"
	"rollcall/failure"
)

// renderBase returns the files that most outputs have in common.
func renderBase(creds *cluster.Credentials, cas *cluster.Authorities) (destination.Set, error) {
	if err := checkAuthorities(cas); err != nil {
		return nil, err
	}
	bundle, err := renderIdentityBundle(creds, cas.Host)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	return destination.Set{
		fileTLSCert:    creds.TLSCert,
		fileKey:        creds.Key.PrivatePEM,
		filePublicKey:  creds.Key.PublicSSH,
		fileSSHCert:    creds.SSHCert,
		fileIdentity:   bundle,
		fileHostCA:     joinTLSCerts(cas.Host),
		fileUserCA:     joinTLSCerts(cas.User),
		fileDatabaseCA: joinTLSCerts(cas.Database),
	}, nil
}

// addTLSNames adds the files of specific_tls_naming. The authorities in
// tls.cas are the host authorities, as in the official agent's.
func addTLSNames(set destination.Set, creds *cluster.Credentials, cas *cluster.Authorities) {
	set[fileTLSNamedCert] = creds.TLSCert
	set[fileTLSNamedKey] = creds.Key.PrivatePEM
	set[fileTLSNamedCAs] = joinTLSCerts(cas.Host)
}

// checkAuthorities refuses lists that can't be true: every cluster has a host
// and a user authority, and an empty file in place of a good one would break
// whoever verifies with it.
func checkAuthorities(cas *cluster.Authorities) error {
	if len(joinTLSCerts(cas.Host)) == 0 || len(joinTLSCerts(cas.User)) == 0 {
		return failure.New(failure.Transient,
			"the cluster's list of certificate authorities came back without host or user authorities; the files stay as they are")
	}
	return nil
}

// renderIdentityBundle returns the one-file form of an identity: private key,
// SSH certificate, TLS certificate, SSH host authorities as known_hosts lines,
// TLS host authorities. Readers tell the PEM blocks apart by this order.
func renderIdentityBundle(creds *cluster.Credentials, hosts []cluster.Authority) ([]byte, error) {
	file := &identityfile.IdentityFile{
		PrivateKey: creds.Key.PrivatePEM,
		Certs:      identityfile.Certs{SSH: creds.SSHCert, TLS: creds.TLSCert},
	}
	for _, ca := range hosts {
		for _, key := range ca.SSHKeys {
			line := knownHostsLine(key, ca.ClusterName, "*."+ca.ClusterName)
			file.CACerts.SSH = append(file.CACerts.SSH, []byte(line))
		}
		file.CACerts.TLS = append(file.CACerts.TLS, ca.TLSCerts...)
	}
	bundle, err := identityfile.Encode(file)
	return bundle, trace.Wrap(err)
}

// knownHostsLine returns a line of a known_hosts file, with its line feed, by
// which OpenSSH and Teleport's clients trust the host certificates that key
// has signed, for hosts of the given patterns.
func knownHostsLine(key []byte, patterns ...string) string {
	return fmt.Sprintf("@cert-authority %s %s type=host\n",
		strings.Join(patterns, ","), bytes.TrimSpace(key))
}

// joinTLSCerts returns all PEM certificates of the authorities, in order.
func joinTLSCerts(cas []cluster.Authority) []byte {
	var out []byte
	for _, ca := range cas {
		for _, cert := range ca.TLSCerts {
			out = append(out, cert...)
			if !bytes.HasSuffix(cert, []byte("\n")) {
				out = append(out, '\n')
			}
		}
	}
	return out
}
