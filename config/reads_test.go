package config

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestReads finds every path that the agent or a hook reads, and where it's
// hidden under systemd a note says so, with its line.
func TestReads(t *testing.T) {
	file := filepath.Join(t.TempDir(), "rollcall.yaml")
	require.NoError(t, os.WriteFile(file, []byte(`version: v2
proxy_server: teleport.example.com:443
proxy_ca: /home/ops/ca.pem
hooks_dir: /etc/rollcall/hooks.d
onboarding:
  join_method: token
  token: /root/token
outputs:
  - type: identity
    destination: {type: memory}
    on_renewal:
      - exec: [/tmp/notify, /tmp/argument]
      - signal: HUP
        pid_file: /run/user/7/x.pid
      - reload_unit: nginx.service
  - type: identity
    roles: [a]
    hooks_dir: /var/tmp/hooks.d
    destination: {type: directory, path: /home/bot/out}
services:
  - {type: application-tunnel, app_name: a, listen: "unix:///run/user/7/a.sock", bearer_token: /home/ops/bearer}
  - {type: application-proxy, listen: "tcp://127.0.0.1:1234", bearer_token: "credential:bearer"}
  - type: discovery
    name: ours
    roles: [apps]
    source: {type: docker, host: "unix:///run/user/7/docker.sock"}
    register: agent
    agent: {image: "teleport:14.2.3", ca_file: /home/ops/agents.pem}
    resource: {kind: app, name: "{{ .Name }}", uri: "http://{{ .IP }}:{{ .Port }}"}
  - type: discovery
    name: theirs
    roles: [apps]
    source: {type: docker, host: "tcp://localhost:2376", tls: {ca: /home/ops/docker.pem, cert: /etc/cert.pem, key: /etc/key.pem}}
    resource: {kind: app, name: "{{ .Name }}", uri: "http://{{ .IP }}:{{ .Port }}"}
  - type: discovery
    name: files
    roles: [apps]
    source: {type: file, path: /home/ops/apps.d}
`), 0o600))
	c, err := Load(file)
	require.NoError(t, err)
	require.Equal(t, []Read{
		{"proxy_ca", "/home/ops/ca.pem"},
		{"onboarding.token", "/root/token"},
		{"hooks_dir", "/etc/rollcall/hooks.d"},
		{"outputs[0].on_renewal[0].exec[0]", "/tmp/notify"},
		{"outputs[0].on_renewal[1].pid_file", "/run/user/7/x.pid"},
		{"outputs[1].hooks_dir", "/var/tmp/hooks.d"},
		{"services[0].bearer_token", "/home/ops/bearer"},
		{"services[2].source.host", "/run/user/7/docker.sock"},
		{"services[2].agent.ca_file", "/home/ops/agents.pem"},
		{"services[3].source.tls.ca", "/home/ops/docker.pem"},
		{"services[3].source.tls.cert", "/etc/cert.pem"},
		{"services[3].source.tls.key", "/etc/key.pem"},
		{"services[4].source.path", "/home/ops/apps.d"},
	}, c.Reads())
	require.Equal(t, []Read{{"services[0].listen", "/run/user/7/a.sock"}}, c.Sockets())
	require.Equal(t, map[string]string{"services[1].bearer_token": "bearer"}, c.Secrets())
	var hidden []string
	for _, note := range c.hiddenNotes() {
		hidden = append(hidden, note.String()[len(file):len(file)+len(":3:11: proxy_ca is /home/ops/ca.pem")])
		require.Contains(t, note.Message, "or run `rollcall install systemd -c "+file+" --write --force` again (with the --name that the unit was made with, if any)")
	}
	require.Len(t, hidden, 11)
	require.Equal(t, ":3:11: proxy_ca is /home/ops/ca.pem", hidden[0])
	require.Contains(t, c.Notes()[1].String(), file+":7:10: onboarding.token is /root/token, which the sandbox of a systemd unit hides (ProtectHome=)")
	require.Contains(t, c.Notes()[2].String(), file+":12:16: outputs[0].on_renewal[0].exec[0] is /tmp/notify, which the sandbox of a systemd unit hides (PrivateTmp=)")
}

// TestHiddenNotesSayWhatHelps: the sandbox isn't opened for a directory that belongs
// to everybody, and the default file needn't be named.
func TestHiddenNotesSayWhatHelps(t *testing.T) {
	file := filepath.Join(t.TempDir(), "rollcall.yaml")
	require.NoError(t, os.WriteFile(file, []byte(`version: v2
proxy_server: teleport.example.com:443
onboarding: {join_method: token, token: /etc/token}
services:
  - {type: application-tunnel, app_name: a, listen: "unix:///tmp/a.sock"}
  - {type: application-tunnel, app_name: b, listen: "unix:///tmp/b/b.sock"}
`), 0o600))
	c, err := Load(file)
	require.NoError(t, err)
	c.File = DefaultPath

	notes := c.hiddenNotes()

	require.Len(t, notes, 2)
	require.Contains(t, notes[0].Message, "services[0].listen is /tmp/a.sock")
	require.NotContains(t, notes[0].Message, "install systemd")
	require.Contains(t, notes[1].Message, "or run `rollcall install systemd --write --force` again")
}
