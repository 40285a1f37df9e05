package systemd

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHidden(t *testing.T) {
	for path, want := range map[string]string{
		"/home/ops/ca.pem": "ProtectHome=", "/root/hook": "ProtectHome=", "/run/user/7/x": "ProtectHome=", "/var/run/user/7/x": "ProtectHome=", "/home": "ProtectHome=",
		"/tmp/hook": "PrivateTmp=", "/var/tmp/../tmp/hook": "PrivateTmp=", "/etc/../tmp/x": "PrivateTmp=",
		"/etc/ca.pem": "", "/homes/x": "", "/var/lib/tmp": "", "/run/x": "", "tmp/x": "",
	} {
		require.Equal(t, want, Hidden(path), path)
	}
}

func TestUnitShowsWhatIsRead(t *testing.T) {
	options := DefaultUnit()
	options.Readable = []string{"/etc/ca.pem"}
	require.Equal(t, DefaultUnit().Text(), options.Text())
	options.Readable = append(options.Readable, "/root/ca.pem", "/tmp/hook")
	require.Contains(t, options.Text(), "\nProtectHome=read-only\n")
	require.Contains(t, options.Text(), "\nPrivateTmp=no\n")
}

// TestUnitLetsClientsIn: a socket is of no use behind a directory that its clients
// can't pass, or in one that the agent can't write to.
func TestUnitLetsClientsIn(t *testing.T) {
	options := DefaultUnit()
	require.Contains(t, options.Text(), "\nRuntimeDirectoryMode=0700\n")

	options.Sockets = []string{"/srv/app/a.sock", "/srv/app/b.sock"}
	require.NoError(t, options.Validate())
	require.Contains(t, options.Text(), "\nRuntimeDirectoryMode=0700\n")
	require.Equal(t, []string{"/opt/machine-id", "/srv/app"}, options.Writable())

	options.Sockets = []string{"/run/rollcall/a.sock"}
	require.Contains(t, options.Text(), "\nRuntimeDirectoryMode=0711\n")
	require.Equal(t, []string{"/opt/machine-id"}, options.Writable(), "the runtime directory is writable anyway")

	options.Sockets = []string{"/home/app/a.sock"}
	require.Contains(t, options.Text(), "\nProtectHome=read-only\n")
	require.Contains(t, options.Text(), "\nReadWritePaths=-/home/app\n")

	options.Sockets = []string{"/a.sock"}
	require.Equal(t, []string{"/opt/machine-id"}, options.Writable())

	options.Sockets = []string{"a.sock"}
	require.ErrorContains(t, options.Validate(), `"a.sock" can't stand in a unit`)
}
