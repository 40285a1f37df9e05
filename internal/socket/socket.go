// Package socket reads and writes sockets at less cost to Go's scheduler. It knows
// the kernel's calls and the Go runtime, and nothing of what goes over a connection.
//
// The standard library tells the scheduler of each call of the system, since it
// may block: another thread can take over then. In a process that rests between
// two messages that wakes the runtime's monitor each time, which naps 20
// microseconds at a time until nothing has happened for a while. In the local proxy
// that made two naps for each small request, three times as many wake-ups of
// threads, and a fifth of the processor's time. But a socket of package net never
// blocks: here the same calls are made without that. How to wait, deadlines and
// closing are package net's as before.
//
// A rest is also when the monitor falls asleep, and only a call that the scheduler
// is told of wakes it. The monitor sees to those who wait while all processors are
// busy. So of many reads in a row without a wait, some are told.
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

// mostInARow is how many reads in a row without a wait are made without telling the
// scheduler. Who never waits keeps its thread busy: the monitor has to be awake, or
// other connections and timers wouldn't get their turn.
const mostInARow = 8

// call is read or write of the system's.
type call func(fd uintptr, p []byte) (int, syscall.Errno)

// Conn is a connection over a socket. Like those of any net.Conn, its methods may
// be called by several goroutines at once.
type Conn struct {
	net.Conn
	reading, writing side
}

// side is one direction.
type side struct {
	raw syscall.RawConn
	// await has a call made when it can be, and again after each wait, until it
	// returns true.
	await func(try func(fd uintptr) bool) error
	call  call
	// told is the same call in package syscall's way, nil: it's never needed.
	told call
	// mu protects the following, which belong to the call under way.
	mu    sync.Mutex
	p     []byte
	n     int
	errno syscall.Errno
	// row is how many calls were made since a wait, or since one that was told.
	row int
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
	raw, err := conn.(syscall.Conn).SyscallConn() //nolint:forcetypeassert // Both kinds have it.
	if err != nil {
		return conn // it was never opened, as its next user sees
	}
	c := &Conn{Conn: conn}
	c.reading.init(raw, raw.Read, read, toldRead)
	c.writing.init(raw, raw.Write, write, nil)
	return c
}

func (s *side) init(raw syscall.RawConn, await func(func(uintptr) bool) error, call, told call) {
	s.raw, s.await, s.call, s.told = raw, await, call, told
	s.tries, s.look = s.try, s.tryNow
}

// try makes the call, and returns false if it would have to wait.
func (s *side) try(fd uintptr) bool {
	s.tryNow(fd)
	if s.errno == syscall.EAGAIN {
		s.row = 0
		return false
	}
	return true
}

// tryNow makes the call.
func (s *side) tryNow(fd uintptr) {
	call := s.call
	if s.told != nil && s.row >= mostInARow {
		call, s.row = s.told, -1
	}
	s.errno = syscall.EINTR
	for s.errno == syscall.EINTR {
		s.n, s.errno = call(fd, s.p[:min(len(s.p), most)])
	}
	s.row++
}

// Read reads what has come, at least a byte of it, when something has.
func (c *Conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return c.Conn.Read(p)
	}
	c.reading.mu.Lock()
	defer c.reading.mu.Unlock()
	return c.came(c.reading.do(p))
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
		return c.Conn.Read(p)
	}
	c.reading.mu.Lock()
	defer c.reading.mu.Unlock()
	return c.came(c.reading.now(p))
}

// Write sends p, and nothing of another Write in between. A deadline may end it
// between two parts of what is long.
func (c *Conn) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return c.Conn.Write(p)
	}
	c.writing.mu.Lock()
	defer c.writing.mu.Unlock()
	sent := 0
	for sent < len(p) {
		n, err := c.writing.do(p[sent:])
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

// do makes the call, when it can be made. The caller holds mu.
func (s *side) do(p []byte) (int, error) {
	s.p = p
	err := s.await(s.tries)
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

// toldRead is read with the scheduler told.
func toldRead(fd uintptr, p []byte) (int, syscall.Errno) {
	n, err := syscall.Read(int(fd), p)
	return withErrno(n, err)
}

// withErrno is what a call of package syscall returns as one of ours.
func withErrno(n int, err error) (int, syscall.Errno) {
	errno, _ := err.(syscall.Errno) //nolint:errorlint // It's what package syscall returns, and nothing else.
	return n, errno
}
