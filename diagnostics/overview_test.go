package diagnostics

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(path, got, 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), string(got))
}

// overview is one of each kind of trouble.
func overview() Overview {
	board := NewBoard(newClock().Now)
	in := func(d time.Duration) time.Time { return start.Add(d) }
	board.Reporter("identity", "identity").Report(Report{NotAfter: in(50 * time.Minute), Next: in(10*time.Minute + 5*time.Second)})
	app := board.Reporter("grafana", "application")
	app.Report(Report{NotAfter: in(30 * time.Hour), Next: in(20 * time.Minute)})
	app.Report(Report{Err: errors.New("app \"grafana\" not found;\n\x1b[2Jcheck the name"), Next: in(time.Second)})
	app.Report(Report{Err: errors.New("app \"grafana\" not found;\n\x1b[2Jcheck the name"), Next: in(time.Second)})
	ssh := board.Reporter("ssh", "identity")
	ssh.Report(Report{NotAfter: in(240 * time.Hour), Next: in(time.Hour)})
	ssh.Hook(errors.New("exit status 1"), "reload nginx.service")
	board.Reporter("later", "application")
	board.Reporter("told", "identity").Report(Report{})
	board.Reporter("told", "identity").Hook(nil, "signal HUP")
	all := board.Snapshot()
	return Overview{
		Agent: Agent{
			Version: "v0.1.0", PID: 4711, Started: in(-90 * time.Minute), Config: "/etc/rollcall.yaml",
			Storage: "directory /var/lib/rollcall", JoinMethod: "token",
			Bot: &Bot{Name: "bot-grafana", Cluster: "example", Generation: 7, NotAfter: in(50 * time.Minute)},
		},
		Healthy: Healthy(all), Services: all,
	}
}

func TestOverview(t *testing.T) {
	var text bytes.Buffer
	require.NoError(t, overview().WriteText(&text, start))
	golden(t, "overview.txt", text.Bytes())

	encoded, err := json.MarshalIndent(overview(), "", "  ")
	require.NoError(t, err)
	golden(t, "overview.json", append(encoded, '\n'))
}

func TestOverviewBeforeTheFirstIdentity(t *testing.T) {
	o := overview()
	o.Bot, o.Config, o.Healthy, o.Services = nil, "", true, o.Services[:1]
	var text bytes.Buffer
	require.NoError(t, o.WriteText(&text, start))
	golden(t, "overview-new.txt", text.Bytes())
}

func TestSpan(t *testing.T) {
	for want, d := range map[string]time.Duration{
		"0s": -time.Second, "59s": 59 * time.Second, "1m00s": time.Minute, "59m59s": time.Hour - time.Second,
		"1h00m": time.Hour, "47h59m": 48*time.Hour - time.Second, "2d00h": 48 * time.Hour, "10d03h": 243 * time.Hour,
	} {
		require.Equal(t, want, span(d))
	}
}
