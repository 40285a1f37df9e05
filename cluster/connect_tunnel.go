package cluster

import (
	"context"
	"net"
	"time"

	"github.com/gravitational/teleport/api/client"
	"github.com/gravitational/teleport/api/constants"
	"github.com/gravitational/teleport/api/utils/sshutils"
	"github.com/gravitational/trace"
	"golang.org/x/crypto/ssh"
	"google.golang.org/grpc/backoff"
)

// reconnectBackoff is gRPC's own between attempts on a broken connection. Its
// default maximum of two minutes is longer than an agent should stay away from
// a cluster that is back.
var reconnectBackoff = backoff.Config{BaseDelay: time.Second, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 15 * time.Second}

// tunnelDialer reaches the Auth Service through the SSH listener of a proxy
// that doesn't use TLS routing. The proxy must show a host certificate of one
// of the identity's authorities.
func (c *Cluster) tunnelDialer(addr string, creds *Credentials) client.ContextDialer {
	return client.ContextDialerFunc(func(ctx context.Context, network, _ string) (net.Conn, error) {
		config, err := tunnelSSHConfig(creds)
		if err != nil {
			return nil, trace.Wrap(err)
		}
		conn, err := c.dialer(ctx).DialContext(ctx, network, addr)
		if err != nil {
			return nil, trace.Wrap(err)
		}
		// NewClientConn knows no context: a deadline on the connection bounds
		// the handshake.
		if err := conn.SetDeadline(time.Now().Add(c.timeout)); err != nil {
			return nil, trace.NewAggregate(err, conn.Close())
		}
		sshConn, channels, requests, err := ssh.NewClientConn(conn, addr, config)
		if err != nil {
			return nil, trace.Wrap(err) // conn is closed already
		}
		sshClient := ssh.NewClient(sshConn, channels, requests)
		tunnelled, _, err := sshutils.ConnectProxyTransport(sshClient.Conn,
			&sshutils.DialReq{Address: constants.RemoteAuthServer}, true)
		if err != nil {
			return nil, trace.NewAggregate(err, sshClient.Close())
		}
		if err := conn.SetDeadline(time.Time{}); err != nil {
			return nil, trace.NewAggregate(err, tunnelled.Close())
		}
		return tunnelled, nil
	})
}

// tunnelSSHConfig presents the identity's SSH certificate and trusts its SSH
// authorities only.
func tunnelSSHConfig(creds *Credentials) (*ssh.ClientConfig, error) {
	if creds.SSH == nil {
		return nil, trace.BadParameter("the identity holds no SSH certificate, which a proxy without TLS routing asks for")
	}
	config, err := sshutils.ProxyClientSSHConfig(creds.SSH, creds.Key.Signer)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	var trusted []ssh.PublicKey
	for _, line := range creds.SSHCACerts {
		keys, err := parseAuthorityKeys(line)
		if err != nil {
			return nil, trace.Wrap(err)
		}
		trusted = append(trusted, keys...)
	}
	config.HostKeyCallback, err = sshutils.HostKeyCallback(trusted, false)
	return config, trace.Wrap(err)
}

// parseAuthorityKeys reads authorized_keys lines; options are ignored.
func parseAuthorityKeys(rest []byte) ([]ssh.PublicKey, error) {
	var keys []ssh.PublicKey
	for len(rest) > 0 {
		key, _, _, next, err := ssh.ParseAuthorizedKey(rest)
		if err != nil {
			return nil, trace.Wrap(err, "reading an SSH authority")
		}
		keys, rest = append(keys, key), next
	}
	return keys, nil
}
