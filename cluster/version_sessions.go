package cluster

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/gravitational/teleport/api/client/proto"
	"github.com/gravitational/teleport/api/types"
	"github.com/gravitational/trace"

	"rollcall/failure"
)

// sessionWait bounds the wait for a new session to appear in the server's own
// event stream.
const sessionWait = 10 * time.Second

// sessionSlack is how much earlier than its identity a session may end and still
// be as good as a new one.
const sessionSlack = 15 * time.Second

// session is an application session as servers before v16 want it: made by the
// client, named in the certificate, ending with the identity that made it.
type session struct {
	id         string
	publicAddr string
	expires    time.Time
	// seen is when the server's event stream showed it.
	seen time.Time
}

// sessions are the application sessions of one impersonated identity. Renewals
// share a session for as long as a whole certificate still fits into it: a
// certificate on an existing session costs the server 4 to 5 ms, a new session
// 25 to 40 ms, because it makes an RSA key for each.
type sessions struct {
	bot   *Bot
	creds *Credentials
	log   *slog.Logger
	watch *sessionWatch

	mu    sync.Mutex // protects the following
	byApp map[string]*session
}

func newSessions(bot *Bot, creds *Credentials, log *slog.Logger) *sessions {
	return &sessions{
		bot:   bot,
		creds: creds,
		log:   log,
		watch: newSessionWatch(creds.Username()),
		byApp: make(map[string]*session),
	}
}

func (s *sessions) close() { s.watch.close() }

// get returns the application's session, a kept one if a certificate of this
// ttl still fits, it came later than after, and the server still has it.
func (s *sessions) get(ctx context.Context, clt *connection, app types.Application, ttl time.Duration, after time.Time) (*session, error) {
	s.mu.Lock()
	kept := s.byApp[app.GetName()]
	s.mu.Unlock()
	// A new session couldn't outlive the identity either.
	now := time.Now()
	attainable := min(ttl, s.creds.NotAfter().Sub(now)-sessionSlack)
	if kept != nil && kept.seen.After(after) && kept.fits(now, app.GetPublicAddr(), attainable) {
		alive, err := s.alive(ctx, clt, kept)
		if err != nil {
			return nil, trace.Wrap(err)
		}
		if alive {
			return kept, nil
		}
		s.log.DebugContext(ctx, "The application's session is gone; making another.", "app", app.GetName())
	}
	fresh, err := s.create(ctx, clt, app)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	s.mu.Lock()
	s.byApp[app.GetName()] = fresh
	s.mu.Unlock()
	return fresh, nil
}

// fits says whether a certificate of this ttl, made now, ends before the
// session. A few seconds are left for the way to the server.
func (s *session) fits(now time.Time, publicAddr string, ttl time.Duration) bool {
	return s.publicAddr == publicAddr && !s.expires.Before(now.Add(ttl+5*time.Second))
}

// alive asks whether the server still has the session: an administrator or a
// restored backend may have removed it, and a certificate for it would be dead.
func (s *sessions) alive(ctx context.Context, clt *connection, kept *session) (bool, error) {
	callCtx, cancel := context.WithTimeout(ctx, rpcTimeout)
	defer cancel()
	_, err := clt.GetAppSession(callCtx, types.GetAppSessionRequest{SessionID: kept.id})
	if err == nil {
		return true, nil
	}
	if trace.IsNotFound(err) {
		return false, nil
	}
	err = translate("looking for the application's session", err)
	s.bot.forgetBroken(s.creds, clt, err)
	return false, err
}

// create makes a session and returns once the server's event stream has shown
// it. The watch stands before the session is made: looking first and watching
// afterwards misses what happens between, and then waits for nothing.
func (s *sessions) create(ctx context.Context, clt *connection, app types.Application) (*session, error) {
	if err := s.watch.start(ctx, clt); err != nil {
		err = translate("watching application sessions", err)
		s.bot.forgetBroken(s.creds, clt, err)
		return nil, err
	}
	callCtx, cancel := context.WithTimeout(ctx, rpcTimeout)
	defer cancel()
	made, err := clt.CreateAppSession(callCtx, &proto.CreateAppSessionRequest{
		Username:    s.creds.Username(),
		PublicAddr:  app.GetPublicAddr(),
		ClusterName: s.creds.ClusterName,
		AppName:     app.GetName(),
		URI:         app.GetURI(),
	})
	if err != nil {
		err = translate("opening a session for application "+app.GetName(), err)
		s.bot.forgetBroken(s.creds, clt, err)
		return nil, err
	}
	seen, err := s.watch.wait(ctx, made.GetName())
	if err != nil {
		return nil, failure.Wrap(failure.Transient, err,
			"the cluster didn't show the new session of application %q within %s: it's busy, or its backend lags; trying again", app.GetName(), sessionWait)
	}
	return &session{
		id:         made.GetName(),
		publicAddr: app.GetPublicAddr(),
		expires:    earlier(s.creds.NotAfter(), made.GetExpiryTime()),
		seen:       seen,
	}, nil
}

