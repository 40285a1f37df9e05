package outputs

import (
	"bytes"
	"net"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gravitational/trace"

	"rollcall/cluster"
	"rollcall/destination"
	"rollcall/failure"
)

// hostKeyAlgorithms are the kinds of host certificates that OpenSSH is told to
// accept: the keys that Teleport's SSH servers of any supported version have.
// RSA with SHA-1, which the official agent's file still ends with, isn't among
// them, as no supported server needs it; this asks for OpenSSH 7.8 (2018) or
// newer.
const hostKeyAlgorithms = "ssh-ed25519-cert-v01@openssh.com," +
	"ecdsa-sha2-nistp256-cert-v01@openssh.com," +
	"rsa-sha2-512-cert-v01@openssh.com," +
	"rsa-sha2-256-cert-v01@openssh.com"

// nodePort is where Teleport's SSH service listens by default.
const nodePort = "3022"

// sshTarget is what the files for OpenSSH are made from, checked.
type sshTarget struct {
	proxyHost, proxyPort string
	// clusters are the root and the leaves whose host authorities are known.
	clusters []cluster.Authority
}

// addOpenSSH adds known_hosts and, if the set goes to a directory, ssh_config:
// a file that names other files has no use elsewhere.
func addOpenSSH(set destination.Set, cas *cluster.Authorities, info *cluster.Info, directory string) error {
	target, err := newSSHTarget(cas.Host, info)
	if err != nil {
		return err
	}
	if set[fileKnownHosts], err = renderKnownHosts(target); err != nil {
		return trace.Wrap(err)
	}
	if directory != "" {
		set[fileSSHConfig] = []byte(renderSSHConfig(target, directory))
	}
	return nil
}

// newSSHTarget picks the clusters, the root first, and checks the names. Names
// come from the cluster, leaves name themselves, and ssh_config can run
// commands: a name that isn't a plain host name never gets into a file.
func newSSHTarget(hosts []cluster.Authority, info *cluster.Info) (sshTarget, error) {
	host, port, err := net.SplitHostPort(info.ProxyPublicAddr)
	if err != nil || !plainHost(host) || !plainHost(port) {
		return sshTarget{}, failure.New(failure.NotFound,
			"the cluster doesn't tell its proxy's public address (it says %q), which known_hosts and ssh_config need; set public_addr in the Proxy Service's configuration",
			info.ProxyPublicAddr)
	}
	target := sshTarget{proxyHost: host, proxyPort: port}
	for _, name := range append([]string{info.ClusterName}, info.LeafClusters...) {
		at := slices.IndexFunc(hosts, func(ca cluster.Authority) bool { return ca.ClusterName == name })
		if at >= 0 && plainHost(name) {
			target.clusters = append(target.clusters, hosts[at])
		}
	}
	if len(target.clusters) == 0 {
		return sshTarget{}, failure.New(failure.NotFound,
			"the cluster's list of certificate authorities holds no host authority of cluster %q, which known_hosts needs", info.ClusterName)
	}
	return target, nil
}

// plainHost says whether name can stand in ssh_config, known_hosts and a shell
// command with no meaning but its own.
func plainHost(name string) bool {
	foreign := func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-:", r)
	}
	return name != "" && name[0] != '-' && !strings.ContainsFunc(name, foreign)
}

// renderKnownHosts returns the lines by which OpenSSH trusts the clusters'
// hosts and the proxy.
func renderKnownHosts(target sshTarget) ([]byte, error) {
	var out []byte
	for _, ca := range target.clusters {
		lines, err := knownHostsLines(ca, target.proxyHost)
		if err != nil {
			return nil, trace.Wrap(err)
		}
		out = append(out, bytes.Join(lines, nil)...)
	}
	return out, nil
}

// renderSSHConfig returns a configuration for `ssh -F`. The official agent's
// ProxyCommand runs the agent, which runs Teleport's tsh; ours names tsh, as
// that's what does the work.
func renderSSHConfig(target sshTarget, directory string) string {
	var out strings.Builder
	line := func(parts ...string) { out.WriteString(strings.Join(parts, "") + "\n") }
	path := func(name string) string { return quoteConfig(filepath.Join(directory, name)) }

	line("# Written by rollcall, and again at each renewal: changes made here get lost.")
	line("# Log in with: ssh -F ", quoteShell(filepath.Join(directory, fileSSHConfig)), " LOGIN@NODE.", target.clusters[0].ClusterName)
	line("# Connecting through the proxy is done by Teleport's tsh, which must be in PATH.")
	for _, name := range bySpecificity(target.clusters) {
		line()
		line("# Hosts of ", name, ", and the proxy.")
		line("Host *.", name, " ", target.proxyHost)
		line("    UserKnownHostsFile ", path(fileKnownHosts))
		line("    IdentityFile ", path(fileKey))
		line("    CertificateFile ", path(fileSSHCert))
		line("    HostKeyAlgorithms ", hostKeyAlgorithms)
		line()
		line("# Hosts of ", name, " are reached through the proxy.")
		line("Host *.", name, " !", target.proxyHost)
		line("    Port ", nodePort)
		line("    ProxyCommand tsh -i ", quoteCommand(filepath.Join(directory, fileIdentity)),
			" proxy --proxy=", quoteCommand(net.JoinHostPort(target.proxyHost, target.proxyPort)),
			" ssh --cluster=", name, " %r@%h:%p")
	}
	return out.String()
}

// bySpecificity returns the clusters' names, those with more labels first.
// OpenSSH takes the first value that it finds, so a leaf called
// leaf.example.com must stand before its root example.com, whose pattern
// matches the leaf's hosts too.
func bySpecificity(clusters []cluster.Authority) []string {
	names := make([]string, len(clusters))
	for i, ca := range clusters {
		names[i] = ca.ClusterName
	}
	slices.SortStableFunc(names, func(a, b string) int {
		return strings.Count(b, ".") - strings.Count(a, ".")
	})
	return names
}

// quoteConfig quotes a path for ssh_config, where % begins a token.
func quoteConfig(path string) string {
	return `"` + strings.ReplaceAll(path, "%", "%%") + `"`
}

// quoteCommand quotes a word for a ProxyCommand, which a shell runs after
// OpenSSH has replaced its % tokens.
func quoteCommand(word string) string {
	return quoteShell(strings.ReplaceAll(word, "%", "%%"))
}

// quoteShell quotes a word for a shell, if it needs it.
func quoteShell(word string) string {
	if plainHost(strings.ReplaceAll(word, "/", "")) {
		return word
	}
	return `'` + strings.ReplaceAll(word, `'`, `'\''`) + `'`
}

// checkSSHDirectory refuses a path that ssh_config has no way to write. Space
// and % are fine.
func checkSSHDirectory(path string) error {
	if path == "" {
		return nil
	}
	if !filepath.IsAbs(path) {
		return failure.New(failure.Configuration, "the destination's path %q must be absolute for ssh_config", path)
	}
	if strings.ContainsAny(path, "\"\\\n\r\x00") || strings.Contains(path, "${") {
		return failure.New(failure.Configuration,
			`the destination's path %q can't be written into ssh_config; choose one without quotation marks, backslashes, "${" and line breaks`, path)
	}
	return nil
}
