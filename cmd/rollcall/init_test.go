package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rollcall/failure"
)

// initPlaces returns a configuration with a storage and two outputs below a
// directory that every user can get to.
func initPlaces(t *testing.T) (file, top string) {
	t.Helper()
	top = t.TempDir()
	for at := top; at != "/"; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		require.NoError(t, err)
		if info.Mode().Perm()&0o001 == 0 {
			require.NoError(t, os.Chmod(at, 0o711))
		}
	}
	return configFile(t, fmt.Sprintf(`version: v2
proxy_server: teleport.example.com:443
onboarding: {join_method: token, token: credential:token}
storage: {type: directory, path: %[1]s/lib/rollcall}
outputs:
  - {type: application, app_name: grafana, destination: {type: directory, path: %[1]s/opt/grafana}}
  - {type: identity, destination: {type: directory, path: %[1]s/opt/machine-id}}
  - {type: identity, destination: {type: memory}}
`, top)), top
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to give directories away")
	}
}

func owner(t *testing.T, path string) string {
	t.Helper()
	var st unix.Stat_t
	require.NoError(t, unix.Lstat(path, &st))
	return fmt.Sprintf("%d:%d %04o", st.Uid, st.Gid, st.Mode&0o7777)
}

func TestInitOfAConfiguration(t *testing.T) {
	needRoot(t)
	defer unix.Umask(unix.Umask(0o077))
	file, top := initPlaces(t)
	args := []string{"init", "-c", file, "--bot-user=61000", "--owner=61000:61003", "--reader-user=61001", "--reader-group=61002"}

	code, stdout, stderr := runLine(t, nil, append(args, "--dry-run")...)
	require.Equal(t, exitOK, code, stderr)
	require.Contains(t, stdout, "Nothing was changed, because of --dry-run.")
	require.NoDirExists(t, top+"/opt")

	code, stdout, stderr = runLine(t, nil, args...)
	require.Equal(t, exitOK, code, stderr)
	list := "user::rwx,user:61001:r-x,group::---,group:61002:r-x,mask::r-x,other::---"
	require.Equal(t, strings.ReplaceAll(`TOP/lib/rollcall (storage)
  create TOP/lib with mode 0755
  create TOP/lib/rollcall with mode 0700
  give TOP/lib/rollcall to 61000:61003
TOP/opt/grafana (output application-grafana)
  create TOP/opt with mode 0755
  create TOP/opt/grafana with mode 0700
  set the ACL of TOP/opt/grafana to `+list+`
  set the default ACL of TOP/opt/grafana to `+list+`
  give TOP/opt/grafana to 61000:61003
  readers: user 61001, group 61002
TOP/opt/machine-id (output identity-machine-id)
  create TOP/opt/machine-id with mode 0700
  set the ACL of TOP/opt/machine-id to `+list+`
  set the default ACL of TOP/opt/machine-id to `+list+`
  give TOP/opt/machine-id to 61000:61003
  readers: user 61001, group 61002
Done.
`, "TOP", top), stdout)
	require.Equal(t, "61000:61003 0700", owner(t, top+"/lib/rollcall"))
	require.Equal(t, "61000:61003 0750", owner(t, top+"/opt/grafana"), "the middle bits are the ACL's mask")
	require.Equal(t, "0:0 0755", owner(t, top+"/opt"))

	code, stdout, stderr = runLine(t, nil, args...)
	require.Equal(t, exitOK, code, stderr)
	require.Equal(t, 3, strings.Count(stdout, "nothing to do"), stdout)
	require.True(t, strings.HasSuffix(stdout, "Everything is as it should be; nothing was changed.\n"), stdout)

	// One by its path, as JSON.
	code, stdout, stderr = runLine(t, nil, "init", "-c", file, "--init-dir="+top+"/opt/machine-id/", "--bot-user=61000", "--owner=61000:61003", "--reader-user=61007", "--format=json")
	require.Equal(t, exitOK, code, stderr)
	var report initReport
	require.NoError(t, json.Unmarshal([]byte(stdout), &report))
	require.True(t, report.Changed)
	require.False(t, report.DryRun)
	require.Len(t, report.Directories, 1)
	require.Equal(t, top+"/opt/machine-id", report.Directories[0].Path)
	require.Equal(t, "output identity-machine-id", report.Directories[0].For)
	require.Len(t, report.Directories[0].Changes, 2)
	require.Equal(t, []string{"user 61007"}, report.Directories[0].Readers)
}

// TestInitWithoutAFile is the official agent's command line.
func TestInitWithoutAFile(t *testing.T) {
	needRoot(t)
	_, top := initPlaces(t)
	path := top + "/opt/machine-id"
	code, stdout, stderr := runLine(t, nil, "init", "--destination-dir="+path, "--bot-user=61000", "--owner=61000:61000", "--reader-user=61001")
	require.Equal(t, exitOK, code, stderr)
	require.Contains(t, stdout, path+" (directory)\n")
	require.Contains(t, stdout, "readers: user 61001\n")
	require.Equal(t, "61000:61000 0750", owner(t, path))
}

