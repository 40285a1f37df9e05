//go:build race

package socket

import "syscall"

// The race detector has to see these calls: what is done before a write has been
// done when it's read, and who reads writes to p. Package syscall tells it.

func read(fd uintptr, p []byte) (int, syscall.Errno) { return toldRead(fd, p) }

func write(fd uintptr, p []byte) (int, syscall.Errno) {
	n, err := syscall.Write(int(fd), p)
	return withErrno(n, err)
}
