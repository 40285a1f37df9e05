package outputs

import (
	"bytes"
	"crypto/tls"
	"encoding/pem"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gravitational/teleport/api/identityfile"
	"github.com/stretchr/testify/require"

	"rollcall/cluster"
	"rollcall/destination"
	"rollcall/failure"
)

// shape names the parts of a file in their order: PEM types, and the first
// word of each line outside of PEM blocks.
func shape(data []byte) []string {
	var parts []string
	inside := false
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "-----BEGIN "):
			inside = true
			parts = append(parts, strings.Trim(strings.TrimPrefix(line, "-----BEGIN "), "-"))
		case strings.HasPrefix(line, "-----END "):
			inside = false
		case !inside:
			word, _, _ := strings.Cut(line, " ")
			parts = append(parts, word)
		}
	}
	return parts
}

func shapes(set destination.Set) map[string][]string {
	out := make(map[string][]string)
	for name, data := range set {
		out[name] = shape(data)
	}
	return out
}

func repeat(part string, n int) []string { return slices.Repeat([]string{part}, n) }

func TestRenderApplication(t *testing.T) {
	creds := newTestCA(t, testCluster).issue(certSpec{app: "grafana", ttl: time.Hour})
	cas := testAuthorities(t, "leaf.test")
	// The root is in the middle of a rotation.
	next := newTestCA(t, testCluster).authority()
	cas.Host[0].TLSCerts = append(cas.Host[0].TLSCerts, next.TLSCerts...)
	cas.Host[0].SSHKeys = append(cas.Host[0].SSHKeys, next.SSHKeys...)

	want := map[string][]string{
		"tlscert":      {"CERTIFICATE"},
		"key":          {"PRIVATE KEY"},
		"key.pub":      {"ecdsa-sha2-nistp256"},
		"key-cert.pub": {"ecdsa-sha2-nistp256-cert-v01@openssh.com"},
		"identity": slices.Concat([]string{"PRIVATE KEY", "ecdsa-sha2-nistp256-cert-v01@openssh.com", "CERTIFICATE"},
			repeat("@cert-authority", 3), repeat("CERTIFICATE", 3)),
		"teleport-host-ca.crt":     repeat("CERTIFICATE", 3),
		"teleport-user-ca.crt":     {"CERTIFICATE"},
		"teleport-database-ca.crt": {"CERTIFICATE"},
	}
	opts := ApplicationOptions{AppName: "grafana"}
	set, err := renderApplication(creds, cas, opts)
	require.NoError(t, err)
	require.Equal(t, want, shapes(set))
	require.ElementsMatch(t, opts.Files(), slices.Collect(maps.Keys(set)))

	opts.SpecificTLSNaming = true
	named, err := renderApplication(creds, cas, opts)
	require.NoError(t, err)
	require.ElementsMatch(t, opts.Files(), slices.Collect(maps.Keys(named)))
	require.Equal(t, set["tlscert"], named["tls.crt"])
	require.Equal(t, set["key"], named["tls.key"])
	require.Equal(t, set["teleport-host-ca.crt"], named["tls.cas"])

	require.Equal(t, creds.TLSCert, set["tlscert"])
	require.Equal(t, slices.Concat(cas.Host[0].TLSCerts[0], cas.Host[0].TLSCerts[1], cas.Host[1].TLSCerts[0]), set["teleport-host-ca.crt"])
	require.Equal(t, cas.User[0].TLSCerts[0], set["teleport-user-ca.crt"])
	require.Equal(t, cas.Database[0].TLSCerts[0], set["teleport-database-ca.crt"])
	_, err = tls.X509KeyPair(named["tls.crt"], named["tls.key"])
	require.NoError(t, err)
}

// The bundle is read back by the package that Teleport's clients read it with.
func TestIdentityBundleIsReadByTeleportsClients(t *testing.T) {
	creds := newTestCA(t, testCluster).issue(certSpec{ttl: time.Hour})
	cas := testAuthorities(t, "leaf.test")
	set, err := renderApplication(creds, cas, ApplicationOptions{})
	require.NoError(t, err)

	file, err := identityfile.FromString(string(set["identity"]))
	require.NoError(t, err)
	require.Equal(t, creds.Key.PrivatePEM, file.PrivateKey)
	require.Equal(t, creds.TLSCert, file.Certs.TLS)
	require.Equal(t, creds.SSHCert, file.Certs.SSH)
	require.Equal(t, [][]byte{cas.Host[0].TLSCerts[0], cas.Host[1].TLSCerts[0]}, file.CACerts.TLS)
	require.Len(t, file.CACerts.SSH, 2)
	require.Equal(t, "@cert-authority leaf.test,*.leaf.test "+strings.TrimSpace(string(cas.Host[1].SSHKeys[0]))+" type=host\n",
		string(file.CACerts.SSH[1]))
	_, err = file.TLSConfig()
	require.NoError(t, err)
}

func TestRenderIdentity(t *testing.T) {
	creds := newTestCA(t, testCluster).issue(certSpec{ttl: time.Hour})
	cas := testAuthorities(t, "leaf.test")
	info := &cluster.Info{ClusterName: testCluster, ProxyPublicAddr: "proxy.example.com:443", LeafClusters: []string{"leaf.test"}}

	inDirectory, err := renderIdentity(creds, cas, info, "/opt/machine-id")
	require.NoError(t, err)
	opts := IdentityOptions{}
	require.ElementsMatch(t, opts.Files(true), slices.Collect(maps.Keys(inDirectory)))

	elsewhere, err := renderIdentity(creds, cas, info, "")
	require.NoError(t, err)
	require.ElementsMatch(t, opts.Files(false), slices.Collect(maps.Keys(elsewhere)))
	require.NotContains(t, elsewhere, "ssh_config")
	require.Contains(t, elsewhere, "known_hosts")
}

func TestMissingAuthoritiesReplaceNothing(t *testing.T) {
	creds := newTestCA(t, testCluster).issue(certSpec{ttl: time.Hour})
	for name, spoil := range map[string]func(*cluster.Authorities){
		"no host authorities":     func(cas *cluster.Authorities) { cas.Host = nil },
		"no user authorities":     func(cas *cluster.Authorities) { cas.User = nil },
		"an authority without CA": func(cas *cluster.Authorities) { cas.Host[0].TLSCerts = nil },
		"an unreadable SSH key":   func(cas *cluster.Authorities) { cas.Host[0].SSHKeys[0] = []byte("ssh-rsa nonsense") },
	} {
		t.Run(name, func(t *testing.T) {
			cas := testAuthorities(t)
			spoil(cas)
			set, err := renderApplication(creds, cas, ApplicationOptions{})
			require.Error(t, err)
			require.Equal(t, failure.Transient, failure.KindOf(err))
			require.Contains(t, err.Error(), "the files stay as they are")
			require.Nil(t, set)
		})
	}
}

func TestJoinTLSCertsKeepsBlocksApart(t *testing.T) {
	block := bytes.TrimSpace(newTestCA(t, testCluster).pem())
	joined := joinTLSCerts([]cluster.Authority{{TLSCerts: [][]byte{block, block}}, {TLSCerts: [][]byte{block}}})
	count := 0
	for next, rest := pem.Decode(joined); next != nil; next, rest = pem.Decode(rest) {
		count++
	}
	require.Equal(t, 3, count)
}
