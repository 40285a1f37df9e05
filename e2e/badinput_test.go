package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rollcall/e2e/harness"
)

// Exit codes, as the README's table has them.
const (
	exitConfiguration = 1
	exitPartial       = 2
	exitRefused       = 3
	exitUnreachable   = 4
	exitStorage       = 5
)

// mistake is one bad input.
type mistake struct {
	// config is the file, and secrets what must never be printed.
	config  string
	secrets []string
	// env is the whole environment but PATH and HOME; nil: the proxy's CA is
	// trusted.
	env []string
	// after checks what else must (not) have happened; may be nil.
	after func(t *testing.T)
}

// TestBadInput makes every mistake that the cluster, the network or the host
// can answer, and reads what the agent says: one sentence that names the
// remedy, and the exit code of the class. Mistakes in the file itself are
// config's golden files.
func TestBadInput(t *testing.T) {
	t.Parallel()
	// A cluster of its own, since a proxy limits how often one address may ask:
	// 480 requests at once, then 120 a minute.
	cluster := suite.NewCluster(t, harness.ClusterOptions{})
	for _, tt := range []struct {
		name string
		make func(t *testing.T, s *stage) mistake
		code int
		// says is what the sentence must hold: what is wrong, what to do.
		says []string
		// patient: `start` goes on in place of ending, since time may mend it.
		patient bool
	}{
		{"wrong token", wrongToken, exitRefused,
			[]string{"the join token is unknown to the cluster, has expired or was used already", "make a new token (`tctl bots add NAME`"}, false},
		{"used token", usedToken, exitRefused,
			[]string{"used already", "`tctl bots add NAME`"}, false},
		{"token of another method", otherMethod, exitConfiguration,
			[]string{"the join token is for the kubernetes method", "set onboarding.join_method: kubernetes"}, false},
		{"wrong pin", wrongPin, exitUnreachable,
			[]string{"which ca_pins doesn't list", "take the new pin from `tctl status`"}, false},
		{"wrong authority", wrongAuthority, exitUnreachable,
			[]string{"wasn't issued by the authority in ca_path", "export it again"}, false},
		{"expired ServiceAccount token", expiredServiceAccount, exitRefused,
			[]string{"the ServiceAccount token has expired", "mount a projected ServiceAccount token", "onboarding.kubernetes.token_path"}, false},
		{"wrong audience", wrongAudience, exitRefused,
			[]string{"the ServiceAccount token was made for another audience", "to the Teleport cluster's name"}, false},
		{"another ServiceAccount", otherServiceAccount, exitRefused,
			[]string{"the join token doesn't allow this ServiceAccount", "spec.kubernetes.allow"}, false},
		{"another issuer", otherIssuer, exitRefused,
			[]string{"the ServiceAccount token's signature doesn't match", "static_jwks"}, false},
		{"ServiceAccount token missing", missingServiceAccount, exitConfiguration,
			[]string{"the ServiceAccount token can't be read from /nowhere/token (no such file or directory)", "check the path"}, false},
		{"unknown authority of the proxy", unknownAuthority, exitUnreachable,
			[]string{"the server's certificate comes from an unknown authority", "set proxy_ca (or the environment variable SSL_CERT_FILE)"}, false},
		{"unknown authority of an auth_server that is a proxy", unknownAuthorityInDisguise, exitUnreachable,
			[]string{"comes from an unknown authority, and nothing says whom to trust", "set proxy_ca (or SSL_CERT_FILE)"}, false},
		{"no trust for a direct Auth Service", noTrust, exitUnreachable,
			[]string{"nothing says whom to trust", "if it's an Auth Service, set ca_pins (`tctl status` shows the pin) or ca_path"}, false},
		{"Auth Service given as proxy", authAsProxy, exitUnreachable,
			[]string{"as an Auth Service does", "set auth_server to it in place of proxy_server"}, false},
		{"another server", otherServer, exitConfiguration,
			[]string{"isn't a Teleport proxy", "check proxy_server's address and port"}, false},
		{"closed port", closedProxy, exitUnreachable,
			[]string{"the connection was refused", "check the address and the port"}, true},
		{"closed port of an Auth Service", closedAuth, exitUnreachable,
			[]string{"the connection was refused", "check the address and the port"}, true},
		{"unresolvable name", unresolvable, exitUnreachable,
			[]string{"the host name no-such-host.invalid can't be resolved", "check its spelling"}, true},
		{"cluster too new", tooNew, exitRefused,
			[]string{"the cluster runs Teleport 20.0.1, which is too new", "Install a newer rollcall"}, false},
		{"token file missing", missingTokenFile, exitConfiguration,
			[]string{"the join token can't be read from /nowhere/token (no such file or directory)", "check the path"}, false},
		{"credential absent", absentCredential, exitConfiguration,
			[]string{`the systemd credential "bot-token" was asked for, but CREDENTIALS_DIRECTORY isn't set`, "with LoadCredential=bot-token:/path/of/the/file"}, false},
		{"storage in use", storageInUse, exitStorage,
			[]string{"is in use by another process (rollcall or tbot)", "stop it, or give each agent a storage of its own"}, false},
		{"storage is a file", storageIsFile, exitStorage,
			[]string{"isn't a directory, or goes through a file", "give a directory"}, false},
		{"storage open to others", storageOpen, exitStorage,
			[]string{"can be written by others (mode 0777)", "chmod 0700"}, false},
		{"storage cut short", storageTorn, exitStorage,
			[]string{"the stored identity", "is unusable", "move it away and give the bot a new token"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newStageOn(t, cluster)
			m := tt.make(t, s)
			for _, flags := range [][]string{{"--oneshot"}, {"--oneshot", "--log-format", "json"}, {}, {"--debug"}} {
				once := len(flags) > 0 && flags[0] == "--oneshot"
				agent := s.startMistake(t, m, flags...)
				if tt.patient && !once {
					staysUp(t, agent, tt.says)
				} else {
					result := agent.Wait(t)
					require.Equal(t, tt.code, result.ExitCode, "exit code with %v", flags)
				}
				readMessage(t, agent, m, tt.says, flags)
			}
			if m.after != nil {
				m.after(t)
			}
		})
	}
}

