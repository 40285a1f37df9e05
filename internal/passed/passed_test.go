package passed

import (
	"net"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAgain(t *testing.T) {
	for network, address := range map[string]string{
		"tcp":  "127.0.0.1:0",
		"unix": filepath.Join(t.TempDir(), "s"),
	} {
		t.Run(network, func(t *testing.T) {
			first, err := net.Listen(network, address)
			require.NoError(t, err)
			defer first.Close()
			for range 3 {
				another, err := Again(first)
				require.NoError(t, err)
				require.Equal(t, first.Addr(), another.Addr())
				client, err := net.Dial(network, first.Addr().String())
				require.NoError(t, err)
				conn, err := another.Accept()
				require.NoError(t, err)
				require.NoError(t, conn.Close())
				require.NoError(t, client.Close())

				// One that nobody has accepted waits for the next listener.
				waiting, err := net.Dial(network, first.Addr().String())
				require.NoError(t, err)
				require.NoError(t, another.Close())
				conn, err = first.Accept()
				require.NoError(t, err)
				require.NoError(t, conn.Close())
				require.NoError(t, waiting.Close())
			}
		})
	}
}

func TestAgainNeedsADescriptor(t *testing.T) {
	first, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, first.Close())
	_, err = Again(first)
	require.ErrorIs(t, err, net.ErrClosed)
	_, err = Again(struct{ net.Listener }{first})
	require.ErrorIs(t, err, ErrNoDescriptor)
}