// carrySessionID puts a session's ID into the route as protobuf field 2, which
// servers before v16 read and which the api module has reserved since: tag
// 0x12 (field 2, length-delimited), length, ID.
func carrySessionID(route *proto.RouteToApp, id string) {
	raw := []byte{0x12}
	raw = appendUvarint(raw, uint64(len(id)))
	route.XXX_unrecognized = append(raw, id...)
}

func appendUvarint(b []byte, v uint64) []byte {
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

// sessionWatch is one event stream that shows a user's application sessions.
// It's opened when the first session is made, and again if it broke.
type sessionWatch struct {
	user string

	mu      sync.Mutex // protects the following
	stream  types.Watcher
	cancel  context.CancelFunc // ends stream
	done    chan struct{}      // closed when the reader of stream has ended
	seen    map[string]time.Time
	waiters map[string]chan time.Time
}

func newSessionWatch(user string) *sessionWatch {
	return &sessionWatch{
		user:    user,
		seen:    make(map[string]time.Time),
		waiters: make(map[string]chan time.Time),
	}
}

// start makes sure that the stream stands. The stream outlives ctx, which
// bounds only its opening; close ends it.
func (w *sessionWatch) start(ctx context.Context, clt *connection) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stream != nil {
		select {
		case <-w.done:
		default:
			return nil
		}
	}
	// Until the stream stands, the caller's end is its end.
	streamCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, cancel)
	stream, err := clt.NewWatcher(streamCtx, types.Watch{
		Name: "rollcall-app-sessions",
		Kinds: []types.WatchKind{{
			Kind:    types.KindWebSession,
			SubKind: types.KindAppSession,
			Filter:  (&types.WebSessionFilter{User: w.user}).IntoMap(),
		}},
	})
	if err == nil {
		err = awaitInit(ctx, stream)
	}
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		cancel()
		return trace.Wrap(err)
	}
	if w.cancel != nil {
		w.cancel()
	}
	w.stream, w.cancel, w.done = stream, cancel, make(chan struct{})
	go w.read(stream, w.done)
	return nil
}

// awaitInit waits for the event that says that the watch stands.
func awaitInit(ctx context.Context, stream types.Watcher) error {
	timer := time.NewTimer(sessionWait)
	defer timer.Stop()
	select {
	case event := <-stream.Events():
		if event.Type != types.OpInit {
			return trace.BadParameter("the first event of a watch was %v", event.Type)
		}
		return nil
	case <-stream.Done():
		if err := stream.Error(); err != nil {
			return trace.Wrap(err)
		}
		return errors.New("the server closed the stream")
	case <-timer.C:
		return trace.ConnectionProblem(nil, "the watch didn't begin within %s", sessionWait)
	case <-ctx.Done():
		return trace.Wrap(ctx.Err())
	}
}

// read takes events until the stream ends.
func (w *sessionWatch) read(stream types.Watcher, done chan struct{}) {
	defer close(done)
	for {
		select {
		case event := <-stream.Events():
			if event.Type == types.OpPut && event.Resource != nil {
				w.saw(event.Resource.GetName())
			}
		case <-stream.Done():
			return
		}
	}
}

func (w *sessionWatch) saw(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	if waiter, ok := w.waiters[id]; ok {
		waiter <- now // buffered, one send a waiter
		delete(w.waiters, id)
		return
	}
	// The event can come before the reply that tells us the ID. Sessions of
	// others under the same user stay in the map for a moment, no longer.
	w.seen[id] = now
	for other, at := range w.seen {
		if now.Sub(at) > sessionWait {
			delete(w.seen, other)
		}
	}
}

// wait returns when the stream showed the session.
func (w *sessionWatch) wait(ctx context.Context, id string) (time.Time, error) {
	w.mu.Lock()
	if at, ok := w.seen[id]; ok {
		delete(w.seen, id)
		w.mu.Unlock()
		return at, nil
	}
	waiter := make(chan time.Time, 1)
	w.waiters[id] = waiter
	done := w.done
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		delete(w.waiters, id)
		w.mu.Unlock()
	}()

	timer := time.NewTimer(sessionWait)
	defer timer.Stop()
	select {
	case at := <-waiter:
		return at, nil
	case <-done:
		return time.Time{}, errors.New("the event stream broke")
	case <-timer.C:
		return time.Time{}, errors.New("no event came")
	case <-ctx.Done():
		return time.Time{}, trace.Wrap(ctx.Err())
	}
}

// close ends the stream and waits for its reader.
func (w *sessionWatch) close() {
	w.mu.Lock()
	cancel, done := w.cancel, w.done
	w.mu.Unlock()
	if cancel == nil {
		return
	}
	cancel()
	<-done
}
