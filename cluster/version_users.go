package cluster

import (
	"context"

	"github.com/gravitational/teleport/api/client"
	"github.com/gravitational/teleport/api/client/proto"
	"github.com/gravitational/teleport/api/types"
	"github.com/gravitational/trace"
)

// getUser reads a user without secrets. The api client asks the users service,
// which 14.2.3 doesn't have ("unknown service teleport.users.v1.UsersService");
// the Auth Service itself answers there.
func getUser(ctx context.Context, clt *client.Client, name string) (types.User, error) {
	user, err := clt.GetUser(ctx, name, false)
	if !isUnimplemented(err) {
		return user, trace.Wrap(err)
	}
	legacy, err := proto.NewAuthServiceClient(clt.GetConnection()).GetUser(ctx, &proto.GetUserRequest{Name: name}) //nolint:staticcheck // the only way on servers before 15
	if err != nil {
		return nil, trace.Wrap(err)
	}
	return legacy, nil
}
