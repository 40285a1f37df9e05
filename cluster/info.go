package cluster

import (
	"context"

	"github.com/gravitational/trace"
)

// ping asks the Auth Service what it is, once a connection. An upgrade of the
// server is noticed with the next connection, that is, with the next identity.
func (c *connection) ping(ctx context.Context) (Info, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.info != nil {
		return *c.info, nil
	}
	callCtx, cancel := context.WithTimeout(ctx, rpcTimeout)
	defer cancel()
	pong, err := c.Ping(callCtx)
	if err != nil {
		return Info{}, translate("asking the cluster for its version", err)
	}
	if pong.ServerVersion == "" {
		return Info{}, trace.BadParameter("the Auth Service doesn't tell its version")
	}
	c.info = &Info{
		ClusterName:     pong.ClusterName,
		ServerVersion:   pong.ServerVersion,
		ProxyPublicAddr: pong.ProxyPublicAddr,
	}
	return *c.info, nil
}

// leafClusters lists the trusted leaf clusters that the identity may see.
func (c *connection) leafClusters(ctx context.Context) ([]string, error) {
	callCtx, cancel := context.WithTimeout(ctx, rpcTimeout)
	defer cancel()
	remotes, err := c.GetRemoteClusters(callCtx)
	if err != nil {
		return nil, translate("listing leaf clusters", err)
	}
	names := make([]string, 0, len(remotes))
	for _, r := range remotes {
		names = append(names, r.GetName())
	}
	return names, nil
}
