package tunnel

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/gravitational/trace"
	"golang.org/x/sys/unix"

	"rollcall/acl"
	"rollcall/failure"
)

// unknownUser stands for a client whose user isn't known.
const unknownUser = int64(-1)

// peerTable is where the kernel shows TCP sockets and their users.
const peerTable = "/proc/net/"

// peers knows which users' programs may connect.
type peers struct {
	// allowed are ids; nil: everybody.
	allowed []uint32
	// ask is true if the user is of interest, be it for the access log.
	ask bool
}

// newPeers looks the users up.
func newPeers(users []string, ask bool, names Names) (peers, error) {
	p := peers{ask: ask || len(users) > 0}
	for _, name := range users {
		id, err := acl.LookupUser(name)
		if err != nil {
			return peers{}, failure.Wrap(failure.Configuration, err, "%s: %s", names.Of("peer_users"), err)
		}
		p.allowed = append(p.allowed, id)
	}
	return p, nil
}

// user returns the user at the other end of a connection, or unknownUser.
func (p peers) user(conn net.Conn) int64 {
	if !p.ask {
		return unknownUser
	}
	switch conn := conn.(type) {
	case *net.UnixConn:
		return unixUser(conn)
	case *net.TCPConn:
		return tcpUser(conn)
	default:
		return unknownUser
	}
}

// permits says whether a user may connect. One that isn't known may not, if any
// are named.
func (p peers) permits(user int64) bool {
	return p.allowed == nil || (user >= 0 && slices.Contains(p.allowed, uint32(user)))
}

// unixUser asks the kernel who connected.
func unixUser(conn *net.UnixConn) int64 {
	raw, err := conn.SyscallConn()
	if err != nil {
		return unknownUser
	}
	user := unknownUser
	err = raw.Control(func(fd uintptr) {
		if creds, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			user = int64(creds.Uid)
		}
	})
	if err != nil {
		return unknownUser
	}
	return user
}

// tcpUser looks for the other end of a loopback connection among the host's
// sockets. The table isn't read at one moment, and a socket may be passed over
// while others come and go: so it's looked at more than once before the answer
// is "unknown".
func tcpUser(conn *net.TCPConn) int64 {
	local, ok := conn.LocalAddr().(*net.TCPAddr)
	if !ok {
		return unknownUser
	}
	remote, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok || !remote.IP.IsLoopback() {
		return unknownUser
	}
	for range 3 {
		for _, table := range []string{"tcp", "tcp6"} {
			user, err := lookUser(table, remote.AddrPort(), local.AddrPort())
			if err == nil {
				return user
			}
		}
	}
	return unknownUser
}

var errNoSocket = errors.New("the socket isn't in the kernel's table")

func lookUser(table string, from, to netip.AddrPort) (int64, error) {
	file, err := os.Open(peerTable + table)
	if err != nil {
		return 0, trace.Wrap(err)
	}
	defer file.Close()
	return findUser(file, from, to)
}

// connected are the states, as the kernel prints them, of a socket whose
// program has it open: established, and with one of the sides ended, which a
// program may do as soon as it has sent its request.
func connected(state string) bool {
	switch state {
	case "01", "04", "05", "08": // ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT
		return true
	default:
		return false
	}
}

// findUser reads a table in the form of /proc/net/tcp and returns the user of
// the connected socket between two addresses. A socket without an inode
// belongs to nobody any more, and is shown as root's.
func findUser(table io.Reader, from, to netip.AddrPort) (int64, error) {
	from, to = plain(from), plain(to)
	lines := bufio.NewScanner(table)
	lines.Scan() // the heading
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 10 || !connected(fields[3]) || fields[9] == "0" {
			continue
		}
		if parseAddr(fields[1]) != from || parseAddr(fields[2]) != to {
			continue
		}
		user, err := strconv.ParseUint(fields[7], 10, 32)
		return int64(user), trace.Wrap(err)
	}
	if err := lines.Err(); err != nil {
		return 0, trace.Wrap(err)
	}
	return 0, errNoSocket
}

// parseAddr reads an address as the kernel prints it: 32-bit words in the
// host's own order, in hexadecimal, and the port.
func parseAddr(text string) netip.AddrPort {
	host, port, _ := strings.Cut(text, ":")
	number, err := strconv.ParseUint(port, 16, 16)
	if err != nil || len(host)%8 != 0 {
		return netip.AddrPort{}
	}
	var raw []byte
	for ; len(host) > 0; host = host[8:] {
		word, err := strconv.ParseUint(host[:8], 16, 32)
		if err != nil {
			return netip.AddrPort{}
		}
		raw = binary.NativeEndian.AppendUint32(raw, uint32(word))
	}
	addr, ok := netip.AddrFromSlice(raw)
	if !ok {
		return netip.AddrPort{}
	}
	return plain(netip.AddrPortFrom(addr, uint16(number)))
}

// plain gives addresses that mean the same the same form.
func plain(addr netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(addr.Addr().Unmap().WithZone(""), addr.Port())
}
