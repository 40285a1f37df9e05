package systemd

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHidden(t *testing.T) {
	for path, want := range map[string]string{
		"/home/ops/ca.pem": "ProtectHome=", "/root/hook": "ProtectHome=", "/run/user/7/x": "ProtectHome=", "/home": "ProtectHome=",
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
