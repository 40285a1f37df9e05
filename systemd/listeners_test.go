package systemd

import (
	"net"
	"os"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rollcall/failure"
)

// passed puts listening sockets at consecutive descriptors, as systemd does,
// and returns the first.
func passed(t *testing.T, count int) (first int) {
	t.Helper()
	const base = 200
	for i := range count {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		file, err := listener.(*net.TCPListener).File()
		require.NoError(t, err)
		require.NoError(t, unix.Dup3(int(file.Fd()), base+i, 0))
		require.NoError(t, file.Close())
		require.NoError(t, listener.Close())
	}
	return base
}

func listenEnv(count int, names string) environment {
	return environment{"LISTEN_PID": strconv.Itoa(os.Getpid()), "LISTEN_FDS": strconv.Itoa(count), "LISTEN_FDNAMES": names}
}

func TestListeners(t *testing.T) {
	first := passed(t, 2)
	found, err := listeners(listenEnv(2, "diag:").get, os.Getpid(), first)
	require.NoError(t, err)
	require.Len(t, found, 2)
	require.NotNil(t, found["unknown"])
	defer found["unknown"].Close()

	accepted := make(chan error, 1)
	go func() {
		conn, err := found["diag"].Accept()
		if err == nil {
			conn.Close()
		}
		accepted <- err
	}()
	conn, err := net.Dial("tcp", found["diag"].Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, <-accepted)
	require.NoError(t, found["diag"].Close())
	_, err = unix.FcntlInt(uintptr(first), unix.F_GETFD, 0)
	require.ErrorIs(t, err, unix.EBADF, "the passed descriptor isn't left open")
}

func TestListenersOfAnother(t *testing.T) {
	env := listenEnv(1, "diag")
	env["LISTEN_PID"] = "1"
	found, err := Listeners(env.get)
	require.NoError(t, err)
	require.Empty(t, found)
	found, err = Listeners(environment{}.get)
	require.NoError(t, err)
	require.Empty(t, found)
}

func TestListenersRefusals(t *testing.T) {
	for _, count := range []string{"", "0", "-1", "x", "65"} {
		env := listenEnv(1, "")
		env["LISTEN_FDS"] = count
		_, err := listeners(env.get, os.Getpid(), 200)
		require.ErrorContains(t, err, "LISTEN_FDS", count)
	}
	_, err := listeners(listenEnv(2, "diag:diag").get, os.Getpid(), passed(t, 2))
	require.ErrorContains(t, err, `two sockets are named "diag"`)
	require.Equal(t, failure.Configuration, failure.KindOf(err))

	file, err := os.Create(t.TempDir() + "/file")
	require.NoError(t, err)
	require.NoError(t, unix.Dup3(int(file.Fd()), 210, 0))
	require.NoError(t, file.Close())
	_, err = listeners(listenEnv(1, "diag").get, os.Getpid(), 210)
	require.ErrorContains(t, err, "can't be listened on")
}
