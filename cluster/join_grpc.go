package cluster

import (
	"context"
	"crypto/tls"

	"github.com/gravitational/teleport/api/client"
	"github.com/gravitational/teleport/api/client/proto"
	"github.com/gravitational/teleport/api/types"
	"github.com/gravitational/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"
)

const (
	// joinServiceSince is the version whose auth and proxy serve
	// proto.JoinService/RegisterUsingToken.
	joinServiceSince = 17
	// authHTTPJoinUntil is the last version whose Auth Service takes a join by
	// HTTP.
	authHTTPJoinUntil = 17

	// alpnProxyGRPC asks a proxy for the gRPC services that need no client
	// certificate.
	alpnProxyGRPC = "teleport-proxy-grpc"
)

// rejoin repeats a join over the connection of the identity that it replaces,
// so that the cluster sees one bot instance and not a new one each time. done
// is false where that isn't possible and an ordinary join is needed.
func (c *Cluster) rejoin(ctx context.Context, req JoinRequest, found Endpoint, message *types.RegisterUsingTokenRequest) (certs *proto.Certs, done bool, err error) {
	if req.Previous == nil || req.Method == JoinMethodToken {
		return nil, false, nil
	}
	if found.Proxy && found.ServerMajor != 0 && found.ServerMajor < joinServiceSince {
		return nil, false, nil
	}
	clt, err := c.connect(ctx, req.Previous)
	if err != nil {
		c.log.InfoContext(ctx, "can't join again with the previous identity, joining as new", "reason", err)
		return nil, false, nil
	}
	defer clt.Close()
	certs, err = c.registerUsingToken(ctx, clt, message)
	if isUnimplemented(err) {
		return nil, false, nil
	}
	return certs, true, translate("joining again over the connection "+c.describe(found), err)
}

// registerUsingToken calls the JoinService.
func (c *Cluster) registerUsingToken(ctx context.Context, clt *client.Client, message *types.RegisterUsingTokenRequest) (*proto.Certs, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*c.timeout)
	defer cancel()
	certs, err := clt.RegisterUsingToken(ctx, message)
	return certs, trace.Wrap(err)
}

// joinThroughProxy joins by gRPC from v17 on and by HTTP before, or where gRPC
// doesn't get through to the proxy. Behind a load balancer that strips ALPN it
// goes by HTTP too: the inner TLS of a connection upgrade couldn't be checked
// before the cluster's authorities are known.
func (c *Cluster) joinThroughProxy(ctx context.Context, found Endpoint, message *types.RegisterUsingTokenRequest) (*proto.Certs, error) {
	op := "joining through the proxy " + found.Addr
	config, err := c.proxyTLS()
	if err != nil {
		return nil, translate(op, err)
	}
	if found.ServerMajor >= joinServiceSince && found.TLSRouting && !found.ConnUpgrade {
		certs, sent, err := c.joinProxyGRPC(ctx, found.Addr, config.Clone(), message)
		if err == nil || sent && !isUnimplemented(err) {
			return certs, translate(op, err)
		}
		c.log.DebugContext(ctx, "the proxy's join service can't be used, joining by HTTP", "reason", err)
	}
	certs, err := c.joinHTTP(ctx, "https://"+found.Addr+proxyJoinPath, config, message)
	return certs, translate(op, err)
}

// joinProxyGRPC joins through the proxy's unauthenticated gRPC listener. sent
// is false if the request surely never left.
func (c *Cluster) joinProxyGRPC(ctx context.Context, addr string, config *tls.Config, message *types.RegisterUsingTokenRequest) (certs *proto.Certs, sent bool, err error) {
	config.ServerName = hostOf(addr)
	config.NextProtos = []string{alpnProxyGRPC}
	clt, err := c.anonymousClient(ctx, addr, config)
	if err != nil {
		return nil, false, trace.Wrap(err)
	}
	defer clt.Close()
	if err := c.waitReady(ctx, clt.GetConnection()); err != nil {
		return nil, false, trace.Wrap(err)
	}
	certs, err = c.registerUsingToken(ctx, clt, message)
	return certs, true, trace.Wrap(err)
}

// joinAuth joins at an Auth Service: by gRPC from v17 on, by HTTP up to v17.
func (c *Cluster) joinAuth(ctx context.Context, found Endpoint, message *types.RegisterUsingTokenRequest) (*proto.Certs, error) {
	op := "joining at the Auth Service " + found.Addr
	config, err := c.trustAuth(ctx, found)
	if err != nil {
		return nil, translate(op, err)
	}
	clt, err := c.anonymousClient(ctx, found.Addr, config)
	if err != nil {
		return nil, translate(op, err)
	}
	defer clt.Close()
	major, err := c.askMajor(ctx, clt)
	if err != nil {
		return nil, translate(op, c.explainAuth(found, err))
	}
	if major == 0 || major >= joinServiceSince {
		certs, err := c.registerUsingToken(ctx, clt, message)
		if !isUnimplemented(err) || major > authHTTPJoinUntil {
			return certs, translate(op, err)
		}
	}
	httpConfig := config.Clone()
	httpConfig.NextProtos = []string{"http/1.1"}
	certs, err := c.joinHTTP(ctx, "https://"+found.Addr+authJoinPath, httpConfig, message)
	return certs, translate(op, err)
}

// askMajor asks an Auth Service for its version before anybody has
// authenticated; 0 is one that doesn't tell.
func (c *Cluster) askMajor(ctx context.Context, clt *client.Client) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	answer, err := clt.Ping(ctx)
	if trace.IsAccessDenied(err) || isUnimplemented(err) {
		return 0, nil
	}
	if err != nil {
		return 0, trace.Wrap(err)
	}
	return versionMajor(answer.ServerVersion), checkServerVersion(answer.ServerVersion, "")
}

// anonymousClient is an api client without an identity. It dials when it's
// first used.
func (c *Cluster) anonymousClient(ctx context.Context, addr string, config *tls.Config) (*client.Client, error) {
	clientConfig := c.clientConfig(addr)
	clientConfig.Credentials = []client.Credentials{client.LoadTLS(config)}
	clt, err := client.New(ctx, clientConfig)
	return clt, trace.Wrap(err)
}

// waitReady waits until a connection stands, so that what fails later may have
// been sent, and what failed before wasn't.
func (c *Cluster) waitReady(ctx context.Context, conn *grpc.ClientConn) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	conn.Connect()
	for {
		switch state := conn.GetState(); state {
		case connectivity.Ready:
			return nil
		case connectivity.TransientFailure, connectivity.Shutdown:
			return trace.ConnectionProblem(nil, "no gRPC connection")
		default:
			if !conn.WaitForStateChange(ctx, state) {
				return trace.Wrap(ctx.Err())
			}
		}
	}
}

func isUnimplemented(err error) bool {
	return err != nil && (trace.IsNotImplemented(err) || status.Code(trace.Unwrap(err)) == codes.Unimplemented)
}