// startMistake starts the agent in the mistake's environment.
func (s *stage) startMistake(t *testing.T, m mistake, flags ...string) *harness.Process {
	t.Helper()
	args := append([]string{"start", "-c", m.config}, flags...)
	if m.env != nil {
		return suite.Start(t, harness.Command{Path: suite.Bin.Rollcall, Args: args, Env: m.env})
	}
	return s.cluster.Rollcall(t, args...)
}

// staysUp waits until the agent has said what is wrong and that it will try
// again, and then stops it, which is a success.
func staysUp(t *testing.T, agent *harness.Process, says []string) {
	t.Helper()
	agent.WaitForLog(t, patience, says[0])
	agent.WaitForLog(t, patience, "next_attempt=")
	// Two attempts: it really tries again.
	agent.WaitFor(t, patience, "a second attempt", func() error {
		if n := strings.Count(agent.Stderr.String(), says[0]); n < 2 {
			return fmt.Errorf("%d so far", n)
		}
		return nil
	})
	stop(t, agent)
}

// notForUsers are traces of the program itself, which say nothing to the one
// who reads at night.
var notForUsers = regexp.MustCompile(`goroutine \d|\.go:\d|panic|\*?\b(trace|errors|failure|fmt|x509|tls|net|grpc|status)\.[A-Z]|rpc error|%!|<nil>|&\{`)

// readMessage reads what was printed.
func readMessage(t *testing.T, agent *harness.Process, m mistake, says, flags []string) {
	t.Helper()
	printed := agent.Stdout.String() + agent.Stderr.String()
	for _, secret := range m.secrets {
		require.NotEmpty(t, secret)
		require.NotContains(t, printed, secret, "a secret, with %v", flags)
	}
	var told []string
	for line := range strings.Lines(agent.Stderr.String()) {
		if strings.Contains(line, says[0]) || strings.Contains(line, strings.ReplaceAll(says[0], `"`, `\"`)) {
			told = append(told, line)
		}
	}
	require.NotEmpty(t, told, "nothing says %q:\n%s", says[0], agent.Stderr.String())
	for _, part := range says {
		require.Contains(t, strings.ReplaceAll(told[0], `\"`, `"`), part)
	}
	require.Regexp(t, `level=ERROR|"level":"ERROR"`, told[0])
	if slices.Contains(flags, "--debug") {
		return // causes, with their places in the source, are what --debug is for
	}
	if len(told) > 1 {
		require.Contains(t, told[1], "next_attempt=", "it's said once an attempt")
	}
	require.NotRegexp(t, notForUsers, printed)
	if strings.HasPrefix(told[0], "{") {
		require.Regexp(t, `"kind":"[a-z_]+"`, told[0], "a word, not a number")
	}
	if len(flags) == 1 && strings.Contains(agent.Stdout.String(), "RESULT") {
		require.Regexp(t, `(?m)^identity +failed +.*`+regexp.QuoteMeta(says[0]), agent.Stdout.String())
		require.Regexp(t, `(?m)^out +skipped .*not tried, because identity failed`, agent.Stdout.String())
	}
}

