package e2e

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"rollcall/e2e/harness"
)

// The files that are allowed to differ from the official agent's, and how.
// Everything else is compared here, and must be the same.
//
//   - key, and its copies in identity and tls.key: ECDSA P-256 in PKCS #8
//     ("PRIVATE KEY") in place of RSA 2048 in PKCS #1 ("RSA PRIVATE KEY").
//   - ssh_config: our words; it calls tsh itself, where the official one calls
//     tbot, which calls tsh, and names no ssh-rsa host certificates. Whether it
//     says the same to OpenSSH is compared.
//   - files of the agents' own: .write-test there, ..lock and ..data here.
//   - serial numbers, times within a few seconds, and in certificates the ids
//     of sessions and of the dummy login that Teleport makes for bots without
//     logins.
const (
	officialKeyType = "RSA PRIVATE KEY"
	ourKeyType      = "PRIVATE KEY"
)

// TestParity runs the official agent and ours with one configuration, for two
// bots with the same roles, and compares what they have written.
func TestParity(t *testing.T) {
	t.Parallel()
	ours := newStage(t)
	official := *ours
	official.bot = ours.cluster.CreateBot(t, harness.Unique(t, "peer"), ours.app.Name+"-access")
	official.dir = suite.Dir(t)
	kinds := map[string]string{
		"application": "app_name: " + ours.app.Name + ", ",
		"tls-names":   "specific_tls_naming: true, app_name: " + ours.app.Name + ", ",
		"identity":    "",
	}
	document := func(s *stage) string {
		var outputs strings.Builder
		for _, name := range slices.Sorted(maps.Keys(kinds)) {
			kind := "application"
			if name == "identity" {
				kind = name
			}
			fmt.Fprintf(&outputs, "  - {type: %s, %sdestination: {type: directory, path: %s}}\n", kind, kinds[name], s.place(name))
		}
		return s.tbotDocument(t, outputs.String())
	}

	ours.oneshot(t, document(ours))
	ours.cluster.Tbot(t, "start", "--oneshot", "-c", document(&official)).Succeed(t)

	for name := range kinds {
		t.Run(name, func(t *testing.T) { compareSets(t, ours, &official, name) })
	}
	for _, s := range []*stage{ours, &official} {
		s.fetchesInTime(t, "application")
		s.fetchesInTime(t, "tls-names")
	}
}

// fetchesInTime bridges the moment in which the proxy doesn't know the official
// agent's session.
func (s *stage) fetchesInTime(t *testing.T, name string) {
	t.Helper()
	dir := s.place(name)
	harness.Eventually(t, patience, "the application's answer", func() error {
		return s.cluster.TryFetch(t.Context(), s.app, s.sample, filepath.Join(dir, "tlscert"), filepath.Join(dir, "key"))
	})
}

func compareSets(t *testing.T, ours, official *stage, name string) {
	mine, theirs := files(t, ours.place(name)), files(t, official.place(name))
	// Neither agent's files for its own use are the output's.
	require.Contains(t, theirs, ".write-test")
	require.Contains(t, mine, "..lock")
	delete(theirs, ".write-test")
	delete(mine, "..lock")
	require.Equal(t, slices.Sorted(maps.Keys(theirs)), slices.Sorted(maps.Keys(mine)), "names of files")

	names := strings.NewReplacer(ours.bot.Name, "BOT", official.bot.Name, "BOT", ours.dir, "DIR", official.dir, "DIR")
	for file := range theirs {
		switch file {
		case "tlscert", "tls.crt":
			compareTLS(t, names, mine[file], theirs[file])
		case "key-cert.pub":
			compareSSH(t, names, mine[file], theirs[file])
		case "identity":
			compareBundles(t, names, mine[file], theirs[file])
		case "key", "tls.key":
			require.Equal(t, []string{officialKeyType}, pemTypes(theirs[file]))
			require.Equal(t, []string{ourKeyType}, pemTypes(mine[file]))
		case "key.pub":
			require.Len(t, strings.Fields(mine[file]), len(strings.Fields(theirs[file])), "fields of a public key's line")
			require.True(t, strings.HasPrefix(theirs[file], "ssh-rsa "), theirs[file])
			require.True(t, strings.HasPrefix(mine[file], "ecdsa-sha2-nistp256 "), mine[file])
		case "ssh_config":
			compareSSHConfigs(t, names, ours, official, name)
		default: // the authorities and known_hosts
			require.Equal(t, theirs[file], mine[file], file)
		}
	}
	consistent(t, mine)
	if name != "identity" {
		require.Contains(t, subject(names, parseTLS(t, mine["tlscert"])), oidAppName+"="+names.Replace(ours.app.Name),
			"the comparison doesn't see the route to the application")
	}
}

