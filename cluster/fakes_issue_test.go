package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gravitational/teleport/api/client"
	"github.com/gravitational/teleport/api/client/proto"
	machineidv1 "github.com/gravitational/teleport/api/gen/proto/go/teleport/machineid/v1"
	trustv1 "github.com/gravitational/teleport/api/gen/proto/go/teleport/trust/v1"
	"github.com/gravitational/teleport/api/types"
	"github.com/gravitational/trace"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

// fakeIssuing is a fake Auth Service as far as issuing goes: it keeps the rules
// of its version (which key field, who makes application sessions, that a
// session ends with the identity that made it) and refuses what breaks them.
type fakeIssuing struct {
	mu sync.Mutex // protects the following
	// certs are the requests for certificates, in order.
	certs      []proto.UserCertsRequest
	generation uint64
	sessions   map[string]time.Time // ID to its end
	made       int                  // sessions
	looked     int                  // at sessions
	watches    map[int]chan *proto.Event
	opened     int // watches
	beats      int
	roles      []string
	roleReads  int
	// longest is what the roles allow, 0: a day.
	longest time.Duration
	// eventFirst: a session's event is sent before the reply, else after.
	eventFirst bool
	// mute: no session events.
	mute bool
	// hold, if set, keeps GenerateUserCerts for applications waiting.
	hold chan struct{}
	busy int // certificates that are being made
	most int // of busy
	// records are how many app_server records there are; 0: as many as are asked
	// for. page is how many fit into an answer.
	records, page int
	// lease is who holds the one semaphore; ends by this process's clock.
	lease types.SemaphoreLease
	// fault, if set, is asked before each call.
	fault func(method string) error
	calls map[string]int
}

func fakeV15Auth() *fakeTeleport { return &fakeTeleport{version: "15.3.1", httpJoin: true} }

func (f *fakeTeleport) registerIssuing(server *grpc.Server) {
	i := &f.issuing
	i.sessions, i.watches, i.calls = make(map[string]time.Time), make(map[int]chan *proto.Event), make(map[string]int)
	i.roles = []string{"web"}
	i.generation = 1
	trustv1.RegisterTrustServiceServer(server, &fakeTrust{fake: f})
	if major, _ := majorOf(f.version); major >= botInstancesSince {
		machineidv1.RegisterBotInstanceServiceServer(server, &fakeInstances{fake: f})
	}
}

func (i *fakeIssuing) enter(method string) error {
	i.mu.Lock()
	i.calls[method]++
	fault := i.fault
	i.mu.Unlock()
	if fault != nil {
		return fault(method)
	}
	return nil
}

func (i *fakeIssuing) set(change func(i *fakeIssuing)) {
	i.mu.Lock()
	defer i.mu.Unlock()
	change(i)
}

// number reads one of the counters.
func (i *fakeIssuing) number(of *int) int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return *of
}

func (i *fakeIssuing) called(method string) int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.calls[method]
}

// lastCerts are the last request for a certificate.
func (i *fakeIssuing) lastCerts() proto.UserCertsRequest {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.certs[len(i.certs)-1]
}

// callerUntil returns the end of the identity that makes a call.
func callerUntil(ctx context.Context) time.Time {
	from, _ := peer.FromContext(ctx)
	return from.AuthInfo.(credentials.TLSInfo).State.PeerCertificates[0].NotAfter
}