func wrongToken(t *testing.T, s *stage) mistake {
	const token = "0123456789abcdef0123456789abcdef"
	return mistake{config: s.document(t, document{onboarding: "{join_method: token, token: " + token + "}"}), secrets: []string{token}}
}

func usedToken(t *testing.T, s *stage) mistake {
	s.oneshot(t, s.document(t, document{}))
	// Another host, or the same one after its storage was lost.
	require.NoError(t, os.RemoveAll(s.storage()))
	return mistake{config: s.document(t, document{}), secrets: []string{s.bot.Token}}
}

func otherMethod(t *testing.T, s *stage) mistake {
	name, _, _ := kubernetesToken(t, s)
	return mistake{config: s.document(t, document{onboarding: "{join_method: token, token: " + name + "}"})}
}

func wrongPin(t *testing.T, s *stage) mistake {
	return mistake{
		config: s.document(t, document{
			server:     "auth_server: " + s.cluster.Info().AuthAddr,
			onboarding: fmt.Sprintf("{join_method: token, token: %s, ca_pins: ['sha256:%064x']}", s.bot.Token, 7),
		}),
		secrets: []string{s.bot.Token},
		after:   func(t *testing.T) { stillGood(t, s) },
	}
}

func wrongAuthority(t *testing.T, s *stage) mistake {
	return mistake{
		config: s.document(t, document{
			server:     "auth_server: " + s.cluster.Info().AuthAddr,
			onboarding: fmt.Sprintf("{join_method: token, token: %s, ca_path: %s}", s.bot.Token, s.cluster.Info().ProxyCA),
		}),
		secrets: []string{s.bot.Token},
		after:   func(t *testing.T) { stillGood(t, s) },
	}
}

// stillGood shows that the token went to nobody: it still works.
func stillGood(t *testing.T, s *stage) {
	t.Helper()
	s.oneshot(t, s.document(t, document{}))
}

func expiredServiceAccount(t *testing.T, s *stage) mistake {
	return serviceAccountMistake(t, s, func(a *harness.ServiceAccount) {
		a.IssuedAt = time.Now().Add(-40 * time.Minute)
		a.Expires = a.IssuedAt.Add(10 * time.Minute)
	})
}

func wrongAudience(t *testing.T, s *stage) mistake {
	return serviceAccountMistake(t, s, func(a *harness.ServiceAccount) { a.Audience = "https://kubernetes.default.svc" })
}

func otherServiceAccount(t *testing.T, s *stage) mistake {
	return serviceAccountMistake(t, s, func(a *harness.ServiceAccount) { a.Name = "somebody" })
}

func otherIssuer(t *testing.T, s *stage) mistake {
	m := serviceAccountMistake(t, s, func(*harness.ServiceAccount) {})
	// The same claims, signed by somebody else.
	stranger := harness.NewFakeServiceAccountIssuer(t).Mint(t, harness.ServiceAccount{
		Namespace: "apps", Name: "agent", Audience: s.cluster.Info().ClusterName,
	})
	path := filepath.Join(s.dir, "service-account")
	require.NoError(t, os.WriteFile(path, []byte(stranger), 0o600))
	m.secrets = []string{stranger}
	return m
}

// serviceAccountMistake joins by a ServiceAccount token that is right but for
// what change does.
func serviceAccountMistake(t *testing.T, s *stage, change func(*harness.ServiceAccount)) mistake {
	t.Helper()
	issuer := harness.NewFakeServiceAccountIssuer(t)
	name := harness.Unique(t, "kube")
	s.cluster.CreateKubernetesToken(t, name, s.bot, issuer, "apps:agent")
	account := harness.ServiceAccount{Namespace: "apps", Name: "agent", Audience: s.cluster.Info().ClusterName}
	change(&account)
	jwt := issuer.Mint(t, account)
	path := filepath.Join(s.dir, "service-account")
	require.NoError(t, os.WriteFile(path, []byte(jwt), 0o600))
	onboarding := fmt.Sprintf("{join_method: kubernetes, token: %s, kubernetes: {token_path: %s}}", name, path)
	return mistake{config: s.document(t, document{onboarding: onboarding}), secrets: []string{jwt}}
}

func missingServiceAccount(t *testing.T, s *stage) mistake {
	return mistake{config: s.document(t, document{
		onboarding: "{join_method: kubernetes, token: some-name, kubernetes: {token_path: /nowhere/token}}",
	})}
}

