package cluster

import (
	"context"
	"log/slog"
	"time"

	"github.com/gravitational/teleport/api/client/proto"
	"github.com/gravitational/teleport/api/types"
	"github.com/gravitational/trace"

	"rollcall/failure"
)

// JoinRequest says how the bot proves who it is, and what it wants.
type JoinRequest struct {
	// Method is JoinMethodToken or JoinMethodKubernetes.
	Method string
	// Token is the provision token's name; for JoinMethodToken it's a secret.
	Token string
	// IDToken is the ServiceAccount token, for JoinMethodKubernetes only.
	IDToken string
	// Key is signed for both certificates.
	Key *Key
	// TTL of the certificates; the server caps it at 24 h. 0: the server's
	// default.
	TTL time.Duration
	// NodeName stands in the server's log; may be empty.
	NodeName string
	// Previous is the identity that this join replaces; may be nil. Servers
	// from v17 on then keep the bot instance, if the method can be repeated.
	Previous *Credentials
}

// Join exchanges what the request proves for credentials. It chooses the
// endpoint by server version, and tries the next one only where the server
// surely didn't act on the request: a token can be spent once.
//
// The kinds of its failures: Configuration, Refused, Unreachable, Trust,
// Transient.
func (c *Cluster) Join(ctx context.Context, req JoinRequest) (*Credentials, error) {
	if err := req.check(); err != nil {
		return nil, trace.Wrap(err)
	}
	certs, err := c.join(ctx, req)
	if err != nil {
		return nil, withoutSecrets(err, req)
	}
	creds, err := NewCredentials(req.Key, certs)
	return creds, translate("reading the cluster's answer to the join", err)
}

func (r *JoinRequest) check() error {
	switch {
	case r.Token == "":
		return failure.New(failure.Configuration, "no join token is configured: set onboarding.token")
	case r.Method != JoinMethodToken && r.Method != JoinMethodKubernetes:
		return failure.New(failure.Configuration, "onboarding.join_method %q isn't supported: use token or kubernetes", r.Method)
	case r.Method == JoinMethodKubernetes && r.IDToken == "":
		return failure.New(failure.Configuration, "the ServiceAccount token is empty: check onboarding.kubernetes.token_path")
	case r.Key == nil:
		return trace.BadParameter("a join request needs a key")
	}
	return nil
}

func (c *Cluster) join(ctx context.Context, req JoinRequest) (*proto.Certs, error) {
	found, err := c.findEndpoint(ctx)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	message := req.message()
	if certs, ok, err := c.rejoin(ctx, req, found, message); ok {
		return certs, trace.Wrap(err)
	}
	if found.Proxy {
		return c.joinThroughProxy(ctx, found, message)
	}
	return c.joinAuth(ctx, found, message)
}

// message is the request as every endpoint takes it.
func (r *JoinRequest) message() *types.RegisterUsingTokenRequest {
	message := &types.RegisterUsingTokenRequest{
		Role:         types.RoleBot,
		Token:        r.Token,
		NodeName:     r.NodeName,
		PublicTLSKey: r.Key.PublicTLS,
		PublicSSHKey: r.Key.PublicSSH,
		IDToken:      r.IDToken,
	}
	if r.TTL > 0 {
		expires := time.Now().UTC().Add(r.TTL)
		message.Expires = &expires
	}
	return message
}

// LogValue keeps the token and the key out of logs.
func (r JoinRequest) LogValue() slog.Value {
	return slog.GroupValue(slog.String("method", r.Method), slog.Duration("ttl", r.TTL))
}
