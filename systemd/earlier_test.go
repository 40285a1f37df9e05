package systemd

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestReadEarlier(t *testing.T) {
	options := DefaultUnit()
	options.User, options.Group, options.Binary = "teleport", "agents", "/opt/50%/$x/rollcall"
	options.Credential, options.TokenFile = "join", "/etc/50%/token"
	want := Earlier{
		User: "teleport", Group: "agents", Binary: "/opt/50%/$x/rollcall",
		TokenFiles: map[string]string{"join": "/etc/50%/token"},
	}
	require.Equal(t, want, ReadEarlier(options.Text()))

	want.TokenFiles = map[string]string{"join": "/etc/50%/token", "bearer": "/etc/bearer"}
	require.Equal(t, want, ReadEarlier(options.Text()+"LoadCredential=bearer:/etc/bearer\n"), "another doesn't take the token's place")

	options.Credential, options.TokenFile, want.TokenFiles = "", "", nil
	require.Equal(t, want, ReadEarlier(options.Text()))
	require.Zero(t, ReadEarlier("[Service]\nUser=somebody\n"), "it isn't ours")
	require.Zero(t, ReadEarlier(""))
}

// TestReadEarlierQuoted: what stands in quotes isn't guessed, but told of.
func TestReadEarlierQuoted(t *testing.T) {
	options := DefaultUnit()
	options.Binary, options.TokenFile, options.Config = "/opt/my tools/rollcall", "/etc/it's", "/etc/my bot.yaml"

	earlier := ReadEarlier(options.Text())

	require.Equal(t, Earlier{User: "rollcall", Group: "rollcall", Quoted: []string{"ExecStart", "LoadCredential"}}, earlier)
}

// TestReadEarlierQuotedConfig: the configuration's path isn't read from there.
func TestReadEarlierQuotedConfig(t *testing.T) {
	options := DefaultUnit()
	options.Config = "/etc/my bot.yaml"

	earlier := ReadEarlier(options.Text())

	require.Equal(t, options.Binary, earlier.Binary)
	require.Empty(t, earlier.Quoted)
}
