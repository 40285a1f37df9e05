package systemd

import (
	"net"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"rollcall/failure"
)

// firstListener is the first descriptor that systemd passes
// (SD_LISTEN_FDS_START).
const firstListener = 3

// Listeners returns the stream sockets that a .socket unit passes, by their
// FileDescriptorName=; none outside systemd. Call it once, before anything else
// opens descriptors: it takes them over. What isn't a listening stream socket
// is a failure.Configuration.
func Listeners(getenv func(string) string) (map[string]net.Listener, error) {
	return listeners(getenv, os.Getpid(), firstListener)
}

func listeners(getenv func(string) string, pid, first int) (map[string]net.Listener, error) {
	// The variables are inherited by the children of whom they were meant for.
	if getenv("LISTEN_PID") != strconv.Itoa(pid) {
		return nil, nil
	}
	count, err := strconv.Atoi(getenv("LISTEN_FDS"))
	if err != nil || count <= 0 || count > 64 {
		return nil, failure.New(failure.Configuration, "LISTEN_FDS is %q and must be a small positive number", getenv("LISTEN_FDS"))
	}
	names := strings.Split(getenv("LISTEN_FDNAMES"), ":")
	found := make(map[string]net.Listener, count)
	for i := range count {
		name := "unknown"
		if i < len(names) && names[i] != "" {
			name = names[i]
		}
		listener, err := take(first+i, name)
		if err == nil && found[name] != nil {
			_ = listener.Close()
			err = failure.New(failure.Configuration, "two sockets are named %q; give each .socket unit a FileDescriptorName= of its own", name)
		}
		if err != nil {
			for _, other := range found {
				_ = other.Close()
			}
			return nil, err
		}
		found[name] = listener
	}
	return found, nil
}

// take makes a listener of one descriptor, and keeps it from the programs that
// hooks start.
func take(fd int, name string) (net.Listener, error) {
	unix.CloseOnExec(fd)
	file := os.NewFile(uintptr(fd), name)
	defer file.Close() // FileListener has a duplicate
	listener, err := net.FileListener(file)
	return listener, failure.Wrap(failure.Configuration, err,
		"the socket %q that systemd passes can't be listened on (%v); it must have ListenStream=, and Accept=no", name, err)
}
