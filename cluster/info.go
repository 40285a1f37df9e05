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
