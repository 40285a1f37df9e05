package cluster

import (
	"context"
	"fmt"
	"time"

	"github.com/gravitational/teleport/api/client/proto"
	"github.com/gravitational/teleport/api/defaults"
	"github.com/gravitational/teleport/api/types"
	"github.com/gravitational/trace"

	"rollcall/failure"
)

// impersonator is one impersonated identity: a set of roles, in memory only. It
// looks things up with just those rights and, on servers before v16, makes the
// application sessions, which end with it.
type impersonator struct {
	issuer *Issuer
	roles  []string

	opened chan struct{} // closed when creds and err below are set
	creds  *Credentials
	err    error

	sessions *sessions
}

func newImpersonator(i *Issuer, roles []string) *impersonator {
	return &impersonator{issuer: i, roles: roles, opened: make(chan struct{})}
}

// open gets the identity. It's called once, by whoever made the impersonator.
func (m *impersonator) open(ctx context.Context, bot *Credentials, ttl time.Duration) error {
	defer close(m.opened)
	m.creds, m.err = m.issuer.generate(ctx, bot, impersonation(bot, m.roles, ttl))
	if m.err == nil {
		m.sessions = newSessions(m.issuer.bot, m.creds, m.issuer.log)
	}
	return m.err
}

// ready waits until open has been done.
func (m *impersonator) ready(ctx context.Context) error {
	select {
	case <-m.opened:
		return m.err
	case <-ctx.Done():
		return trace.Wrap(ctx.Err())
	}
}

// fits says whether a certificate of this ttl can live within the identity. One
// that is still being made counts as fitting.
func (m *impersonator) fits(now time.Time, ttl time.Duration) bool {
	select {
	case <-m.opened:
	default:
		return true
	}
	if m.err != nil {
		return false
	}
	return !m.creds.NotAfter().Before(now.Add(ttl)) || m.capped(ttl)
}

// capped says that the roles allow no life as long as ttl: a new identity would
// be no better. It's replaced when half of its life is over.
func (m *impersonator) capped(ttl time.Duration) bool {
	life := m.creds.NotAfter().Sub(m.creds.NotBefore())
	return life < ttl && time.Until(m.creds.NotAfter()) > life/2
}

// close ends the watch and lets the connection go.
func (m *impersonator) close() {
	<-m.opened
	if m.err != nil {
		return
	}
	m.sessions.close()
	m.issuer.bot.pool.retire(m.creds)
}

// findApp looks an application up by name, with the impersonated rights.
func (m *impersonator) findApp(ctx context.Context, name string) (types.Application, error) {
	clt, release, err := m.issuer.bot.client(ctx, m.creds)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	defer release()
	callCtx, cancel := context.WithTimeout(ctx, rpcTimeout)
	defer cancel()
	resp, err := clt.ListResources(callCtx, proto.ListResourcesRequest{
		ResourceType:        types.KindAppServer,
		Namespace:           defaults.Namespace,
		PredicateExpression: fmt.Sprintf("name == %q", name),
		Limit:               1,
	})
	if err != nil {
		err = translate("looking up application "+name, err)
		m.issuer.bot.forgetBroken(m.creds, err)
		return nil, err
	}
	for _, resource := range resp.Resources {
		if server, ok := resource.(types.AppServer); ok {
			return server.GetApp(), nil
		}
	}
	return nil, failure.New(failure.NotFound,
		"application %q was not found: check that it's registered and served (tctl get apps), and that the bot's roles %v may see it (app_labels)", name, m.roles)
}

// session returns a session for the application that lasts as long as a
// certificate of this ttl, or nil where the server makes sessions itself.
func (m *impersonator) session(ctx context.Context, app types.Application, ttl time.Duration) (*session, error) {
	clt, release, err := m.issuer.bot.client(ctx, m.creds)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	defer release()
	major, err := m.issuer.bot.serverMajor(ctx, clt)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	if major >= botInstancesSince {
		return nil, nil
	}
	return m.sessions.get(ctx, clt, app, ttl)
}
