package cluster

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/gravitational/teleport/api/client/proto"
	"github.com/gravitational/teleport/api/types"
	"github.com/gravitational/trace"

	"rollcall/failure"
)

const (
	// issueSlots bounds how many certificates are asked for at once. The server
	// is the limit (it makes an RSA key for each application session), and four
	// are enough to keep it busy.
	issueSlots = 4

	// rolesAge is for how long the bot's default roles serve other outputs of
	// the same round.
	rolesAge = 10 * time.Second

	// DefaultSessionTTL is the life of application sessions where the
	// configuration says nothing. Twelve hours let a day's renewals share two
	// sessions; a certificate's own life is credential_ttl all the same.
	DefaultSessionTTL = 12 * time.Hour

	// DefaultSettleTime is how long a new session gets to reach the proxy's
	// cache: the official backends poll every second.
	DefaultSettleTime = time.Second
)

// IdentitySource has the bot's current identity.
type IdentitySource interface {
	// Wait returns the current identity, and waits for the first one.
	Wait(ctx context.Context) (*Credentials, error)
}

// Issuer issues certificates for outputs and tunnels. It keeps one connection
// for the bot's identity and one impersonated identity per set of roles, shared
// by all who ask. A certificate is returned once the cluster will honour it.
// Safe for concurrent use.
type Issuer struct {
	bot      *Bot
	identity IdentitySource
	log      *slog.Logger

	sessionTTL time.Duration
	settle     time.Duration
	slots      chan struct{}

	roles       cached[[]string]
	authorities cached[*Authorities]

	mu            sync.Mutex // protects the following
	impersonators map[string]*impersonator
}

// NewIssuer returns an Issuer. Nothing is dialled before the first request.
func NewIssuer(bot *Bot, identity IdentitySource, opts Options, log *slog.Logger) *Issuer {
	i := &Issuer{
		bot:           bot,
		identity:      identity,
		log:           log,
		sessionTTL:    opts.SessionTTL,
		settle:        max(opts.SettleTime, 0),
		slots:         make(chan struct{}, issueSlots),
		impersonators: make(map[string]*impersonator),
	}
	if i.sessionTTL <= 0 {
		i.sessionTTL = DefaultSessionTTL
	}
	i.roles.age = rolesAge
	i.authorities.age = authoritiesAge
	return i
}

// Close ends the impersonated identities' watches and waits for them. It's called
// after the last request has returned.
func (i *Issuer) Close() { i.Reset() }

// Reset forgets everything that rests on older authorities or roles: the
// impersonated identities and their application sessions. The next requests
// make new ones. It's called when the cluster's authorities changed.
func (i *Issuer) Reset() {
	i.mu.Lock()
	old := i.impersonators
	i.impersonators = make(map[string]*impersonator)
	i.mu.Unlock()
	i.authorities.forget()
	i.roles.forget()
	for _, imp := range old {
		i.retire(imp)
	}
}

// ForgetAuthorities makes the next request fetch the authorities.
func (i *Issuer) ForgetAuthorities() { i.authorities.forget() }

// Identity issues a certificate for API and SSH use.
func (i *Issuer) Identity(ctx context.Context, req IdentityRequest) (*Credentials, error) {
	bot, err := i.identity.Wait(ctx)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	roles, err := i.rolesFor(ctx, bot, req.Roles)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	done, err := i.slot(ctx)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	defer done()
	certReq := impersonation(bot, roles, req.TTL)
	if req.Cluster != "" {
		certReq.RouteToCluster = req.Cluster
	}
	return i.generate(ctx, bot, certReq)
}

// Application issues a certificate that the proxy routes to one application.
func (i *Issuer) Application(ctx context.Context, req ApplicationRequest) (*Credentials, error) {
	creds, _, err := i.RoutedApplication(ctx, req)
	return creds, trace.Wrap(err)
}

// application does the work of RoutedApplication while it holds a slot.
// usableAt is when the proxy will know the certificate's session.
func (i *Issuer) application(ctx context.Context, bot *Credentials, roles []string, req ApplicationRequest) (*Credentials, App, time.Time, error) {
	done, err := i.slot(ctx)
	if err != nil {
		return nil, App{}, time.Time{}, trace.Wrap(err)
	}
	defer done()

	imp, err := i.impersonator(ctx, bot, roles, req.TTL)
	if err != nil {
		return nil, App{}, time.Time{}, trace.Wrap(err)
	}
	defer i.release(imp)
	creds, app, usableAt, err := i.applicationAs(ctx, imp, bot, req)
	return creds, app, usableAt, trace.Wrap(err)
}

