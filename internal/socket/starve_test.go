package socket

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// serverMode makes the test binary a server.
const serverMode = "SOCKET_TEST_SERVER"

func TestMain(m *testing.M) {
	if os.Getenv(serverMode) != "" {
		serve()
		return
	}
	os.Exit(m.Run())
}

// serve says where it listens. Of a connection that begins with 'p' it returns each
// byte, of others it reads all that comes. It ends with its input.
func serve() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(listener.Addr())
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				conn := Over(conn)
				defer conn.Close()
				p := make([]byte, 1<<10)
				for {
					n, err := conn.Read(p)
					if err != nil {
						return
					}
					if p[0] == 'p' {
						_, _ = conn.Write(p[:n])
						continue
					}
					for began := time.Now(); time.Since(began) < 20*time.Microsecond; { //nolint:revive // Work: who sends is quicker.
					}
				}
			}()
		}
	}()
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// TestAFloodLeavesOthersTheirTurn: on a host with one processor, who never has to
// wait would keep it for seconds after a rest, when nobody is awake to take it away.
func TestAFloodLeavesOthersTheirTurn(t *testing.T) {
	server := exec.CommandContext(t.Context(), os.Args[0])
	server.Env = append(os.Environ(), serverMode+"=yes", "GOMAXPROCS=1")
	in, err := server.StdinPipe()
	require.NoError(t, err)
	out, err := server.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, server.Start())
	t.Cleanup(func() { _, _ = in.Close(), server.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	open := func() net.Conn {
		conn, err := net.Dial("tcp", strings.TrimSpace(line))
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	ping := open()
	answered := func() error {
		_ = ping.SetDeadline(time.Now().Add(10 * time.Second)) // it's a few dozen milliseconds
		if _, err := ping.Write([]byte("p")); err != nil {
			return err
		}
		_, err := io.ReadFull(ping, make([]byte, 1))
		return err
	}
	floods := []net.Conn{open(), open()}
	require.NoError(t, answered())
	time.Sleep(200 * time.Millisecond) // The rest: nothing tells when the monitor sleeps.

	for _, flood := range floods {
		go func() {
			for p := make([]byte, 1<<20); ; {
				if _, err := flood.Write(p); err != nil {
					return
				}
			}
		}()
	}

	for range 5 {
		require.NoError(t, answered())
	}
}
