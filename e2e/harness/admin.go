package harness

import (
	"context"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/gravitational/teleport/api/client/proto"
	"github.com/gravitational/teleport/api/types"
)

// cacheTimeout is how long the cluster's caches may take to see a change.
const cacheTimeout = time.Minute

// Bot is a Machine ID bot of the cluster.
type Bot struct {
	// Name is the bot's name; its user and its role are both bot-NAME.
	Name, User, Role string
	// Token is a secret for one join with method token.
	Token string
}

// CreateRole makes a role and waits until the cluster's caches have it.
func (c *Cluster) CreateRole(t T, name string, spec types.RoleSpecV6) {
	t.Helper()
	role, err := types.NewRole(name, spec)
	if err != nil {
		t.Fatalf("role %s: %v", name, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), callTimeout)
	defer cancel()
	admin := c.Client(t)
	if err := admin.UpsertRole(ctx, role); err != nil {
		t.Fatalf("role %s: %v", name, err)
	}
	Eventually(t, cacheTimeout, "role "+name, func() error {
		_, err := admin.GetRole(ctx, name)
		return err
	})
}

// CreateAppRole makes a role that may do one thing: reach the applications
// with these labels. No labels: all applications.
func (c *Cluster) CreateAppRole(t T, name string, labels map[string]string) {
	t.Helper()
	allowed := types.Labels{}
	for key, value := range labels {
		allowed[key] = []string{value}
	}
	if len(labels) == 0 {
		allowed[types.Wildcard] = []string{types.Wildcard}
	}
	c.CreateRole(t, name, types.RoleSpecV6{Allow: types.RoleConditions{AppLabels: allowed}})
}

// CreateBot makes a bot that may assume the roles (tctl bots add), with a
// token for one join, and waits until the caches have all of it.
func (c *Cluster) CreateBot(t T, name string, roles ...string) Bot {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), callTimeout)
	defer cancel()
	admin := c.Client(t)
	made, err := admin.CreateBot(ctx, &proto.CreateBotRequest{
		Name: name, Roles: roles, TTL: proto.Duration(time.Hour),
	})
	if err != nil {
		t.Fatalf("bot %s: %v", name, err)
	}
	bot := Bot{Name: name, User: made.UserName, Role: made.RoleName, Token: made.TokenID}
	c.awaitBot(t, bot)
	return bot
}

// awaitBot waits until the caches have all of a bot.
func (c *Cluster) awaitBot(t T, bot Bot) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), callTimeout)
	defer cancel()
	admin := c.Client(t)
	Eventually(t, cacheTimeout, "bot "+bot.Name, func() error {
		if _, err := admin.GetUser(bot.User, false); err != nil {
			return err
		}
		if _, err := admin.GetRole(ctx, bot.Role); err != nil {
			return err
		}
		_, err := admin.GetToken(ctx, bot.Token)
		return err
	})
}

// DeleteBot removes a bot with its user and role.
func (c *Cluster) DeleteBot(t T, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), callTimeout)
	defer cancel()
	if err := c.Client(t).DeleteBot(ctx, name); err != nil {
		t.Fatalf("delete bot %s: %v", name, err)
	}
}

// CreateToken makes a join token for a bot by its specification and waits
// until the caches have it. Roles and BotName are filled in.
func (c *Cluster) CreateToken(t T, name string, bot Bot, ttl time.Duration, spec types.ProvisionTokenSpecV2) {
	t.Helper()
	spec.Roles = types.SystemRoles{types.RoleBot}
	spec.BotName = bot.Name
	token, err := types.NewProvisionTokenFromSpec(name, time.Now().Add(ttl), spec)
	if err != nil {
		t.Fatalf("token for bot %s: %v", bot.Name, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), callTimeout)
	defer cancel()
	admin := c.Client(t)
	if err := admin.UpsertToken(ctx, token); err != nil {
		t.Fatalf("token for bot %s: %v", bot.Name, err)
	}
	Eventually(t, cacheTimeout, "token for bot "+bot.Name, func() error {
		_, err := admin.GetToken(ctx, name)
		return err
	})
}

// CreateKubernetesToken makes a join token of method kubernetes, type
// static_jwks, that trusts issuer's keys for the ServiceAccounts in allow
// (NAMESPACE:NAME). Its name is no secret.
func (c *Cluster) CreateKubernetesToken(t T, name string, bot Bot, issuer *FakeServiceAccountIssuer, allow ...string) {
	t.Helper()
	spec := &types.ProvisionTokenSpecV2Kubernetes{
		Type:       types.KubernetesJoinTypeStaticJWKS,
		StaticJWKS: &types.ProvisionTokenSpecV2Kubernetes_StaticJWKSConfig{JWKS: issuer.JWKS()},
	}
	for _, account := range allow {
		spec.Allow = append(spec.Allow, &types.ProvisionTokenSpecV2Kubernetes_Rule{ServiceAccount: account})
	}
	c.CreateToken(t, name, bot, 24*time.Hour, types.ProvisionTokenSpecV2{
		JoinMethod: types.JoinMethodKubernetes, Kubernetes: spec,
	})
}

