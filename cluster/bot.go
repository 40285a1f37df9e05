package cluster

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"time"

	"github.com/gravitational/teleport/api/client/proto"
	"github.com/gravitational/trace"

	"rollcall/failure"
)

// rpcTimeout bounds every single call: an Auth Service that accepts a
// connection and never answers must not hold up a renewal for ever.
const rpcTimeout = 30 * time.Second

// Bot is what the bot does with its own identity: join, renew, look at itself.
// Issuer builds on it. Safe for concurrent use.
type Bot struct {
	cluster *Cluster
	pool    *pool
	log     *slog.Logger
}

// NewBot returns a Bot of a cluster. Nothing is dialled.
func NewBot(c *Cluster, log *slog.Logger) *Bot {
	return &Bot{cluster: c, pool: newPool(c.connect), log: log}
}

// Close closes all connections. Calls that are under way fail.
func (b *Bot) Close() { b.pool.close() }

// Join exchanges a token for the bot's first credentials, or, for methods whose
// certificates can't be renewed, for its next ones.
func (b *Bot) Join(ctx context.Context, req JoinRequest) (*Credentials, error) {
	creds, err := b.cluster.Join(ctx, req)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	if req.Previous != nil {
		b.pool.end(req.Previous)
	}
	return creds, nil
}

// Renew exchanges a renewable identity for its next generation, with a fresh
// key. If the error is Uncertain, the server may have moved to the next
// generation without our knowing it.
//
// begin is called when the connection stands and nothing but the request itself
// is left to do; if it fails, nothing is sent. It's where the caller records
// what it's about to do: the shorter the time between the record and the reply,
// the rarer a start that has to ask what came of it.
//
// Sources of the rules: section 3 of the protocol notes (key fields by server
// version), lib/auth/bot.go of Teleport 14 (the counter is committed before the
// certificates are made).
func (b *Bot) Renew(ctx context.Context, current *Credentials, ttl time.Duration, begin func() error) (*Credentials, error) {
	key, err := NewKey()
	if err != nil {
		return nil, trace.Wrap(err)
	}
	clt, release, err := b.client(ctx, current)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	defer release()

	req := proto.UserCertsRequest{
		Username: current.Username(),
		Expires:  time.Now().UTC().Add(ttl),
	}
	if err := b.setPublicKey(ctx, clt, &req, key); err != nil {
		b.forgetBroken(current, clt, err)
		return nil, trace.Wrap(err)
	}
	callCtx, cancel := context.WithTimeout(ctx, rpcTimeout)
	defer cancel()
	// The connection may have died since it was used last. That is found out
	// with a question that changes nothing, so that an outage isn't taken for a
	// lost reply.
	if _, err := clt.Ping(callCtx); err != nil {
		err = translate("renewing the bot's identity", err)
		b.forgetBroken(current, clt, err)
		return nil, err
	}
	if err := begin(); err != nil {
		return nil, trace.Wrap(err)
	}
	certs, err := clt.GenerateUserCerts(callCtx, req)
	if err != nil {
		err = translate("renewing the bot's identity", err)
		b.forgetBroken(current, clt, err)
		if definitive(err) && !Mismatched(err) {
			return nil, err
		}
		return nil, NewUncertain(err)
	}
	renewed, err := NewCredentials(key, certs)
	if err != nil {
		return nil, NewUncertain(trace.Wrap(err))
	}
	b.pool.end(current)
	return renewed, nil
}

// Generation returns the generation that the server holds for the bot. known is
// false where a bot may not read it (from v16 on it's kept in the bot instance).
func (b *Bot) Generation(ctx context.Context, current *Credentials) (generation uint64, known bool, err error) {
	clt, release, err := b.client(ctx, current)
	if err != nil {
		return 0, false, trace.Wrap(err)
	}
	defer release()
	major, err := b.serverMajor(ctx, clt)
	if err != nil {
		return 0, false, trace.Wrap(err)
	}
	if major >= botInstancesSince {
		return 0, false, nil
	}
	callCtx, cancel := context.WithTimeout(ctx, rpcTimeout)
	defer cancel()
	user, err := getUser(callCtx, clt.Client, current.Username())
	if err != nil {
		err = translate("reading the bot's user", err)
		if failure.KindOf(err) == failure.Refused {
			return 0, false, nil
		}
		return 0, false, err
	}
	label := user.BotGenerationLabel()
	if label == "" {
		// No identity of this bot was issued yet: it has been recreated.
		return 0, true, nil
	}
	generation, err = strconv.ParseUint(label, 10, 64)
	if err != nil {
		return 0, false, trace.BadParameter("the bot's user carries an unreadable generation %q", label)
	}
	return generation, true, nil
}

// client returns the connection of an identity, and a function that gives it
// back.
func (b *Bot) client(ctx context.Context, creds *Credentials) (*connection, func(), error) {
	clt, release, err := b.pool.get(ctx, creds)
	return clt, release, trace.Wrap(err)
}

// forgetBroken throws a connection of the identity away after an error of the
// transport: gRPC's own reconnection backs off for up to two minutes, longer
// than an agent should stay away from a cluster that is back.
func (b *Bot) forgetBroken(creds *Credentials, conn *connection, err error) {
	if failure.KindOf(err) == failure.Unreachable {
		b.pool.discard(creds, conn)
	}
}

// definitive says whether the server surely didn't do what was asked. It counts
// the renewal before it makes the certificates: what only the making can
// complain about (a key in the wrong form) isn't definitive.
func definitive(err error) bool {
	switch failure.KindOf(err) {
	case failure.Refused:
		return !trace.IsBadParameter(err)
	case failure.NotFound, failure.Conflict, failure.Trust, failure.Configuration:
		return true
	default:
		return trace.IsCompareFailed(err) || trace.IsLimitExceeded(err) || trace.IsAccessDenied(err)
	}
}

// uncertainError marks a failed request that the server may have carried out.
type uncertainError struct{ err error }

func (e *uncertainError) Error() string { return e.err.Error() }
func (e *uncertainError) Unwrap() error { return e.err }

// NewUncertain marks err as one of a request that the server may have carried
// out.
func NewUncertain(err error) error { return &uncertainError{err: err} }

// Uncertain says whether the server may have carried out a request that failed:
// it was sent, and no clear answer came back.
func Uncertain(err error) bool {
	var u *uncertainError
	return errors.As(err, &u)
}
