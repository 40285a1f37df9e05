package systemd

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestReadEarlier(t *testing.T) {
	options := DefaultUnit()
	options.User, options.Group, options.Credential, options.TokenFile = "teleport", "agents", "join", "/etc/50%/token"
	require.Equal(t, Earlier{"teleport", "agents", "join", "/etc/50%/token"}, ReadEarlier(options.Text()))

	options.Credential, options.TokenFile = "", ""
	require.Equal(t, Earlier{User: "teleport", Group: "agents"}, ReadEarlier(options.Text()))
	options = DefaultUnit()
	options.TokenFile = "/etc/it's"
	require.Equal(t, Earlier{User: "rollcall", Group: "rollcall"}, ReadEarlier(options.Text()), "what is quoted isn't guessed")
	require.Zero(t, ReadEarlier("[Service]\nUser=somebody\n"), "it isn't ours")
	require.Zero(t, ReadEarlier(""))
}
