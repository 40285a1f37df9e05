package tunnel

import (
	"context"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rollcall/acl"
	"rollcall/destination"
	"rollcall/diagnostics"
	"rollcall/failure"
)

func viaSocket(path string) *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
}

func TestUnixSocket(t *testing.T) {
	f := newFakeTeleport(t, hello)
	path := filepath.Join(shortDir(t), "app.sock")
	r := run(t, f.Listener.Addr().String(), func(o *Options, _ *Dependencies, _ *fakeSource) {
		o.Listen, o.PeerUsers = "unix://"+path, []string{strconv.Itoa(os.Getuid())}
	})
	info, err := os.Lstat(path)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), info.Mode().Perm())
	resp, err := viaSocket(path).Get("http://whatever/")
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, "serial-1", string(body))

	require.NoError(t, r.stop())
	require.NoFileExists(t, path)
	left, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Empty(t, left)
}

func bound(t *testing.T, opts ListenOptions) *endpoint {
	t.Helper()
	e, err := bind(t.Context(), opts, nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = e.Close() })
	return e
}

func TestSocketsPermissions(t *testing.T) {
	path := filepath.Join(shortDir(t), "app.sock")
	group := strconv.Itoa(os.Getgid())
	bound(t, ListenOptions{Listen: "unix://" + path, Socket: SocketOptions{
		Mode: "0660", Group: group, Readers: []destination.Reader{{User: "61001"}, {Group: "61002"}},
	}})
	info, err := os.Lstat(path)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o660), info.Mode().Perm())
	raw := make([]byte, 512)
	n, err := unix.Getxattr(path, string(acl.Access), raw)
	require.NoError(t, err)
	list, err := acl.Decode(raw[:n])
	require.NoError(t, err)
	require.Equal(t, "user::rw-,user:61001:rw-,group::rw-,group:61002:rw-,mask::rw-,other::---", list.String())
}

func TestStaleSocketIsReplaced(t *testing.T) {
	path := filepath.Join(shortDir(t), "app.sock")
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	require.NoError(t, err)
	stale.SetUnlinkOnClose(false)
	require.NoError(t, stale.Close())
	bound(t, ListenOptions{Listen: "unix://" + path})
	conn, err := net.Dial("unix", path)
	require.NoError(t, err)
	require.NoError(t, conn.Close())
}

func TestWhatIsntOursIsLeftAlone(t *testing.T) {
	dir := shortDir(t)
	for name, make := range map[string]func(path string){
		"a file":      func(path string) { require.NoError(t, os.WriteFile(path, []byte("mine"), 0o600)) },
		"a directory": func(path string) { require.NoError(t, os.Mkdir(path, 0o700)) },
		"a link":      func(path string) { require.NoError(t, os.Symlink("elsewhere", path)) },
		"a pipe":      func(path string) { require.NoError(t, syscall.Mkfifo(path, 0o600)) },
		"a socket in use": func(path string) {
			listener, err := net.Listen("unix", path)
			require.NoError(t, err)
			t.Cleanup(func() { _ = listener.Close() })
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, strings.ReplaceAll(name, " ", ""))
			make(path)
			before, err := os.Lstat(path)
			require.NoError(t, err)
			_, err = bind(t.Context(), ListenOptions{Listen: "unix://" + path}, nil)
			require.Equal(t, failure.Configuration, failure.KindOf(err))
			after, err := os.Lstat(path)
			require.NoError(t, err)
			require.True(t, os.SameFile(before, after))
		})
	}
}

func TestASuccessorsSocketIsLeftAlone(t *testing.T) {
	path := filepath.Join(shortDir(t), "app.sock")
	first := bound(t, ListenOptions{Listen: "unix://" + path})
	require.NoError(t, os.Remove(path))
	bound(t, ListenOptions{Listen: "unix://" + path})
	_ = first.Close()
	conn, err := net.Dial("unix", path)
	require.NoError(t, err, "the first one removed the second one's socket")
	require.NoError(t, conn.Close())
}

