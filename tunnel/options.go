// Package tunnel knows the local application proxy: it listens on this host,
// lets in whom the options allow, and carries what they send to an application
// behind Teleport's proxy, over connections that bear the bot's certificate.
// It knows no files and no YAML beyond the tags of its options, and speaks to
// Teleport only through package cluster.
package tunnel

import (
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strings"

	"rollcall/destination"
	"rollcall/service"
)

// Type names as the configuration has them.
const (
	TypeTunnel = "application-tunnel"
	TypeProxy  = "application-proxy"
)

// DefaultMaxConnections is how many connections a listener serves at a time.
const DefaultMaxConnections = 1000

// MostConnections bounds max_connections: each takes two descriptors.
const MostConnections = 100000

// DefaultMaxApplications is how many applications an application-proxy keeps
// certificates for.
const DefaultMaxApplications = 100

// ListenOptions say where a tunnel listens and whom it lets in.
type ListenOptions struct {
	// Listen is tcp://HOST:PORT, with port 0 for any free one, or
	// unix:///absolute/path. Where systemd passes a socket with the service's
	// name as its FileDescriptorName, that one is used in its place.
	Listen string `yaml:"listen"`
	// AllowRemote permits a TCP address that isn't a loopback one: whoever can
	// reach it uses the application with the bot's rights.
	AllowRemote bool `yaml:"allow_remote,omitempty"`
	// BearerToken is a token that clients must show: the absolute path of a
	// file (mode 0600), or credential:NAME. They send it as Proxy-Authorization: Bearer
	// TOKEN, or as Authorization: Bearer TOKEN if the application wants no
	// Authorization of its own. It's never passed on. A TCP application's
	// clients can't show one: with bearer_token it isn't served.
	BearerToken string `yaml:"bearer_token,omitempty"`
	// PeerUsers are the only users whose programs may connect, by name or
	// number; default: all that can reach the socket.
	PeerUsers []string `yaml:"peer_users,omitempty"`
	// Socket says who may use a unix socket, by its permissions.
	Socket SocketOptions `yaml:"socket,omitempty"`
	// MaxConnections is how many connections are served at a time; default
	// 1000, at least 1. Beyond it an HTTP client is answered 503, and a TCP connection is
	// closed.
	MaxConnections int `yaml:"max_connections,omitempty"`
	// AccessLog logs a line for each request: method, path without the query,
	// status, sizes, duration and the client's user. Never headers.
	AccessLog bool `yaml:"access_log,omitempty"`
	// Names are what messages call these options; a file has none.
	Names Names `yaml:"-"`
}

// SocketOptions are the permissions of a unix socket. It has them from the
// first moment.
type SocketOptions struct {
	// Mode is the socket's mode in octal; default 0600. To connect one needs
	// write permission.
	Mode string `yaml:"mode,omitempty"`
	// User is the socket's owner by name or number; needs root.
	User string `yaml:"user,omitempty"`
	// Group is the socket's group by name or number.
	Group string `yaml:"group,omitempty"`
	// Readers are further users and groups who may connect, by an ACL.
	Readers []destination.Reader `yaml:"readers,omitempty"`
}

// Options configure a tunnel to one application.
type Options struct {
	service.CommonOptions `yaml:",inline"`
	ListenOptions         `yaml:",inline"`
	// AppName is the application's name in Teleport. Whether it's HTTP or TCP
	// is found out from the cluster.
	AppName string `yaml:"app_name"`
	// AllowedHosts are host names that clients may use beside localhost and the
	// address of listen, against web pages that point a name of theirs at this
	// host; "*" permits all, and unix sockets need none. Web pages of these
	// names, whatever their port, may use the application as its own pages may;
	// "*" names no page.
	AllowedHosts []string `yaml:"allowed_hosts,omitempty"`
}

