package tunnel

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"rollcall/acl"
	"rollcall/destination"
	"rollcall/failure"
)

// endpoint is a bound address.
type endpoint struct {
	net.Listener
	// unix says that it's a unix socket.
	unix bool
	// remote says that other hosts may reach it.
	remote bool
	// display is the address as the configuration would have it.
	display string
	// path and inode are those of a socket that we made.
	path  string
	inode uint64
	once  sync.Once
}

// Close removes the socket that was made unless something else has its name by
// now, and then closes the listener: the other way round, what comes next might
// get the inode. It's safe for concurrent use, and does it once.
func (e *endpoint) Close() error {
	err := net.ErrClosed
	e.once.Do(func() {
		if e.path != "" {
			if info, err := os.Lstat(e.path); err == nil && inodeOf(info) == e.inode {
				_ = os.Remove(e.path) // a socket that stays is replaced by the next run
			}
		}
		err = e.Listener.Close()
	})
	return err
}

// bind listens where the options say, or takes the socket that was passed.
func bind(ctx context.Context, opts ListenOptions, passed net.Listener) (*endpoint, error) {
	if passed != nil {
		return adopt(passed, opts)
	}
	network, address, err := parseListen(opts.Listen)
	if err != nil {
		return nil, failure.New(failure.Configuration, "%s: %s", opts.Names.Of("listen"), err)
	}
	if network == networkUnix {
		return bindUnix(address, opts.Socket, opts.Names)
	}
	listener, err := new(net.ListenConfig).Listen(ctx, familyOf(address), address)
	if err != nil {
		return nil, failure.Wrap(failure.Configuration, err, "%s can't be listened on: %s", opts.Listen, systemCause(err))
	}
	return checked(&endpoint{Listener: listener}, opts)
}

// familyOf is the network to listen on for an address of TCP: with "tcp", Go takes
// 0.0.0.0 for all addresses, those of IPv6 included, which the configuration
// doesn't name. A name, or none, may be of both.
func familyOf(address string) string {
	host, _, _ := net.SplitHostPort(address) // it was parsed
	ip, err := netip.ParseAddr(host)
	switch {
	case err != nil:
		return networkTCP
	case ip.Unmap().Is4():
		return "tcp4"
	default:
		return "tcp6"
	}
}

// adopt takes a socket of systemd's, whose permissions are its unit's affair.
func adopt(listener net.Listener, opts ListenOptions) (*endpoint, error) {
	return checked(&endpoint{Listener: listener}, opts)
}

// checked looks at what was bound in the end: a name may stand for any address.
func checked(e *endpoint, opts ListenOptions) (*endpoint, error) {
	e.display = e.Addr().Network() + "://" + e.Addr().String()
	switch addr := e.Addr().(type) {
	case *net.UnixAddr:
		e.unix = true
	case *net.TCPAddr:
		e.remote = !addr.IP.IsLoopback()
	default:
		e.remote = true
	}
	if e.remote && !opts.AllowRemote {
		_ = e.Listener.Close() // the refusal is what matters
		return nil, failure.New(failure.Configuration,
			"%s isn't an address of this host alone: listen on 127.0.0.1, or set %s together with %s", e.display, opts.Names.on("allow_remote"), opts.Names.Of("bearer_token"))
	}
	if e.remote && len(opts.PeerUsers) > 0 {
		_ = e.Listener.Close()
		return nil, failure.New(failure.Configuration, "%s can't be checked on %s, which other hosts reach: listen on a loopback address", opts.Names.Of("peer_users"), e.display)
	}
	return e, nil
}

// bindUnix makes a socket that nobody but its owner can reach before it has the
// permissions that it's meant to have: it's made in a private directory beside
// the path, and moved there when it's ready.
func bindUnix(path string, opts SocketOptions, names Names) (*endpoint, error) {
	fail := func(err error) (*endpoint, error) {
		return nil, failure.Wrap(failure.Configuration, err, "the socket %s can't be made: %s", path, systemCause(err))
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	private, err := os.MkdirTemp(filepath.Dir(path), ".rc-")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, noDirectory(path, err)
	}
	if err != nil {
		return fail(err)
	}
	defer os.RemoveAll(private)
	temp := filepath.Join(private, "s")
	listener, err := net.ListenUnix(networkUnix, &net.UnixAddr{Name: temp, Net: networkUnix})
	if err != nil {
		return fail(err)
	}
	listener.SetUnlinkOnClose(false)
	inode, err := permit(temp, opts, names)
	if err == nil {
		// Whatever has come to stand there meanwhile isn't ours.
		err = unix.Renameat2(unix.AT_FDCWD, temp, unix.AT_FDCWD, path, unix.RENAME_NOREPLACE)
	}
	if err != nil {
		_ = listener.Close()
		var told *failure.Error
		if errors.As(err, &told) {
			return nil, err
		}
		return fail(err)
	}
	return &endpoint{Listener: listener, unix: true, display: "unix://" + path, path: path, inode: inode}, nil
}