func (f *fakeTeleport) GenerateUserCerts(_ context.Context, req *proto.UserCertsRequest) (*proto.Certs, error) {
	if err := f.issuing.enter("GenerateUserCerts"); err != nil {
		return nil, err
	}
	i := &f.issuing
	major, _ := majorOf(f.version)
	public := req.PublicKey //nolint:staticcheck // what servers before v17 read
	switch {
	case major >= splitKeysSince && len(public) > 0:
		return nil, trace.BadParameter("a request may not have both kinds of key fields")
	case major >= splitKeysSince:
		public = req.SSHPublicKey
	}
	if len(public) == 0 {
		return nil, trace.BadParameter("ssh: no key found")
	}
	longest := 24 * time.Hour
	i.mu.Lock()
	i.certs = append(i.certs, *req)
	i.busy++
	i.most = max(i.most, i.busy)
	if i.longest > 0 {
		longest = i.longest
	}
	var hold chan struct{}
	if req.RouteToApp.Name != "" {
		hold = i.hold
	}
	i.mu.Unlock()
	if hold != nil {
		<-hold
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.busy--
	expires := req.Expires
	if limit := time.Now().Add(longest); expires.After(limit) {
		expires = limit
	}
	what := userCert{name: req.Username, expires: expires}
	if !req.UseRoleRequests {
		i.generation++
		what.generation = int(i.generation)
	}
	if req.RouteToApp.Name != "" && major < botInstancesSince {
		raw := req.RouteToApp.XXX_unrecognized
		if len(raw) < 2 || raw[0] != 0x12 || int(raw[1]) != len(raw)-2 {
			return nil, trace.BadParameter("no session in the route: %x", raw)
		}
		until, ok := i.sessions[string(raw[2:])]
		if !ok {
			return nil, trace.NotFound("no such session")
		}
		if expires.After(until.Add(time.Second)) {
			return nil, trace.BadParameter("the certificate would outlive its session by %v", expires.Sub(until))
		}
	}
	return f.authority.user(public, what), nil
}

func (f *fakeTeleport) ListResources(_ context.Context, req *proto.ListResourcesRequest) (*proto.ListResourcesResponse, error) {
	if err := f.issuing.enter("ListResources"); err != nil {
		return nil, err
	}
	if f.issuing.number(&f.issuing.records) > 0 {
		return f.issuing.listRecords(req)
	}
	name := strings.Trim(strings.TrimPrefix(req.PredicateExpression, "name == "), `"`)
	if name == "absent" {
		return &proto.ListResourcesResponse{}, nil
	}
	app, err := types.NewAppV3(types.Metadata{Name: name}, types.AppSpecV3{URI: "http://localhost", PublicAddr: name + ".example.com"})
	if err != nil {
		return nil, err
	}
	server, err := types.NewAppServerV3FromApp(app, "host", "host-id")
	if err != nil {
		return nil, err
	}
	return &proto.ListResourcesResponse{Resources: []*proto.PaginatedResource{
		{Resource: &proto.PaginatedResource_AppServer{AppServer: server}},
	}}, nil
}

func (f *fakeTeleport) CreateAppSession(ctx context.Context, req *proto.CreateAppSessionRequest) (*proto.CreateAppSessionResponse, error) {
	if err := f.issuing.enter("CreateAppSession"); err != nil {
		return nil, err
	}
	i := &f.issuing
	until := callerUntil(ctx)
	i.mu.Lock()
	i.made++
	id := fmt.Sprintf("%064d", i.made)
	session, err := types.NewWebSession(id, types.KindAppSession, types.WebSessionSpecV2{User: req.Username, Expires: until, BearerTokenExpires: until})
	if err != nil {
		i.mu.Unlock()
		return nil, err
	}
	i.sessions[id] = until
	first := i.eventFirst
	i.mu.Unlock()
	event, err := client.EventToGRPC(types.Event{Type: types.OpPut, Resource: session})
	if err != nil {
		return nil, err
	}
	if first {
		i.publish(event)
		time.Sleep(20 * time.Millisecond) // so that it surely arrives first
	} else {
		time.AfterFunc(20*time.Millisecond, func() { i.publish(event) })
	}
	return &proto.CreateAppSessionResponse{Session: session.(*types.WebSessionV2)}, nil
}

func (i *fakeIssuing) publish(event *proto.Event) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.mute {
		return
	}
	for _, events := range i.watches {
		events <- event
	}
}

func (f *fakeTeleport) GetAppSession(_ context.Context, req *proto.GetAppSessionRequest) (*proto.GetAppSessionResponse, error) {
	if err := f.issuing.enter("GetAppSession"); err != nil {
		return nil, err
	}
	i := &f.issuing
	i.mu.Lock()
	defer i.mu.Unlock()
	i.looked++
	until, ok := i.sessions[req.SessionID]
	if !ok {
		return nil, trace.NotFound("app_session %q is not found", req.SessionID)
	}
	session, err := types.NewWebSession(req.SessionID, types.KindAppSession, types.WebSessionSpecV2{User: "bot-test", Expires: until})
	if err != nil {
		return nil, err
	}
	return &proto.GetAppSessionResponse{Session: session.(*types.WebSessionV2)}, nil
}

func (f *fakeTeleport) WatchEvents(_ *proto.Watch, stream proto.AuthService_WatchEventsServer) error {
	if err := f.issuing.enter("WatchEvents"); err != nil {
		return err
	}
	i := &f.issuing
	events := make(chan *proto.Event, 1000)
	i.mu.Lock()
	i.opened++
	me := i.opened
	i.watches[me] = events
	i.mu.Unlock()
	defer i.set(func(i *fakeIssuing) { delete(i.watches, me) })
	if err := stream.Send(&proto.Event{Type: proto.Operation_INIT}); err != nil {
		return err
	}
	for {
		select {
		case <-stream.Context().Done():
			return nil
		case event := <-events:
			if event == nil {
				return trace.ConnectionProblem(nil, "the watch was closed")
			}
			if err := stream.Send(event); err != nil {
				return err
			}
		}
	}
}

// breakWatches ends all event streams.
func (i *fakeIssuing) breakWatches() {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, events := range i.watches {
		events <- nil
	}
}

