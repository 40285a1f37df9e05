package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"

	"github.com/gravitational/trace"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"rollcall/failure"
)

// translate gives an error of Teleport, of the network or of TLS a kind and a
// sentence for the user, which begins with op: what was being done, and with
// whom ("renewing the bot's identity", "reaching the proxy a.example.com:443").
// It's the one place where a server's words are read. A nil error, a failure
// that is classified already and a cancelled context come back as they are.
func translate(op string, err error) error {
	if err == nil {
		return nil
	}
	var known *failure.Error
	if errors.As(err, &known) || errors.Is(err, context.Canceled) {
		return trace.Wrap(err)
	}
	if status.Code(trace.Unwrap(err)) == codes.Canceled {
		return trace.Wrap(errors.Join(context.Canceled, err))
	}
	for _, classify := range []func(error) (failure.Kind, string){byText, byStatus, byCertificate, byNetwork, byType} {
		if kind, advice := classify(err); kind != failure.Other {
			return failure.Wrap(kind, err, "%s: %s", op, advice)
		}
	}
	return failure.Wrap(failure.Other, err, "%s: %s", op, oneLine(err))
}

// byText looks the server's words up in the table of rules.
func byText(err error) (failure.Kind, string) {
	text := err.Error()
	for _, rule := range rules {
		if rule.matches(text) {
			return rule.kind, strings.ReplaceAll(rule.advice, said, oneLine(err))
		}
	}
	return failure.Other, ""
}

// byStatus goes by the HTTP status where the words say nothing. What a server
// reports with 5xx of its own connections isn't about ours.
func byStatus(err error) (failure.Kind, string) {
	var answer *statusError
	if !errors.As(err, &answer) {
		return failure.Other, ""
	}
	switch {
	case answer.status == http.StatusTooManyRequests:
		return failure.Transient, "the cluster limits how often this host's address may ask it, which other agents behind the same address share: try again in a minute"
	case answer.status == http.StatusNotImplemented:
		return failure.Other, ""
	case answer.status >= http.StatusInternalServerError:
		return failure.Transient, fmt.Sprintf("the cluster can't answer just now (HTTP status %d: %s): its proxy or Auth Service is starting, overloaded or in trouble", answer.status, oneLine(err))
	case answer.status < http.StatusBadRequest:
		return failure.Configuration, fmt.Sprintf("the server sends us elsewhere (HTTP status %d): set proxy_server to the proxy's own address", answer.status)
	case answer.foreign:
		return failure.Refused, fmt.Sprintf("something in front of the cluster refuses the request (HTTP status %d: %s)", answer.status, oneLine(err))
	default:
		return failure.Other, ""
	}
}

// byCertificate explains why a peer's certificate wasn't accepted. Errors that
// went through gRPC are text only.
func byCertificate(err error) (failure.Kind, string) {
	var hostname x509.HostnameError
	var invalid x509.CertificateInvalidError
	text := err.Error()
	switch {
	case isUnknownAuthority(err):
		return failure.Trust, "the server's certificate comes from an unknown authority: set proxy_ca (or the environment variable SSL_CERT_FILE) to the file of the proxy's CA; if the cluster's own authority was replaced, join again"
	case errors.As(err, &hostname), strings.Contains(text, "x509: certificate is valid for"),
		strings.Contains(text, "x509: certificate is not valid for any names"),
		strings.Contains(text, "x509: cannot validate certificate for"):
		return failure.Trust, "the server's certificate was made for another name: use a name that stands in it, as the proxy's public address does (" + lastClause(text) + ")"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired, strings.Contains(text, "x509: certificate has expired or is not yet valid"):
		return failure.Trust, "the server's certificate has expired or isn't valid yet: check this host's clock, else the server's certificate must be replaced"
	case errors.As(err, new(tls.RecordHeaderError)), strings.Contains(text, "first record does not look like a TLS handshake"):
		return failure.Configuration, "the server doesn't speak TLS there: check the address and the port"
	case strings.Contains(text, "x509: "):
		return failure.Trust, "the server's certificate can't be accepted: " + lastClause(text)
	default:
		return failure.Other, ""
	}
}

func isUnknownAuthority(err error) bool {
	return errors.As(err, new(x509.UnknownAuthorityError)) ||
		strings.Contains(err.Error(), "x509: certificate signed by unknown authority")
}