// noDirectory says what is to be made before a socket can be. What is below /run
// is gone after a start of the host, unless somebody makes it each time.
func noDirectory(path string, err error) error {
	dir := filepath.Dir(path)
	remedy := "make it (`mkdir -p " + dir + "`)"
	if name, ok := strings.CutPrefix(dir, "/run/"); ok {
		remedy += ", or have systemd make it at each start (RuntimeDirectory=" + name + " in the unit)"
	}
	return failure.Wrap(failure.Configuration, err, "the socket %s can't be made, since the directory %s doesn't exist: %s", path, dir, remedy)
}

// removeStale removes a socket of ours that nobody listens on any more, and
// refuses anything else.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return failure.Wrap(failure.Configuration, err, "the socket %s can't be made: %s", path, systemCause(err))
	case info.Mode().Type() != fs.ModeSocket:
		return failure.New(failure.Configuration, "%s is in the way of the socket: it's no socket, and is left alone; remove it, or listen elsewhere", path)
	}
	conn, err := net.DialTimeout(networkUnix, path, time.Second)
	if err == nil {
		_ = conn.Close()
		return failure.New(failure.Configuration, "somebody listens on %s already: stop it, or listen elsewhere", path)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int64(stat.Uid) != int64(os.Geteuid()) && os.Geteuid() != 0 {
		return failure.New(failure.Configuration, "%s is a socket of another user, and is left alone: remove it, or listen elsewhere", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return failure.Wrap(failure.Configuration, err, "there's a socket at %s, and it can't be said whether it's in use: %s", path, systemCause(err))
	}
	return os.Remove(path)
}

// permit gives a socket its owner, mode and ACL, and returns its inode.
func permit(path string, opts SocketOptions, names Names) (uint64, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	// A socket can't be opened, but reached through its O_PATH descriptor.
	handle := "/proc/self/fd/" + strconv.Itoa(fd)
	mode, err := opts.mode()
	if err != nil {
		return 0, failure.New(failure.Configuration, "%s %q isn't octal", names.Of("socket.mode"), opts.Mode)
	}
	uid, gid, err := opts.owner(names)
	if err != nil {
		return 0, err
	}
	if err := os.Chmod(handle, fs.FileMode(mode)&fs.ModePerm); err != nil {
		return 0, err
	}
	if len(opts.Readers) > 0 {
		if err := allowReaders(handle, mode, opts.Readers); err != nil {
			return 0, err
		}
	}
	if uid >= 0 || gid >= 0 {
		if err := os.Chown(handle, uid, gid); err != nil {
			return 0, failure.Wrap(failure.Configuration, err, "the socket can't be given to user %q, group %q (%s): only root may give it to another user, and others only to a group of their own", opts.User, opts.Group, systemCause(err))
		}
	}
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return 0, err
	}
	return stat.Ino, nil
}

// owner returns the ids, -1 for what stays as it is.
func (o *SocketOptions) owner(names Names) (uid, gid int, err error) {
	uid, gid = -1, -1
	if o.User != "" {
		id, err := acl.LookupUser(o.User)
		if err != nil {
			return 0, 0, failure.Wrap(failure.Configuration, err, "%s: %s", names.Of("socket.user"), err)
		}
		uid = int(id)
	}
	if o.Group != "" {
		id, err := acl.LookupGroup(o.Group)
		if err != nil {
			return 0, 0, failure.Wrap(failure.Configuration, err, "%s: %s", names.Of("socket.group"), err)
		}
		gid = int(id)
	}
	return uid, gid, nil
}

// allowReaders adds those who may connect to what the mode says: to connect one
// needs to write.
func allowReaders(handle string, mode uint32, readers []destination.Reader) error {
	named, err := destination.ResolveReaders(readers)
	if err != nil {
		return failure.Wrap(failure.Configuration, err, "socket.readers: %s", err)
	}
	for i := range named {
		named[i].Perm = acl.Read | acl.Write
	}
	list := acl.New(acl.Perm(mode>>6&7), named...)
	group := acl.Perm(mode >> 3 & 7)
	for i := range list {
		switch list[i].Tag {
		case acl.OwnerGroup:
			list[i].Perm = group
		case acl.Other:
			list[i].Perm = acl.Perm(mode & 7)
		case acl.Mask:
			list[i].Perm |= group
		}
	}
	if err := unix.Setxattr(handle, string(acl.Access), list.Encode(), 0); err != nil {
		return failure.Wrap(failure.Configuration, err, "socket.readers: the socket's directory is on a file system without ACLs, or they can't be set (%s): use socket.group", systemCause(err))
	}
	return nil
}

func inodeOf(info fs.FileInfo) uint64 {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return stat.Ino
	}
	return 0
}

// systemCause is what the kernel said, in plain words.
func systemCause(err error) string {
	var number syscall.Errno
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return "somebody else listens there already"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "this host has no such address"
	case errors.Is(err, syscall.EACCES):
		return "the permission is missing (ports below 1024 need CAP_NET_BIND_SERVICE)"
	case errors.Is(err, syscall.EEXIST):
		return "something is there already"
	case errors.As(err, &number):
		return number.Error()
	default:
		return fmt.Sprint(err)
	}
}