// consistent says that one key and one certificate are in all the files.
func consistent(t *testing.T, set map[string]string) {
	t.Helper()
	for copied, file := range map[string]string{"tls.crt": "tlscert", "tls.key": "key", "tls.cas": "teleport-host-ca.crt"} {
		if _, there := set[copied]; there {
			require.Equal(t, set[file], set[copied], copied)
		}
	}
	for _, file := range []string{"key", "key-cert.pub", "tlscert", "teleport-host-ca.crt"} {
		require.Contains(t, set["identity"], strings.TrimSpace(set[file]), "identity lacks %s", file)
	}
}

// pemTypes lists the types of the PEM blocks of a file.
func pemTypes(content string) (kinds []string) {
	for block, rest := pem.Decode([]byte(content)); block != nil; block, rest = pem.Decode(rest) {
		kinds = append(kinds, block.Type)
	}
	return kinds
}

// compareBundles compares the order of what is in an identity file, line by
// line outside of PEM, block by block inside.
func compareBundles(t *testing.T, names *strings.Replacer, mine, theirs string) {
	t.Helper()
	shape := func(content string) (shape []string) {
		inside := false
		for line := range strings.Lines(content) {
			switch line = strings.TrimSpace(line); {
			case strings.HasPrefix(line, "-----BEGIN "):
				inside = true
				shape = append(shape, strings.Trim(strings.TrimPrefix(line, "-----BEGIN "), "-"))
			case strings.HasPrefix(line, "-----END "):
				inside = false
			case inside:
			case strings.HasPrefix(line, "@cert-authority "):
				shape = append(shape, names.Replace(line))
			default:
				kind, _, _ := strings.Cut(line, " ")
				shape = append(shape, kind)
			}
		}
		return shape
	}
	want := shape(theirs)
	require.Equal(t, officialKeyType, want[0])
	require.Equal(t, "ssh-rsa-cert-v01@openssh.com", want[1])
	want[0], want[1] = ourKeyType, "ecdsa-sha2-nistp256-cert-v01@openssh.com"
	require.Equal(t, want, shape(mine), "the order of the identity file")
}

func compareTLS(t *testing.T, names *strings.Replacer, mine, theirs string) {
	t.Helper()
	require.Equal(t, pemTypes(theirs), pemTypes(mine))
	my, their := parseTLS(t, mine), parseTLS(t, theirs)
	require.Equal(t, subject(names, their), subject(names, my), "subject")
	require.Equal(t, their.Issuer.String(), my.Issuer.String())
	require.Equal(t, their.KeyUsage, my.KeyUsage)
	require.Equal(t, their.ExtKeyUsage, my.ExtKeyUsage)
	require.Equal(t, their.UnknownExtKeyUsage, my.UnknownExtKeyUsage)
	require.Equal(t, extensions(names, their), extensions(names, my), "extensions")
	require.Equal(t, their.BasicConstraintsValid, my.BasicConstraintsValid)
	require.Equal(t, their.DNSNames, my.DNSNames)
	// The agent says when it's to end, and the server's clock when it begins.
	require.InDelta(t, their.NotAfter.Sub(their.NotBefore), my.NotAfter.Sub(my.NotBefore), float64(slack), "life")
}

// slack is for lives, which are what was asked for less the time of asking.
const slack = 10 * time.Second

func parseTLS(t *testing.T, content string) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode([]byte(content))
	require.NotNil(t, block)
	cert, err := x509.ParseCertificate(block.Bytes)
	require.NoError(t, err)
	return cert
}

// The parts of a subject that are different in each certificate (Teleport's
// lib/tlsca has the list of all).
const (
	oidAppSession = "1.3.9999.1.4"
	oidAppName    = "1.3.9999.1.10"
	oidLocality   = "2.5.4.7" // logins, a dummy one among them
)

// subject lists a subject's attributes in order, with what is different in
// each certificate made equal.
func subject(names *strings.Replacer, cert *x509.Certificate) (attributes []string) {
	for _, name := range cert.Subject.Names {
		value := names.Replace(fmt.Sprint(name.Value))
		switch name.Type.String() {
		case oidAppSession:
			value = fmt.Sprintf("a session id of %d characters", len(value))
		case oidLocality:
			if strings.HasPrefix(value, "-teleport-nologin-") {
				value = "a dummy login"
			}
		}
		attributes = append(attributes, name.Type.String()+"="+value)
	}
	slices.Sort(attributes)
	return attributes
}

