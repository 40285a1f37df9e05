package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rollcall/config"
)

// fileOf makes a file with that very mode, whatever the umask.
func fileOf(t *testing.T, mode fs.FileMode) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(file, []byte(strings.Repeat("secret", 8)), 0o600))
	require.NoError(t, os.Chmod(file, mode))
	return file
}

func TestExposedFiles(t *testing.T) {
	for mode, want := range map[fs.FileMode]bool{
		0o600: false, 0o400: false, 0o711: false, 0o640: false, 0o604: true, 0o644: true,
	} {
		_, got := exposedFile(fileOf(t, mode))
		require.Equal(t, want, got, "%o", mode)
	}
	link := filepath.Join(t.TempDir(), "link")
	require.NoError(t, os.Symlink(fileOf(t, 0o600), link))
	for name, path := range map[string]string{
		"none": "", "a credential": "credential:token", "not there yet": "/nowhere/token", "a directory": "/", "a link to a private file": link,
	} {
		_, got := exposedFile(path)
		require.False(t, got, name)
	}
}

// TestExposedTokenIsWarnedOfOnce: two services with one token make one warning,
// and neither is refused.
func TestExposedTokenIsWarnedOfOnce(t *testing.T) {
	token, private := fileOf(t, 0o644), fileOf(t, 0o600)
	file := configFile(t, fmt.Sprintf(`version: v2
proxy_server: teleport.example.com:443
onboarding: {join_method: token, token: x}
storage: {type: memory}
services:
  - {type: application-tunnel, app_name: a, listen: "tcp://127.0.0.1:0", bearer_token: %[1]s}
  - {type: application-proxy, listen: "tcp://127.0.0.1:0", bearer_token: %[1]s}
  - {type: application-tunnel, app_name: b, listen: "tcp://127.0.0.1:0", bearer_token: %[2]s}
`, token, private))
	cfg, err := config.Load(file)
	require.NoError(t, err)
	var logged bytes.Buffer
	a, err := newAgent(cfg, slog.New(slog.NewTextHandler(&logged, nil)), environment{Getenv: func(string) string { return "" }})
	require.NoError(t, err)
	a.close()

	require.Equal(t, 1, strings.Count(logged.String(), "level=WARN"), logged.String())
	require.Contains(t, logged.String(), "path="+token+" mode=0644 remedy=\"run `chmod o= "+token+"`, or give the volume that it's on another mode; the agent's user must own the file or be in its group\"")
	require.NotContains(t, logged.String(), "secretsecret")
}

// TestValidateNotesWhatIsOpen to others: a token's file, and an address.
func TestValidateNotesWhatIsOpen(t *testing.T) {
	token := fileOf(t, 0o644)
	file := configFile(t, fmt.Sprintf(`version: v2
proxy_server: teleport.example.com:443
services:
  - {type: application-tunnel, app_name: a, listen: "tcp://127.0.0.1:1", bearer_token: %s}
  - {type: application-tunnel, app_name: b, listen: "tcp://127.0.0.1:2", bearer_token: /nowhere/token}
  - {type: application-proxy, listen: "tcp://0.0.0.0:3", allow_remote: true}
`, token))
	stdout, _, err := execute(t, &globals{configPath: file}, nil, newValidateCommand)
	require.NoError(t, err)
	require.Contains(t, stdout, "note: "+file+":4:88: services[0].bearer_token is "+token+
		", which everybody may read by its mode (0644), and so use the application: run `chmod o= "+token+"`, or give the volume that it's on another mode; the agent's user must own the file or be in its group\n")
	require.NotContains(t, stdout, "/nowhere/token")
	require.Contains(t, stdout, "note: "+file+":6:72: services[2].allow_remote is set: other hosts may reach tcp://0.0.0.0:3, and no bearer_token is asked for: whoever can connect uses the application with the bot's rights\n")

	stdout, _, err = execute(t, &globals{configPath: file}, nil, newValidateCommand, "--format", "json")
	require.NoError(t, err)
	var v verdict
	require.NoError(t, json.Unmarshal([]byte(stdout), &v))
	require.True(t, v.Valid)
	lines := map[int]bool{}
	for _, note := range v.Notes {
		lines[note.Line] = true
	}
	require.True(t, lines[4] && lines[6], stdout)
}