// byNetwork explains why nobody answered.
func byNetwork(err error) (failure.Kind, string) {
	var dns *net.DNSError
	var netErr net.Error
	text := err.Error()
	switch {
	case errors.As(err, &dns):
		return failure.Unreachable, "the host name " + dns.Name + " can't be resolved: check its spelling and this host's DNS"
	case strings.Contains(text, "no such host"), strings.Contains(text, "server misbehaving"):
		return failure.Unreachable, "the host name can't be resolved: check its spelling and this host's DNS"
	case errors.Is(err, syscall.ECONNREFUSED), strings.Contains(text, "connection refused"):
		return failure.Unreachable, "the connection was refused" + dialled(text) + ": check the address and the port; if they're right, the server is down or a firewall forbids it"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH),
		strings.Contains(text, "no route to host"), strings.Contains(text, "network is unreachable"):
		return failure.Unreachable, "there's no route to the host: check this host's network" + dialled(text)
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &netErr) && netErr.Timeout(),
		status.Code(trace.Unwrap(err)) == codes.DeadlineExceeded,
		strings.Contains(text, "context deadline exceeded"), strings.Contains(text, "i/o timeout"),
		strings.Contains(text, "DeadlineExceeded"):
		return failure.Unreachable, "no answer in time: the host is down, overloaded, or a firewall drops the packets" + dialled(text)
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE),
		strings.Contains(text, "connection reset"), strings.Contains(text, "broken pipe"),
		strings.HasSuffix(text, "EOF"), strings.Contains(text, "error reading from server"),
		strings.Contains(text, "transport is closing"), strings.Contains(text, "client connection is closing"):
		return failure.Unreachable, "the connection was cut: the server is restarting, something on the way closes it, or the cluster doesn't take this identity or this version of rollcall any more (its log tells)"
	default:
		return failure.Other, ""
	}
}

// byType goes by the class that the server gave its error.
func byType(err error) (failure.Kind, string) {
	detail := oneLine(err)
	code := status.Code(trace.Unwrap(err))
	switch {
	case trace.IsAccessDenied(err) && detail == "access denied":
		return failure.Refused, "access denied, and the cluster doesn't say why: the bot is locked (`tctl get locks`), was deleted (`tctl bots ls`), or its roles don't allow this"
	case trace.IsAccessDenied(err), code == codes.PermissionDenied, code == codes.Unauthenticated:
		return failure.Refused, "access denied (" + detail + "): check the bot's roles, and that the bot still exists"
	case trace.IsNotFound(err), code == codes.NotFound:
		return failure.NotFound, detail
	case trace.IsAlreadyExists(err), code == codes.AlreadyExists:
		return failure.Conflict, detail
	case trace.IsNotImplemented(err), code == codes.Unimplemented:
		return failure.Refused, "the server doesn't know this request (" + detail + "): its version doesn't support it"
	case trace.IsLimitExceeded(err), code == codes.ResourceExhausted:
		return failure.Transient, "the cluster limits how often it may be asked (" + detail + ")"
	case trace.IsCompareFailed(err), trace.IsRetryError(err), code == codes.FailedPrecondition, code == codes.Aborted:
		return failure.Transient, detail
	case trace.IsBadParameter(err), code == codes.InvalidArgument:
		return failure.Refused, "the cluster rejects the request (" + detail + ")"
	case trace.IsConnectionProblem(err), code == codes.Unavailable:
		return failure.Unreachable, "the cluster can't be reached (" + detail + ")"
	default:
		return failure.Other, ""
	}
}

// dialled names the address that a dial error speaks of, if it does.
func dialled(text string) string {
	_, rest, ok := strings.Cut(text, "dial tcp ")
	if !ok {
		return ""
	}
	addr, _, ok := strings.Cut(rest, ": ")
	if !ok || strings.ContainsAny(addr, " \n") {
		return ""
	}
	return " (" + addr + ")"
}

// oneLine is the error's text without the line breaks that trace puts between a
// message and its cause.
func oneLine(err error) string {
	var parts []string
	for line := range strings.Lines(trace.UserMessage(err)) {
		if line = strings.TrimSpace(line); line != "" {
			parts = append(parts, strings.TrimSuffix(line, ":"))
		}
	}
	text := strings.Join(parts, ": ")
	const longest = 400
	if len(text) > longest {
		text = strings.ToValidUTF8(text[:longest], "") + "…"
	}
	return text
}

// lastClause is what stands behind the last "x509: ".
func lastClause(text string) string {
	at := strings.LastIndex(text, "x509: ")
	if at < 0 {
		return text
	}
	line, _, _ := strings.Cut(text[at+len("x509: "):], "\n")
	return strings.Trim(line, `" `)
}

// withoutSecrets takes the join token out of an error that quotes it, text and
// cause: a server may repeat what it was sent.
func withoutSecrets(err error, req JoinRequest) error {
	quotes := func(secret string) bool { return secret != "" && strings.Contains(errorTexts(err), secret) }
	token := req.Method == JoinMethodToken && quotes(req.Token)
	if !token && !quotes(req.IDToken) {
		return trace.Wrap(err)
	}
	replace := strings.NewReplacer(req.Token, "[token]")
	if req.IDToken != "" {
		replace = strings.NewReplacer(req.Token, "[token]", req.IDToken, "[token]")
	}
	return failure.New(failure.KindOf(err), "%s", replace.Replace(err.Error()))
}

// errorTexts is every text in an error's chain.
func errorTexts(err error) string {
	var texts strings.Builder
	for ; err != nil; err = errors.Unwrap(err) {
		texts.WriteString(err.Error())
		texts.WriteByte('\n')
	}
	return texts.String()
}
