package cluster

import (
	"context"
	"strings"
	"time"

	"github.com/gravitational/teleport/api/breaker"
	"github.com/gravitational/teleport/api/client"
	"github.com/gravitational/teleport/api/constants"
	"github.com/gravitational/trace"
	"google.golang.org/grpc"

	"rollcall/failure"
)

// connect opens a connection to the Auth Service with an identity and proves
// with one call that it works. The caller closes it.
//
// However the connection travels, TLS is spoken with the Auth Service itself,
// end to end, and checked against the identity's own authorities; a proxy on
// the way only forwards. The outer TLS of a connection upgrade is checked like
// any proxy's certificate.
func (c *Cluster) connect(ctx context.Context, creds *Credentials) (*client.Client, error) {
	if left := time.Until(creds.NotAfter()); left <= 0 {
		return nil, failure.New(failure.Refused,
			"the identity expired at %s: join again", creds.NotAfter().UTC().Format(time.RFC3339))
	}
	found, err := c.Endpoint(ctx)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	clt, err := c.dialAuth(ctx, found, creds)
	if err != nil {
		c.forgetEndpoint()
		return nil, err
	}
	return clt, nil
}

// dialAuth connects through a known endpoint.
func (c *Cluster) dialAuth(ctx context.Context, found Endpoint, creds *Credentials) (*client.Client, error) {
	op := "connecting to the Auth Service " + c.describe(found)
	config, err := credentialsTLS(creds)
	if err != nil {
		return nil, translate(op, err)
	}
	clientConfig := c.clientConfig(found.Addr)
	clientConfig.Credentials = []client.Credentials{client.LoadTLS(config)}
	switch {
	case found.Proxy && found.TLSRouting:
		clientConfig.ALPNSNIAuthDialClusterName = creds.ClusterName
		clientConfig.ALPNConnUpgradeRequired = found.ConnUpgrade
		clientConfig.InsecureAddressDiscovery = c.opts.Insecure
	case found.Proxy:
		clientConfig.Dialer = c.tunnelDialer(found.TunnelAddr, creds)
	}
	clt, err := client.New(ctx, clientConfig)
	if err != nil {
		return nil, translate(op, err)
	}
	if err := c.prove(ctx, clt); err != nil {
		_ = clt.Close() // the failed call is what matters
		return nil, translate(op, explainDenied(op, c.explainUpgrade(found, err)))
	}
	return clt, nil
}

// prove makes the first call on a connection that is dialled in the background.
func (c *Cluster) prove(ctx context.Context, clt *client.Client) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	answer, err := clt.Ping(ctx)
	if err != nil {
		return trace.Wrap(err)
	}
	return checkServerVersion(answer.ServerVersion, "")
}

// clientConfig is what all api clients have in common.
func (c *Cluster) clientConfig(addr string) client.Config {
	return client.Config{
		Addrs:            []string{addr},
		DialInBackground: true,
		DialTimeout:      c.timeout,
		KeepAlivePeriod:  pingPeriod,
		KeepAliveCount:   1,
		// Our own back-off decides when to try again. The default breaker
		// would answer for a cluster that is back already.
		CircuitBreakerConfig: breaker.NoopBreakerConfig(),
		DialOpts: []grpc.DialOption{
			grpc.WithConnectParams(grpc.ConnectParams{
				Backoff:           reconnectBackoff,
				MinConnectTimeout: c.timeout,
			}),
		},
	}
}

// pingPeriod is how often a connection is proved by a ping, which the api client
// does in use or not (it overrides what DialOpts say). An Auth Service permits
// that, and cuts those who ping more often than once a minute three times
// without an answer of its own between (lib/auth/grpcserver.go of Teleport 14.2.3;
// the same stands in a later one, of about 17). The api client's own default is that minute itself,
// which a ping that was late and one that wasn't fall below.
const pingPeriod = 70 * time.Second

// describe says in a sentence how the Auth Service is reached.
func (c *Cluster) describe(found Endpoint) string {
	switch {
	case !found.Proxy:
		return "at " + found.Addr
	case found.TLSRouting:
		return "through the proxy " + found.Addr
	default:
		return "through the proxy's tunnel " + found.TunnelAddr
	}
}

// explainUpgrade adds what to do where the trouble lies in front of the proxy.
func (c *Cluster) explainUpgrade(found Endpoint, err error) error {
	switch {
	case found.ConnUpgrade && c.opts.ProxyCA != "" && isUnknownAuthority(err):
		// The api client checks the outer certificate of a connection upgrade
		// against the system's roots alone.
		return failure.Wrap(failure.Trust, err,
			"the load balancer in front of the proxy %s shows a certificate from a private CA, and proxy_ca can't be used for the connection upgrade that it needs: set the environment variable SSL_CERT_FILE to that CA's file as well", found.Addr)
	case found.TLSRouting && !found.ConnUpgrade && strings.Contains(err.Error(), "."+constants.APIDomain):
		return failure.Wrap(failure.Trust, err,
			"the certificate that answers through %s isn't the Auth Service's: if a load balancer ends TLS there, set the environment variable TELEPORT_TLS_ROUTING_CONN_UPGRADE=yes; if not, somebody else is answering", found.Addr)
	default:
		return err
	}
}

// explainDenied says why the first call, which everybody may make, is denied:
// the server (14.2.3) keeps the lock to itself and says "access denied" alone.
func explainDenied(op string, err error) error {
	if !trace.IsAccessDenied(err) || oneLine(err) != "access denied" {
		return err
	}
	return failure.Wrap(failure.Refused, err,
		"%s: THE BOT IS LOCKED OR GONE: the cluster refuses this identity altogether. Look for a lock on the bot (`tctl get locks`) and for the bot itself (`tctl bots ls`). %s", op, recoverBot)
}
