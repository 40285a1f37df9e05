package outputs

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/gravitational/teleport/api/identityfile"
	"github.com/gravitational/trace"
	"golang.org/x/crypto/ssh"

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
		lines, err := knownHostsLines(ca)
		if err != nil {
			return nil, trace.Wrap(err)
		}
		file.CACerts.SSH = append(file.CACerts.SSH, lines...)
		file.CACerts.TLS = append(file.CACerts.TLS, ca.TLSCerts...)
	}
	bundle, err := identityfile.Encode(file)
	return bundle, trace.Wrap(err)
}

// knownHostsLines returns a line of a known_hosts file, with its line feed, for
// each SSH key of a host authority. By it OpenSSH and Teleport's clients trust
// the key's host certificates for the cluster's hosts, and for those that are
// named before it. A leaf cluster names itself, and a line can hold any
// pattern: names that aren't plain get no line, and keys are written as they
// were understood, not as they came.
func knownHostsLines(ca cluster.Authority, hosts ...string) ([][]byte, error) {
	if !plainHost(ca.ClusterName) {
		return nil, nil
	}
	patterns := strings.Join(append(hosts, ca.ClusterName, "*."+ca.ClusterName), ",")
	var lines [][]byte
	for _, text := range ca.SSHKeys {
		key, _, _, _, err := ssh.ParseAuthorizedKey(text)
		if err != nil {
			return nil, failure.Wrap(failure.Transient, err,
				"the host authority of cluster %q has an SSH key that can't be read; the files stay as they are", ca.ClusterName)
		}
		lines = append(lines, fmt.Appendf(nil, "@cert-authority %s %s type=host\n",
			patterns, bytes.TrimSpace(ssh.MarshalAuthorizedKey(key))))
	}
	return lines, nil
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
