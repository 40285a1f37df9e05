package config

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rollcall/destination"
	"rollcall/failure"
	"rollcall/outputs"
)

func load(t *testing.T, text string, overrides ...Overrides) (*Config, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "rollcall.yaml")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	return Load(file, overrides...)
}

func TestDefaults(t *testing.T) {
	c, err := Load("testdata/minimal.good.yml")
	require.NoError(t, err)
	require.Equal(t, "auth.example.com:3025", c.Cluster.AuthServer)
	require.Equal(t, time.Hour, c.CredentialTTL)
	require.Equal(t, 20*time.Minute, c.RenewalInterval)
	require.Equal(t, 12*time.Hour, c.Cluster.SessionTTL)
	require.Equal(t, time.Second, c.Cluster.SettleTime)
	require.Equal(t, LogFormatText, c.LogFormat)
	require.Equal(t, "directory /var/lib/teleport/bot", c.Storage.String())
	require.Empty(t, c.Outputs)
}

func TestStandardFileOfTheOfficialAgent(t *testing.T) {
	c, err := Load("testdata/tbot-standard.good.yml")
	require.NoError(t, err)
	require.Equal(t, "example.teleport.sh:443", c.Cluster.AuthServer)
	require.Equal(t, "token", c.Onboarding.JoinMethod)
	require.Equal(t, "00000000000000000000000000000000", c.Onboarding.Token)
	require.Equal(t, c.Onboarding.CAPins, c.Cluster.CAPins)
	require.Equal(t, time.Hour, c.CredentialTTL)
	require.Equal(t, 30*time.Minute, c.RenewalInterval)
	require.True(t, c.Debug)
	require.Equal(t, "127.0.0.1:1337", c.DiagAddr)
	require.Equal(t, "/var/lib/teleport/bot", c.Storage.Directory.Path)
	require.Equal(t, destination.SymlinksSecure, c.Storage.Directory.Symlinks)
	require.Equal(t, destination.ACLTry, c.Storage.Directory.ACLs)
	require.Len(t, c.Outputs, 3)

	identity, ok := c.Outputs[0].Options.(*outputs.IdentityOptions)
	require.True(t, ok)
	require.Equal(t, []string{"editor"}, identity.Roles)
	require.Equal(t, "example.teleport.sh", identity.Cluster)
	require.Equal(t, destination.TypeMemory, c.Outputs[1].Destination.Type)

	app, ok := c.Outputs[2].Options.(*outputs.ApplicationOptions)
	require.True(t, ok)
	require.Equal(t, "my-app", app.AppName)
	require.Equal(t, "/opt/machine-id/app", c.Outputs[2].Destination.Directory.Path)
}

func TestNewestKeysOfTheOfficialAgent(t *testing.T) {
	c, err := Load("testdata/tbot-newest.good.yml")
	require.NoError(t, err)
	require.Equal(t, "kubernetes", c.Onboarding.JoinMethod)
	require.Equal(t, "/var/run/secrets/tokens/join-sa-token", c.Onboarding.Kubernetes.TokenPath)
	require.Equal(t, "for-ansible", c.Outputs[0].Name)
	require.Equal(t, 5*time.Minute, c.Outputs[0].Common.CredentialTTL)
	require.Equal(t, time.Minute, c.Outputs[0].Common.RenewalInterval)
	// Services come behind the outputs, and digits are text where text is due.
	require.Equal(t, "services[0]", c.Outputs[1].Path)
	require.Equal(t, "007", c.Outputs[1].Options.(*outputs.ApplicationOptions).AppName)
	require.Equal(t, time.Hour, c.Outputs[1].Common.CredentialTTL)
}

func TestAliasesAndMerges(t *testing.T) {
	c, err := Load("testdata/aliases.good.yml")
	require.NoError(t, err)
	for i, name := range []string{"one", "two", "three"} {
		app, ok := c.Outputs[i].Options.(*outputs.ApplicationOptions)
		require.True(t, ok)
		require.Equal(t, name, app.AppName)
		require.Equal(t, []string{"access", "audit"}, app.Roles)
		require.Equal(t, "/srv/"+name, c.Outputs[i].Destination.Directory.Path)
	}
}