// Generation is the bot's generation counter as the server has it, past all
// caches; 0: it never joined with a token.
func (c *Cluster) Generation(t T, bot Bot) uint64 {
	t.Helper()
	var answer struct{ Generation string }
	c.control(t, "GET", "/generation?bot="+bot.Name, nil, &answer)
	if answer.Generation == "" {
		return 0
	}
	generation, err := strconv.ParseUint(answer.Generation, 10, 64)
	if err != nil {
		t.Fatalf("generation of bot %s: %v", bot.Name, err)
	}
	return generation
}

// Locks lists the locks in force against the bot.
func (c *Cluster) Locks(t T, bot Bot) []types.Lock {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), callTimeout)
	defer cancel()
	locks, err := c.Client(t).GetLocks(ctx, true, types.LockTarget{User: bot.User})
	if err != nil {
		t.Fatalf("locks of bot %s: %v", bot.Name, err)
	}
	return locks
}

// Lock locks a bot, as an administrator or a generation mismatch would.
func (c *Cluster) Lock(t T, bot Bot, message string) (name string) {
	t.Helper()
	name = fmt.Sprintf("lock-%s-%d", bot.Name, time.Now().UnixNano())
	lock, err := types.NewLock(name, types.LockSpecV2{Target: types.LockTarget{User: bot.User}, Message: message})
	if err != nil {
		t.Fatalf("lock: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), callTimeout)
	defer cancel()
	if err := c.Client(t).UpsertLock(ctx, lock); err != nil {
		t.Fatalf("lock bot %s: %v", bot.Name, err)
	}
	return name
}

// Unlock removes all locks against the bot.
func (c *Cluster) Unlock(t T, bot Bot) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), callTimeout)
	defer cancel()
	for _, lock := range c.Locks(t, bot) {
		if err := c.Client(t).DeleteLock(ctx, lock.GetName()); err != nil {
			t.Fatalf("unlock bot %s: %v", bot.Name, err)
		}
	}
}

// AppSessions lists the application sessions of a user (Bot.User), or of all
// users if it's empty.
func (c *Cluster) AppSessions(t T, user string) []types.WebSession {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), callTimeout)
	defer cancel()
	var all []types.WebSession
	for next := ""; ; {
		page, token, err := c.Client(t).ListAppSessions(ctx, 0, next, user)
		if err != nil {
			t.Fatalf("application sessions of %q: %v", user, err)
		}
		all = append(all, page...)
		if token == "" {
			return all
		}
		next = token
	}
}

// Rotate makes one step of a manual CA rotation (type host, user, db …; phase
// init, update_clients, update_servers, standby or rollback), waits until the
// cluster itself has followed, and renews the administrator's identity. Use a
// cluster of your own: others' certificates end with it.
func (c *Cluster) Rotate(t T, authority types.CertAuthType, phase string) {
	t.Helper()
	c.control(t, "POST", "/rotate", map[string]string{"type": string(authority), "phase": phase}, nil)
	c.closeClient()
	var info Info
	// The Auth Service that follows a rotation is away for a moment.
	Eventually(t, callTimeout, fmt.Sprintf("the cluster after phase %s of the %s CA", phase, authority), func() error {
		return c.tryControl(t.Context(), "POST", "/admin", nil, &info)
	})
	c.mu.Lock()
	c.info = info
	c.mu.Unlock()
}

// unique makes a name that no other test of the suite uses, as a DNS label.
func unique(t T, prefix string) string {
	clean := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(t.Name()))
	if len(clean) > 24 {
		clean = clean[:24]
	}
	return fmt.Sprintf("%s-%s-%x", prefix, strings.Trim(clean, "-"), time.Now().UnixNano()&0xffffffff)
}

// Unique makes a name for a role, bot, token or application that no other test
// uses; it's a DNS label.
func Unique(t T, prefix string) string { return unique(t, prefix) }

// PutRole makes or replaces a role as it is, and waits until the cluster's
// caches have it.
func (c *Cluster) PutRole(t T, role types.Role) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), callTimeout)
	defer cancel()
	admin := c.Client(t)
	if err := admin.UpsertRole(ctx, role); err != nil {
		t.Fatalf("role %s: %v", role.GetName(), err)
	}
	Eventually(t, cacheTimeout, "role "+role.GetName(), func() error {
		got, err := admin.GetRole(ctx, role.GetName())
		if err != nil {
			return err
		}
		if !reflect.DeepEqual(got.GetRules(types.Allow), role.GetRules(types.Allow)) {
			return fmt.Errorf("it's the one before")
		}
		return nil
	})
}
