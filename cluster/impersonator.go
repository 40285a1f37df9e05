package cluster

import (
	"context"
	"errors"
	"time"

	"github.com/gravitational/teleport/api/types"
	"github.com/gravitational/trace"

	"rollcall/failure"
)

// impersonator is one impersonated identity: a set of roles, in memory only. It
// looks things up with just those rights and, on servers before v16, makes the
// application sessions, which end with it.
type impersonator struct {
	issuer *Issuer
	key    string
	roles  []string

	// The following are protected by issuer.mu.
	users   int
	retired bool

	opened chan struct{} // closed when creds, clock and err below are set
	creds  *Credentials
	clock  serverClock
	err    error

	sessions *sessions
}

func newImpersonator(i *Issuer, key string, roles []string) *impersonator {
	return &impersonator{issuer: i, key: key, roles: roles, opened: make(chan struct{})}
}

// open gets the identity. It's called once, by whoever made the impersonator.
func (m *impersonator) open(ctx context.Context, bot *Credentials, ttl time.Duration) error {
	defer close(m.opened)
	asked := time.Now()
	creds, err := m.issuer.generate(ctx, bot, impersonation(bot, m.roles, ttl))
	if err != nil {
		if ctx.Err() != nil {
			err = errors.Join(errGaveUp, err)
		}
		m.err = err
		return err
	}
	m.creds = creds
	m.clock = newServerClock(creds, asked)
	m.sessions = newSessions(m.issuer.bot, creds, m.issuer.log)
	return nil
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
	return lifeFits(m.creds.NotBefore(), m.creds.NotAfter(), now, ttl)
}

// sessionLife is the life of the identity that makes sessions for certificates
// of a ttl. It's longer than the ttl, so that certificates that are asked for one
// after the other can share it.
func sessionLife(sessionTTL, ttl time.Duration) time.Duration {
	return max(sessionTTL, ttl+ttl/8)
}

// backdated is how far Teleport dates a certificate's beginning back, for clocks
// that differ a little (lib/tlsca of Teleport 14).
const backdated = time.Minute

// lifeFits says whether an identity that lives between two times serves for a
// certificate of this ttl. Where the roles allow less than was asked for, a new
// identity would hardly be better: a certificate then ends a little earlier, and
// the identity is replaced when an eighth of its life is over, or half, if the
// roles don't even allow the ttl.
func lifeFits(notBefore, notAfter, now time.Time, ttl time.Duration) bool {
	left, life := notAfter.Sub(now), notAfter.Sub(notBefore)-backdated
	switch {
	case left >= ttl:
		return true
	case life < ttl:
		return left > life/2
	case life < ttl+ttl/8:
		return left > ttl*7/8
	default:
		return false
	}
}

// close ends the watch and lets the connection go.
func (m *impersonator) close() {
	<-m.opened
	if m.err != nil {
		return
	}
	m.sessions.close()
	m.issuer.bot.pool.end(m.creds)
}

// client returns the identity's connection. An identity that the cluster doesn't
// take any more (a rotation that nobody noticed) is replaced by the next request.
func (m *impersonator) client(ctx context.Context) (*connection, func(), error) {
	clt, release, err := m.issuer.bot.client(ctx, m.creds)
	if kind := failure.KindOf(err); kind == failure.Refused || kind == failure.Trust {
		m.issuer.forget(m)
	}
	return clt, release, trace.Wrap(err)
}

// findApp looks an application up by name, with the impersonated rights.
func (m *impersonator) findApp(ctx context.Context, name string) (types.Application, error) {
	clt, release, err := m.client(ctx)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	defer release()
	found, err := clt.findApp(ctx, name)
	if err != nil {
		m.issuer.bot.forgetBroken(m.creds, clt, err)
		return nil, err
	}
	if found != nil {
		return found, nil
	}
	return nil, failure.New(failure.NotFound,
		"application %q was not found: check that it's registered and served (tctl get apps), and that the bot's roles %v may see it (app_labels)", name, m.roles)
}

// session returns a session for the application that lasts as long as a
// certificate of this ttl and came later than after, or nil where the server makes
// sessions itself.
func (m *impersonator) session(ctx context.Context, app types.Application, ttl time.Duration, after time.Time) (*session, error) {
	clt, release, err := m.client(ctx)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	defer release()
	major, err := m.issuer.bot.serverMajor(ctx, clt)
	if err != nil {
		m.issuer.bot.forgetBroken(m.creds, clt, err)
		return nil, trace.Wrap(err)
	}
	if major >= botInstancesSince {
		return nil, nil
	}
	return m.sessions.get(ctx, clt, app, ttl, after)
}
