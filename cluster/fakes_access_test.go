package cluster

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/gravitational/teleport/api/client/proto"
	"github.com/gravitational/teleport/api/types"
	"github.com/gravitational/trace"
	"google.golang.org/protobuf/types/known/emptypb"
)

// listRecords answers page by page, and refuses pages that are too large, as gRPC
// does with large messages.
func (i *fakeIssuing) listRecords(req *proto.ListResourcesRequest) (*proto.ListResourcesResponse, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if int(req.Limit) > i.page {
		return nil, trace.LimitExceeded("grpc: received message larger than max")
	}
	first, err := strconv.Atoi("0" + req.StartKey)
	if err != nil {
		return nil, trace.BadParameter("start key %q", req.StartKey)
	}
	last := min(first+int(req.Limit), i.records)
	answer := &proto.ListResourcesResponse{}
	for n := first; n < last; n++ {
		app, err := types.NewAppV3(types.Metadata{Name: fmt.Sprintf("app-%d", n)}, types.AppSpecV3{URI: "http://localhost"})
		if err != nil {
			return nil, err
		}
		server, err := types.NewAppServerV3FromApp(app, "host", strconv.Itoa(n))
		if err != nil {
			return nil, err
		}
		answer.Resources = append(answer.Resources, &proto.PaginatedResource{Resource: &proto.PaginatedResource_AppServer{AppServer: server}})
	}
	if last < i.records {
		answer.NextKey = strconv.Itoa(last)
	}
	return answer, nil
}

// GetApps is the AuthService's.
func (f *fakeTeleport) GetApps(context.Context, *emptypb.Empty) (*types.AppV3List, error) {
	return &types.AppV3List{}, f.issuing.enter("GetApps")
}

// CreateApp is the AuthService's.
func (f *fakeTeleport) CreateApp(context.Context, *types.AppV3) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, f.issuing.enter("CreateApp")
}

// GetApp is the AuthService's.
func (f *fakeTeleport) GetApp(context.Context, *types.ResourceRequest) (*types.AppV3, error) {
	return &types.AppV3{}, f.issuing.enter("GetApp")
}

// DeleteApp is the AuthService's.
func (f *fakeTeleport) DeleteApp(context.Context, *types.ResourceRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, f.issuing.enter("DeleteApp")
}

// DeleteToken is the AuthService's.
func (f *fakeTeleport) DeleteToken(context.Context, *types.ResourceRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, f.issuing.enter("DeleteToken")
}

// take sets the lease, with the server's rule about its end (lib/services/local of
// Teleport 14).
func (i *fakeIssuing) take(lease types.SemaphoreLease) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if lease.Expires.Before(time.Now()) {
		return trace.BadParameter("cannot acquire expired semaphore lease")
	}
	i.lease = lease
	return nil
}

// leaseEnd is when the lease ends for the server.
func (i *fakeIssuing) leaseEnd() time.Time {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.lease.Expires
}

// endLease has the lease be over for the server.
func (i *fakeIssuing) endLease() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.lease.Expires = time.Now().Add(-time.Nanosecond)
}

// AcquireSemaphore is the AuthService's.
func (f *fakeTeleport) AcquireSemaphore(_ context.Context, req *types.AcquireSemaphoreRequest) (*types.SemaphoreLease, error) {
	if err := f.issuing.enter("AcquireSemaphore"); err != nil {
		return nil, err
	}
	lease := types.SemaphoreLease{SemaphoreKind: req.SemaphoreKind, SemaphoreName: req.SemaphoreName, LeaseID: "lease", Expires: req.Expires}
	return &lease, f.issuing.take(lease)
}

// KeepAliveSemaphoreLease is the AuthService's, which forgets leases that are over.
func (f *fakeTeleport) KeepAliveSemaphoreLease(_ context.Context, lease *types.SemaphoreLease) (*emptypb.Empty, error) {
	if f.issuing.leaseEnd().Before(time.Now()) {
		return nil, trace.NotFound("cannot keepalive, lease not found: %q", lease.LeaseID)
	}
	return &emptypb.Empty{}, f.issuing.take(*lease)
}

// CancelSemaphoreLease is the AuthService's.
func (f *fakeTeleport) CancelSemaphoreLease(_ context.Context, lease *types.SemaphoreLease) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, f.issuing.take(*lease)
}