func TestBindRefuses(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer busy.Close()
	wide, err := net.Listen("tcp", ":0")
	require.NoError(t, err)
	for _, test := range []struct {
		name   string
		opts   ListenOptions
		passed net.Listener
		want   string
	}{
		{"a busy port", ListenOptions{Listen: "tcp://" + busy.Addr().String()}, nil, "somebody else listens"},
		{"a passed socket for all", ListenOptions{Listen: "tcp://127.0.0.1:0"}, wide, "allow_remote"},
		{"no directory", ListenOptions{Listen: "unix:///nowhere/at/app.sock"}, nil, "the socket /nowhere/at/app.sock can't be made, since the directory /nowhere/at doesn't exist: make it (`mkdir -p /nowhere/at`)"},
		{"no directory below /run", ListenOptions{Listen: "unix:///run/no/where/a.sock"}, nil, "(`mkdir -p /run/no/where`), or have systemd make it at each start (RuntimeDirectory=no/where in the unit)"},
		{"a directory", ListenOptions{Listen: "unix:///nowhere/"}, nil, "it names a directory"},
		{"no such user", ListenOptions{Listen: "unix://" + filepath.Join(shortDir(t), "s"), Socket: SocketOptions{User: "no-such-user"}}, nil, "no-such-user"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := bind(t.Context(), test.opts, test.passed)
			require.ErrorContains(t, err, test.want)
			require.Equal(t, failure.Configuration, failure.KindOf(err))
		})
	}
}

// TestEndpointsAreOneOrTwo: the same address in two spellings is one.
func TestEndpointsAreOneOrTwo(t *testing.T) {
	for _, test := range []struct{ listen, want string }{
		{"tcp://127.0.0.1:1234", "tcp://127.0.0.1:1234"},
		{"tcp://127.0.0.1:01234/", "tcp://127.0.0.1:1234"},
		{"tcp://LocalHost:80", "tcp://localhost:80"},
		{"tcp://[0:0::1]:80", "tcp://[::1]:80"},
		{"tcp://:80", "tcp://:80"},
		{"tcp://127.0.0.1:0", ""},
		{"tcp://127.0.0.1:00", ""},
		{"unix:///run//x/../a.sock", "unix:///run/a.sock"},
		{"unix:///run/x/", ""},
		{"nonsense", ""},
		{"", ""},
	} {
		opts := ListenOptions{Listen: test.listen}
		require.Equal(t, test.want, opts.Endpoint(), test.listen)
	}
}

// TestNotesTellOfWhatIsOpen as the warning at start does.
func TestNotesTellOfWhatIsOpen(t *testing.T) {
	for _, test := range []struct {
		name string
		opts ListenOptions
		want bool
	}{
		{"open to all", ListenOptions{Listen: "tcp://0.0.0.0:80", AllowRemote: true}, true},
		{"a name may be any address", ListenOptions{Listen: "tcp://host.internal:80", AllowRemote: true}, true},
		{"a token is asked for", ListenOptions{Listen: "tcp://0.0.0.0:80", AllowRemote: true, BearerToken: "/etc/token"}, false},
		{"nobody else can reach it", ListenOptions{Listen: "tcp://127.0.0.1:80", AllowRemote: true}, false},
		{"refused anyway", ListenOptions{Listen: "tcp://0.0.0.0:80"}, false},
		{"a socket", ListenOptions{Listen: "unix:///run/a.sock", AllowRemote: true}, false},
		{"no address", ListenOptions{AllowRemote: true}, false},
	} {
		notes := test.opts.Notes()
		require.Equal(t, test.want, len(notes) == 1, test.name)
		if test.want {
			require.Contains(t, notes[0], "other hosts may reach "+test.opts.Listen+", and no bearer_token is asked for")
		}
	}
}

