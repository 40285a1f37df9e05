package tunnel

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// families are those of the addresses that a socket takes connections on, by the
// kernel's word: a connection to its port might be somebody else's.
func families(t *testing.T, e *endpoint) string {
	t.Helper()
	raw, err := e.Listener.(*net.TCPListener).SyscallConn()
	require.NoError(t, err)
	took := "4"
	require.NoError(t, raw.Control(func(fd uintptr) {
		domain, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DOMAIN)
		require.NoError(t, err)
		if domain != unix.AF_INET6 {
			return
		}
		took = "4 and 6"
		alone, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_V6ONLY)
		require.NoError(t, err)
		if alone == 1 {
			took = "6"
		}
	}))
	return took
}

// TestAnAddressIsListenedOnAlone: who names all addresses of IPv4 doesn't open
// the host to those who come by IPv6.
func TestAnAddressIsListenedOnAlone(t *testing.T) {
	probe, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Skip("this host has no IPv6")
	}
	require.NoError(t, probe.Close())
	for listen, want := range map[string]string{
		"tcp://0.0.0.0:0": "4", "tcp://127.0.0.1:0": "4", "tcp://[::ffff:127.0.0.1]:0": "4",
		"tcp://[::]:0": "6", "tcp://[::1]:0": "6", "tcp://:0": "4 and 6",
	} {
		e := bound(t, ListenOptions{Listen: listen, AllowRemote: true})

		require.Equal(t, want, families(t, e), listen)
	}
}
