package outputs

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"rollcall/cluster"
	"rollcall/destination"
	"rollcall/failure"
)

// Fixed keys: two of the root, which is being rotated, and one each of two
// leaves.
const (
	rootKey     = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB\n"
	rootNextKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIC\n"
	leafKey     = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMD a comment\n"
	otherKey    = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE\n"
)

var update = flag.Bool("update", false, "write the golden files")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		require.NoError(t, os.WriteFile(path, got, 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), string(got))
}

func hostAuthority(name string, keys ...string) cluster.Authority {
	ca := cluster.Authority{ClusterName: name}
	for _, key := range keys {
		ca.SSHKeys = append(ca.SSHKeys, []byte(key))
	}
	return ca
}

func render(t *testing.T, hosts []cluster.Authority, info cluster.Info, directory string) destination.Set {
	t.Helper()
	set := destination.Set{}
	require.NoError(t, addOpenSSH(set, &cluster.Authorities{Host: hosts}, &info, directory))
	return set
}

func TestOpenSSHFiles(t *testing.T) {
	tests := map[string]struct {
		hosts     []cluster.Authority
		leaves    []string
		proxy     string
		directory string
	}{
		"root_only": {
			hosts: []cluster.Authority{hostAuthority("example.com", rootKey)},
			proxy: "proxy.example.com:443", directory: "/opt/machine-id",
		},
		// A leaf below the root's name must stand before the root.
		"rotation_and_leaves": {
			hosts: []cluster.Authority{
				hostAuthority("example.com", rootKey, rootNextKey),
				hostAuthority("leaf.example.com", leafKey), hostAuthority("other.test", otherKey),
			},
			leaves: []string{"other.test", "leaf.example.com"},
			proxy:  "example.com:3080", directory: "/opt/machine id/100%/it's",
		},
		"address_as_proxy": {
			hosts: []cluster.Authority{hostAuthority("example.com", rootKey)},
			proxy: "[2001:db8::1]:443", directory: "/opt/machine-id",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			info := cluster.Info{ClusterName: "example.com", ProxyPublicAddr: test.proxy, LeafClusters: test.leaves}
			set := render(t, test.hosts, info, test.directory)
			golden(t, name+".ssh_config", set[fileSSHConfig])
			golden(t, name+".known_hosts", set[fileKnownHosts])
		})
	}
}

// Each line is understood by an independent reader, and only for its cluster.
func TestKnownHostsAreReadable(t *testing.T) {
	set := render(t, []cluster.Authority{hostAuthority("example.com", rootKey, rootNextKey), hostAuthority("other.test", otherKey)},
		cluster.Info{ClusterName: "example.com", ProxyPublicAddr: "proxy.example.com:443", LeafClusters: []string{"other.test"}}, "")
	rest := set[fileKnownHosts]
	var got []string
	for len(rest) > 0 {
		marker, hosts, key, comment, next, err := ssh.ParseKnownHosts(rest)
		require.NoError(t, err)
		require.Equal(t, "cert-authority", marker)
		require.Equal(t, "type=host", comment)
		got = append(got, strings.Join(hosts, ",")+" "+string(ssh.MarshalAuthorizedKey(key)))
		rest = next
	}
	require.Equal(t, []string{
		"proxy.example.com,example.com,*.example.com " + rootKey,
		"proxy.example.com,example.com,*.example.com " + rootNextKey,
		"proxy.example.com,other.test,*.other.test " + otherKey,
	}, got)
}

// What the cluster says must never become a directive or a pattern.
func TestHostileNamesStayOut(t *testing.T) {
	evil := []string{
		"evil\n    ProxyCommand touch /tmp/owned", "evil *", "evil,*", "*", "!x", "-oProxyCommand=x",
		"$(id)", "`id`", "a b", "%h", "\"", "",
	}
	hosts := []cluster.Authority{hostAuthority("example.com", rootKey)}
	for _, name := range evil {
		hosts = append(hosts, hostAuthority(name, leafKey))
	}
	// A key with a second line must not bring that line into the file.
	hosts[0].SSHKeys[0] = []byte(rootKey + "@cert-authority * " + otherKey)
	set := render(t, hosts, cluster.Info{
		ClusterName: "example.com", ProxyPublicAddr: "proxy.example.com:443", LeafClusters: evil,
	}, "/opt/machine-id")
	clean := render(t, []cluster.Authority{hostAuthority("example.com", rootKey)},
		cluster.Info{ClusterName: "example.com", ProxyPublicAddr: "proxy.example.com:443"}, "/opt/machine-id")
	require.Equal(t, string(clean[fileSSHConfig]), string(set[fileSSHConfig]))
	require.Equal(t, string(clean[fileKnownHosts]), string(set[fileKnownHosts]))

	lines, err := knownHostsLines(hostAuthority("evil,*", leafKey))
	require.NoError(t, err)
	require.Empty(t, lines)
}

func TestOpenSSHNeedsAProxyAndTheRootsAuthority(t *testing.T) {
	root := []cluster.Authority{hostAuthority("example.com", rootKey)}
	tests := map[string]struct {
		hosts   []cluster.Authority
		proxy   string
		message string
	}{
		"no address":        {root, "", "set public_addr"},
		"no port":           {root, "proxy.example.com", "set public_addr"},
		"no host":           {root, ":443", "set public_addr"},
		"a hostile address": {root, "proxy\nHost *:443", "set public_addr"},
		"no authority":      {[]cluster.Authority{hostAuthority("other.test", otherKey)}, "proxy.example.com:443", `no host authority of cluster "example.com"`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			err := addOpenSSH(destination.Set{}, &cluster.Authorities{Host: test.hosts},
				&cluster.Info{ClusterName: "example.com", ProxyPublicAddr: test.proxy}, "/opt/machine-id")
			require.ErrorContains(t, err, test.message)
			require.Equal(t, failure.NotFound, failure.KindOf(err))
		})
	}
}

func TestDirectoriesThatSSHConfigCanNotHold(t *testing.T) {
	for _, path := range []string{"", "/opt/machine-id", "/opt/with space", "/opt/100%", "/opt/it's"} {
		require.NoError(t, checkSSHDirectory(path), path)
	}
	for _, path := range []string{"relative", "/a\"b", "/a\nb", `/a\b`, "/a${HOME}"} {
		err := checkSSHDirectory(path)
		require.Error(t, err, path)
		require.Equal(t, failure.Configuration, failure.KindOf(err), path)
	}
}

func TestSSHConfigNeverRunsRollcall(t *testing.T) {
	set := render(t, []cluster.Authority{hostAuthority("example.com", rootKey)},
		cluster.Info{ClusterName: "example.com", ProxyPublicAddr: "proxy.example.com:443"}, "/opt/machine-id")
	// There's no `rollcall proxy ssh`; the line names the program that works.
	require.False(t, bytes.Contains(set[fileSSHConfig], []byte("ProxyCommand rollcall")))
	require.Contains(t, string(set[fileSSHConfig]),
		"ProxyCommand tsh -i /opt/machine-id/identity proxy --proxy=proxy.example.com:443 ssh --cluster=example.com %r@%h:%p\n")
}
