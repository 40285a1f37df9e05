package cluster

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/gravitational/trace"
)

// impersonator returns the shared impersonated identity of a set of roles, which
// the caller releases. One that can't make sessions as long as ttl any more is
// replaced.
func (i *Issuer) impersonator(ctx context.Context, bot *Credentials, roles []string, ttl time.Duration) (*impersonator, error) {
	for {
		imp, found, replaced := i.acquire(bot.Username(), roles, ttl)
		if replaced != nil {
			i.retire(replaced)
		}
		var err error
		if found {
			err = imp.ready(ctx)
		} else {
			err = imp.open(ctx, bot, sessionLife(i.sessionTTL, ttl))
		}
		if err == nil {
			return imp, nil
		}
		i.forget(imp)
		i.release(imp)
		if ctx.Err() != nil || !errors.Is(err, errGaveUp) {
			return nil, trace.Wrap(err)
		}
	}
}

// acquire returns the identity of a set of roles with one more user, and the one
// that it replaces, if any. If it wasn't found, the caller opens it.
func (i *Issuer) acquire(user string, roles []string, ttl time.Duration) (imp *impersonator, found bool, replaced *impersonator) {
	name := impersonatorKey(user, roles)
	i.mu.Lock()
	defer i.mu.Unlock()
	kept, ok := i.impersonators[name]
	if ok && kept.fits(time.Now(), ttl) {
		kept.users++
		return kept, true, nil
	}
	fresh := newImpersonator(i, name, roles)
	fresh.users = 1
	i.impersonators[name] = fresh
	return fresh, false, kept
}

// release gives an impersonated identity back.
func (i *Issuer) release(imp *impersonator) {
	i.mu.Lock()
	imp.users--
	last := imp.retired && imp.users == 0
	i.mu.Unlock()
	if last {
		imp.close()
	}
}

// retire closes an impersonated identity as soon as nobody uses it.
func (i *Issuer) retire(imp *impersonator) {
	i.mu.Lock()
	idle := !imp.retired && imp.users == 0
	imp.retired = true
	i.mu.Unlock()
	if idle {
		imp.close()
	}
}

// forget makes the next request open another identity in place of this one.
func (i *Issuer) forget(imp *impersonator) {
	i.mu.Lock()
	if i.impersonators[imp.key] == imp {
		delete(i.impersonators, imp.key)
	}
	i.mu.Unlock()
	i.retire(imp)
}

// impersonatorKey names a set of roles of one bot, whatever their order: after a
// join with another bot's token, nothing of the first one's is used.
func impersonatorKey(user string, roles []string) string {
	sorted := slices.Sorted(slices.Values(roles))
	key := user + "\x00"
	for _, r := range sorted {
		key += r + "\x00"
	}
	return key
}