func (f *fakeTeleport) GetRole(_ context.Context, req *proto.GetRoleRequest) (*types.RoleV6, error) {
	if err := f.issuing.enter("GetRole"); err != nil {
		return nil, err
	}
	i := &f.issuing
	i.mu.Lock()
	defer i.mu.Unlock()
	i.roleReads++
	role, err := types.NewRole(req.Name, types.RoleSpecV6{Allow: types.RoleConditions{Impersonate: &types.ImpersonateConditions{Roles: i.roles}}})
	if err != nil {
		return nil, err
	}
	return role.(*types.RoleV6), nil
}

func (f *fakeTeleport) GetUser(_ context.Context, req *proto.GetUserRequest) (*types.UserV2, error) {
	if err := f.issuing.enter("GetUser"); err != nil {
		return nil, err
	}
	i := &f.issuing
	i.mu.Lock()
	defer i.mu.Unlock()
	user, err := types.NewUser(req.Name)
	if err != nil {
		return nil, err
	}
	if i.generation > 0 {
		user.SetStaticLabels(map[string]string{types.BotGenerationLabel: fmt.Sprint(i.generation)})
	}
	return user.(*types.UserV2), nil
}

// fakeTrust is the TrustService.
type fakeTrust struct {
	trustv1.UnimplementedTrustServiceServer
	fake *fakeTeleport
}

func (s *fakeTrust) GetCertAuthorities(_ context.Context, req *trustv1.GetCertAuthoritiesRequest) (*trustv1.GetCertAuthoritiesResponse, error) {
	if err := s.fake.issuing.enter("GetCertAuthorities"); err != nil {
		return nil, err
	}
	if req.IncludeKey {
		return nil, trace.AccessDenied("nobody needs the keys")
	}
	ca := &types.CertAuthorityV2{
		Kind: types.KindCertAuthority, SubKind: req.Type, Version: types.V2, Metadata: types.Metadata{Name: testClusterName},
		Spec: types.CertAuthoritySpecV2{
			Type: types.CertAuthType(req.Type), ClusterName: testClusterName,
			ActiveKeys: types.CAKeySet{TLS: []*types.TLSKeyPair{{Cert: s.fake.authority.pem}}},
		},
	}
	return &trustv1.GetCertAuthoritiesResponse{CertAuthoritiesV2: []*types.CertAuthorityV2{ca}}, nil
}

// fakeInstances is the BotInstanceService.
type fakeInstances struct {
	machineidv1.UnimplementedBotInstanceServiceServer
	fake *fakeTeleport
}

func (s *fakeInstances) SubmitHeartbeat(context.Context, *machineidv1.SubmitHeartbeatRequest) (*machineidv1.SubmitHeartbeatResponse, error) {
	s.fake.issuing.set(func(i *fakeIssuing) { i.beats++ })
	return &machineidv1.SubmitHeartbeatResponse{}, nil
}

// fixedIdentity is an IdentitySource.
type fixedIdentity struct {
	mu    sync.Mutex // protects the following
	creds *Credentials
}

func (f *fixedIdentity) Wait(context.Context) (*Credentials, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.creds, nil
}

// issuingStage is an Issuer at a fake server.
type issuingStage struct {
	server   *fakeTeleport
	fake     *fakeIssuing
	bot      *Bot
	identity *fixedIdentity
	issuer   *Issuer
}

func newIssuingStage(t *testing.T, server *fakeTeleport, opts Options) *issuingStage {
	t.Helper()
	server.start(t)
	log := slog.New(slog.DiscardHandler)
	s := &issuingStage{server: server, fake: &server.issuing, bot: NewBot(newTestCluster(server.options()), log)}
	s.identity = &fixedIdentity{creds: server.authority.credentials(userCert{name: "bot-test", generation: 1})}
	if opts.SettleTime == 0 {
		opts.SettleTime = -1
	}
	s.issuer = NewIssuer(s.bot, s.identity, opts, log)
	t.Cleanup(func() {
		s.issuer.Close()
		s.bot.Close()
	})
	return s
}

func (s *issuingStage) app(t *testing.T, name string, ttl time.Duration) *Credentials {
	t.Helper()
	creds, err := s.issuer.Application(t.Context(), appRequest(name, ttl))
	require.NoError(t, err)
	require.Equal(t, "bot-test", creds.Username())
	return creds
}

func appRequest(name string, ttl time.Duration) ApplicationRequest {
	return ApplicationRequest{CertRequest: CertRequest{TTL: ttl}, AppName: name}
}

// connections counts the pool's entries.
func (s *issuingStage) connections() int {
	s.bot.pool.mu.Lock()
	defer s.bot.pool.mu.Unlock()
	return len(s.bot.pool.entries)
}
