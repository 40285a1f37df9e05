package systemd

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rollcall/failure"
)

var update = flag.Bool("update", false, "rewrite the golden files and rollcall.service")

// nasty has everything that needs care.
func nasty() UnitOptions {
	return UnitOptions{
		Name: "bot-2", User: "1001", Group: "teleport",
		Binary: "/opt/my tools/rollcall", Config: "/etc/100%/$HOME.yaml",
		Storage:      "/home/bot/store",
		Destinations: []string{"/opt/a b", `/srv/"quoted"\back`, "/tmp/out/", "/srv/50%"},
	}
}

func units() map[string]UnitOptions {
	kept := DefaultUnit()
	kept.Storage, kept.Credential, kept.TokenFile = "/var/lib/teleport/bot", "", ""
	memory := DefaultUnit()
	memory.Storage, memory.Destinations = "", nil
	sockets := DefaultUnit()
	sockets.Sockets = []string{"/run/rollcall/app.sock", "/srv/app/other.sock"}
	return map[string]UnitOptions{
		"sockets.service":                       sockets,
		filepath.Join("..", "rollcall.service"): DefaultUnit(),
		"nasty.service":                         nasty(),
		"tbot-storage.service":                  kept,
		"memory.service":                        memory,
	}
}

func TestUnitText(t *testing.T) {
	for name, options := range units() {
		t.Run(filepath.Base(name), func(t *testing.T) {
			require.NoError(t, options.Validate())
			path := filepath.Join("testdata", name)
			if *update {
				require.NoError(t, os.MkdirAll("testdata", 0o755))
				require.NoError(t, os.WriteFile(path, []byte(options.Text()), 0o644))
			}
			want, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, string(want), options.Text(), "go test ./systemd -run TestUnitText -update writes it anew")
		})
	}
}

func TestUnitRefusals(t *testing.T) {
	for want, change := range map[string]func(o *UnitOptions){
		"can't be named":                   func(o *UnitOptions) { o.Name = "../x" },
		"without .service":                 func(o *UnitOptions) { o.Name = "x.service" },
		"isn't the name of a user":         func(o *UnitOptions) { o.User = "a b" },
		"isn't the name of a group":        func(o *UnitOptions) { o.Group = "" },
		"systemd credential":               func(o *UnitOptions) { o.Credential = "a/b" },
		"absolute path":                    func(o *UnitOptions) { o.Config = "rollcall.yaml" },
		"without control characters":       func(o *UnitOptions) { o.Destinations = []string{"/x\nExecStartPre=/bin/sh"} },
		"can't be loaded by systemd":       func(o *UnitOptions) { o.TokenFile = "/etc/a:b" },
		`"x" can't stand in a unit: write`: func(o *UnitOptions) { o.Storage = "x" },
	} {
		options := DefaultUnit()
		change(&options)
		err := options.Validate()
		require.ErrorContains(t, err, want)
		require.Equal(t, failure.Configuration, failure.KindOf(err))
	}
}

// analyze runs systemd-analyze, which needs no running systemd for what is
// asked here.
func analyze(t *testing.T, args ...string) string {
	t.Helper()
	path, err := exec.LookPath("systemd-analyze")
	if err != nil && os.Geteuid() != 0 {
		t.Skip("only root can install systemd-analyze (Debian's package systemd)")
	}
	require.NoError(t, err, "it's in Debian's package systemd")
	out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput()
	require.NoError(t, err, string(out))
	return string(out)
}

// written writes a unit whose program exists.
func written(t *testing.T, options UnitOptions) string {
	t.Helper()
	options.Binary = "/bin/true"
	path := filepath.Join(t.TempDir(), options.Name+".service")
	require.NoError(t, os.WriteFile(path, []byte(options.Text()), 0o644))
	return path
}

func TestUnitIsCorrect(t *testing.T) {
	for name, options := range units() {
		t.Run(filepath.Base(name), func(t *testing.T) {
			require.Empty(t, analyze(t, "verify", "--man=no", written(t, options)))
		})
	}
}

func TestUnitExposure(t *testing.T) {
	for name, options := range units() {
		// The threshold is in tenths: the command fails if the exposure is above.
		out := analyze(t, "security", "--offline=true", "--no-pager", "--threshold=24", written(t, options))
		lines := strings.Split(strings.TrimSpace(out), "\n")
		t.Log(filepath.Base(name), strings.TrimSpace(lines[len(lines)-1]))
	}
}
