package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/gravitational/trace"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"rollcall/failure"
)

func TestTranslate(t *testing.T) {
	dialError := func(err error) error {
		return &net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 443}, Err: os.NewSyscallError("connect", err)}
	}
	tests := map[string]struct {
		err  error
		kind failure.Kind
		want string
	}{
		// Generations and locks.
		"generation mismatch": {trace.AccessDenied("renewable cert generation mismatch: stored=4, presented=3"),
			failure.Refused, "THE BOT IS LOCKED"},
		"generation lock": {trace.AccessDenied(`lock targeting User:"bot-x" is in force: The bot user "bot-x" has been locked due to a certificate generation mismatch, possibly indicating a stolen certificate.`),
			failure.Refused, "delete and recreate the bot"},
		"another lock": {trace.AccessDenied(`lock targeting User:"bot-x" is in force: maintenance`),
			failure.Refused, "tctl get locks"},
		"strict locking": {trace.AccessDenied("preventive lock-out due to local lock view becoming unreliable"),
			failure.Transient, "strict locking mode"},
		"competing write": {trace.CompareFailed("Database comparison failed, try the request again"),
			failure.Transient, "try again"},

		// Tokens.
		"unknown token": {trace.AccessDenied(`"" can not join the cluster with role "Bot", token expired or not found`),
			failure.Refused, "has expired or was used already"},
		"invalid token": {trace.AccessDenied(`"host" can not join the cluster with role "Bot", the token is not valid`),
			failure.Refused, "doesn't accept the join token"},
		"kubernetes token not found": {trace.NotFound("provisioning token(******en) not found"),
			failure.Refused, "check its name in onboarding.token"},
		"not for bots": {trace.BadParameter(`node "" [] can not join the cluster, the token does not allow "Bot" role`),
			failure.Refused, "isn't one for bots"},
		"another method": {trace.AccessDenied("this token is only valid for the iam join method but the node has connected to the wrong endpoint, make sure your node is configured to use the iam join method"),
			failure.Refused, "another join method"},
		"method that bots can't use": {trace.BadParameter(`unsupported join method "ec2" for bot`),
			failure.Refused, "token or kubernetes"},

		// Kubernetes.
		"method token with a kubernetes token": {trace.BadParameter("IDToken not provided for Kubernetes join request"),
			failure.Configuration, "set onboarding.join_method: kubernetes"},
		"expired, static_jwks": {errors.New("reviewing kubernetes token with static_jwks\n\tvalidating jwt claims\n\t\tsquare/go-jose/jwt: validation failed, token is expired (exp)"),
			failure.Refused, "ServiceAccount token has expired"},
		"expired, in_cluster": {errors.New("reviewing kubernetes token with in_cluster\n\tkubernetes failed to validate token: [invalid bearer token, service account token has expired]"),
			failure.Refused, "ServiceAccount token has expired"},
		"wrong audience, static_jwks": {errors.New("reviewing kubernetes token with static_jwks\n\tvalidating jwt claims\n\t\tsquare/go-jose/jwt: validation failed, invalid audience claim (aud)"),
			failure.Refused, "set `audience` of the projected token to the Teleport cluster's name"},
		"wrong audience, in_cluster": {errors.New(`reviewing kubernetes token with in_cluster: kubernetes failed to validate token: [invalid bearer token, token audiences ["x"] is invalid for the target audiences ["https://kubernetes.default.svc.cluster.local"]]`),
			failure.Refused, "leave `audience` of the projected token out"},
		"not yet valid": {errors.New("reviewing kubernetes token with static_jwks: validating jwt claims: validation failed, token not valid yet (nbf)"),
			failure.Refused, "clocks"},
		"issued in the future": {errors.New("reviewing kubernetes token with static_jwks: validating jwt claims: validation failed, token issued in the future (iat)"),
			failure.Refused, "clocks"},
		"wrong signature": {errors.New("reviewing kubernetes token with static_jwks\n\tvalidating jwt signature\n\t\tsquare/go-jose: error in cryptographic primitive"),
			failure.Refused, "kubectl get --raw /openid/v1/jwks"},
		"no JWT": {errors.New("reviewing kubernetes token with static_jwks\n\tparsing jwt\n\t\tsquare/go-jose: compact JWS format must have three parts"),
			failure.Refused, "token_path points at a ServiceAccount token"},
		"lives too long": {trace.BadParameter("static_jwks joining requires the use of a service account token with a TTL of less than 30m0s"),
			failure.Refused, "at most 30 minutes"},
		"not allowed": {trace.AccessDenied("kubernetes token did not match any allow rules"),
			failure.Refused, "spec.kubernetes.allow"},
		"another cluster's": {errors.New("reviewing kubernetes token with in_cluster: kubernetes failed to validate token: invalid bearer token"),
			failure.Refused, "another Kubernetes cluster"},
		"another reason": {errors.New("reviewing kubernetes token with in_cluster: token user is not a service account: admin"),
			failure.Refused, "spec.kubernetes"},

		// Roles.
		"no such role": {trace.NotFound("role access is not found"), failure.NotFound, "role access is not found: create it"},
		"role not allowed": {trace.AccessDenied(`user "bot-x" has requested role impersonation for ["access"]`),
			failure.Refused, `may not assume the roles that this output asks for (user "bot-x" has requested role impersonation for ["access"]): add them`},
		"role not allowed, as logged": {trace.AccessDenied("access denied to 'bot-x' to impersonate roles 'access'"),
			failure.Refused, "add them to the bot"},

		// Versions.
		"client too old": {trace.AccessDenied("client version is unsupported"), failure.Refused, "install a newer one"},

		// Certificates.
		"unknown authority": {&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}},
			failure.Trust, "proxy_ca (or the environment variable SSL_CERT_FILE)"},
		"unknown authority through gRPC": {status.Error(codes.Unavailable, `connection error: desc = "transport: authentication handshake failed: tls: failed to verify certificate: x509: certificate signed by unknown authority"`),
			failure.Trust, "unknown authority"},
		"another name": {&tls.CertificateVerificationError{Err: x509.HostnameError{Certificate: &x509.Certificate{DNSNames: []string{"a.example.com"}}, Host: "b.example.com"}},
			failure.Trust, "certificate is valid for a.example.com, not b.example.com"},
		"expired certificate": {&tls.CertificateVerificationError{Err: x509.CertificateInvalidError{Reason: x509.Expired}},
			failure.Trust, "check this host's clock"},
		"other certificate trouble": {errors.New("x509: too many intermediates for path length constraint"),
			failure.Trust, "too many intermediates"},
		"no TLS": {tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"},
			failure.Configuration, "check the address and the port"},
		"our certificate expired": {errors.New("remote error: tls: expired certificate"),
			failure.Refused, "join again"},
		"our certificate is foreign": {errors.New("remote error: tls: bad certificate"),
			failure.Refused, "another cluster"},
		"our authority is unknown": {errors.New("remote error: tls: unknown certificate authority"),
			failure.Refused, "authority was rotated"},
		"wrong SSH listener": {errors.New("ssh: handshake failed: ssh: no authorities for hostname: proxy:3024"),
			failure.Trust, "SSH listener"},

		// The network.
		"unknown host": {&net.OpError{Op: "dial", Err: &net.DNSError{Name: "no.example.com", Err: "no such host", IsNotFound: true}},
			failure.Unreachable, "no.example.com can't be resolved"},
		"refused":  {dialError(syscall.ECONNREFUSED), failure.Unreachable, "was refused (192.0.2.1:443): check the address and the port"},
		"no route": {dialError(syscall.EHOSTUNREACH), failure.Unreachable, "no route to the host"},
		"refused through gRPC": {trace.ConnectionProblem(nil, `connection error: desc = "transport: Error while dialing: failed to dial: dial tcp 192.0.2.1:3025: connect: connection refused"`),
			failure.Unreachable, "(192.0.2.1:3025)"},
		"timeout":              {context.DeadlineExceeded, failure.Unreachable, "no answer in time"},
		"timeout through gRPC": {trace.Wrap(status.Error(codes.DeadlineExceeded, "stream terminated")), failure.Unreachable, "no answer in time"},
		"dial timeout":         {dialError(os.ErrDeadlineExceeded), failure.Unreachable, "no answer in time"},
		"cut":                  {status.Error(codes.Unavailable, "error reading from server: EOF"), failure.Unreachable, "connection was cut"},
		"reset":                {dialError(syscall.ECONNRESET), failure.Unreachable, "connection was cut"},

		// What the type alone tells.
		"denied":           {trace.AccessDenied("user bot-x can't list apps"), failure.Refused, "access denied (user bot-x can't list apps)"},
		"denied, no words": {trace.AccessDenied("access denied"), failure.Refused, "the bot is locked (`tctl get locks`)"},
		"denied, raw":      {status.Error(codes.PermissionDenied, "no"), failure.Refused, "access denied"},
		"not found":        {trace.NotFound(`app "x" not found`), failure.NotFound, `app "x" not found`},
		"exists":           {trace.AlreadyExists("app exists"), failure.Conflict, "app exists"},
		"unimplemented":    {trace.NotImplemented("unknown service x"), failure.Refused, "its version doesn't support it"},
		"rate limit":       {trace.LimitExceeded("slow down"), failure.Transient, "slow down"},
		"compare failed":   {trace.CompareFailed("changed"), failure.Transient, "changed"},
		"bad parameter":    {trace.BadParameter("ssh: no key found"), failure.Refused, "rejects the request (ssh: no key found)"},
		"connection":       {trace.ConnectionProblem(nil, "odd"), failure.Unreachable, "odd"},
		"unknown":          {errors.New("outer\n\tmiddle\n\t\tinner"), failure.Other, "doing x: outer: middle: inner"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			for _, err := range []error{test.err, trace.Wrap(test.err)} {
				got := translate("doing x", err)
				require.Equal(t, test.kind, failure.KindOf(got), "%v", got)
				require.True(t, strings.HasPrefix(got.Error(), "doing x: "), got.Error())
				require.ErrorContains(t, got, test.want)
				require.NotContains(t, got.Error(), "\n")
				require.ErrorIs(t, got, trace.Unwrap(test.err))
			}
		})
	}
}

