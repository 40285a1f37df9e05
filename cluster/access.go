package cluster

import (
	"context"
	"log/slog"
	"time"

	"github.com/gravitational/teleport/api/identityfile"
	"github.com/gravitational/trace"

	"rollcall/failure"
)

// Access works with the cluster's resources as one identity: an impersonated
// one that follows the bot's renewals (Issuer.Access), or an administrator's
// (Cluster.AccessWithIdentity). Safe for concurrent use; all calls share one
// connection. Every call is bounded by rpcTimeout, and by its context; Store.Watch
// by its context and the identity's life.
type Access struct {
	log     *slog.Logger
	connect func(ctx context.Context) (*lent, error)
	close   func()
}

// lent is a connection that is given back after use.
type lent struct {
	*connection
	// roles are those of the identity, for sentences; nil: not known.
	roles []string
	// until is when the identity ends.
	until time.Time
	// clock is the server's.
	clock serverClock
	// doubt has the next call learn the clock anew, with another impersonated
	// identity.
	doubt func()
	// giveBack returns the connection; an error of the transport throws it away.
	giveBack func(err error)
}

// Access returns access as the identity of a set of roles, which is shared with
// all who ask for the same roles. Nothing is dialled before the first call.
// It ends with the Issuer.
func (i *Issuer) Access(req CertRequest) *Access {
	return &Access{
		log:     i.log,
		connect: func(ctx context.Context) (*lent, error) { return i.lend(ctx, req) },
		close:   func() {},
	}
}

// lend returns the connection of the impersonated identity.
func (i *Issuer) lend(ctx context.Context, req CertRequest) (*lent, error) {
	bot, err := i.identity.Wait(ctx)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	roles, err := i.rolesFor(ctx, bot, req.Roles)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	imp, err := i.impersonator(ctx, bot, roles, req.TTL)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	conn, release, err := imp.client(ctx)
	if err != nil {
		i.release(imp)
		return nil, trace.Wrap(err)
	}
	return &lent{connection: conn, roles: roles, until: imp.creds.NotAfter(), clock: imp.clock, doubt: func() { i.forget(imp) }, giveBack: func(err error) {
		i.bot.forgetBroken(imp.creds, conn, err)
		release()
		i.release(imp)
	}}, nil
}

// AccessWithIdentity returns access as the identity in an identity file's
// content (`tctl auth sign`, `tsh login --out`). The caller closes it.
func (c *Cluster) AccessWithIdentity(content []byte, log *slog.Logger) (*Access, error) {
	creds, err := identityCredentials(content)
	if err != nil {
		return nil, failure.Wrap(failure.Configuration, err,
			"the identity file can't be used: it must be one that `tctl auth sign --format=file` or `tsh login --out` has written")
	}
	conns := newPool(c.connect)
	return &Access{log: log, close: conns.close, connect: func(ctx context.Context) (*lent, error) {
		conn, release, err := conns.get(ctx, creds)
		if err != nil {
			return nil, trace.Wrap(err)
		}
		return &lent{connection: conn, until: creds.NotAfter(), doubt: func() {}, giveBack: func(err error) {
			if failure.KindOf(err) == failure.Unreachable {
				conns.discard(creds, conn)
			}
			release()
		}}, nil
	}}, nil
}

// identityCredentials reads an identity file's content. Its errors hold nothing
// of it.
func identityCredentials(content []byte) (*Credentials, error) {
	file, err := identityfile.FromString(string(content))
	if err != nil {
		return nil, trace.BadParameter("its parts can't be read")
	}
	return RestoreCredentials(file.PrivateKey, file.Certs.TLS, file.Certs.SSH, file.CACerts.TLS, file.CACerts.SSH)
}

// Close closes what this access alone has opened. Calls that are under way fail.
func (a *Access) Close() { a.close() }

// intent is what a call is about to do, for errors.
type intent struct {
	// op begins the sentence: "creating app/grafana".
	op string
	// kind is the resource's.
	kind string
	// labels are those that the roles must match; nil: they aren't asked for.
	labels map[string]string
	// lookup says that something is read by its name: a denial tells that it's
	// there.
	lookup bool
}

// do makes one call. A context whose deadline has passed isn't even begun with:
// after a long stop of the process (SIGSTOP) the clock is right before the
// timers have fired. Both clocks are asked: the monotonic one stands still while
// the host is suspended.
func (a *Access) do(ctx context.Context, what intent, call func(ctx context.Context, conn *lent) error) error {
	conn, err := a.connect(ctx)
	if err != nil {
		return trace.Wrap(err)
	}
	callCtx, cancel := context.WithTimeout(ctx, rpcTimeout)
	defer cancel()
	if deadline, ok := callCtx.Deadline(); ok && over(time.Now(), deadline) {
		err = context.DeadlineExceeded
	} else {
		err = call(callCtx, conn)
	}
	err = explain(what, conn.roles, err)
	conn.giveBack(err)
	return err
}

// over says whether a deadline has passed, by either clock.
func over(now, deadline time.Time) bool {
	return !now.Before(deadline) || !now.Round(0).Before(deadline.Round(0))
}
