package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gravitational/teleport/api/client"
	"github.com/gravitational/teleport/api/client/webclient"
	"github.com/gravitational/teleport/api/constants"
	"github.com/gravitational/trace"

	"rollcall/failure"
)

const (
	defaultProxyPort = "443"
	defaultAuthPort  = "3025"

	// maxAnswer bounds what is read of any HTTP answer. A join's certificates
	// and authorities are some tens of KiB.
	maxAnswer = 4 << 20
)

// verdict is what asking an address for /webapi/ping showed.
type verdict uint8

const (
	// isProxy: a proxy answered.
	isProxy verdict = iota
	// isNoProxy: something that speaks TLS answered, and it's no proxy.
	isNoProxy
	// isUntrusted: the certificate comes from a CA that we have no reason to
	// trust: an Auth Service, or a proxy with a private CA.
	isUntrusted
	// isSilent: nobody answered, or the certificate is wrong in another way.
	isSilent
)

// errNotProxy says that an HTTP server answered, but not as a proxy does.
var errNotProxy = errors.New("the server that answered isn't a Teleport proxy")

// judgeProbe tells a proxy from an Auth Service by the error of a ping.
func judgeProbe(err error) verdict {
	switch {
	case err == nil:
		return isProxy
	case isUnknownAuthority(err), showsClusterName(err):
		return isUntrusted
	case errors.Is(err, errNotProxy), isTLSAlert(err):
		return isNoProxy
	default:
		return isSilent
	}
}

// isTLSAlert says whether the peer ended the handshake with an alert. The type
// of an alert isn't exported; the operation's name is.
func isTLSAlert(err error) bool {
	var opErr *net.OpError
	return errors.As(err, &opErr) && opErr.Op == "remote error"
}

// showsClusterName says whether a certificate that wasn't accepted is one of a
// cluster's own authority. Its name is checked before its issuer, and an Auth
// Service's certificate needn't stand for the address that we know.
func showsClusterName(err error) bool {
	var unknown x509.UnknownAuthorityError
	var hostname x509.HostnameError
	var cert *x509.Certificate
	switch {
	case errors.As(err, &unknown):
		cert = unknown.Cert
	case errors.As(err, &hostname):
		cert = hostname.Certificate
	}
	return cert != nil && slices.Contains(cert.DNSNames, constants.APIDomain)
}

// explainAuthAsProxy adds what to do where proxy_server names an Auth Service,
// which its certificate gives away.
func explainAuthAsProxy(addr string, err error) error {
	if !showsClusterName(err) {
		return err
	}
	return failure.Wrap(failure.Trust, err,
		"%s shows a certificate of the cluster's own authority, as an Auth Service does: set auth_server to it in place of proxy_server, with ca_pins or ca_path; or set proxy_server to the proxy's web address", addr)
}

// ping asks a web address whether it's a proxy, and of which cluster.
func (c *Cluster) ping(ctx context.Context, addr string) (*webclient.PingResponse, error) {
	config, err := c.proxyTLS()
	if err != nil {
		return nil, trace.Wrap(err)
	}
	ctx, cancel := context.WithTimeout(ctx, 2*c.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+addr+"/webapi/ping", nil)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	status, body, err := c.doHTTP(req, config)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	if status == http.StatusTooManyRequests || status >= http.StatusInternalServerError {
		return nil, httpError(status, body)
	}
	answer := &webclient.PingResponse{}
	if status != http.StatusOK || json.Unmarshal(body, answer) != nil || answer.ServerVersion == "" {
		return nil, trace.Wrap(errNotProxy)
	}
	return answer, nil
}

// doHTTP makes one request on a connection of its own and reads the answer.
// Redirects aren't followed: what is sent may hold a join token.
func (c *Cluster) doHTTP(req *http.Request, config *tls.Config) (status int, body []byte, err error) {
	transport := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: c.timeout}).DialContext,
		TLSClientConfig:       config,
		TLSHandshakeTimeout:   c.timeout,
		ResponseHeaderTimeout: 3 * c.timeout,
		DisableKeepAlives:     true,
	}
	defer transport.CloseIdleConnections()
	httpClient := &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := httpClient.Do(req)
	if err != nil {
		return 0, nil, trace.Wrap(err)
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return 0, nil, trace.Wrap(err)
	}
	return resp.StatusCode, body, nil
}

// needsConnUpgrade finds out whether ALPN reaches the proxy, by offering a
// protocol that only a proxy knows. The api client has the same test, but it
// checks the certificate against the system's roots alone and takes a failure
// for "no".
func (c *Cluster) needsConnUpgrade(ctx context.Context, addr string) (bool, error) {
	if required, ok := client.OverwriteALPNConnUpgradeRequirementByEnv(addr); ok {
		return required, nil
	}
	config, err := c.proxyTLS()
	if err != nil {
		return false, trace.Wrap(err)
	}
	config.NextProtos = []string{constants.ALPNSNIProtocolReverseTunnel}
	config.ServerName = hostOf(addr)
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	conn, err := c.dialer(ctx).DialContext(ctx, "tcp", addr)
	if err != nil {
		return false, trace.Wrap(err)
	}
	defer conn.Close()
	tlsConn := tls.Client(conn, config)
	if err := tlsConn.HandshakeContext(ctx); err != nil {
		if isTLSAlert(err) || strings.Contains(err.Error(), "unadvertised ALPN protocol") {
			return true, nil
		}
		return false, trace.Wrap(err)
	}
	return tlsConn.ConnectionState().NegotiatedProtocol == "", nil
}

// dialer dials plain TCP, through the environment's HTTP proxy if there's one.
func (c *Cluster) dialer(ctx context.Context) client.ContextDialer {
	return client.NewDialer(ctx, keepAlivePeriod, c.timeout)
}

// keepAlivePeriod is the TCP keep-alive's: shorter than the idle timeout of the
// usual load balancer.
const keepAlivePeriod = 30 * time.Second

// withPort strips a scheme and a path from an address and adds a port where
// there's none.
func withPort(addr, port string) string {
	if _, rest, ok := strings.Cut(addr, "://"); ok {
		addr = rest
	}
	addr, _, _ = strings.Cut(addr, "/")
	if _, _, err := net.SplitHostPort(addr); err == nil {
		return addr
	}
	return net.JoinHostPort(strings.Trim(addr, "[]"), port)
}

func hostOf(addr string) string {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	return host
}
