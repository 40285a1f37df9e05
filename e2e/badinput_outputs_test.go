package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rollcall/e2e/harness"
)

// mixedOutputs are a good one, one for an application that isn't there, one
// with a role that isn't there, and one with a role that the bot may not assume.
func (s *stage) mixedOutputs(t *testing.T) string {
	role := harness.Unique(t, "others")
	s.cluster.CreateAppRole(t, role, map[string]string{"team": "others"})
	return s.document(t, document{outputs: s.application("good", "") +
		s.output("application", "missing", "app_name: no-such-app,") +
		s.application("roleless", "roles: [no-such-role],") +
		s.application("forbidden", "roles: ["+role+"],")})
}

// What each of the bad ones says, and what to do.
var badOutputs = map[string]string{
	"missing":   `application .*no-such-app.* was not found: check that it's registered and served \(tctl get apps\), and that the bot's roles .* may see it`,
	"roleless":  `role no-such-role is not found: create it .* or correct the output's roles`,
	"forbidden": `the bot may not assume the roles that this output asks for .*others.*: add them to the bot`,
}

func TestOneshotTellsWhichOutputFailed(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	config := s.mixedOutputs(t)

	agent := s.cluster.Rollcall(t, "start", "-c", config, "--oneshot")
	require.Equal(t, exitPartial, agent.Wait(t).ExitCode)

	table := agent.Stdout.String()
	require.Regexp(t, `(?m)^NAME +RESULT +EXPIRES +TOOK +ERROR$`, table)
	require.Regexp(t, `(?m)^identity +ok `, table)
	require.Regexp(t, `(?m)^good +ok +\d{4}-\d\d-\d\d `, table)
	require.NotRegexp(t, notForUsers, table+agent.Stderr.String())
	for name, says := range badOutputs {
		require.Regexp(t, `(?m)^`+name+` +failed +- .*`+says, table)
		require.Len(t, regexp.MustCompile(`level=(WARN|ERROR).* output=`+name).FindAllString(agent.Stderr.String(), -1), 1)
		require.NoFileExists(t, filepath.Join(s.place(name), "tlscert"))
	}
	s.fetches(t, "good")
	t.Log("\n" + table)
	t.Log("\n" + agent.Stderr.String())

	agent = s.cluster.Rollcall(t, "start", "-c", config, "--oneshot", "--format", "json")
	require.Equal(t, exitPartial, agent.Wait(t).ExitCode)
	var answer struct {
		OK       bool
		Services []struct{ Name, Result, Kind, Error string }
	}
	require.NoError(t, json.Unmarshal([]byte(agent.Stdout.String()), &answer))
	require.False(t, answer.OK)
	results := make(map[string]string)
	for _, service := range answer.Services {
		results[service.Name] = service.Result + " " + service.Kind
	}
	require.Equal(t, map[string]string{
		"identity": "ok ", "good": "ok ", "missing": "failed not_found", "roleless": "failed not_found", "forbidden": "failed refused",
	}, results)
}

func TestStartGoesOnBesideFailedOutputs(t *testing.T) {
	t.Parallel()
	s := newStage(t)

	agent := s.start(t, s.mixedOutputs(t))

	s.awaitFile(t, agent, "good")
	agent.WaitFor(t, patience, "what the failed outputs say", func() error {
		for name, says := range badOutputs {
			if !regexp.MustCompile(`level=(WARN|ERROR) .*output=` + name + ` .*` + says + `.* retry_in=`).MatchString(agent.Stderr.String()) {
				return fmt.Errorf("nothing of %s", name)
			}
		}
		return nil
	})
	s.fetches(t, "good")
	stop(t, agent)
}

func TestStorageThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	require.NoError(t, os.Mkdir(s.storage(), 0o500))
	config := s.document(t, document{})
	for _, flags := range [][]string{nil, {"--oneshot"}} {
		command := harness.Command{Path: suite.Bin.Rollcall, Args: append([]string{"start", "-c", config}, flags...)}
		if os.Geteuid() == 0 {
			// Modes mean nothing to root with these capabilities.
			command.Args = append([]string{"--bounding-set", "-dac_override,-dac_read_search", command.Path}, command.Args...)
			command.Path = "/usr/bin/setpriv"
		}
		agent := s.cluster.Run(t, command)
		require.Equal(t, exitStorage, agent.Wait(t).ExitCode)
		readMessage(t, agent, mistake{secrets: []string{s.bot.Token}},
			[]string{"isn't writable (permission denied)", "check its owner, mode and file system"}, flags)
	}
	require.NoError(t, os.Chmod(s.storage(), 0o700))
	stillGood(t, s)
}