// ProxyOptions configure an HTTP proxy for all applications that the bot may
// use.
type ProxyOptions struct {
	service.CommonOptions `yaml:",inline"`
	ListenOptions         `yaml:",inline"`
	// Domains are suffixes that clients may append to an application's name:
	// with apps.internal, http://grafana.apps.internal/ is the application
	// grafana, as http://grafana/ and its public address are anyway.
	Domains []string `yaml:"domains,omitempty"`
	// MaxApplications is how many applications certificates are kept for at a
	// time; default 100, at least 1. The one that was used longest ago gives way.
	MaxApplications int `yaml:"max_applications,omitempty"`
}

// Subject is what the tunnel is for.
func (o *Options) Subject() string { return o.AppName }

// Subject is what the proxy is for: its port, or the socket's name.
func (o *ProxyOptions) Subject() string {
	network, address, err := parseListen(o.Listen)
	if err != nil {
		return ""
	}
	if network == networkUnix {
		return address[strings.LastIndexByte(address, '/')+1:]
	}
	_, port, _ := net.SplitHostPort(address)
	return port
}

// Networks of a listen address.
const (
	networkTCP  = "tcp"
	networkUnix = "unix"
)

// SocketPath is the path of the unix socket that is listened on; empty: it's
// none.
func (o *ListenOptions) SocketPath() string {
	network, address, err := parseListen(o.Listen)
	if err != nil || network != networkUnix {
		return ""
	}
	return address
}

// Endpoint is what is listened on, in one spelling: of two services that have
// the same, one can't listen. Empty: nobody else can have it, since the port is
// any free one, or since nothing can be listened on.
func (o *ListenOptions) Endpoint() string {
	network, address, err := parseListen(o.Listen)
	if err != nil {
		return ""
	}
	if network == networkUnix {
		return network + "://" + filepath.Clean(address)
	}
	host, port, _ := net.SplitHostPort(address)
	port = strings.TrimLeft(port, "0")
	if port == "" {
		return ""
	}
	host = strings.ToLower(host)
	if ip := net.ParseIP(host); ip != nil {
		host = ip.String()
	}
	return network + "://" + net.JoinHostPort(host, port)
}

// Notes say what is permitted, and should be known: half-sentences about
// allow_remote.
func (o *ListenOptions) Notes() []string {
	network, address, err := parseListen(o.Listen)
	if err != nil || network != networkTCP || !o.AllowRemote || o.BearerToken != "" {
		return nil
	}
	if host, _, _ := net.SplitHostPort(address); loopback(host) {
		return nil
	}
	return []string{fmt.Sprintf("other hosts may reach %s, and no %s is asked for: whoever can connect uses the application with the bot's rights", o.Listen, o.Names.Of("bearer_token"))}
}

// parseListen splits a listen address. Its error is a half-sentence.
func parseListen(listen string) (network, address string, err error) {
	scheme, rest, found := strings.Cut(listen, "://")
	switch {
	case listen == "":
		return "", "", errMissing
	case !found:
		return "", "", errNoScheme
	case scheme == networkUnix:
		return parseUnix(rest)
	case scheme == networkTCP:
		return parseTCP(listen)
	default:
		return "", "", errNoScheme
	}
}

func parseTCP(listen string) (network, address string, err error) {
	u, err := url.Parse(listen)
	if err != nil || u.User != nil || (u.Path != "" && u.Path != "/") || u.RawQuery != "" || u.Fragment != "" {
		return "", "", errTCP
	}
	host, port, err := net.SplitHostPort(u.Host)
	if err != nil || port == "" {
		return "", "", errTCP
	}
	if _, err := net.LookupPort(networkTCP, port); err != nil || strings.Trim(port, "0123456789") != "" {
		return "", "", errTCP
	}
	return networkTCP, net.JoinHostPort(host, port), nil
}

func parseUnix(path string) (network, address string, err error) {
	switch {
	case !strings.HasPrefix(path, "/"):
		return "", "", errUnix
	case strings.HasSuffix(path, "/"), filepath.Base(path) == ".", filepath.Base(path) == "..":
		return "", "", errDirectory
	case len(path) > maxSocketPath:
		return "", "", errLong
	}
	return networkUnix, path, nil
}

// loopback says whether a host of a listen address is this host alone. A name
// other than localhost may be anything.
func loopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
