package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rollcall/diagnostics"
	"rollcall/hooks"
	"rollcall/identity"
	"rollcall/service"
	"rollcall/tunnel"
)

// hooksConfig has one output into dir with these hooks.
func hooksConfig(t *testing.T, dir, onRenewal string) string {
	t.Helper()
	return configFile(t, fmt.Sprintf(`version: v2
proxy_server: teleport.example.com:443
storage: {type: directory, path: %s}
outputs:
  - type: application
    app_name: grafana
    destination: {type: directory, path: %s}
%s
  - {type: identity, name: bare, destination: {type: nop}}
`, filepath.Join(t.TempDir(), "storage"), dir, onRenewal))
}

// certificateIn writes a certificate with the serial number 0xA1B2.
func certificateIn(t *testing.T, dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(0xA1B2), NotAfter: time.Date(2040, 1, 2, 3, 4, 5, 0, time.UTC)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "tlscert"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
}

func TestHooksTest(t *testing.T) {
	dir := t.TempDir()
	certificateIn(t, dir)
	file := hooksConfig(t, dir, `    on_renewal:
      - exec: [/bin/sh, -c, 'echo "$ROLLCALL_OUTPUT $ROLLCALL_DIRECTORY $ROLLCALL_SERIAL $ROLLCALL_NOT_AFTER $ROLLCALL_REASON $ROLLCALL_CHANGED_FILES"']
      - exec: [/bin/true]`)
	run := func(args ...string) (string, error) {
		stdout, _, err := execute(t, &globals{configPath: file}, nil, newHooksCommand, args...)
		return stdout, err
	}

	stdout, err := run("test", "application-grafana")
	require.NoError(t, err)
	require.Contains(t, stdout, "exec /bin/sh: application-grafana "+dir+" A1B2 2040-01-02T03:04:05Z hooks test tlscert\n")
	lines := strings.Split(stdout, "\n")
	require.Equal(t, []string{"HOOK", "RESULT", "TOOK", "ERROR"}, strings.Fields(lines[0]))
	require.Equal(t, []string{"exec", "/bin/sh", "ok"}, strings.Fields(lines[1])[:3])
	require.Equal(t, []string{"exec", "/bin/true", "ok"}, strings.Fields(lines[2])[:3])

	_, err = run("test", "bare")
	require.ErrorContains(t, err, "output bare has no hooks")
	_, err = run("test", "application-grafanna")
	require.ErrorContains(t, err, `there is no output "application-grafanna"; did you mean "application-grafana"?`)
	_, err = run("test")
	require.ErrorContains(t, err, "name one output")
	require.Equal(t, exitConfiguration, exitCode(err))
}

func TestHooksTestFails(t *testing.T) {
	dir := t.TempDir()
	file := hooksConfig(t, dir, `    on_renewal: [{exec: [/bin/false]}, {exec: [/bin/true]}]
    hooks_dir: /nonexistent/hooks.d`)
	_, _, err := execute(t, &globals{configPath: file}, nil, newHooksCommand, "test", "application-grafana")
	require.ErrorContains(t, err, "there is no certificate in directory "+dir+" yet")
	require.Equal(t, exitFailed, exitCode(err))

	certificateIn(t, dir)
	stdout, _, err := execute(t, &globals{configPath: file}, nil, newHooksCommand, "test", "application-grafana")
	require.Equal(t, exitFailed, exitCode(err))
	require.Regexp(t, `exec /bin/false +failed .*ended with exit status 1\n`, stdout)
	require.Regexp(t, `exec /bin/true +ok `, stdout)
	require.Regexp(t, `hooks_dir /nonexistent/hooks.d +failed .*hooks_dir: /nonexistent doesn't exist\n`, stdout)
}

func TestValidateTellsWhatHooksNeed(t *testing.T) {
	file := hooksConfig(t, "/opt/grafana", `    on_renewal:
      - {reload_unit: nginx.service}
      - {exec: [/bin/true], user: app}`)
	stdout, _, err := execute(t, &globals{configPath: file}, nil, newValidateCommand)
	require.NoError(t, err)
	require.Contains(t, stdout, "note: "+file+":9:9: reload_unit nginx.service: an agent that isn't root needs a polkit rule")
	require.Contains(t, stdout, "note: "+file+":10:9: exec /bin/true: runs inside the agent's unit and its sandbox; running as app needs an agent with CAP_SETUID")

	stdout, _, err = execute(t, &globals{configPath: file}, nil, newValidateCommand, "--format", "json")
	require.NoError(t, err)
	require.Contains(t, stdout, `"line": 9`)
}

// oneOutput is an output that changes at each Once, or fails.
type oneOutput struct {
	output
	runner *hooks.Runner
	err    error
}

func (o *oneOutput) Name() string              { return "one" }
func (o *oneOutput) Run(context.Context) error { return nil }
func (o *oneOutput) Once(context.Context) error {
	if o.err == nil {
		o.runner.Changed(hooks.Change{Output: "one"})
	}
	return o.err
}

// TestOnceCountsTheHooks shows that a failed hook is in the one-shot outcome,
// and that none runs where the output failed.
func TestOnceCountsTheHooks(t *testing.T) {
	ran := filepath.Join(t.TempDir(), "ran")
	log := slog.New(slog.DiscardHandler)
	runner, err := hooks.NewRunner(hooks.RunnerOptions{
		Output: "one", Log: log, Getenv: os.Getenv,
		Hooks: []hooks.Options{{Exec: []string{"/usr/bin/touch", ran}}, {Exec: []string{"/bin/false"}}},
	})
	require.NoError(t, err)
	out := &oneOutput{runner: runner, err: errors.New("no certificate")}
	host := service.NewHost(log, nil)
	require.NoError(t, host.Add(hooked(out, runner)))

	require.ErrorContains(t, host.Once(t.Context())[0].Err, "no certificate")
	require.NoFileExists(t, ran)
	out.err = nil
	require.ErrorContains(t, host.Once(t.Context())[0].Err, "the credentials are in place, but a hook failed: exec /bin/false")
	require.FileExists(t, ran)
}

// stuckOutput hangs.
type stuckOutput struct{ output }

func (stuckOutput) Alive() error { return errors.New("stuck") }

// TestHooksHideNoStuckOutput asks an output with hooks what the watchdog asks.
func TestHooksHideNoStuckOutput(t *testing.T) {
	var hosted service.Service = hooked(stuckOutput{}, &hooks.Runner{})
	prober, ok := hosted.(service.Prober)
	require.True(t, ok)
	require.EqualError(t, prober.Alive(), "stuck")
}

// TestTheWatchdogSeesEveryLoop: what is hosted for long can tell that it hangs.
func TestTheWatchdogSeesEveryLoop(t *testing.T) {
	for _, hosted := range []service.Service{
		&identity.Keeper{}, &identity.Follower{}, &identity.Heart{}, &hooks.Runner{}, &diagnostics.Server{},
		&tunnel.Tunnel{}, &tunnel.Proxy{}, &discoveryRunner{}, hookedOutput{},
	} {
		require.Implements(t, (*service.Prober)(nil), hosted)
	}
}
