package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gravitational/teleport/api/client/proto"
	"github.com/gravitational/trace"
	"github.com/stretchr/testify/require"

	"rollcall/failure"
)

func TestApplicationByServerVersion(t *testing.T) {
	for _, test := range []struct {
		server        *fakeTeleport
		sessions      int
		split, legacy bool
	}{
		{fakeV15Auth(), 1, false, true},
		{fakeV16Auth(), 0, false, true},
		{fakeV17Auth(), 0, true, false},
		{fakeV18Auth(), 0, true, false},
	} {
		t.Run(test.server.version, func(t *testing.T) {
			s := newIssuingStage(t, test.server, Options{})
			creds := s.app(t, "web", time.Hour)
			require.NotNil(t, creds.SSH)
			require.Equal(t, test.sessions, s.fake.called("CreateAppSession"))
			req := s.fake.lastCerts()
			require.Equal(t, test.split, len(req.SSHPublicKey) > 0 && len(req.TLSPublicKey) > 0)
			require.Equal(t, test.legacy, len(req.PublicKey) > 0) //nolint:staticcheck // what servers before v17 read
			require.Equal(t, "web", req.RouteToApp.Name)
			require.Equal(t, "web.example.com", req.RouteToApp.PublicAddr)
			require.Equal(t, testClusterName, req.RouteToApp.ClusterName)
			require.Equal(t, []string{"web"}, req.RoleRequests)
			require.True(t, req.UseRoleRequests)
			require.WithinDuration(t, time.Now().Add(time.Hour), creds.NotAfter(), 10*time.Second)
			require.Contains(t, creds.TLSCACerts, s.server.authority.pem)
		})
	}
}

func TestSessionIsReusedWithAFreshKey(t *testing.T) {
	s := newIssuingStage(t, fakeV15Auth(), Options{})
	first := s.app(t, "web", time.Hour)
	for range 3 {
		next := s.app(t, "web", time.Hour)
		require.NotEqual(t, first.Key.PrivatePEM, next.Key.PrivatePEM)
	}
	require.Equal(t, 1, s.fake.called("CreateAppSession"))
	require.Equal(t, 3, s.fake.called("GetAppSession"), "a session may be gone: it's looked for")
	s.app(t, "other", time.Hour)
	require.Equal(t, 2, s.fake.called("CreateAppSession"), "each application has its own")
	require.Equal(t, 1, s.fake.called("WatchEvents"), "one watch is enough")
	require.Equal(t, 2, s.connections(), "one for the bot, one for the impersonated identity")
}

func TestDeletedSessionIsMadeAnew(t *testing.T) {
	s := newIssuingStage(t, fakeV15Auth(), Options{})
	s.app(t, "web", time.Hour)
	s.fake.set(func(i *fakeIssuing) { clear(i.sessions) })
	s.app(t, "web", time.Hour)
	require.Equal(t, 2, s.fake.called("CreateAppSession"))

	doubted := appRequest("web", time.Hour)
	doubted.SessionAfter = time.Now() // whatever the server says
	for range 3 {
		_, err := s.issuer.Application(t.Context(), doubted)
		require.NoError(t, err)
	}
	s.app(t, "web", time.Hour)
	require.Equal(t, 3, s.fake.called("CreateAppSession"), "the new one is kept")
}

func TestSessionThatCanNotBeLookedForIsKept(t *testing.T) {
	s := newIssuingStage(t, fakeV15Auth(), Options{})
	s.app(t, "web", time.Hour)
	s.fake.set(func(i *fakeIssuing) {
		i.fault = func(method string) error {
			if method == "GetAppSession" {
				return trace.LimitExceeded("not now")
			}
			return nil
		}
	})
	_, err := s.issuer.Application(t.Context(), appRequest("web", time.Hour))
	require.Equal(t, failure.Transient, failure.KindOf(err))
	s.fake.set(func(i *fakeIssuing) { i.fault = nil })
	s.app(t, "web", time.Hour)
	require.Equal(t, 1, s.fake.called("CreateAppSession"))
}

