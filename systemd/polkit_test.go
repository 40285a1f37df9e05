package systemd

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rollcall/failure"
)

func TestRule(t *testing.T) {
	options := DefaultUnit()
	require.Empty(t, options.Rule(), "nothing is allowed by itself")
	options.Name, options.User = "bot-2", "grafana_bot"
	options.AllowReload = []string{"nginx.service", "getty@tty1.service", `home-a\x2db.mount`, "nginx.service"}
	options.AllowRestart = []string{"legacy.service"}
	require.NoError(t, options.Validate())
	require.Equal(t, "/etc/polkit-1/rules.d/50-rollcall-bot-2.rules", options.RulePath())
	path := filepath.Join("testdata", "bot-2.rules")
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(options.Rule()), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), options.Rule(), "go test ./systemd -run TestRule -update writes it anew")

	other := options
	other.AllowReload = []string{`home-a\x2db.mount`, "getty@tty1.service", "nginx.service"}
	require.Equal(t, options.Rule(), other.Rule(), "the order of the flags is the same")
}

// TestTriggers are what stands in for the rule where there's no polkit.
func TestTriggers(t *testing.T) {
	options := DefaultUnit()
	require.Empty(t, options.Triggers())
	options.Name, options.User = "bot-2", "grafana_bot"
	options.AllowReload = []string{"nginx.service", "getty@tty1.service", `home-a\x2db.mount`, "nginx.service"}
	options.AllowRestart = []string{"legacy.service"}
	require.NoError(t, options.Validate())
	var all strings.Builder
	dir := t.TempDir()
	var units []string
	for _, trigger := range options.Triggers() {
		require.Equal(t, trigger.PathUnit, filepath.Base(trigger.Files[0].Path))
		for _, file := range trigger.Files {
			all.WriteString("== " + file.Path + "\n" + file.Text)
			at := filepath.Join(dir, filepath.Base(file.Path))
			require.NoError(t, os.WriteFile(at, []byte(file.Text), 0o644))
			units = append(units, at)
		}
	}
	path := filepath.Join("testdata", "triggers.txt")
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(all.String()), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), all.String(), "go test ./systemd -run TestTriggers -update writes it anew")
	require.Empty(t, analyze(t, append([]string{"verify", "--man=no"}, units...)...))
}

func TestRuleRefusals(t *testing.T) {
	for _, unit := range []string{
		"", "nginx", ".service", "nginx.device", "nginx.service\n", "a b.service", "../nginx.service", "/etc/nginx.service",
		`nginx".service`, `x":}});polkit.addRule(function(){return"yes"});//.service`, "x'.service", "x\u2028.service", "ä.service",
		"*.service", "$x.service", "`x`.service", strings.Repeat("x", 250) + ".service",
	} {
		for _, change := range []func(o *UnitOptions){
			func(o *UnitOptions) { o.AllowReload = []string{unit} },
			func(o *UnitOptions) { o.AllowRestart = []string{"good.service", unit} },
		} {
			options := DefaultUnit()
			change(&options)
			err := options.Validate()
			require.ErrorContains(t, err, "can't be allowed", unit)
			require.Equal(t, failure.Configuration, failure.KindOf(err))
		}
	}
	options := DefaultUnit()
	options.User, options.AllowReload = "1001", []string{"nginx.service"}
	require.ErrorContains(t, options.Validate(), "polkit knows users by their names")
}