func TestInitAllOrNothing(t *testing.T) {
	needRoot(t)
	file, top := initPlaces(t)
	require.NoError(t, os.WriteFile(top+"/opt", nil, 0o600))
	code, stdout, stderr := runLine(t, nil, "init", "-c", file, "--bot-user=61000")
	require.Equal(t, exitConfiguration, code)
	require.Empty(t, stdout)
	require.Contains(t, stderr, "nothing was changed: ")
	require.Contains(t, stderr, "the path "+top+"/opt/grafana isn't a directory, or goes through a file")
	require.NoDirExists(t, top+"/lib")
}

func TestInitRefuses(t *testing.T) {
	file, top := initPlaces(t)
	for _, test := range []struct{ line, want string }{
		{"--bot-user=no-such-user", `--bot-user: there's no user "no-such-user" on this host: create it, or give the numeric id`},
		{"--owner=0:no-such-group", `--owner: there's no group "no-such-group" on this host`},
		{"--reader-user=no-such-user", `there's no user "no-such-user" on this host`},
		{"--init-dir=/elsewhere", "--init-dir: no output has the directory /elsewhere; there are: " + top + "/opt/grafana, " + top + "/opt/machine-id"},
		{"--destination-dir=/opt", "/opt is a directory of the whole system"},
		{"--destination-dir=" + top + "/lib/rollcall", "is, or lies in or around, " + top + "/lib/rollcall, the directory of the storage"},
		{"--destination-dir=" + top + "/lib/rollcall/x", "is, or lies in or around, " + top + "/lib/rollcall, the directory of the storage"},
		{"--destination-dir=" + top + "/lib", "is, or lies in or around, " + top + "/lib/rollcall, the directory of the storage"},
		{"--destination-dir=" + top + "/opt/grafana/x/", "the directory of the output application-grafana"},
		{"--init-dir=/a --destination-dir=/b", "name different directories"},
		{"--bot-user=61000 --owner=61005:61005", "with `update: set` the bot makes and removes directories there"},
		{"--format=xml", `--format "xml" isn't text or json`},
		{"now", "rollcall init takes flags only"},
	} {
		t.Run(test.line, func(t *testing.T) {
			code, stdout, stderr := runLine(t, nil, append([]string{"init", "-c", file}, strings.Fields(test.line)...)...)
			require.Equal(t, exitConfiguration, code)
			require.Empty(t, stdout)
			require.Contains(t, stderr, test.want)
			require.NoDirExists(t, top+"/lib")
		})
	}
	missing := filepath.Join(t.TempDir(), "none.yaml")
	code, _, stderr := runLine(t, map[string]string{"TBOT_CONFIG_PATH": missing}, "init")
	require.Equal(t, exitConfiguration, code)
	require.Contains(t, stderr, missing+" doesn't exist")

	memory := configFile(t, "version: v2\nproxy_server: a.example.com:443\nonboarding: {token: credential:x}\nstorage: {type: memory}\noutputs: [{type: identity, destination: {type: memory}}]\n")
	code, _, stderr = runLine(t, nil, "init", "-c", memory)
	require.Equal(t, exitConfiguration, code)
	require.Contains(t, stderr, "there's nothing to make ready")
}

// TestInitPrintsNoControlCharacters of the names that it finds: whoever may write
// to the directory would write to root's terminal.
func TestInitPrintsNoControlCharacters(t *testing.T) {
	needRoot(t)
	_, top := initPlaces(t)
	path := top + "/opt/machine-id"
	line := []string{"init", "--destination-dir=" + path, "--bot-user=61000"}
	code, _, stderr := runLine(t, nil, line...)
	require.Equal(t, exitOK, code, stderr)
	for _, name := range []string{"a\x1b[2J\x07b", "a\nDone.", "a\u202eb", "a\xffb", `a"b`} {
		require.NoError(t, os.WriteFile(filepath.Join(path, name), nil, 0o600))
	}
	require.NoError(t, os.WriteFile(filepath.Join(path, "..manifest"), nil, 0o600))
	for _, flags := range [][]string{nil, {"--clean", "--dry-run"}} {
		code, stdout, stderr := runLine(t, nil, append(line, flags...)...)
		require.Equal(t, exitOK, code, stderr)
		for _, want := range []string{`/a\x1b[2J\ab`, `/a\nDone.`, `/a\u202eb`, `/a\xffb`, `/a"b`} {
			require.Contains(t, stdout, path+want)
		}
		for _, never := range []string{"\x1b", "\a", "\u202e", "\xff", "\nDone. "} {
			require.NotContains(t, stdout+stderr, never)
		}
	}
	err := &visibleError{failure.New(failure.Configuration, "/opt/a\x1b[2Jb is in the way")}
	require.Equal(t, `/opt/a\x1b[2Jb is in the way`, err.Error())
	require.Equal(t, exitConfiguration, exitCode(err))
}