// The identity is asked for longer than one certificate, so that the next one
// fits too; when it doesn't any more, another takes its place, and nothing of
// the old one stays behind.
func TestImpersonatedIdentityIsReplacedNearItsEnd(t *testing.T) {
	s := newIssuingStage(t, fakeV15Auth(), Options{SessionTTL: time.Hour})
	s.fake.set(func(i *fakeIssuing) { i.longest = 4 * time.Second })
	s.app(t, "web", 2*time.Second)
	require.Equal(t, 1, s.fake.called("CreateAppSession"))
	require.Eventually(t, func() bool {
		creds := s.app(t, "web", 2*time.Second) // the fake refuses one that outlives its session
		return s.fake.called("CreateAppSession") >= 3 && !creds.NotAfter().IsZero()
	}, 30*time.Second, 200*time.Millisecond)
	require.Equal(t, 2, s.connections(), "the old identity's connection is gone")
	require.Eventually(t, func() bool {
		s.fake.mu.Lock()
		defer s.fake.mu.Unlock()
		return len(s.fake.watches) == 1
	}, 30*time.Second, 10*time.Millisecond, "the old identity's watch is gone")
}

// A life of certificates as long as that of sessions makes no identity for each
// request.
func TestCertificatesAsLongAsSessionsShareAnIdentity(t *testing.T) {
	for name, longest := range map[string]time.Duration{"the roles allow more": 30 * time.Hour, "just that": 12 * time.Hour, "less": 8 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			s := newIssuingStage(t, fakeV15Auth(), Options{SessionTTL: 12 * time.Hour})
			s.fake.set(func(i *fakeIssuing) { i.longest = longest })
			for n := range 5 {
				s.app(t, fmt.Sprint("app", n), 12*time.Hour)
			}
			require.Equal(t, 6, s.fake.called("GenerateUserCerts"), "five and the impersonated identity")
			require.Equal(t, 1, s.fake.called("WatchEvents"))
		})
	}
}

func TestEventBeforeTheReply(t *testing.T) {
	for _, first := range []bool{true, false} {
		s := newIssuingStage(t, fakeV15Auth(), Options{})
		s.fake.set(func(i *fakeIssuing) { i.eventFirst = first })
		began := time.Now()
		s.app(t, "web", time.Hour)
		require.Less(t, time.Since(began), sessionWait/2)
	}
}

func TestBrokenWatchIsOpenedAgain(t *testing.T) {
	s := newIssuingStage(t, fakeV15Auth(), Options{})
	s.app(t, "one", time.Hour)
	s.fake.breakWatches()
	require.Eventually(t, func() bool {
		_, err := s.issuer.Application(t.Context(), appRequest("two", time.Hour))
		return err == nil
	}, 30*time.Second, 50*time.Millisecond)
	require.Equal(t, 2, s.fake.called("WatchEvents"))
}

func TestWatchThatBreaksWhileWaiting(t *testing.T) {
	s := newIssuingStage(t, fakeV15Auth(), Options{})
	s.fake.set(func(i *fakeIssuing) { i.mute = true })
	failed := make(chan error, 1)
	go func() {
		_, err := s.issuer.Application(t.Context(), appRequest("web", time.Hour))
		failed <- err
	}()
	require.Eventually(t, func() bool { return s.fake.called("CreateAppSession") == 1 }, 30*time.Second, time.Millisecond)
	s.fake.breakWatches()
	err := <-failed
	require.Equal(t, failure.Transient, failure.KindOf(err))
	require.ErrorContains(t, err, `didn't show the new session of application "web"`)
}

