package systemd

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestSockets says for which directories the sandbox is opened, and when clients
// may pass through the runtime directory.
func TestSockets(t *testing.T) {
	for _, test := range []struct {
		socket   string
		writable []string
		shared   bool
		passable bool
	}{
		{socket: "/srv/app/x.sock", writable: []string{"/srv/app"}},
		{socket: "/srv/app/../web/x.sock", writable: []string{"/srv/web"}},
		{socket: "/home/app/x.sock", writable: []string{"/home/app"}},
		{socket: "/tmp/app/x.sock", writable: []string{"/tmp/app"}},
		{socket: "/var/run/app/x.sock", writable: []string{"/run/app"}},
		{socket: "/run/rollcall/x.sock", passable: true},
		{socket: "/run/rollcall/below/x.sock", passable: true},
		{socket: "/var/run/rollcall/x.sock", passable: true},
		{socket: "/run/rollcall-2/x.sock", writable: []string{"/run/rollcall-2"}},
		{socket: "/run/rollcall", shared: true},
		{socket: "/run/x.sock", shared: true},
		{socket: "/var/run/x.sock", shared: true},
		{socket: "/run/app/../x.sock", shared: true},
		{socket: "/x.sock", shared: true},
		{socket: "/etc/x.sock", shared: true},
		{socket: "/etc/systemd/system/x.sock", shared: true},
		{socket: "/usr/local/bin/x.sock", shared: true},
		{socket: "/var/lib/x.sock", shared: true},
		{socket: "/tmp/x.sock", shared: true},
		{socket: "/var/tmp/x.sock", shared: true},
		{socket: "/home/x.sock", shared: true},
		{socket: "/root/x.sock", shared: true},
	} {
		t.Run(test.socket, func(t *testing.T) {
			options := UnitOptions{Name: "rollcall", Sockets: []string{test.socket}}
			require.Equal(t, test.writable, options.Writable())
			require.Equal(t, test.shared, Shared(test.socket))
			require.Equal(t, test.passable, options.Passable())
		})
	}
}
