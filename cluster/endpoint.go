package cluster

import (
	"context"
	"net"
	"time"

	"github.com/gravitational/teleport/api/client/webclient"
	"github.com/gravitational/trace"

	"rollcall/failure"
)

// endpointLife is how long what a proxy said of itself is believed. Joining
// always asks again.
const endpointLife = 5 * time.Minute

// Endpoint is what is known of the way into the cluster before anybody has
// authenticated. It doesn't change once made.
type Endpoint struct {
	// Addr is host:port as it's dialled.
	Addr string
	// Proxy says that Addr is a proxy; else it's taken for an Auth Service, and
	// nothing of the following is known.
	Proxy bool
	// ClusterName is the root cluster's name as the proxy gives it.
	ClusterName string
	// ServerVersion is the proxy's, "14.2.3".
	ServerVersion string
	// ServerMajor is ServerVersion's first number; 0 is unknown.
	ServerMajor int
	// TLSRouting says that the proxy serves every protocol at Addr. If not,
	// the Auth Service is reached through the SSH listener at TunnelAddr.
	TLSRouting bool
	// TunnelAddr is host:port of the reverse tunnel listener.
	TunnelAddr string
	// ConnUpgrade says that something in front of the proxy strips ALPN, so
	// that connections are carried inside an HTTP upgrade.
	ConnUpgrade bool

	// untrusted says that a probe of auth_server met a certificate that the
	// roots for proxies don't cover, which a real Auth Service's never is.
	untrusted bool
}

// Endpoint finds the way into the cluster, or returns what it found a short
// while ago.
func (c *Cluster) Endpoint(ctx context.Context) (Endpoint, error) {
	if known, ok := c.knownEndpoint(); ok {
		return known, nil
	}
	return c.findEndpoint(ctx)
}

func (c *Cluster) knownEndpoint() (Endpoint, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.endpoint == nil || time.Since(c.learned) > endpointLife {
		return Endpoint{}, false
	}
	return *c.endpoint, true
}

// forgetEndpoint makes the next call ask again: the cluster may have moved or
// been upgraded.
func (c *Cluster) forgetEndpoint() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.endpoint = nil
}

func (c *Cluster) findEndpoint(ctx context.Context) (Endpoint, error) {
	found, err := c.askEndpoint(ctx)
	if err != nil {
		return Endpoint{}, trace.Wrap(err)
	}
	c.log.DebugContext(ctx, "found the way into the cluster", "addr", found.Addr,
		"proxy", found.Proxy, "cluster", found.ClusterName, "version", found.ServerVersion,
		"tls_routing", found.TLSRouting, "conn_upgrade", found.ConnUpgrade)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.endpoint, c.learned = &found, time.Now()
	return found, nil
}

// askEndpoint asks the configured address what it is.
func (c *Cluster) askEndpoint(ctx context.Context) (Endpoint, error) {
	if c.opts.ProxyServer != "" {
		addr := withPort(c.opts.ProxyServer, defaultProxyPort)
		answer, err := c.ping(ctx, addr)
		if err != nil {
			return Endpoint{}, translate("asking the proxy "+addr, explainAuthAsProxy(addr, err))
		}
		return c.proxyEndpoint(ctx, addr, answer)
	}
	if c.opts.AuthServer == "" {
		return Endpoint{}, failure.New(failure.Configuration,
			"no server is named: set proxy_server (or auth_server) to the cluster's address")
	}
	addr := withPort(c.opts.AuthServer, defaultAuthPort)
	answer, err := c.ping(ctx, addr)
	switch verdict := judgeProbe(err); verdict {
	case isProxy:
		if len(c.opts.CAPins) > 0 || c.opts.CAPath != "" {
			c.log.DebugContext(ctx, "auth_server is a proxy: its certificate is checked against the usual roots, ca_pins and ca_path aren't used", "addr", addr)
		}
		return c.proxyEndpoint(ctx, addr, answer)
	case isNoProxy, isUntrusted:
		return Endpoint{Addr: addr, untrusted: verdict == isUntrusted}, nil
	default:
		return Endpoint{}, translate("reaching auth_server "+addr, err)
	}
}

// proxyEndpoint turns a proxy's answer into an Endpoint.
func (c *Cluster) proxyEndpoint(ctx context.Context, addr string, answer *webclient.PingResponse) (Endpoint, error) {
	if err := checkServerVersion(answer.ServerVersion, answer.MinClientVersion); err != nil {
		return Endpoint{}, trace.Wrap(err)
	}
	found := Endpoint{
		Addr:          addr,
		Proxy:         true,
		ClusterName:   answer.ClusterName,
		ServerVersion: answer.ServerVersion,
		ServerMajor:   versionMajor(answer.ServerVersion),
		TLSRouting:    answer.Proxy.TLSRoutingEnabled,
	}
	if found.TLSRouting {
		upgrade, err := c.needsConnUpgrade(ctx, addr)
		found.ConnUpgrade = upgrade
		return found, translate("looking for TLS routing at the proxy "+addr, err)
	}
	tunnel, err := answer.Proxy.TunnelAddr()
	if err != nil {
		return Endpoint{}, failure.Wrap(failure.Configuration, err,
			"the proxy %s doesn't use TLS routing and names no usable tunnel address: set ssh_service's tunnel_public_addr there, or proxy_listener_mode: multiplex", addr)
	}
	found.TunnelAddr = replaceUnspecifiedHost(tunnel, addr)
	return found, nil
}

// replaceUnspecifiedHost gives addr the host of another one where it names
// none: a proxy that was told no public address gives its listener's.
func replaceUnspecifiedHost(addr, other string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	if ip := net.ParseIP(host); host != "" && (ip == nil || !ip.IsUnspecified()) {
		return addr
	}
	otherHost, _, err := net.SplitHostPort(other)
	if err != nil {
		return addr
	}
	return net.JoinHostPort(otherHost, port)
}
