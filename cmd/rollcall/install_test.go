package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"rollcall/systemd"
)

const systemdConfig = `version: v2
proxy_server: teleport.example.com:443
onboarding: {join_method: token, token: 'credential:join'}
storage: {type: directory, path: /var/lib/bot}
outputs:
  - {type: application, app_name: grafana, destination: {type: directory, path: /nonexistent/grafana}}
  - {type: identity, destination: {type: memory}}
`

func TestInstallPrintsTheUnitInTheRepository(t *testing.T) {
	for _, file := range []string{"/etc/rollcall.yaml", "/etc/systemd/system/rollcall.service"} {
		if _, err := os.Stat(file); err == nil {
			t.Skipf("this host has an agent: %s is read", file)
		}
	}
	code, stdout, stderr := runLine(t, nil, "install", "systemd", "--binary=/usr/local/bin/rollcall")
	require.Zero(t, code, stderr)
	require.Equal(t, systemd.DefaultUnit().Text(), stdout)
	require.Contains(t, stderr, "Nothing was changed.")
	require.Contains(t, stderr, "/etc/systemd/system/rollcall.service")
	require.Contains(t, stderr, "run systemctl daemon-reload")
}

func TestInstallReadsTheConfiguration(t *testing.T) {
	file := configFile(t, systemdConfig)
	code, stdout, stderr := runLine(t, nil, "install", "systemd", "-c", file, "--name=bot", "--user=nobody", "--group=daemon", "--token-file=/etc/join")
	require.Zero(t, code, stderr)
	require.Contains(t, stdout, "\nUser=nobody\nGroup=daemon\n")
	require.Contains(t, stdout, "start -c "+file+"\n")
	require.Contains(t, stdout, "\nStateDirectory=bot\n")
	require.Contains(t, stdout, "\nRuntimeDirectory=bot\n")
	require.Contains(t, stdout, "\nReadWritePaths=-/nonexistent/grafana\n")
	require.Contains(t, stdout, "\nLoadCredential=join:/etc/join\nSetCredential=join:unset\n")
	require.Contains(t, stderr, "/nonexistent/grafana doesn't exist")
	require.NotContains(t, stderr, "sysusers", "the user is there")
}

func TestInstallWrites(t *testing.T) {
	file, root := configFile(t, systemdConfig), t.TempDir()
	install := func(more ...string) (int, string, string) {
		return runLine(t, nil, append([]string{"install", "systemd", "-c", file, "--root", root, "--user=bot", "--group=bots"}, more...)...)
	}
	unit := filepath.Join(root, "etc/systemd/system/rollcall.service")

	code, stdout, stderr := install()
	require.Zero(t, code, stderr)
	require.NoFileExists(t, unit, "it only prints")

	code, stdout, stderr = install("--write")
	require.Zero(t, code, stderr)
	require.Contains(t, stdout, "Wrote "+unit)
	text, err := os.ReadFile(unit)
	require.NoError(t, err)
	require.Contains(t, string(text), "\nUser=bot\nGroup=bots\n")
	info, err := os.Stat(unit)
	require.NoError(t, err)
	require.EqualValues(t, 0o644, info.Mode())
	users, err := os.ReadFile(filepath.Join(root, "etc/sysusers.d/rollcall.conf"))
	require.NoError(t, err)
	require.Contains(t, string(users), "u bot - \"rollcall agent\" /nonexistent -\ng bots -\nm bot bots\n")

	code, stdout, _ = install("--write")
	require.Zero(t, code)
	require.Contains(t, stdout, unit+" is as it should be")

	require.NoError(t, os.WriteFile(unit, []byte("mine"), 0o644))
	code, _, stderr = install("--write")
	require.Equal(t, exitConfiguration, code)
	require.Contains(t, stderr, "is there and differs")
	text, err = os.ReadFile(unit)
	require.NoError(t, err)
	require.Equal(t, "mine", string(text))

	code, stdout, _ = install("--write", "--force")
	require.Zero(t, code)
	require.Contains(t, stdout, "Wrote "+unit)
	leftovers, err := filepath.Glob(filepath.Join(filepath.Dir(unit), ".*"))
	require.NoError(t, err)
	require.Empty(t, leftovers)
}

