package cluster

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/gravitational/teleport/api/types"
	"github.com/gravitational/trace"
	"github.com/stretchr/testify/require"

	"rollcall/failure"
)

func newAccess(t *testing.T) (*issuingStage, *Access) {
	t.Helper()
	s := newIssuingStage(t, fakeV17Auth(), Options{})
	return s, s.issuer.Access(CertRequest{Roles: []string{"registrar"}, TTL: time.Hour})
}

// fail makes every call of a method answer with an error.
func (s *issuingStage) fail(method string, err error) {
	s.fake.set(func(i *fakeIssuing) {
		i.fault = func(called string) error {
			if called == method {
				return err
			}
			return nil
		}
	})
}

// However many calls are made at once, there's one impersonated identity and one
// connection for it, beside the bot's.
func TestAccessSharesOneConnection(t *testing.T) {
	s, access := newAccess(t)
	var calls sync.WaitGroup
	for range 50 {
		calls.Go(func() {
			_, err := access.Apps().List(t.Context())
			require.NoError(t, err)
		})
	}
	calls.Wait()
	require.Equal(t, 1, s.fake.called("GenerateUserCerts"))
	require.Equal(t, []string{"registrar"}, s.fake.lastCerts().RoleRequests)
	require.Equal(t, 2, s.connections())
}

// After a rotation the next call works as a new identity.
func TestAccessFollowsTheIssuer(t *testing.T) {
	s, access := newAccess(t)
	_, err := access.Apps().List(t.Context())
	require.NoError(t, err)
	s.issuer.Reset()
	_, err = access.Apps().List(t.Context())
	require.NoError(t, err)
	require.Equal(t, 2, s.fake.called("GenerateUserCerts"))
	require.Equal(t, 2, s.connections())
}

// Records are read through all pages, however many fit into an answer.
func TestAppServersPages(t *testing.T) {
	for _, number := range []int{1, 9, 10, 11, 999, 1000, 1001, 2500} {
		for _, page := range []int{10, 300, 1000} {
			t.Run(fmt.Sprintf("%d by %d", number, page), func(t *testing.T) {
				s, access := newAccess(t)
				s.fake.set(func(i *fakeIssuing) { i.records, i.page = number, page })

				all, err := access.AppServers(t.Context(), "")

				require.NoError(t, err)
				names := map[string]bool{}
				for _, server := range all {
					names[server.GetName()] = true
				}
				require.Len(t, all, number)
				require.Len(t, names, number)
			})
		}
	}
}

func TestAccessErrors(t *testing.T) {
	tests := map[string]struct {
		method string
		err    error
		call   func(context.Context, *Access) error
		kind   failure.Kind
		want   string
	}{
		"rule": {"GetApps", trace.NewAggregate(
			trace.AccessDenied(`access denied to perform action "list" on "app"`), trace.AccessDenied(`access denied to perform action "read" on "app"`)),
			listApps, failure.Refused, "listing app: the role registrar lacks the rule {resources: [app], verbs: [list, read]}: add it"},
		"labels": {"CreateApp", trace.AccessDenied("access to app denied. User does not have permissions. "),
			createApp, failure.Refused, "creating app/grafana: the role registrar lacks a spec.allow.app_labels that matches the resource's labels {env: prod, rollcall/owner: us}, or"},
		"hidden": {"GetApp", trace.AccessDenied("access to app denied. User does not have permissions. "),
			findApp, failure.Refused, "reading app/grafana: it's registered, but the role registrar lacks a spec.allow.app_labels that matches its labels, or has a spec.deny that does: so it may not be seen, changed or deleted"},
		"may not be deleted": {"DeleteApp", trace.AccessDenied("access to app denied. User does not have permissions. "),
			deleteApp, failure.Refused, "deleting app/grafana: the role registrar lacks a spec.allow.app_labels that matches the resource's labels {env: prod, rollcall/owner: us}, or has a spec.deny that does"},
		"no rule to delete": {"DeleteApp", trace.AccessDenied(`access denied to perform action "delete" on "app"`),
			deleteApp, failure.Refused, "deleting app/grafana: the role registrar lacks the rule {resources: [app], verbs: [delete]}"},
		"absent":  {"GetApp", trace.NotFound(`app "grafana" doesn't exist`), findApp, failure.NotFound, "reading app/grafana: there's none"},
		"another": {"CreateApp", trace.AccessDenied("access denied"), createApp, failure.Refused, "creating app/grafana: access denied, and the cluster doesn't say why"},
		"exists":  {"CreateApp", trace.AlreadyExists(`app "grafana" already exists`), createApp, failure.Conflict, "already exists"},
		"token":   {"DeleteToken", trace.NotFound("provisioning token(s3cret) not found"), deleteToken, failure.NotFound, "deleting a join token: there's none"},
		"secret":  {"DeleteToken", trace.BadParameter("odd: s3cret"), deleteToken, failure.Refused, "odd: [token]"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s, access := newAccess(t)
			s.fail(test.method, test.err)

			err := test.call(t.Context(), access)

			require.Equal(t, test.kind, failure.KindOf(err), "%v", err)
			require.ErrorContains(t, err, test.want)
			require.NotContains(t, errorTexts(err), "s3cret")
		})
	}
}