func TestPassedSocketIsUsed(t *testing.T) {
	passed, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	f := newFakeTeleport(t, hello)
	r := run(t, f.Listener.Addr().String(), func(o *Options, d *Dependencies, _ *fakeSource) {
		o.Listen, d.Listener = "tcp://127.0.0.1:1", passed
	})
	require.Equal(t, "tcp://"+passed.Addr().String(), r.Address())
	require.Equal(t, "serial-1", r.get(t, "/").body)
}

// TestNobodyListensForNothing: while the bearer token or a user can't be found,
// nothing listens where nobody would serve, and clients are told so by the kernel
// rather than kept waiting. Once it's there, the same tunnel listens.
func TestNobodyListensForNothing(t *testing.T) {
	type bindable interface {
		Bind(ctx context.Context) error
		Run(ctx context.Context) error
		Close()
	}
	missing := failure.New(failure.Configuration, "the file isn't there")
	for name, build := range map[string]func(ListenOptions, Dependencies) (bindable, error){
		"a tunnel": func(opts ListenOptions, deps Dependencies) (bindable, error) {
			return New(Options{AppName: appName, ListenOptions: opts}, deps)
		},
		"a proxy": func(opts ListenOptions, deps Dependencies) (bindable, error) {
			return NewProxy(ProxyOptions{ListenOptions: opts}, ProxyDependencies{Dependencies: deps})
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(shortDir(t), "app.sock")
			deps := Dependencies{
				Source: &fakeSource{}, Interval: time.Hour, Reporter: diagnostics.NewBoard(time.Now).Reporter("tunnel", TypeTunnel),
				Log: slog.New(slog.DiscardHandler), Metrics: NewMetrics(),
			}
			opts := ListenOptions{Listen: "unix://" + path, PeerUsers: []string{"no-such-user"}}
			stranger, err := build(opts, deps)
			require.NoError(t, err)
			require.ErrorContains(t, stranger.Bind(t.Context()), "no-such-user")
			require.NoFileExists(t, path)
			require.ErrorContains(t, stranger.Run(t.Context()), "no-such-user")
			require.NoFileExists(t, path)

			var there atomic.Bool
			opts.PeerUsers, opts.BearerToken = nil, "/token"
			deps.Secret = func() (string, error) {
				if !there.Load() {
					return "", missing
				}
				return "0123456789abcdef", nil
			}
			guarded, err := build(opts, deps)
			require.NoError(t, err)
			require.ErrorIs(t, guarded.Bind(t.Context()), missing)
			require.ErrorIs(t, guarded.Run(t.Context()), missing)
			require.NoFileExists(t, path)

			there.Store(true)
			require.NoError(t, guarded.Bind(t.Context()))
			conn, err := net.Dial("unix", path)
			require.NoError(t, err)
			require.NoError(t, conn.Close())
			guarded.Close()
		})
	}
}

// TestAClientThatVanishesIsNoticed: the kernel asks after those who say nothing,
// on the other end of which there may be a whole network.
func TestAClientThatVanishesIsNoticed(t *testing.T) {
	passed, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	for name, listener := range map[string]net.Listener{"on a socket of its own": nil, "on a passed one": passed} {
		t.Run(name, func(t *testing.T) {
			addr := tcpServer(t, func(conn *net.TCPConn) { _, _ = io.Copy(conn, conn) })
			accepted := make(chan net.Conn, 1)
			r := runBound(t, addr, func(o *Options, d *Dependencies, s *fakeSource) {
				asTCP(o, d, s)
				d.Listener = listener
			}, func(own net.Listener) net.Listener { return &tellingListener{own, accepted} })

			dial(t, r)

			raw, err := (<-accepted).(syscall.Conn).SyscallConn()
			require.NoError(t, err)
			require.NoError(t, raw.Control(func(fd uintptr) {
				alive, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_KEEPALIVE)
				require.NoError(t, err)
				require.Equal(t, 1, alive)
			}))
		})
	}
}

// tellingListener tells what it accepts.
type tellingListener struct {
	net.Listener
	accepted chan<- net.Conn
}