func TestOwnKeys(t *testing.T) {
	c, err := Load("testdata/everything.good.yml")
	require.NoError(t, err)
	require.Equal(t, "/etc/rollcall/proxy-ca.pem", c.Cluster.ProxyCA)
	require.Negative(t, c.Cluster.SettleTime, "an explicit 0s is no settle time, not the default")
	require.Equal(t, 24*time.Hour, c.Cluster.SessionTTL)
	require.Equal(t, LogFormatJSON, c.LogFormat)
	require.Equal(t, destination.UpdateInPlace, c.Outputs[0].Destination.Directory.Update)

	var names []string
	for _, out := range c.Outputs {
		names = append(names, out.Name)
		require.Equal(t, out.Name, out.Common.Name)
	}
	require.Equal(t, []string{
		"shop_1", "application-ber-shop", "application-shop", "application-shop-2", "identity-memory",
	}, names)
}

func TestSessionFollowsALongTTL(t *testing.T) {
	c, err := load(t, "version: v2\nproxy_server: a.example.com:443\ncredential_ttl: 20h\n")
	require.NoError(t, err)
	require.Equal(t, 20*time.Hour, c.Cluster.SessionTTL)
}

func TestOneshotNeedsNoInterval(t *testing.T) {
	c, err := load(t, "version: v2\nproxy_server: a.example.com:443\ncredential_ttl: 5m\noneshot: true\n")
	require.NoError(t, err)
	require.Equal(t, 5*time.Minute, c.CredentialTTL)
}

func TestTokenImpliesItsMethod(t *testing.T) {
	c, err := load(t, "version: v2\nproxy_server: a.example.com:443\nonboarding: {token: abc}\n")
	require.NoError(t, err)
	require.Equal(t, "token", c.Onboarding.JoinMethod)
}

// TestTokenIsNeverPrinted goes through every way in which a configuration may
// end up in a log.
func TestTokenIsNeverPrinted(t *testing.T) {
	c, err := Load("testdata/application.good.yml")
	require.NoError(t, err)
	require.Contains(t, c.Onboarding.Token, secret)
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	logger.Info("loaded", "config", c)
	logger.Info(fmt.Sprint(c))
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d"} {
		fmt.Fprintf(&log, verb, c)
	}
	require.NotContains(t, log.String(), secret)
	require.Contains(t, log.String(), "(hidden)")
}

func TestTokenPlacesArePrinted(t *testing.T) {
	require.Equal(t, "/etc/token", showToken("/etc/token"))
	require.Equal(t, "credential:token", showToken("credential:token"))
	require.Equal(t, "(none)", showToken(""))
}

func TestFilesThatCannotBeRead(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "none.yaml")
	_, err := Load(missing)
	require.Equal(t, failure.Configuration, failure.KindOf(err))
	require.EqualError(t, err, "the configuration file "+missing+
		" doesn't exist: name another with -c, or make one with `rollcall configure -o "+missing+"`")

	_, err = Load(t.TempDir())
	require.Equal(t, failure.Configuration, failure.KindOf(err))
	require.ErrorContains(t, err, "is a directory")

	big := filepath.Join(t.TempDir(), "big.yaml")
	require.NoError(t, os.WriteFile(big, bytes.Repeat([]byte("#\n"), maxFile), 0o600))
	_, err = Load(big)
	require.ErrorContains(t, err, "larger than 1 MiB")
}

func TestManyAliasesAreRefused(t *testing.T) {
	text := "version: v2\nproxy_server: a.example.com:443\nonboarding: {ca_pins: [x]}\noutputs:\n"
	text += "  - &a {type: identity, destination: {type: memory}, roles: &r0 [" + "x, x, x, x, x, x, x, x, x, x" + "]}\n"
	for range 6000 {
		text += "  - *a\n"
	}
	_, err := load(t, text)
	require.ErrorContains(t, err, "the file's aliases make it too large")
}

func TestNearest(t *testing.T) {
	candidates := []string{"token", "join_method", "app_name", "acls"}
	for word, want := range map[string]string{
		"tokne": "token", "joinMethod": "join_method", "appname": "app_name", "acl": "acls",
		"join-metod": "join_method", "x": "", "": "", "frobnicate": "", "kubernetes": "",
	} {
		require.Equal(t, want, nearest(word, candidates), word)
	}
}