func TestTranslateLeavesAlone(t *testing.T) {
	require.NoError(t, translate("doing x", nil))

	known := failure.New(failure.Trust, "wrong pin")
	require.EqualError(t, translate("doing x", trace.Wrap(known)), "wrong pin")

	for _, cancelled := range []error{context.Canceled, trace.Wrap(context.Canceled), status.Error(codes.Canceled, "context canceled")} {
		require.ErrorIs(t, translate("doing x", cancelled), context.Canceled)
	}
}

// What the keeper asks of a renewal that failed must survive the translation.
func TestTranslateKeepsTheCause(t *testing.T) {
	require.True(t, trace.IsCompareFailed(translate("doing x", trace.CompareFailed("Database comparison failed, try the request again"))))
}

func TestLongWordsAreCut(t *testing.T) {
	got := translate("doing x", errors.New(strings.Repeat("ä", 1000)))
	require.Less(t, len(got.Error()), 450)
	require.True(t, strings.HasSuffix(got.Error(), "ä…"))
}

func TestWithoutSecrets(t *testing.T) {
	req := JoinRequest{Method: JoinMethodKubernetes, Token: "kube-token", IDToken: "aaa.bbb.ccc"}
	leaky := failure.Wrap(failure.Refused, errors.New("got aaa.bbb.ccc"), "no")
	got := withoutSecrets(leaky, req)
	require.Equal(t, failure.Refused, failure.KindOf(got))
	require.NotContains(t, errorTexts(got), "aaa.bbb.ccc")

	// A kubernetes token's name is no secret; the cause stays.
	named := failure.Wrap(failure.Refused, errors.New("kube-token is odd"), "no")
	require.ErrorIs(t, withoutSecrets(named, req), named)
}
