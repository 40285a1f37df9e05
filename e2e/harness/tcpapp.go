package harness

import (
	"io"
	"net"
	"sync"
)

// TCPApp is a TCP application that answers with what it's sent, and closes
// when the other side has ended its own. A client that sends "bye" is closed
// by the application at once.
type TCPApp struct {
	// URL is tcp://127.0.0.1:PORT.
	URL string

	// mu protects the following.
	mu    sync.Mutex
	ended int
	open  map[net.Conn]struct{}
}

// NewTCPApp starts an application. It ends with the test.
func NewTCPApp(t T) *TCPApp {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("TCP application: %v", err)
	}
	a := &TCPApp{URL: "tcp://" + listener.Addr().String(), open: map[net.Conn]struct{}{}}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			a.add(conn)
			serving.Go(func() { a.serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		a.closeAll()
		serving.Wait()
	})
	return a
}

// Ended is how many clients have ended their side, as the application saw it.
func (a *TCPApp) Ended() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.ended
}

func (a *TCPApp) serve(conn net.Conn) {
	defer a.remove(conn)
	buffer := make([]byte, 64<<10)
	for {
		n, err := conn.Read(buffer)
		if string(buffer[:n]) == "bye" {
			return
		}
		if _, wrong := conn.Write(buffer[:n]); wrong != nil {
			return
		}
		if err != nil {
			if err == io.EOF {
				a.mu.Lock()
				a.ended++
				a.mu.Unlock()
			}
			return
		}
	}
}

func (a *TCPApp) add(conn net.Conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.open[conn] = struct{}{}
}

func (a *TCPApp) remove(conn net.Conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.open, conn)
	_ = conn.Close()
}

func (a *TCPApp) closeAll() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for conn := range a.open {
		_ = conn.Close()
	}
}