// TestInstallKeepsTheUser: whoever runs it again, for another output or a hook,
// needn't know the flags of the first time.
func TestInstallKeepsTheUser(t *testing.T) {
	file, root := configFile(t, systemdConfig), t.TempDir()
	install := func(more ...string) (string, string) {
		code, stdout, stderr := runLine(t, nil, append([]string{"install", "systemd", "-c", file, "--root", root}, more...)...)
		require.Zero(t, code, stderr)
		return stdout, stderr
	}
	_, stderr := install("--user=bot", "--group=bots", "--token-file=/etc/join", "--write")
	require.NotContains(t, stderr, "of the unit that is there")

	stdout, stderr := install()
	require.Contains(t, stdout, "\nUser=bot\nGroup=bots\n")
	require.Contains(t, stdout, "\nLoadCredential=join:/etc/join\n")
	require.Contains(t, stderr, "the user bot is that of the unit that is there; --user names another.")
	stdout, _ = install("--write")
	require.Contains(t, stdout, "rollcall.service is as it should be")

	stdout, stderr = install("--user=other", "--token-file=/etc/other")
	require.Contains(t, stdout, "\nUser=other\nGroup=other\n")
	require.Contains(t, stdout, "\nLoadCredential=join:/etc/other\n")
	require.NotContains(t, stderr, "of the unit that is there")
	stdout, _ = install("--group=others")
	require.Contains(t, stdout, "\nUser=bot\nGroup=others\n")
	stdout, _ = install("--user=bot")
	require.Contains(t, stdout, "\nUser=bot\nGroup=bots\n", "it's the same user")
	stdout, _ = install("--name=second")
	require.Contains(t, stdout, "\nUser=rollcall\n", "it's another agent's unit")
}

// TestInstallKeepsTheProgram: this one may lie in a directory for trying it out.
func TestInstallKeepsTheProgram(t *testing.T) {
	file, root := configFile(t, systemdConfig), t.TempDir()
	install := func(more ...string) (string, string) {
		code, stdout, stderr := runLine(t, nil, append([]string{"install", "systemd", "-c", file, "--root", root}, more...)...)
		require.Zero(t, code, stderr)
		return stdout, stderr
	}
	_, stderr := install("--binary=/opt/rollcall", "--write")
	require.NotContains(t, stderr, "of the unit that is there")

	stdout, stderr := install()
	require.Contains(t, stdout, "\nExecStart=/opt/rollcall start -c ")
	require.Contains(t, stderr, "the program /opt/rollcall is that of the unit that is there; --binary names another.")
	stdout, stderr = install("--binary=/opt/other")
	require.Contains(t, stdout, "\nExecStart=/opt/other start -c ")
	require.NotContains(t, stderr, "of the unit that is there")
}

// TestInstallReplacesAProgramThatIsGone: a unit that can't start it helps nobody.
func TestInstallReplacesAProgramThatIsGone(t *testing.T) {
	own, err := os.Executable()
	require.NoError(t, err)
	i := installation{earlier: systemd.Earlier{Binary: "/nonexistent/rollcall"}}

	require.NoError(t, i.setBinary())

	require.Equal(t, own, i.unit.Binary)
	require.Equal(t, []string{"the program of the unit that is there, /nonexistent/rollcall, doesn't exist: the unit starts " + own + " from now on."}, i.notes)
}

// TestInstallTellsOfQuotes: what it can't keep, it doesn't drop silently.
func TestInstallTellsOfQuotes(t *testing.T) {
	file, root := configFile(t, systemdConfig), t.TempDir()
	install := func(more ...string) string {
		code, _, stderr := runLine(t, nil, append([]string{"install", "systemd", "-c", file, "--root", root}, more...)...)
		require.Zero(t, code, stderr)
		return stderr
	}
	install("--token-file=/etc/it's", "--binary=/opt/my tools/rollcall", "--write")
	const token, program = "LoadCredential= of the unit that is there is in quotes", "ExecStart= of the unit that is there is in quotes"

	stderr := install()
	require.Contains(t, stderr, token+", and isn't kept: give it with --token-file")
	require.Contains(t, stderr, program+", and isn't kept: give it with --binary")
	stderr = install("--token-file=/etc/it's", "--binary=/opt/my tools/rollcall")
	require.NotContains(t, stderr, token)
	require.NotContains(t, stderr, program)
}

// TestInstallSaysWhereANameIsFrom: nobody gave it on this command line.
func TestInstallSaysWhereANameIsFrom(t *testing.T) {
	file, root := configFile(t, systemdConfig), t.TempDir()
	run := func(more ...string) (int, string) {
		code, _, stderr := runLine(t, nil, append([]string{"install", "systemd", "-c", file, "--root", root}, more...)...)
		return code, stderr
	}
	unit := filepath.Join(root, "etc/systemd/system/rollcall.service")
	require.NoError(t, os.MkdirAll(filepath.Dir(unit), 0o755))
	for flag, options := range map[string]systemd.UnitOptions{
		"--user":  {Name: "rollcall", User: "Ops.Bot", Group: "ops"},
		"--group": {Name: "rollcall", User: "ops", Group: "Ops.Bots"},
	} {
		require.NoError(t, os.WriteFile(unit, []byte(options.Text()), 0o644))

		code, stderr := run()
		require.Equal(t, exitConfiguration, code)
		require.Contains(t, stderr, "The name is from the unit that is there, "+unit+"; "+flag+" replaces it")
		code, stderr = run(flag + "=bot")
		require.Zero(t, code, stderr)
	}
}

