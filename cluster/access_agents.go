package cluster

import (
	"context"
	"fmt"
	"strings"

	"github.com/gravitational/teleport/api/client/proto"
	"github.com/gravitational/teleport/api/defaults"
	"github.com/gravitational/teleport/api/types"
	"github.com/gravitational/trace"

	"rollcall/failure"
)

// pageSize is how many records one call asks for; the server's own limit.
const pageSize = defaults.DefaultChunkSize

// AppServers returns the records of the applications that agents serve, as far
// as the identity may see them, through all pages: those of one name, or all if
// it's empty. An error: never a part.
func (a *Access) AppServers(ctx context.Context, name string) ([]types.AppServer, error) {
	var all []types.AppServer
	what := intent{op: "listing " + types.KindAppServer, kind: types.KindAppServer}
	req := proto.ListResourcesRequest{ResourceType: types.KindAppServer, Namespace: defaults.Namespace, Limit: pageSize}
	if name != "" {
		req.PredicateExpression = fmt.Sprintf("name == %q", name)
	}
	for {
		var page *types.ListResourcesResponse
		err := a.do(ctx, what, func(ctx context.Context, conn *lent) (err error) {
			page, err = conn.ListResources(ctx, req)
			return err
		})
		switch {
		case err == nil:
		case trace.IsLimitExceeded(err) && req.Limit > 1:
			// The page's records together are larger than a message may be.
			req.Limit /= 2
			continue
		default:
			return nil, err
		}
		for _, resource := range page.Resources {
			if server, ok := resource.(types.AppServer); ok {
				all = append(all, server)
			}
		}
		switch page.NextKey {
		case "":
			return all, nil
		case req.StartKey:
			return nil, failure.New(failure.Transient, "%s: the server gives the same page twice", what.op)
		}
		req.StartKey = page.NextKey
	}
}

// DeleteAppServer removes the record of an application that the agent with that
// host ID served. Any record can be removed by who may remove one: labels don't
// limit it.
func (a *Access) DeleteAppServer(ctx context.Context, hostID, name string) error {
	what := intent{op: "deleting app_server/" + name, kind: types.KindAppServer}
	return a.do(ctx, what, func(ctx context.Context, conn *lent) error {
		return conn.DeleteApplicationServer(ctx, defaults.Namespace, hostID, name)
	})
}

// CreateToken makes a join token. Its name is the secret, so no error holds it.
func (a *Access) CreateToken(ctx context.Context, token types.ProvisionToken) error {
	what := intent{op: "creating a join token", kind: types.KindToken}
	return withoutToken(token.GetName(), a.do(ctx, what, func(ctx context.Context, conn *lent) error {
		return conn.CreateToken(ctx, token)
	}))
}

// DeleteToken removes a join token. No error holds its name. One that isn't
// there is failure.NotFound.
func (a *Access) DeleteToken(ctx context.Context, name string) error {
	what := intent{op: "deleting a join token", kind: types.KindToken}
	return withoutToken(name, a.do(ctx, what, func(ctx context.Context, conn *lent) error {
		return conn.DeleteToken(ctx, name)
	}))
}

// withoutToken takes a token's name out of an error that quotes it.
func withoutToken(name string, err error) error {
	if err == nil || name == "" || !strings.Contains(errorTexts(err), name) {
		return err
	}
	return failure.New(failure.KindOf(err), "%s", strings.ReplaceAll(err.Error(), name, "[token]"))
}