func unknownAuthority(t *testing.T, s *stage) mistake {
	return mistake{
		config: s.document(t, document{}), secrets: []string{s.bot.Token}, env: []string{"LC_ALL=C"},
		after: func(t *testing.T) { stillGood(t, s) },
	}
}

func unknownAuthorityInDisguise(t *testing.T, s *stage) mistake {
	return mistake{
		config:  s.document(t, document{server: "auth_server: " + s.cluster.Info().ProxyAddr}),
		secrets: []string{s.bot.Token}, env: []string{"LC_ALL=C"},
	}
}

func noTrust(t *testing.T, s *stage) mistake {
	return mistake{
		config:  s.document(t, document{server: "auth_server: " + s.cluster.Info().AuthAddr}),
		secrets: []string{s.bot.Token},
		after:   func(t *testing.T) { stillGood(t, s) },
	}
}

func authAsProxy(t *testing.T, s *stage) mistake {
	return mistake{
		config:  s.document(t, document{server: "proxy_server: " + s.cluster.Info().AuthAddr}),
		secrets: []string{s.bot.Token},
	}
}

func otherServer(t *testing.T, s *stage) mistake {
	addr, ca := newPlainServer(t)
	return mistake{
		config: s.document(t, document{
			server: "proxy_server: " + addr, more: "proxy_ca: " + suite.WriteFile(t, "ca.pem", ca),
		}),
		secrets: []string{s.bot.Token},
	}
}

func closedProxy(t *testing.T, s *stage) mistake {
	return mistake{config: s.document(t, document{server: "proxy_server: " + closedPort(t)}), secrets: []string{s.bot.Token}}
}

func closedAuth(t *testing.T, s *stage) mistake {
	return mistake{
		config: s.document(t, document{
			server:     "auth_server: " + closedPort(t),
			onboarding: fmt.Sprintf("{join_method: token, token: %s, ca_pins: ['%s']}", s.bot.Token, s.cluster.Info().CAPin),
		}),
		secrets: []string{s.bot.Token},
	}
}

func unresolvable(t *testing.T, s *stage) mistake {
	return mistake{config: s.document(t, document{server: "proxy_server: no-such-host.invalid:443"}), secrets: []string{s.bot.Token}}
}

func tooNew(t *testing.T, s *stage) mistake {
	fake := newFakeV20Proxy(t)
	return mistake{
		config: s.document(t, document{
			server: "proxy_server: " + fake.Addr, more: "proxy_ca: " + suite.WriteFile(t, "ca.pem", fake.CA),
		}),
		secrets: []string{s.bot.Token},
		after:   func(t *testing.T) { require.Empty(t, fake.Others(), "nothing but the version was asked") },
	}
}

func missingTokenFile(t *testing.T, s *stage) mistake {
	return mistake{config: s.document(t, document{onboarding: "{join_method: token, token: /nowhere/token}"})}
}

func absentCredential(t *testing.T, s *stage) mistake {
	return mistake{config: s.document(t, document{onboarding: "{join_method: token, token: 'credential:bot-token'}"})}
}

func storageInUse(t *testing.T, s *stage) mistake {
	config := s.document(t, document{})
	first := s.start(t, config)
	s.awaitFile(t, first, "out")
	return mistake{
		config: config, secrets: []string{s.bot.Token},
		after: func(t *testing.T) { stop(t, first) },
	}
}

func storageIsFile(t *testing.T, s *stage) mistake {
	require.NoError(t, os.WriteFile(s.storage(), nil, 0o600))
	return mistake{config: s.document(t, document{}), secrets: []string{s.bot.Token}}
}

func storageOpen(t *testing.T, s *stage) mistake {
	require.NoError(t, os.Mkdir(s.storage(), 0o700))
	require.NoError(t, os.Chmod(s.storage(), 0o777))
	return mistake{config: s.document(t, document{}), secrets: []string{s.bot.Token}}
}

func storageTorn(t *testing.T, s *stage) mistake {
	config := s.document(t, document{})
	s.oneshot(t, config)
	path := filepath.Join(s.storage(), "identity.json")
	whole := read(t, path)
	require.NoError(t, os.WriteFile(path, []byte(whole[:len(whole)/2]), 0o600))
	key := regexp.MustCompile(`MII?[A-Za-z0-9+/]{20,}|BEGIN [A-Z ]*PRIVATE KEY`).FindString(whole)
	return mistake{config: config, secrets: []string{s.bot.Token, key}}
}

func read(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	return strings.TrimSpace(string(content))
}