func listApps(ctx context.Context, a *Access) error {
	_, err := a.Apps().List(ctx)
	return err
}

func findApp(ctx context.Context, a *Access) error {
	_, err := a.Apps().Find(ctx, "grafana")
	return err
}

func createApp(ctx context.Context, a *Access) error { return withApp(ctx, a.Apps().Create) }

func deleteApp(ctx context.Context, a *Access) error { return withApp(ctx, a.Apps().Delete) }

func withApp(ctx context.Context, call func(context.Context, types.Application) error) error {
	app, err := types.NewAppV3(types.Metadata{Name: "grafana", Labels: map[string]string{"rollcall/owner": "us", "env": "prod"}},
		types.AppSpecV3{URI: "http://localhost"})
	if err != nil {
		return err
	}
	return call(ctx, app)
}

func deleteToken(ctx context.Context, a *Access) error { return a.DeleteToken(ctx, "s3cret") }

// lateContext is one whose deadline has passed, and whose timer hasn't fired yet:
// so it is right after a process that was stopped goes on.
type lateContext struct{ context.Context }

func (lateContext) Deadline() (time.Time, bool) { return time.Now().Add(-time.Millisecond), true }

// No write is begun after its time, not even by a process that was stopped.
func TestNothingIsSentTooLate(t *testing.T) {
	s, access := newAccess(t)
	require.NoError(t, createApp(t.Context(), access))

	err := createApp(lateContext{t.Context()}, access)

	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Equal(t, 1, s.fake.called("CreateApp"))
}

func TestAccessWithIdentityRefusesNonsense(t *testing.T) {
	for _, content := range []string{"", "s3cret", "-----BEGIN PRIVATE KEY-----\ns3cret\n-----END PRIVATE KEY-----\n"} {
		_, err := New(Options{}, nil).AccessWithIdentity([]byte(content), nil)
		require.Equal(t, failure.Configuration, failure.KindOf(err), "%v", err)
		require.NotContains(t, errorTexts(err), "s3cret")
	}
}

func TestServerClock(t *testing.T) {
	asked := time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	now := asked.Add(10 * time.Minute)
	for name, test := range map[string]struct {
		shown, want time.Duration // relative to asked
	}{
		"the same":                              {0, 10 * time.Minute},
		"rounded down, the wall clock is later": {-900 * time.Millisecond, 10 * time.Minute},
		"a little ahead":                        {2 * time.Second, 10*time.Minute + 2*time.Second},
		"far ahead":                             {time.Hour, 70 * time.Minute},
		"far behind":                            {-time.Hour, -50 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			clock := serverClock{shown: asked.Add(test.shown), asked: asked}
			require.Equal(t, asked.Add(test.want), clock.time(now))
		})
	}
	require.Equal(t, now, serverClock{}.time(now))
	require.Equal(t, 13*time.Second, certain(15*time.Second))
	require.Equal(t, 3*time.Second, certain(4*time.Second))
}