// applicationAs looks the application up and opens its session as the
// impersonated identity, and has the certificate made.
func (i *Issuer) applicationAs(ctx context.Context, imp *impersonator, bot *Credentials, req ApplicationRequest) (*Credentials, App, time.Time, error) {
	app, err := imp.findApp(ctx, req.AppName)
	if err != nil {
		return nil, App{}, time.Time{}, trace.Wrap(err)
	}
	certReq := impersonation(bot, imp.roles, req.TTL)
	certReq.RouteToApp = proto.RouteToApp{
		Name:        app.GetName(),
		PublicAddr:  app.GetPublicAddr(),
		ClusterName: bot.ClusterName,
		URI:         app.GetURI(),
	}
	session, err := imp.session(ctx, app, req.TTL, req.SessionAfter)
	if err != nil {
		return nil, App{}, time.Time{}, trace.Wrap(err)
	}
	if session == nil {
		// The server makes the session together with the certificate.
		creds, err := i.generate(ctx, bot, certReq)
		return creds, appOf(app), time.Now().Add(i.settle), trace.Wrap(err)
	}
	carrySessionID(&certReq.RouteToApp, session.id)
	certReq.Expires = earlier(certReq.Expires, session.expires)
	creds, err := i.generate(ctx, bot, certReq)
	return creds, appOf(app), session.seen.Add(i.settle), trace.Wrap(err)
}

// Authorities returns the cluster's authorities, shared by all who ask within a
// few seconds.
func (i *Issuer) Authorities(ctx context.Context) (*Authorities, error) {
	return i.authorities.get(ctx, func(ctx context.Context) (*Authorities, error) {
		bot, err := i.identity.Wait(ctx)
		if err != nil {
			return nil, trace.Wrap(err)
		}
		return i.bot.Authorities(ctx, bot)
	})
}

// Info returns what the cluster says of itself. The leaf clusters are those
// whose host authorities it trusts: servers before v15 have no call for them
// that this api module still knows.
func (i *Issuer) Info(ctx context.Context) (*Info, error) {
	bot, err := i.identity.Wait(ctx)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	clt, release, err := i.bot.client(ctx, bot)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	defer release()
	info, err := clt.ping(ctx)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	authorities, err := i.Authorities(ctx)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	for _, a := range authorities.Host {
		if a.ClusterName != info.ClusterName {
			info.LeafClusters = append(info.LeafClusters, a.ClusterName)
		}
	}
	return &info, nil
}

// rolesFor returns the roles to impersonate: those that the output names, or
// all that the bot may.
func (i *Issuer) rolesFor(ctx context.Context, bot *Credentials, configured []string) ([]string, error) {
	if len(configured) > 0 {
		return configured, nil
	}
	return i.roles.get(ctx, func(ctx context.Context) ([]string, error) {
		clt, release, err := i.bot.client(ctx, bot)
		if err != nil {
			return nil, trace.Wrap(err)
		}
		defer release()
		callCtx, cancel := context.WithTimeout(ctx, rpcTimeout)
		defer cancel()
		// The bot's role bears the bot's own name.
		role, err := clt.GetRole(callCtx, bot.Username())
		if err != nil {
			err = translate("reading the bot's role", err)
			i.bot.forgetBroken(bot, clt, err)
			return nil, err
		}
		roles := role.GetImpersonateConditions(types.Allow).Roles
		if len(roles) == 0 {
			return nil, failure.New(failure.Refused,
				"the bot's role %q allows it no roles to impersonate: add roles to the bot (`tctl bots update NAME --add-roles=ROLE`, or where tctl doesn't have that, allow.impersonate.roles of `tctl edit role/bot-NAME`), or name them in the output's `roles`", bot.Username())
		}
		return roles, nil
	})
}

// slot takes one of the issuing slots.
func (i *Issuer) slot(ctx context.Context) (func(), error) {
	select {
	case i.slots <- struct{}{}:
		return func() { <-i.slots }, nil
	case <-ctx.Done():
		return nil, trace.Wrap(ctx.Err())
	}
}

// impersonation is the request that every issued certificate starts from.
func impersonation(bot *Credentials, roles []string, ttl time.Duration) proto.UserCertsRequest {
	return proto.UserCertsRequest{
		Username:        bot.Username(),
		Expires:         time.Now().UTC().Add(ttl),
		RoleRequests:    roles,
		UseRoleRequests: true,
		RouteToCluster:  bot.ClusterName,
	}
}

// generate has a fresh key certified by the bot's identity. Impersonated
// identities may not be reissued, so it's always the bot who asks.
func (i *Issuer) generate(ctx context.Context, bot *Credentials, req proto.UserCertsRequest) (*Credentials, error) {
	key, err := NewKey()
	if err != nil {
		return nil, trace.Wrap(err)
	}
	clt, release, err := i.bot.client(ctx, bot)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	defer release()
	if err := i.bot.setPublicKey(ctx, clt, &req, key); err != nil {
		i.bot.forgetBroken(bot, clt, err)
		return nil, trace.Wrap(err)
	}
	callCtx, cancel := context.WithTimeout(ctx, rpcTimeout)
	defer cancel()
	certs, err := clt.GenerateUserCerts(callCtx, req)
	if err != nil {
		err = translate("issuing a certificate", err)
		i.bot.forgetBroken(bot, clt, err)
		return nil, err
	}
	// The reply names the user authority only. The host authorities, with
	// which the Auth Service itself is checked, are the bot's.
	certs.TLSCACerts = append(certs.TLSCACerts, bot.TLSCACerts...)
	certs.SSHCACerts = bot.SSHCACerts
	return NewCredentials(key, certs)
}

func earlier(a, b time.Time) time.Time {
	if b.IsZero() || a.Before(b) {
		return a
	}
	return b
}

func sleepUntil(ctx context.Context, t time.Time) error {
	wait := time.Until(t)
	if wait <= 0 {
		return nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