const hookedConfig = systemdConfig + `  - type: identity
    destination: {type: directory, path: /nonexistent/identity}
    on_renewal: [{reload_unit: nginx.service}, {restart_unit: legacy.service}, {reload_unit: nginx.service}]
`

// TestInstallShowsWhatIsRead: a unit that hides a hook's program, or the proxy's
// authority, would be of no use.
func TestInstallShowsWhatIsRead(t *testing.T) {
	install := func(text string) (string, string) {
		code, stdout, stderr := runLine(t, nil, "install", "systemd", "-c", inEtc(t, text), "--binary=/usr/local/bin/rollcall", "--root", t.TempDir())
		require.Zero(t, code, stderr)
		return stdout, stderr
	}
	unit, notes := install(systemdConfig)
	require.Contains(t, unit, "\nProtectHome=yes\n")
	require.NotContains(t, notes, "the sandbox is opened")

	unit, notes = install(systemdConfig + "proxy_ca: /home/ops/ca.pem\n")
	require.Contains(t, unit, "\nProtectHome=read-only\n")
	require.Contains(t, notes, "proxy_ca is /home/ops/ca.pem: the sandbox is opened for it (ProtectHome=).")

	unit, notes = install(systemdConfig + "hooks_dir: /var/tmp/hooks.d\n")
	require.Contains(t, unit, "\nPrivateTmp=no\n")
	require.Contains(t, notes, "hooks_dir is /var/tmp/hooks.d: the sandbox is opened for it (PrivateTmp=).")
}

// TestInstallKnowsServices: what listens needs a place that its clients get to,
// and what is read needs to be seen.
func TestInstallKnowsServices(t *testing.T) {
	file := inEtc(t, systemdConfig+`services:
  - {type: application-tunnel, app_name: a, listen: "unix:///run/bot/a.sock", bearer_token: "credential:bearer"}
  - {type: application-tunnel, app_name: b, listen: "unix:///srv/b/b.sock", bearer_token: "credential:join"}
  - {type: discovery, name: files, roles: [apps], source: {type: file, path: /home/ops/apps.d}}
  - {type: application-tunnel, app_name: c, listen: "unix:///tmp/c/c.sock"}
  - {type: application-tunnel, app_name: d, listen: "unix:///srv/not/there/d.sock"}
  - {type: application-tunnel, app_name: e, listen: "unix:///run/e.sock"}
`)
	code, stdout, stderr := runLine(t, nil, "install", "systemd", "-c", file, "--name=bot", "--binary=/usr/local/bin/rollcall", "--root", t.TempDir())
	require.Zero(t, code, stderr)
	require.Contains(t, stdout, "\nRuntimeDirectoryMode=0711\n")
	require.Contains(t, stdout, "\nReadWritePaths=-/srv/b\n")
	require.Contains(t, stdout, "\nProtectHome=read-only\n")
	require.Contains(t, stderr, "services[2].source.path is /home/ops/apps.d: the sandbox is opened for it (ProtectHome=).")
	require.Contains(t, stderr, "services[0].bearer_token is credential:bearer: give the unit a drop-in (systemctl edit bot) with [Service] LoadCredential=bearer:/path/of/the/file.")
	require.NotContains(t, stderr, "services[1].bearer_token", "the unit loads the join token anyway")

	require.Contains(t, stdout, "\nPrivateTmp=no\n")
	require.Contains(t, stderr, "services[3].listen is /tmp/c/c.sock: the sandbox is opened for it (PrivateTmp=). In /run/bot it wouldn't have to be")
	require.Contains(t, stderr, "/srv/not/there doesn't exist, and the unit's sandbox keeps the agent from making it: make it for the user")
	require.NotContains(t, stderr, "/run/bot doesn't exist", "systemd makes it")
	require.NotContains(t, stdout, "ReadWritePaths=-/run\n")
	require.Contains(t, stderr, "services[5].listen is /run/e.sock: its directory isn't the agent's alone, and the sandbox isn't opened for it. Use one in /run/bot")
}