// Stopping doesn't wait for a server that never lets the watch begin.
func TestStopWhileTheWatchBegins(t *testing.T) {
	s := newIssuingStage(t, fakeV15Auth(), Options{})
	block := make(chan struct{})
	defer close(block)
	s.fake.set(func(i *fakeIssuing) {
		i.fault = func(method string) error {
			if method == "WatchEvents" {
				<-block
			}
			return nil
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	go func() {
		_, err := s.issuer.Application(ctx, appRequest("web", time.Hour))
		failed <- err
	}()
	require.Eventually(t, func() bool { return s.fake.called("WatchEvents") == 1 }, 30*time.Second, time.Millisecond)
	cancel()
	select {
	case err := <-failed:
		require.ErrorIs(t, err, context.Canceled)
	case <-time.After(3 * time.Second):
		t.Fatal("it waits on")
	}
}

func TestAtMostFourAtOnce(t *testing.T) {
	s := newIssuingStage(t, fakeV16Auth(), Options{})
	s.app(t, "warm", time.Hour)
	hold := make(chan struct{})
	s.fake.set(func(i *fakeIssuing) { i.hold, i.most = hold, 0 })
	var group sync.WaitGroup
	for n := range 3 * issueSlots {
		group.Go(func() {
			_, err := s.issuer.Application(t.Context(), appRequest(fmt.Sprint("app", n), time.Hour))
			require.NoError(t, err)
		})
	}
	require.Eventually(t, func() bool { return s.fake.number(&s.fake.busy) == issueSlots }, 30*time.Second, time.Millisecond)
	close(hold)
	group.Wait()
	require.Equal(t, issueSlots, s.fake.number(&s.fake.most))
}

// While certificates settle others use the cluster: all together take hardly
// longer than one.
func TestSettlingHoldsNoSlot(t *testing.T) {
	const settle = 2 * time.Second // long, so that a busy machine is no longer
	for _, server := range []*fakeTeleport{fakeV15Auth(), fakeV16Auth()} {
		s := newIssuingStage(t, server, Options{SettleTime: settle})
		began := time.Now()
		var group sync.WaitGroup
		for n := range 4 * issueSlots {
			group.Go(func() {
				_, err := s.issuer.Application(t.Context(), appRequest(fmt.Sprint("app", n), time.Hour))
				require.NoError(t, err)
				require.GreaterOrEqual(t, time.Since(began), settle)
			})
		}
		group.Wait()
		require.Less(t, time.Since(began), 3*settle, server.version)
		if server.version == "15.3.1" {
			began = time.Now()
			s.app(t, "app0", time.Hour)
			require.Less(t, time.Since(began), settle, "a session that is long known needs no time to settle")
		}
	}
}

// Where the server makes the session, it does so with the certificate: the time
// to settle begins when that is there.
func TestSettlingBeginsWithTheServersOwnSession(t *testing.T) {
	const settle = 300 * time.Millisecond
	s := newIssuingStage(t, fakeV16Auth(), Options{SettleTime: settle})
	s.app(t, "warm", time.Hour)
	hold := make(chan struct{})
	s.fake.set(func(i *fakeIssuing) { i.hold = hold })
	done := make(chan time.Time, 1)
	go func() {
		_, _ = s.issuer.Application(t.Context(), appRequest("web", time.Hour))
		done <- time.Now()
	}()
	require.Eventually(t, func() bool { return s.fake.number(&s.fake.busy) == 1 }, 30*time.Second, time.Millisecond)
	time.Sleep(settle) // the server takes its time; nothing to wait for but the clock
	released := time.Now()
	close(hold)
	require.GreaterOrEqual(t, (<-done).Sub(released), settle)
}

func TestAbsentApplication(t *testing.T) {
	s := newIssuingStage(t, fakeV15Auth(), Options{})
	_, err := s.issuer.Application(t.Context(), appRequest("absent", time.Hour))
	require.Equal(t, failure.NotFound, failure.KindOf(err))
	require.ErrorContains(t, err, `application "absent" was not found`)
	require.Zero(t, s.fake.called("CreateAppSession"))
}

func TestRolesOfTheBotAreSharedAndNamedOnesUsed(t *testing.T) {
	s := newIssuingStage(t, fakeV16Auth(), Options{})
	for range 3 {
		_, err := s.issuer.Identity(t.Context(), IdentityRequest{CertRequest: CertRequest{TTL: time.Hour}})
		require.NoError(t, err)
	}
	require.Equal(t, 1, s.fake.called("GetRole"))
	_, err := s.issuer.Identity(t.Context(), IdentityRequest{CertRequest: CertRequest{TTL: time.Hour, Roles: []string{"b", "a"}}, Cluster: "leaf"})
	require.NoError(t, err)
	require.Equal(t, []string{"b", "a"}, s.fake.lastCerts().RoleRequests)
	require.Equal(t, "leaf", s.fake.lastCerts().RouteToCluster)
	s.issuer.Reset()
	s.fake.set(func(i *fakeIssuing) { i.roles = nil })
	_, err = s.issuer.Identity(t.Context(), IdentityRequest{CertRequest: CertRequest{TTL: time.Hour}})
	require.Equal(t, failure.Refused, failure.KindOf(err))
	require.ErrorContains(t, err, "allows it no roles to impersonate")
}

// Whoever gives up takes nobody along who waits for the same identity.
func TestCancelledOpenerDoesNotFailOthers(t *testing.T) {
	s := newIssuingStage(t, fakeV15Auth(), Options{})
	s.app(t, "warm", time.Hour)
	s.issuer.Reset()
	block := make(chan struct{})
	var once sync.Once
	entered := make(chan struct{})
	s.fake.set(func(i *fakeIssuing) {
		i.fault = func(method string) error {
			if method == "GenerateUserCerts" {
				wait := false
				once.Do(func() { wait = true })
				if wait {
					close(entered)
					<-block
				}
			}
			return nil
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() {
		_, err := s.issuer.Application(ctx, appRequest("one", time.Hour))
		first <- err
	}()
	<-entered
	second := make(chan error, 1)
	go func() {
		_, err := s.issuer.Application(t.Context(), appRequest("two", time.Hour))
		second <- err
	}()
	require.Eventually(t, func() bool {
		s.issuer.mu.Lock()
		defer s.issuer.mu.Unlock()
		for _, imp := range s.issuer.impersonators {
			return imp.users == 2
		}
		return false
	}, 30*time.Second, time.Millisecond)
	cancel()
	require.ErrorIs(t, <-first, context.Canceled)
	require.NoError(t, <-second)
	close(block)
}

// Reset and renewals while others work leave no connection behind.
func TestNothingIsLeftBehind(t *testing.T) {
	s := newIssuingStage(t, fakeV15Auth(), Options{})
	var group sync.WaitGroup
	for n := range 4 {
		group.Go(func() {
			for m := range 8 {
				_, err := s.issuer.Application(t.Context(), appRequest(fmt.Sprint("app", n, m%2), time.Hour))
				require.NoError(t, err)
			}
		})
	}
	group.Go(func() {
		for range 5 {
			s.issuer.Reset()
			renewed, err := s.bot.Renew(t.Context(), s.identity.creds, time.Hour, begins)
			require.NoError(t, err)
			s.identity.mu.Lock()
			s.identity.creds = renewed
			s.identity.mu.Unlock()
			time.Sleep(10 * time.Millisecond)
		}
	})
	group.Wait()
	s.issuer.Reset()
	require.LessOrEqual(t, s.connections(), 1, "only the bot's current one stays")
}

func TestRenew(t *testing.T) {
	for _, server := range []*fakeTeleport{fakeV15Auth(), fakeV17Auth()} {
		s := newIssuingStage(t, server, Options{})
		renewed, err := s.bot.Renew(t.Context(), s.identity.creds, time.Hour, begins)
		require.NoError(t, err)
		require.EqualValues(t, 2, renewed.Generation())
		req := s.fake.lastCerts()
		require.False(t, req.UseRoleRequests)
		require.Empty(t, req.RoleRequests)
		require.Equal(t, "bot-test", req.Username)
		require.Zero(t, s.connections())
	}
}

// What surely had no effect isn't uncertain, and the other way round.
func TestUncertainRenewals(t *testing.T) {
	tests := map[string]struct {
		err  error
		want bool
	}{
		"denied":             {trace.AccessDenied("access denied"), false},
		"another write":      {trace.CompareFailed("Database comparison failed, try the request again"), false},
		"rate limit":         {trace.LimitExceeded("slow down"), false},
		"bot gone":           {trace.NotFound("user bot-test not found"), false},
		"after the counting": {trace.BadParameter("ssh: no key found"), true},
		"backend":            {errors.New("backend: database is locked"), true},
		"cut":                {trace.ConnectionProblem(nil, "the connection was cut"), true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := newIssuingStage(t, fakeV15Auth(), Options{})
			s.fake.set(func(i *fakeIssuing) {
				i.fault = func(method string) error {
					if method == "GenerateUserCerts" {
						return test.err
					}
					return nil
				}
			})
			_, err := s.bot.Renew(t.Context(), s.identity.creds, time.Hour, begins)
			require.Error(t, err)
			require.Equal(t, test.want, Uncertain(err))
		})
	}
}

// An outage isn't a lost reply: the kept connection is tried with a harmless
// question first.
func TestRenewalDuringAnOutageIsNotUncertain(t *testing.T) {
	s := newIssuingStage(t, fakeV17Auth(), Options{})
	_, err := s.issuer.Identity(t.Context(), IdentityRequest{CertRequest: CertRequest{TTL: time.Hour}})
	require.NoError(t, err)
	require.Equal(t, 1, s.connections())
	s.server.grpc.Stop()
	_, err = s.bot.Renew(t.Context(), s.identity.creds, time.Hour, begins)
	require.Error(t, err)
	require.False(t, Uncertain(err))
	require.Equal(t, failure.Unreachable, failure.KindOf(err))
	require.Zero(t, s.connections(), "the broken connection is thrown away")
}

func TestGeneration(t *testing.T) {
	s := newIssuingStage(t, fakeV15Auth(), Options{})
	held, known, err := s.bot.Generation(t.Context(), s.identity.creds)
	require.NoError(t, err)
	require.True(t, known)
	require.EqualValues(t, 1, held)
	s.fake.set(func(i *fakeIssuing) { i.fault = func(string) error { return trace.AccessDenied("no") } })
	_, known, err = s.bot.Generation(t.Context(), s.identity.creds)
	require.NoError(t, err)
	require.False(t, known)

	newer := newIssuingStage(t, fakeV16Auth(), Options{})
	_, known, err = newer.bot.Generation(t.Context(), newer.identity.creds)
	require.NoError(t, err)
	require.False(t, known, "from 16 on a bot may not read it")
}

func TestHeartbeatWhereItIsKnown(t *testing.T) {
	for server, want := range map[*fakeTeleport]bool{fakeV15Auth(): false, fakeV16Auth(): true} {
		s := newIssuingStage(t, server, Options{})
		supported, err := s.bot.SubmitHeartbeat(t.Context(), s.identity.creds, Heartbeat{Hostname: "h"})
		require.NoError(t, err)
		require.Equal(t, want, supported)
	}
}

func TestAuthoritiesAreSharedAndWatched(t *testing.T) {
	s := newIssuingStage(t, fakeV15Auth(), Options{})
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			cas, err := s.issuer.Authorities(t.Context())
			require.NoError(t, err)
			require.Len(t, cas.Host, 1)
		})
	}
	group.Wait()
	require.Equal(t, 3, s.fake.called("GetCertAuthorities"), "one of each kind")
	s.issuer.ForgetAuthorities()
	_, err := s.issuer.Authorities(t.Context())
	require.NoError(t, err)
	require.Equal(t, 6, s.fake.called("GetCertAuthorities"))

	hints := make(chan struct{}, 10)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- s.bot.WatchAuthorities(ctx, s.identity.creds, func() { hints <- struct{}{} })
	}()
	<-hints // it stands
	cancel()
	require.NoError(t, <-ended)

	go func() {
		ended <- s.bot.WatchAuthorities(t.Context(), s.identity.creds, func() { hints <- struct{}{} })
	}()
	<-hints
	s.fake.breakWatches()
	require.Error(t, <-ended)
}

func TestCarrySessionID(t *testing.T) {
	for _, length := range []int{1, 64, 127, 128, 300} {
		route := proto.RouteToApp{Name: "web", PublicAddr: "web.example.com"}
		id := strings.Repeat("s", length)
		carrySessionID(&route, id)
		sent, err := route.Marshal()
		require.NoError(t, err)
		header := []byte{0x12, byte(length)}
		if length >= 128 {
			header = []byte{0x12, byte(length&0x7f | 0x80), byte(length >> 7)}
		}
		require.Contains(t, string(sent), string(header)+id)
		var back proto.RouteToApp
		require.NoError(t, back.Unmarshal(sent))
		require.Equal(t, route.Name, back.Name)
		require.Equal(t, append(header, id...), back.XXX_unrecognized)
	}
}

func TestSessionFits(t *testing.T) {
	now := time.Now()
	s := &session{publicAddr: "a", expires: now.Add(time.Hour)}
	tests := map[string]struct {
		addr string
		ttl  time.Duration
		want bool
	}{
		"with room":                   {"a", 30 * time.Minute, true},
		"with five seconds":           {"a", time.Hour - 5*time.Second, true},
		"less is left than five":      {"a", time.Hour - 4*time.Second, false},
		"a certificate would outlive": {"a", 2 * time.Hour, false},
		"the application moved":       {"b", time.Minute, false},
	}
	for name, test := range tests {
		require.Equal(t, test.want, s.fits(now, test.addr, test.ttl), name)
	}
}

func TestLifeFits(t *testing.T) {
	begin := time.Now()
	const hour = time.Hour
	tests := map[string]struct {
		life, age, ttl time.Duration
		want           bool
	}{
		"twelve hours, new":                     {12 * hour, 0, hour, true},
		"to its last whole certificate":         {12 * hour, 11 * hour, hour, true},
		"no longer":                             {12 * hour, 11*hour + time.Second, hour, false},
		"the roles allow less than the ttl":     {hour, 0, 2 * hour, true},
		"and half of that is over":              {hour, 31 * time.Minute, 2 * hour, false},
		"the roles allow just the ttl":          {24 * hour, time.Minute, 24 * hour, true},
		"and an eighth is over":                 {24 * hour, 3*hour + time.Minute, 24 * hour, false},
		"a longer ttl than it was made for":     {12 * hour, 0, 13 * hour, true},
		"and much longer, as the roles allowed": {12 * hour, 7 * hour, 13 * hour, false},
	}
	for name, test := range tests {
		require.Equal(t, test.want, lifeFits(begin.Add(-backdated), begin.Add(test.life), begin.Add(test.age), test.ttl), name)
	}
}

func TestImpersonatorKey(t *testing.T) {
	require.Equal(t, impersonatorKey("bot-a", []string{"x", "y"}), impersonatorKey("bot-a", []string{"y", "x"}))
	require.NotEqual(t, impersonatorKey("bot-a", []string{"xy"}), impersonatorKey("bot-a", []string{"x", "y"}))
	require.NotEqual(t, impersonatorKey("bot-a", nil), impersonatorKey("bot-b", nil))
}

func TestMajorOf(t *testing.T) {
	for version, want := range map[string]int{"14.2.3": 14, "v18.0.0-dev": 18, "9": 9} {
		got, err := majorOf(version)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	_, err := majorOf("devel")
	require.Error(t, err)
}

func TestFingerprint(t *testing.T) {
	base := func() *Authorities {
		return &Authorities{
			Host: []Authority{{ClusterName: "a", TLSCerts: [][]byte{[]byte("1")}, SSHKeys: [][]byte{[]byte("2")}}},
			User: []Authority{{ClusterName: "a", TLSCerts: [][]byte{[]byte("3")}}},
		}
	}
	same := base().Fingerprint()
	require.Equal(t, same, base().Fingerprint())
	for name, change := range map[string]func(*Authorities){
		"a key is added":         func(a *Authorities) { a.Host[0].TLSCerts = append(a.Host[0].TLSCerts, []byte("4")) },
		"keys are swapped":       func(a *Authorities) { a.Host[0].TLSCerts[0] = []byte("4") },
		"a key changes its kind": func(a *Authorities) { a.Host[0].TLSCerts, a.Host[0].SSHKeys = a.Host[0].SSHKeys, a.Host[0].TLSCerts },
		"an authority is gone":   func(a *Authorities) { a.User = nil },
		"it's another kind's":    func(a *Authorities) { a.User, a.Database = nil, a.User },
		"a leaf cluster's":       func(a *Authorities) { a.Host[0].ClusterName = "b" },
	} {
		changed := base()
		change(changed)
		require.NotEqual(t, same, changed.Fingerprint(), name)
	}
}

// Where the roles allow the session less than the certificate is to live, the
// certificate ends with the session: the fake refuses any other.
func TestCertificateEndsWithItsSession(t *testing.T) {
	s := newIssuingStage(t, fakeV15Auth(), Options{})
	s.fake.set(func(i *fakeIssuing) { i.longest = 40 * time.Second })
	s.app(t, "web", time.Hour)
	s.fake.set(func(i *fakeIssuing) { i.longest = 0 })
	for range 2 {
		creds := s.app(t, "web", time.Hour)
		require.WithinDuration(t, time.Now().Add(40*time.Second), creds.NotAfter(), 5*time.Second)
	}
	require.Equal(t, 1, s.fake.called("CreateAppSession"))
}

// begins is a caller of Renew that has nothing to record.
func begins() error { return nil }