func TestStorageThatOthersCanList(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	require.NoError(t, os.Mkdir(s.storage(), 0o700))
	require.NoError(t, os.Chmod(s.storage(), 0o755))

	agent := s.oneshot(t, s.document(t, document{}))

	require.Contains(t, agent.Stderr.String(), "The storage directory can be listed by others; its files can't be read by them. Consider chmod 0700.")
	entries, err := os.ReadDir(s.storage())
	require.NoError(t, err)
	require.NotEmpty(t, entries)
	for _, entry := range entries {
		info, err := entry.Info()
		require.NoError(t, err)
		require.Zero(t, info.Mode().Perm()&0o077, entry.Name())
	}
}

// TestWithoutAFile runs on the command line and the environment alone, in our
// words and in the official agent's.
func TestWithoutAFile(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		make func(t *testing.T, s *stage) (env, args []string)
	}{
		{"flags", func(_ *testing.T, s *stage) (env, args []string) {
			return nil, []string{"start", "--proxy-server", s.cluster.Info().ProxyAddr, "--proxy-ca", s.cluster.Info().ProxyCA,
				"--join-method=token", "--token", s.bot.Token, "--storage", s.storage(), "--destination-dir", s.place("ssh"),
				"--credential-ttl=30m", "--renewal-interval=5m", "--oneshot"}
		}},
		{"the official agent's flags", func(_ *testing.T, s *stage) (env, args []string) {
			return nil, []string{"start", "-a", s.cluster.Info().AuthAddr, "--ca-pin", s.cluster.Info().CAPin,
				"--join-method=token", "--token=" + s.bot.Token, "--data-dir=" + s.storage(), "--destination-dir=" + s.place("ssh"),
				"--certificate-ttl=30m", "--renewal-interval=5m", "--oneshot"}
		}},
		{"environment", func(_ *testing.T, s *stage) (env, args []string) {
			return []string{"TELEPORT_PROXY=" + s.cluster.Info().ProxyAddr, "TELEPORT_BOT_TOKEN=" + s.bot.Token},
				[]string{"start", "--join-method=token", "--storage=" + s.storage(), "--destination-dir=" + s.place("ssh"),
					"--credential-ttl=30m", "--renewal-interval=5m", "--oneshot"}
		}},
		{"environment with the Auth Service", func(_ *testing.T, s *stage) (env, args []string) {
			return []string{"TELEPORT_AUTH_SERVER=" + s.cluster.Info().AuthAddr, "TELEPORT_BOT_TOKEN=" + s.bot.Token},
				[]string{"start", "--ca-pin=" + s.cluster.Info().CAPin, "--storage=" + s.storage(), "--destination-dir=" + s.place("ssh"),
					"--credential-ttl=30m", "--renewal-interval=5m", "--oneshot"}
		}},
		{"the file's name from the environment", func(t *testing.T, s *stage) (env, args []string) {
			return []string{"TBOT_CONFIG_PATH=" + s.identityOnly(t)}, []string{"start", "--oneshot"}
		}},
		{"the file before the command", func(t *testing.T, s *stage) (env, args []string) {
			return nil, []string{"-c", s.identityOnly(t), "start", "--oneshot"}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			env, args := tt.make(t, s)

			agent := s.cluster.Run(t, harness.Command{Path: suite.Bin.Rollcall, Args: args, Env: env})
			agent.Succeed(t)

			cert, err := certificate(filepath.Join(s.place("ssh"), "tlscert"))
			require.NoError(t, err)
			require.LessOrEqual(t, cert.NotAfter.Sub(cert.NotBefore).Minutes(), 32.0, "the TTL that was asked for")
			require.FileExists(t, filepath.Join(s.storage(), "identity.json"))
			require.NotContains(t, agent.Stdout.String()+agent.Stderr.String(), s.bot.Token)
		})
	}
}

func (s *stage) identityOnly(t *testing.T) string {
	return s.document(t, document{times: "credential_ttl: 30m\nrenewal_interval: 5m", outputs: strings.TrimSpace(s.output("identity", "ssh", ""))})
}
