package diagnostics

import (
	"errors"
	"io/fs"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"rollcall/failure"
)

// ListenLocal listens on a unix socket that only root and this process's own
// user can use: by its mode, and by asking the kernel who calls. A socket that
// an earlier run left is replaced; whoever calls must know that no other agent
// uses the path.
func ListenLocal(path string) (net.Listener, error) {
	info, err := os.Lstat(path)
	switch {
	case err == nil && info.Mode().Type() != fs.ModeSocket:
		return nil, failure.New(failure.Configuration, "%s is in the way: it's no socket; remove it", path)
	case err == nil:
		err = os.Remove(path)
	case errors.Is(err, fs.ErrNotExist):
		err = nil
	}
	if err != nil {
		return nil, failure.Wrap(failure.Configuration, err, "the status socket %s can't be made: %s", path, rootCause(err))
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, failure.Wrap(failure.Configuration, err, "the status socket %s can't be made: %s", path, rootCause(err))
	}
	if err := os.Chmod(path, 0o600); err != nil {
		_ = listener.Close()
		return nil, failure.Wrap(failure.Configuration, err, "the status socket %s can't be protected: %s", path, rootCause(err))
	}
	return &localListener{Listener: listener, uid: os.Getuid()}, nil
}

// localListener drops connections of other users.
type localListener struct {
	net.Listener
	uid int
}

// Accept returns the next connection of root or of the own user.
func (l *localListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if uid, ok := peer(conn); ok && (uid == 0 || uid == l.uid) {
			return conn, nil
		}
		_ = conn.Close()
	}
}

// peer returns the user at the other end of a unix socket.
func peer(conn net.Conn) (uid int, ok bool) {
	socket, ok := conn.(*net.UnixConn)
	if !ok {
		return 0, false
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return 0, false
	}
	var creds *unix.Ucred
	if controlErr := raw.Control(func(fd uintptr) {
		creds, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); controlErr != nil || err != nil {
		return 0, false
	}
	return int(creds.Uid), true
}
