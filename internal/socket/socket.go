// Package socket reads and writes sockets at less cost to Go's scheduler.
//
// The standard library tells the scheduler of each call of the system, since it
// may block: another thread can take over then. In a process that rests between
// two messages that wakes the runtime's monitor each time, which naps 20
// microseconds at a time until nothing has happened for a while. In the local proxy
// that made two naps for each small request, three times as many wake-ups of
// threads, and a fifth of the processor's time. But a socket of package net never
// blocks, so there's nothing to tell: here the same calls are made without that.
// How to wait, deadlines and closing are package net's as before.
package socket

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
)

// most is how much one call reads or writes at most, in bytes. The processor can't
// be taken away meanwhile, and the collector waits for it: so a call has to be
// short.
const most = 128 << 10

// Conn is a connection over a socket. Like those of any net.Conn, its methods may
// be called by several goroutines at once.
type Conn struct {
	net.Conn
	reading, writing side
}

// side is one direction.
type side struct {
	raw  syscall.RawConn
	call func(fd uintptr, p []byte) (int, syscall.Errno)
	// mu protects the following, which belong to the call under way.
	mu    sync.Mutex
	p     []byte
	n     int
	errno syscall.Errno
	// tries and look are try and tryNow, made once: each use of a method as a
	// function takes memory.
	tries func(fd uintptr) bool
	look  func(fd uintptr)
}

// Over returns a connection that uses conn's socket, or conn itself if it isn't
// one of the kernel's. Either takes its place.
func Over(conn net.Conn) net.Conn {
	switch conn.(type) {
	case *net.TCPConn, *net.UnixConn:
	default:
		return conn
	}
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return conn // closed already, as its next user sees
	}
	c := &Conn{Conn: conn}
	c.reading.init(raw, read)
	c.writing.init(raw, write)
	return c
}

func (s *side) init(raw syscall.RawConn, call func(fd uintptr, p []byte) (int, syscall.Errno)) {
	s.raw, s.call = raw, call
	s.tries, s.look = s.try, s.tryNow
}

// try makes the call, and returns false if it would have to wait.
func (s *side) try(fd uintptr) bool {
	s.tryNow(fd)
	return s.errno != syscall.EAGAIN
}

// tryNow makes the call.
func (s *side) tryNow(fd uintptr) {
	s.errno = syscall.EINTR
	for s.errno == syscall.EINTR {
		s.n, s.errno = s.call(fd, s.p[:min(len(s.p), most)])
	}
}

// Read reads what has come, at least a byte of it, when something has.
func (c *Conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	c.reading.mu.Lock()
	defer c.reading.mu.Unlock()
	return c.came(c.reading.do(p, c.reading.raw.Read))
}

// came is what a read returns.
func (c *Conn) came(n int, err error) (int, error) {
	switch {
	case errors.Is(err, syscall.EAGAIN):
		return 0, ErrNothing
	case err != nil:
		return 0, c.failed("read", err)
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

// ErrNothing is what ReadNow returns where Read would wait.
var ErrNothing = errors.New("nothing has come")

// ReadNow is Read, but for what would be a wait, and whatever the deadline is. Only
// another Read that is under way is waited for.
func (c *Conn) ReadNow(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	c.reading.mu.Lock()
	defer c.reading.mu.Unlock()
	return c.came(c.reading.now(p))
}

// Write sends p, and nothing of another Write in between.
func (c *Conn) Write(p []byte) (int, error) {
	c.writing.mu.Lock()
	defer c.writing.mu.Unlock()
	sent := 0
	for sent < len(p) {
		n, err := c.writing.do(p[sent:], c.writing.raw.Write)
		sent += n
		switch {
		case err != nil:
			return sent, c.failed("write", err)
		case n == 0:
			return sent, io.ErrUnexpectedEOF // as package net has it; sockets don't do that
		}
	}
	return sent, nil
}

// CloseWrite tells the peer that nothing more will be sent.
func (c *Conn) CloseWrite() error {
	return c.Conn.(interface{ CloseWrite() error }).CloseWrite() //nolint:forcetypeassert // Both kinds have it.
}

// SyscallConn gives access to the socket.
func (c *Conn) SyscallConn() (syscall.RawConn, error) { return c.reading.raw, nil }

// failed is an error as package net words it.
func (c *Conn) failed(op string, err error) error {
	failed := &net.OpError{Op: op, Net: c.LocalAddr().Network(), Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
	var raw *net.OpError
	if errors.As(err, &raw) {
		failed.Err = raw.Err
	} else {
		failed.Err = os.NewSyscallError(op, err)
	}
	return failed
}

// do makes the call, as soon as await lets it. The caller holds mu.
func (s *side) do(p []byte, await func(try func(fd uintptr) bool) error) (int, error) {
	s.p = p
	err := await(s.tries)
	return s.result(err)
}

// now makes the call at once. The caller holds mu.
func (s *side) now(p []byte) (int, error) {
	s.p = p
	err := s.raw.Control(s.look)
	return s.result(err)
}

// result is what came of a call, or the error that kept it from being made.
func (s *side) result(err error) (int, error) {
	s.p = nil
	switch {
	case err != nil:
		return 0, err
	case s.errno != 0:
		return 0, s.errno
	}
	return s.n, nil
}