// extensions lists a certificate's extensions; the ids of keys are different
// by nature.
func extensions(names *strings.Replacer, cert *x509.Certificate) (all []string) {
	subjectKeyID := asn1.ObjectIdentifier{2, 5, 29, 14}
	for _, e := range cert.Extensions {
		value := names.Replace(fmt.Sprintf("%x", e.Value))
		if e.Id.Equal(subjectKeyID) {
			value = "an id"
		}
		all = append(all, fmt.Sprintf("%s critical=%v %s", e.Id, e.Critical, value))
	}
	slices.Sort(all)
	return all
}

func compareSSH(t *testing.T, names *strings.Replacer, mine, theirs string) {
	t.Helper()
	my, their := parseSSH(t, mine), parseSSH(t, theirs)
	require.Len(t, strings.Fields(mine), len(strings.Fields(theirs)), "fields of the certificate's line")
	require.Equal(t, their.CertType, my.CertType)
	require.Equal(t, names.Replace(their.KeyId), names.Replace(my.KeyId))
	require.Equal(t, principals(their), principals(my), "principals")
	require.Equal(t, renamed(names, their.CriticalOptions), renamed(names, my.CriticalOptions), "critical options")
	require.Equal(t, renamed(names, their.Extensions), renamed(names, my.Extensions), "extensions")
	require.True(t, bytes.Equal(their.SignatureKey.Marshal(), my.SignatureKey.Marshal()), "authority")
	require.InDelta(t, their.ValidBefore-their.ValidAfter, my.ValidBefore-my.ValidAfter, slack.Seconds(), "life")
}

func parseSSH(t *testing.T, content string) *ssh.Certificate {
	t.Helper()
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(content))
	require.NoError(t, err)
	cert, ok := key.(*ssh.Certificate)
	require.True(t, ok)
	return cert
}

func principals(cert *ssh.Certificate) (all []string) {
	for _, principal := range cert.ValidPrincipals {
		if strings.HasPrefix(principal, "-teleport-nologin-") {
			principal = "a dummy login"
		}
		all = append(all, principal)
	}
	return all
}

func renamed(names *strings.Replacer, options map[string]string) map[string]string {
	all := make(map[string]string)
	for key, value := range options {
		all[key] = names.Replace(value)
	}
	return all
}

// compareSSHConfigs asks OpenSSH what it understands.
func compareSSHConfigs(t *testing.T, names *strings.Replacer, ours, official *stage, name string) {
	t.Helper()
	info := ours.cluster.Info()
	for _, host := range []string{"node." + info.ClusterName, "localhost", "elsewhere.example.com"} {
		mine := sshOptions(t, filepath.Join(ours.place(name), "ssh_config"), host)
		theirs := sshOptions(t, filepath.Join(official.place(name), "ssh_config"), host)
		for option, value := range theirs {
			switch option {
			case "proxycommand":
				require.Contains(t, value, "tbot", host)
				require.True(t, strings.HasPrefix(mine[option], "tsh "), mine[option])
			case "hostkeyalgorithms":
				for algorithm := range strings.SplitSeq(mine[option], ",") {
					require.NotEqual(t, "ssh-rsa-cert-v01@openssh.com", algorithm)
				}
			default:
				require.Equal(t, names.Replace(value), names.Replace(mine[option]), "%s for %s", option, host)
			}
		}
	}
}

// TestParityAfterRenewal compares a renewed set with the first one: a renewal
// changes the key, and nothing that a program could notice.
func TestParityAfterRenewal(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	agent := s.start(t, s.tbotDocument(t, fmt.Sprintf("  - {type: application, app_name: %s, destination: {type: directory, path: %s}}\n", s.app.Name, s.place("out"))))
	s.awaitFile(t, agent, "out")
	first := files(t, s.place("out"))
	before := parseTLS(t, first["tlscert"])

	agent.Signal(t, syscall.SIGHUP)
	s.awaitSerial(t, agent, "out", before.SerialNumber.String())
	stop(t, agent)

	second := files(t, s.place("out"))
	require.Equal(t, slices.Sorted(maps.Keys(first)), slices.Sorted(maps.Keys(second)))
	names := strings.NewReplacer()
	compareTLS(t, names, second["tlscert"], first["tlscert"])
	compareSSH(t, names, second["key-cert.pub"], first["key-cert.pub"])
	require.NotEqual(t, first["key"], second["key"], "each certificate has a fresh key")
	require.Equal(t, first["teleport-host-ca.crt"], second["teleport-host-ca.crt"])
	consistent(t, second)
	s.fetches(t, "out")
}