// inEtc writes a configuration where no sandbox hides it: t.TempDir is below
// /tmp, which would open it.
func inEtc(t *testing.T, text string) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "rollcall-test-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	file := filepath.Join(dir, "rollcall.yaml")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	return file
}

func TestInstallAllowsHooks(t *testing.T) {
	file, root := configFile(t, hookedConfig), t.TempDir()
	install := func(more ...string) (string, string) {
		code, stdout, stderr := runLine(t, nil, append([]string{"install", "systemd", "-c", file, "--root", root}, more...)...)
		require.Zero(t, code, stderr)
		return stdout, stderr
	}
	rule := filepath.Join(root, "etc/polkit-1/rules.d/50-rollcall-rollcall.rules")
	const needed = "the user rollcall may have systemd do what they ask for: add "

	plain, stderr := install()
	require.Contains(t, stderr, needed+"--allow-reload nginx.service --allow-restart legacy.service.\n")
	require.NotContains(t, stderr, "polkit isn't installed")

	_, stderr = install("--allow-reload=nginx.service")
	require.Contains(t, stderr, needed+"--allow-restart legacy.service.\n")
	_, stderr = install("--user=root")
	require.NotContains(t, stderr, "--allow")

	both := []string{"--allow-restart=legacy.service", "--allow-reload=nginx.service"}
	stdout, stderr := install(both...)
	require.Equal(t, plain, stdout, "standard output is the unit")
	require.Contains(t, stderr, "polkit isn't installed")
	require.NotContains(t, stderr, "  write "+rule+"\n")
	for _, name := range []string{"rollcall-reload-nginx", "rollcall-restart-legacy"} {
		for _, kind := range []string{".path", ".service"} {
			path := filepath.Join(root, "etc/systemd/system", name+kind)
			require.Contains(t, stderr, "  write "+path+"\n")
			require.NoFileExists(t, path, "it only prints")
		}
	}
	require.Contains(t, stderr, "PathExists=/run/rollcall/reload-nginx.service\n")
	require.Contains(t, stderr, `in place of reload_unit: nginx.service write exec: [/usr/bin/touch, "/run/rollcall/reload-nginx.service"], which rollcall-reload-nginx.path watches`)

	otherRoot := t.TempDir()
	code, stdout, stderr := runLine(t, nil, append([]string{"install", "systemd", "-c", file, "--root", otherRoot, "--write"}, both...)...)
	require.Zero(t, code, stderr)
	require.Contains(t, stdout, "Wrote "+filepath.Join(otherRoot, "etc/systemd/system/rollcall-restart-legacy.service"))
	require.NoFileExists(t, filepath.Join(otherRoot, "etc/polkit-1/rules.d/50-rollcall-rollcall.rules"))

	service := filepath.Join(root, polkitService)
	require.NoError(t, os.MkdirAll(filepath.Dir(service), 0o755))
	require.NoError(t, os.WriteFile(service, nil, 0o644))
	_, stderr = install(both...)
	require.Contains(t, stderr, "  write "+rule+"\n")
	require.Contains(t, stderr, `case "reload nginx.service":`)
	require.NotContains(t, stderr, ".path")
	require.NoFileExists(t, rule, "it only prints")
	stdout, stderr = install(append(both, "--write")...)
	require.Contains(t, stdout, "Wrote "+rule)
	require.NotContains(t, stderr, "polkit isn't installed")
	text, err := os.ReadFile(rule)
	require.NoError(t, err)
	options := systemd.DefaultUnit()
	options.AllowReload, options.AllowRestart = []string{"nginx.service"}, []string{"legacy.service"}
	require.Equal(t, options.Rule(), string(text))

	_, stderr = install("--write")
	require.NotContains(t, stderr, needed, "the rule is there")
	require.FileExists(t, rule)
}

func TestInstallRefusals(t *testing.T) {
	file := configFile(t, systemdConfig)
	for want, args := range map[string][]string{
		"can't be named":            {"-c", file, "--name=../x"},
		"isn't the name of a user":  {"-c", file, "--user=a b"},
		"doesn't exist":             {"-c", "/nonexistent.yaml"},
		"can't be allowed":          {"-c", file, "--allow-reload=x\".service"},
		"unknown flag --wirte":      {"--wirte"},
		"can't be loaded by system": {"-c", file, "--token-file=/a:b"},
	} {
		code, stdout, stderr := runLine(t, nil, append([]string{"install", "systemd"}, args...)...)
		require.Equal(t, exitConfiguration, code)
		require.Empty(t, stdout)
		require.Contains(t, stderr, want)
	}
}
