package cluster

import (
	"errors"
	"strings"

	"github.com/gravitational/teleport/api/constants"

	"rollcall/failure"
)

// rule recognises one thing that servers say.
type rule struct {
	// all parts must occur in the text.
	all  []string
	kind failure.Kind
	// advice may hold said.
	advice string
}

// said stands for the server's own words, where they name something that only
// the server knows.
const said = "{said}"

func (r rule) matches(text string) bool {
	for _, part := range r.all {
		if !strings.Contains(text, part) {
			return false
		}
	}
	return true
}

const (
	recoverBot = "To recover: make sure that no other agent or backup uses this bot's storage, remove the lock (`tctl get locks`, `tctl rm lock/ID`), then delete and recreate the bot (`tctl bots rm NAME`, `tctl bots add NAME`) or, on Teleport 16 and newer, add an instance (`tctl bots instances add NAME`), and start again with the new token"
	newToken   = "make a new token (`tctl bots add NAME`, or `tctl bots instances add NAME` on Teleport 16 and newer) and set onboarding.token to it"
	projected  = "mount a projected ServiceAccount token (volumes.projected.sources.serviceAccountToken)"
)

// rules are tried in order; the first match counts. The texts are those of
// Teleport 14.2.3 (lib/auth/join*.go, bot.go, lib/kubernetestoken,
// lib/services/lock.go) where nothing else is said.
var rules = []rule{
	// Generations and locks. The word "renewable" went away in 17.
	{[]string{"cert generation mismatch"}, failure.Refused,
		"THE BOT IS LOCKED: the cluster was shown an older generation of the bot's certificate than the one it holds, so this identity was used in two places, or the reply to a renewal was lost. " + recoverBot},
	{[]string{"lock targeting", "generation mismatch"}, failure.Refused,
		"THE BOT IS LOCKED since a generation mismatch: its identity was used in two places, or the reply to a renewal was lost. " + recoverBot},
	{[]string{"lock targeting", "is in force"}, failure.Refused,
		"a lock is in force on the bot, its instance or one of its roles: an operator can see why with `tctl get locks` and remove it with `tctl rm lock/ID`; the agent goes on by itself then"},
	{[]string{"preventive lock-out"}, failure.Transient,
		"the cluster is in strict locking mode and has lost its view of the locks: it works again once the Auth Service has caught up"},
	{[]string{"Database comparison failed"}, failure.Transient,
		"another write came in between, the cluster asks to try again"},

	// The join token.
	{[]string{"has already been issued a renewable certificate"}, failure.Refused,
		"the token was used already, or this bot has joined from elsewhere: on Teleport 15 and older a bot joins once, so delete and recreate it (`tctl bots rm NAME`, `tctl bots add NAME`) and set onboarding.token to the new token"},
	{[]string{"token expired or not found"}, failure.Refused,
		"the join token is unknown to the cluster, has expired or was used already: for the kubernetes method check its name in onboarding.token, else " + newToken},
	{[]string{"can not join the cluster", "the token is not valid"}, failure.Refused,
		"the cluster doesn't accept the join token: " + newToken},
	{[]string{"provisioning token(", "not found"}, failure.Refused,
		"the join token is unknown to the cluster or has expired: check its name in onboarding.token, or make it with `tctl create`"},
	{[]string{"the token does not allow", "role"}, failure.Refused,
		"the join token isn't one for bots: " + newToken},
	{[]string{"this token is only valid for the"}, failure.Refused,
		"the join token is for another join method: set onboarding.join_method and onboarding.token to a pair that belongs together"},
	{[]string{"unsupported join method", "for bot"}, failure.Refused,
		"the cluster doesn't let bots join by the token's method: make a token for the method token or kubernetes"},

	// Kubernetes join. The JWT library's texts are those of go-jose, which the
	// server passes on.
	{[]string{"IDToken not provided for Kubernetes"}, failure.Configuration,
		"the join token is for the kubernetes method: set onboarding.join_method: kubernetes"},
	{[]string{"reviewing kubernetes token", "token is expired"}, failure.Refused,
		"the ServiceAccount token has expired: Kubernetes renews a projected one by itself, so " + projected + " and check that onboarding.kubernetes.token_path points at it"},
	{[]string{"reviewing kubernetes token", "token has expired"}, failure.Refused,
		"the ServiceAccount token has expired: Kubernetes renews a projected one by itself, so " + projected + " and check that onboarding.kubernetes.token_path points at it"},
	{[]string{"reviewing kubernetes token", "invalid audience"}, failure.Refused,
		"the ServiceAccount token was made for another audience: set `audience` of the projected token to the Teleport cluster's name"},
	{[]string{"reviewing kubernetes token", "token audiences", "invalid for the target audiences"}, failure.Refused,
		"the ServiceAccount token was made for another audience: for the in_cluster type leave `audience` of the projected token out"},
	{[]string{"reviewing kubernetes token", "not valid yet"}, failure.Refused,
		"the ServiceAccount token isn't valid yet: compare the clocks of the Kubernetes and the Teleport cluster"},
	{[]string{"reviewing kubernetes token", "issued in the future"}, failure.Refused,
		"the ServiceAccount token was issued in the future: compare the clocks of the Kubernetes and the Teleport cluster"},
	{[]string{"validating jwt signature"}, failure.Refused,
		"the ServiceAccount token's signature doesn't match the keys that the join token lists: take the Kubernetes cluster's JWKS again (`kubectl get --raw /openid/v1/jwks`) into the token's static_jwks"},
	{[]string{"parsing jwt"}, failure.Refused,
		"the ServiceAccount token can't be read: check that onboarding.kubernetes.token_path points at a ServiceAccount token"},
	{[]string{"static_jwks joining requires"}, failure.Refused,
		"the ServiceAccount token must be bound to a pod and live at most 30 minutes: " + projected + " with expirationSeconds: 600 and the Teleport cluster's name as audience"},
	{[]string{"did not match any allow rules"}, failure.Refused,
		"the join token doesn't allow this ServiceAccount: add NAMESPACE:NAME of the pod's ServiceAccount to the token's spec.kubernetes.allow"},
	{[]string{"kubernetes failed to validate token"}, failure.Refused,
		"Kubernetes doesn't recognise the ServiceAccount token: it belongs to another Kubernetes cluster, or its pod or ServiceAccount is gone; for other clusters than the Auth Service's own use a token of type static_jwks"},
	{[]string{"reviewing kubernetes token"}, failure.Refused,
		"the cluster doesn't accept the ServiceAccount token: check the join token's spec.kubernetes and onboarding.kubernetes.token_path"},

	// Roles of an output.
	{[]string{"has requested role impersonation for"}, failure.Refused,
		"the bot may not assume the roles that this output asks for ({said}): add them to the bot (`tctl bots update NAME --add-roles=ROLE`, or where tctl doesn't have that, allow.impersonate.roles of `tctl edit role/bot-NAME`), or remove them from the output's roles"},
	{[]string{"access denied to", "to impersonate roles"}, failure.Refused,
		"the bot may not assume the roles that this output asks for ({said}): add them to the bot (`tctl bots update NAME --add-roles=ROLE`, or where tctl doesn't have that, allow.impersonate.roles of `tctl edit role/bot-NAME`), or remove them from the output's roles"},
	{[]string{"role ", " is not found"}, failure.NotFound,
		"{said}: create it (`tctl get roles` lists those that there are), or correct the output's roles; if the output names none, correct the bot's (`tctl edit role/bot-NAME`)"},

	// Versions. From 16 on the Auth Service closes the connection of clients
	// that are too old.
	{[]string{"client version", "unsupported"}, failure.Refused,
		"the cluster is too new for this rollcall: install a newer one"},
	{[]string{"minimum supported version"}, failure.Refused,
		"the cluster is too new for this rollcall: install a newer one"},

	// The tunnel of proxies without TLS routing (golang.org/x/crypto/ssh and
	// the api module's host key check).
	{[]string{"ssh: handshake failed", "no authorities for hostname"}, failure.Trust,
		"the proxy's SSH listener shows a certificate that the cluster's authorities didn't issue: something else answers there, or the authority was replaced; then join again"},
	{[]string{"ssh: handshake failed", "ssh: unable to authenticate"}, failure.Refused,
		"the proxy's SSH listener doesn't accept the identity's certificate: it has expired, the bot is locked, or it's another cluster; join again"},

	// The other side's view of our TLS certificate.
	{[]string{"remote error: tls:", "expired certificate"}, failure.Refused,
		"the cluster says that the identity has expired: check this host's clock; else join again"},
	{[]string{"remote error: tls:", "bad certificate"}, failure.Refused,
		"the cluster doesn't accept the identity's certificate: its authority was rotated, or it's another cluster; join again"},
	{[]string{"remote error: tls:", "unknown certificate authority"}, failure.Refused,
		"the cluster doesn't know the authority of the identity's certificate: its authority was rotated, or it's another cluster; join again"},

	{[]string{"the server that answered isn't a Teleport proxy"}, failure.Configuration,
		"the server that answers there isn't a Teleport proxy: check proxy_server's address and port"},
	{[]string{"breaker is tripped"}, failure.Unreachable,
		"too many calls failed in a row, waiting before the next"},
}

// Mismatched says whether the server refused an identity because its generation
// isn't the one that it holds. Presenting it once more locks the bot once more.
func Mismatched(err error) bool {
	if err == nil {
		return false
	}
	for cause := err; cause != nil; cause = errors.Unwrap(cause) {
		if strings.Contains(cause.Error(), "cert generation mismatch") {
			return true
		}
	}
	return false
}

// isMissingPathText recognises an HTTP router's words for "no such path".
func isMissingPathText(text string) bool {
	text = strings.ToLower(text)
	return strings.Contains(text, "page not found") || strings.Contains(text, "path not found")
}

// isOtherServer recognises an answer that no Auth Service gives: one of an HTTP
// server, or a certificate that isn't the cluster's own kind.
func isOtherServer(err error) bool {
	if isUnimplemented(err) {
		return true
	}
	text := err.Error()
	for _, part := range []string{
		"missing selected ALPN property",
		"unexpected HTTP status code received from server",
		"unexpected content-type",
		"no application protocol",
		"not " + constants.APIDomain,
	} {
		if strings.Contains(text, part) {
			return true
		}
	}
	return false
}