func (l *tellingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		l.accepted <- conn
	}
	return conn, err
}

// TestPassedSocketOutlivesAFailure has Run fail and runs it again, as the host
// does: nobody passes a socket twice.
func TestPassedSocketOutlivesAFailure(t *testing.T) {
	path := filepath.Join(shortDir(t), "app.sock")
	passed, err := net.Listen("unix", path)
	require.NoError(t, err)
	f := newFakeTeleport(t, hello)
	opts := Options{AppName: appName, ListenOptions: ListenOptions{Listen: "unix://" + path}}
	opts.Name = "tunnel"
	tunnel, err := New(opts, Dependencies{
		Source: &fakeSource{addr: f.Listener.Addr().String()}, Interval: time.Hour, Listener: passed,
		Reporter: diagnostics.NewBoard(time.Now).Reporter("tunnel", TypeTunnel),
		Log:      slog.New(slog.DiscardHandler), Metrics: NewMetrics(),
	})
	require.NoError(t, err)
	require.NoError(t, tunnel.Bind(t.Context()))
	for range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- tunnel.Run(ctx) }()
		require.NoError(t, getOnce(path))

		bound, _, err := tunnel.listening.bind(t.Context())
		require.NoError(t, err)
		require.NoError(t, bound.Listener.Close())
		require.ErrorContains(t, <-done, "the listener was closed")
		cancel()
	}

	tunnel.Close()
	_, err = net.Dial("unix", path)
	require.Error(t, err, "a tunnel that's closed holds no socket")
	require.ErrorContains(t, tunnel.Bind(t.Context()), "the socket that systemd passed can't be listened on")
}

func TestPeersOverTCP(t *testing.T) {
	f := newFakeTeleport(t, hello)
	own := run(t, f.Listener.Addr().String(), func(o *Options, _ *Dependencies, _ *fakeSource) {
		o.PeerUsers = []string{strconv.Itoa(os.Getuid())}
	})
	for range 20 {
		require.Equal(t, http.StatusOK, own.get(t, "/").status)
	}
	other := run(t, f.Listener.Addr().String(), func(o *Options, _ *Dependencies, _ *fakeSource) {
		o.PeerUsers = []string{strconv.Itoa(os.Getuid() + 1)}
	})
	got := other.get(t, "/")
	require.Equal(t, http.StatusForbidden, got.status)
	require.Equal(t, kindPeer, got.kind())
	require.EqualValues(t, 1, other.metric("connections_total", prometheus.Labels{"result": "peer"}))
}

// TestMessagesNameWhatTheUserTyped: a command's user knows flags and no keys.
func TestMessagesNameWhatTheUserTyped(t *testing.T) {
	names := Names{"allow_remote": "--allow-remote", "bearer_token": "--bearer-token", "allowed_hosts": "--allowed-host", "peer_users": "--peer-user"}
	for option, want := range map[string]string{
		"peer_users": "--peer-user", "peer_users[3]": "--peer-user", "socket.mode": "socket.mode", "readers[1].user": "readers[1].user",
	} {
		require.Equal(t, want, names.Of(option))
		require.Equal(t, option, Names(nil).Of(option))
	}
	for _, test := range []struct {
		names      Names
		bind, host string
	}{
		{nil, "set allow_remote: true together with bearer_token", "add the name to allowed_hosts"},
		{names, "set --allow-remote together with --bearer-token", "add the name to --allowed-host"},
	} {
		_, err := bind(t.Context(), ListenOptions{Listen: "tcp://0.0.0.0:0", Names: test.names}, nil)
		require.ErrorContains(t, err, test.bind)
		r := run(t, newFakeTeleport(t, hello).Listener.Addr().String(), func(o *Options, _ *Dependencies, _ *fakeSource) { o.Names = test.names })
		foreign := request(t, http.MethodGet, r.url("/"), nil)
		foreign.Host = "evil.example"
		require.Contains(t, ask(t, foreign).body, test.host)
	}
}
