package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rollcall/e2e/harness"
)

// TestOneBadOutputStopsNothing has an output for an application that doesn't
// exist beside a good one, and creates the application later.
func TestOneBadOutputStopsNothing(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	late := harness.Unique(t, "late")
	agent := s.start(t, s.document(t, document{
		more: "diag_addr: 127.0.0.1:0",
		outputs: s.output("application", "bad", "app_name: "+late+",") +
			s.application("out", "") + s.output("identity", "ssh", ""),
	}))
	address := diagnostics(t, agent)
	s.awaitFile(t, agent, "out")
	s.awaitFile(t, agent, "ssh")
	s.fetches(t, "out")

	var services map[string]state
	agent.WaitFor(t, patience, "the verdict of each service", func() error {
		code, ready, all := readyz(t, address)
		services = all
		if code != http.StatusServiceUnavailable || ready || all["bad"].State != "failing" || !all["out"].Ready || !all["ssh"].Ready {
			return fmt.Errorf("%d %+v", code, all)
		}
		return nil
	})
	require.True(t, services["identity"].Ready)
	require.Contains(t, services["bad"].LastError, late)
	for name, want := range map[string]int{"out": http.StatusOK, "bad": http.StatusServiceUnavailable, "none": http.StatusNotFound} {
		code, _ := get(t, address+"/readyz/"+name)
		require.Equal(t, want, code, name)
	}

	// The team's label lets the bot's role reach the new application, too.
	app := s.cluster.CreateApp(t, late, s.sample.URL, map[string]string{"team": s.app.Name})

	awaitReady(t, agent, address)
	dir := s.place("bad")
	s.cluster.MustFetch(t, app, s.sample, filepath.Join(dir, "tlscert"), filepath.Join(dir, "key"))
	stop(t, agent)
}

// TestDiagnostics reads what monitoring reads.
func TestDiagnostics(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	agent := s.start(t, s.document(t, document{
		more:    "diag_addr: 127.0.0.1:0",
		times:   "credential_ttl: 30m\nrenewal_interval: 10m",
		outputs: s.application("out", "") + s.output("identity", "ssh", ""),
	}))
	address := diagnostics(t, agent)

	services := awaitReady(t, agent, address)

	require.Len(t, services, 3)
	cert, err := certificate(s.out("tlscert"))
	require.NoError(t, err)
	require.WithinDuration(t, cert.NotAfter, services["out"].NotAfter, time.Second)
	require.InDelta(t, 30*60, services["out"].SecondsLeft, 60)
	require.Contains(t, services["identity"].Message, s.bot.User)

	code, metrics := get(t, address+"/metrics")
	require.Equal(t, http.StatusOK, code)
	for _, line := range []string{
		`rollcall_renewals_total{service="out"} 1`,
		`rollcall_renewals_total{service="identity"} 1`,
		`rollcall_consecutive_failures{service="ssh"} 0`,
		`rollcall_ready{service="out"} 1`,
		// Prometheus writes numbers as %g does.
		fmt.Sprintf(`rollcall_certificate_not_after_timestamp_seconds{service="out"} %g`, float64(cert.NotAfter.Unix())),
	} {
		require.Contains(t, metrics, line+"\n")
	}
	stop(t, agent)
	_, err = http.Get(address + "/livez")
	require.Error(t, err, "it still serves after its end")
}

// TestOneshotNamesWhatFailed writes what can be written, and says in a table
// and by its exit code what couldn't.
func TestOneshotNamesWhatFailed(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	missing := harness.Unique(t, "missing")

	agent := s.cluster.Rollcall(t, "start", "--oneshot", "-c", s.document(t, document{
		outputs: s.output("application", "bad", "app_name: "+missing+",") + s.application("out", ""),
	}))
	result := agent.Wait(t)

	require.Equal(t, 2, result.ExitCode)
	rows := make(map[string][]string)
	for line := range strings.Lines(agent.Stdout.String()) {
		fields := strings.Fields(line)
		require.NotEmpty(t, fields)
		rows[fields[0]] = fields
	}
	require.Equal(t, []string{"NAME", "RESULT", "EXPIRES", "TOOK", "ERROR"}, rows["NAME"])
	require.Equal(t, "ok", rows["identity"][1])
	require.Equal(t, "ok", rows["out"][1])
	require.Equal(t, "failed", rows["bad"][1])
	require.Contains(t, strings.Join(rows["bad"], " "), missing)
	s.fetches(t, "out")
	_, err := os.Stat(filepath.Join(s.place("bad"), "tlscert"))
	require.ErrorIs(t, err, os.ErrNotExist)
}
