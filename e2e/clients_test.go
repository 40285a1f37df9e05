package e2e

import (
	"bufio"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gravitational/teleport/api/client"
	"github.com/gravitational/teleport/api/client/proto"
	"github.com/gravitational/teleport/api/types"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"rollcall/e2e/harness"
)

// TestCurlAndGoUseTheCertificate fetches the application under both sets of
// names.
func TestCurlAndGoUseTheCertificate(t *testing.T) {
	t.Parallel()
	s := newStage(t)

	s.oneshot(t, s.document(t, document{outputs: s.application("out", "specific_tls_naming: true,")}))

	for _, names := range [][2]string{{"tlscert", "key"}, {"tls.crt", "tls.key"}} {
		cert, key := s.out(names[0]), s.out(names[1])
		s.cluster.MustFetch(t, s.app, s.sample, cert, key)
		body, err := s.cluster.Curl(t.Context(), s.app, cert, key, "/hello")
		require.NoError(t, err)
		require.Contains(t, body, s.sample.Text+"\nGET /hello\n")
	}
	require.Equal(t, []string{"GET /", "GET /hello", "GET /", "GET /hello"}, s.sample.Requests(),
		"the agent itself asked the application for something")
}

// TestTLSAuthorities uses tls.cas for what it's good for: servers with
// certificates of the cluster's host authority, which the proxy's web address
// isn't one of.
func TestTLSAuthorities(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.oneshot(t, s.document(t, document{outputs: s.application("out", "specific_tls_naming: true,")}))
	info := s.cluster.Info()

	// The Auth Service's own certificate names *.teleport.cluster.local.
	_, port, err := net.SplitHostPort(info.AuthAddr)
	require.NoError(t, err)
	host := fmt.Sprintf("%x.teleport.cluster.local", info.ClusterName)
	curl := func(ca string) (string, error) {
		cmd := exec.CommandContext(t.Context(), "curl", "--silent", "--show-error", "--cacert", ca,
			"--cert", s.out("tls.crt"), "--key", s.out("tls.key"), "--resolve", host+":"+port+":127.0.0.1",
			"--output", os.DevNull, "--write-out", "%{ssl_verify_result} %{http_code}", "https://"+host+":"+port+"/v2/nothing")
		answer, err := cmd.CombinedOutput()
		return string(answer), err
	}

	answer, err := curl(s.out("tls.cas"))
	require.NoError(t, err, answer)
	require.Regexp(t, `^0 [1-9]`, answer, "curl didn't accept the server by tls.cas")
	answer, err = curl(info.ProxyCA)
	require.Error(t, err, "another authority was as good: %s", answer)
	require.Contains(t, answer, "curl: (60)", "it failed for another reason than the authority")

	cas, err := certificates(s.out("tls.cas"))
	require.NoError(t, err)
	require.Equal(t, hostAuthorities(t, s.cluster), cas)
}

// hostAuthorities are the cluster's as the server has them.
func hostAuthorities(t *testing.T, c *harness.Cluster) []*x509.Certificate {
	t.Helper()
	certs, err := certificates(clusterCA(t, c))
	require.NoError(t, err)
	return certs
}

// TestIdentityFile gives the identity file to Teleport's own client.
func TestIdentityFile(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.oneshot(t, s.document(t, document{outputs: s.output("identity", "ssh", "")}))
	file := filepath.Join(s.place("ssh"), "identity")
	info := s.cluster.Info()

	for name, config := range map[string]client.Config{
		"directly":          {Addrs: []string{info.AuthAddr}},
		"through the proxy": {Addrs: []string{info.ProxyAddr}, ALPNSNIAuthDialClusterName: info.ClusterName},
	} {
		t.Run(name, func(t *testing.T) {
			config.Credentials = []client.Credentials{client.LoadIdentityFile(file)}
			clt, err := client.New(t.Context(), config)
			require.NoError(t, err)
			defer clt.Close()

			answer, err := clt.Ping(t.Context())
			require.NoError(t, err)
			require.Equal(t, info.ClusterName, answer.ClusterName)
			// The bot's roles, and nothing more: it sees its own application alone.
			found, err := clt.ListResources(t.Context(), proto.ListResourcesRequest{ResourceType: types.KindAppServer, Limit: 10})
			require.NoError(t, err)
			require.Len(t, found.Resources, 1)
			require.Equal(t, s.app.Name, found.Resources[0].GetName())
		})
	}
}

// TestOpenSSHReadsTheFiles gives ssh_config and known_hosts to OpenSSH.
func TestOpenSSHReadsTheFiles(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.oneshot(t, s.document(t, document{outputs: s.output("identity", "ssh", "")}))
	dir := s.place("ssh")
	file := func(name string) string { return filepath.Join(dir, name) }
	info := s.cluster.Info()
	node := "node." + info.ClusterName

	options := sshOptions(t, file("ssh_config"), node)
	require.Equal(t, file("known_hosts"), options["userknownhostsfile"])
	require.Equal(t, file("key"), options["identityfile"])
	require.Equal(t, file("key-cert.pub"), options["certificatefile"])
	require.Contains(t, options["proxycommand"], "--cluster="+info.ClusterName+" ")
	require.Contains(t, options["proxycommand"], "--proxy="+info.ProxyAddr+" ")
	require.Equal(t, "3022", options["port"])
	require.NotEqual(t, file("key"), sshOptions(t, file("ssh_config"), "elsewhere.example.com")["identityfile"],
		"the configuration spills over to foreign hosts")

	out, err := exec.CommandContext(t.Context(), "ssh-keygen", "-F", node, "-f", file("known_hosts")).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "CA")
	_, err = knownhosts.New(file("known_hosts"))
	require.NoError(t, err)

	listed, err := exec.CommandContext(t.Context(), "ssh-keygen", "-L", "-f", file("key-cert.pub")).CombinedOutput()
	require.NoError(t, err, "%s", listed)
	require.Contains(t, string(listed), "user certificate")
	// OpenSSH takes the private key, and finds it's the certificate's.
	public, err := exec.CommandContext(t.Context(), "ssh-keygen", "-y", "-f", file("key")).Output()
	require.NoError(t, err)
	require.Equal(t, ssh.FingerprintSHA256(sshCertificate(t, file("key-cert.pub")).Key), fingerprint(t, public))
}

// sshOptions is what `ssh -G` makes of a configuration for one host.
func sshOptions(t *testing.T, config, host string) map[string]string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "ssh", "-G", "-F", config, host).CombinedOutput()
	require.NoError(t, err, "%s", out)
	options := make(map[string]string)
	for lines := bufio.NewScanner(strings.NewReader(string(out))); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if _, seen := options[name]; !seen {
			options[name] = value
		}
	}
	return options
}

// sshCertificate reads a key-cert.pub.
func sshCertificate(t *testing.T, path string) *ssh.Certificate {
	t.Helper()
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	key, _, _, _, err := ssh.ParseAuthorizedKey(content)
	require.NoError(t, err)
	cert, ok := key.(*ssh.Certificate)
	require.True(t, ok, "%s holds a %s", path, key.Type())
	return cert
}

func fingerprint(t *testing.T, authorized []byte) string {
	t.Helper()
	key, _, _, _, err := ssh.ParseAuthorizedKey(authorized)
	require.NoError(t, err)
	return ssh.FingerprintSHA256(key)
}
