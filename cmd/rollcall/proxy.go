package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"rollcall/cluster"
	"rollcall/diagnostics"
	"rollcall/failure"
	"rollcall/internal/footprint"
	"rollcall/internal/version"
	"rollcall/tunnel"
)

// proxyFlags are what every kind of proxy needs to know.
type proxyFlags struct {
	dir, proxy, proxyCA, cluster string
	insecure                     bool
}

// appFlags are those of `proxy app`.
type appFlags struct {
	proxyFlags
	tunnel.Options
	port     int
	protocol string
	diagAddr string
}

func newProxyCommand(env environment, g *globals) *cobra.Command {
	f := new(appFlags)
	cmd := &cobra.Command{
		Use:   "proxy",
		Short: "Reach an application with the credentials in a directory",
		Long: `proxy opens a local address that leads to an application, for programs that
can't show a client certificate. It uses the credentials that an agent keeps
fresh in a directory, and joins nothing itself.

An agent can have the same without files, as the service application-tunnel of
its configuration.`,
		Example: `  rollcall proxy --destination-dir=/opt/machine-id --proxy=teleport.example.com:443 \
      app --port=1234 grafana-example`,
		Args: knownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	flags := cmd.PersistentFlags()
	flags.StringVar(&f.dir, "destination-dir", "", "`directory` of an application output")
	flags.StringVar(&f.proxy, "proxy", "", "`address` of the Teleport proxy, host:port (environment TELEPORT_PROXY)")
	flags.StringVar(&f.proxy, "proxy-server", "", "another name of --proxy")
	flags.StringVar(&f.proxyCA, "proxy-ca", "", "PEM `file` with the authority of the proxy's certificate, if the system doesn't know it")
	flags.StringVar(&f.cluster, "cluster", "", "`name` of the application's cluster, if the credentials must be of that one")
	flags.BoolVar(&f.insecure, "insecure", false, "trust whoever answers at the proxy's address; never outside a test")
	cmd.AddCommand(newProxyAppCommand(env, g, f))
	return cmd
}

func newProxyAppCommand(env environment, g *globals, f *appFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "app APPLICATION",
		Short: "Open a local address for one application",
		Long: `app listens on this host and carries what comes to the application, HTTP or TCP,
until it's stopped. When the files in the directory change it uses the new ones
at once; open connections stay.

The directory must be one of an output of type application for this application:
the route to it is in the certificate. An identity output's certificate can't be
used, and can't be turned into one.

Only this host can connect, as whatever user: --bearer-token, --peer-user, or a
unix socket with --listen=unix:///run/app.sock say who may. Web pages of other
sites are refused; --allowed-host names further hosts by which clients may know
this one.

Exit codes: 0 stopped; 1 a flag, the directory or the application's name is
wrong, or the certificate has ended; 3 the cluster refused it; 4 the proxy can't
be reached or trusted.`,
		Example: `  # Grafana on http://localhost:1234
  rollcall proxy --destination-dir=/opt/machine-id --proxy=teleport.example.com:443 \
      app --port=1234 grafana-example

  # On a socket that the group www-data may use
  rollcall proxy --destination-dir=/opt/machine-id --proxy=teleport.example.com:443 \
      app --listen=unix:///run/grafana.sock --socket-mode=0660 --socket-group=www-data grafana-example

  # For programs of one user only, each request logged
  rollcall proxy --destination-dir=/opt/machine-id --proxy=teleport.example.com:443 \
      app --port=1234 --peer-user=backup --access-log grafana-example`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 || args[0] == "" {
				return &usageError{fmt.Errorf("name one application, such as `%s --port=1234 grafana-example`; see `%s --help`", cmd.CommandPath(), cmd.CommandPath())}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			f.AppName = args[0]
			if err := f.complete(env, cmd.Flags()); err != nil {
				return err
			}
			return proxyApp(cmd.Context(), f, env, g)
		},
	}
	flags := cmd.Flags()
	numberFlag(flags, number{&f.port, 0, 65535}, "port", "p", 0, "`port` to listen on, at 127.0.0.1 (default: any free one, which is printed)")
	flags.StringVarP(&f.Listen, "listen", "l", "", "`address` to listen on in place of a port: tcp://HOST:PORT or unix:///PATH")
	flags.StringVar(&f.protocol, "protocol", "auto", "`protocol` of the application: http, tcp, or auto to ask the cluster")
	flags.BoolVar(&f.AllowRemote, "allow-remote", false, "permit an address that other hosts can reach")
	flags.StringArrayVar(&f.AllowedHosts, "allowed-host", nil, "`name` by which clients may call this host beside localhost; * for any; may be repeated")
	flags.StringVar(&f.BearerToken, "bearer-token", "", "`file` with a token that clients must show, or credential:NAME")
	flags.StringArrayVar(&f.PeerUsers, "peer-user", nil, "`user` whose programs alone may connect; may be repeated")
	flags.StringVar(&f.Socket.Mode, "socket-mode", "", "`mode` of a unix socket in octal (default 0600)")
	flags.StringVar(&f.Socket.User, "socket-user", "", "`user` who owns a unix socket")
	flags.StringVar(&f.Socket.Group, "socket-group", "", "`group` of a unix socket")
	numberFlag(flags, number{&f.MaxConnections, 1, tunnel.MostConnections}, "max-connections", "", tunnel.DefaultMaxConnections, "`number` of connections at a time")
	flags.BoolVar(&f.AccessLog, "access-log", false, "log each request")
	flags.StringVar(&f.diagAddr, "diag-addr", "", "serve /livez, /readyz and /metrics on this `address`")
	return cmd
}

// complete checks the flags and fills in what follows from them.
func (f *appFlags) complete(env environment, flags *pflag.FlagSet) error {
	if f.proxy == "" {
		f.proxy = env.Getenv("TELEPORT_PROXY")
	}
	switch {
	case f.dir == "":
		return &usageError{errors.New("--destination-dir is missing: give the directory of the application's output")}
	case f.proxy == "":
		return &usageError{errors.New("--proxy is missing: give the proxy's address, for example --proxy=teleport.example.com:443")}
	case f.Listen != "" && flags.Changed("port"):
		return &usageError{errors.New("--listen and --port are both given; keep one of them")}
	case f.diagAddr != "" && !isHostPort(f.diagAddr):
		return &usageError{fmt.Errorf("--diag-addr must be host:port, not %q; for example 127.0.0.1:3001", f.diagAddr)}
	case f.protocol != protocolAuto && f.protocol != protocolHTTP && f.protocol != protocolTCP:
		return &usageError{fmt.Errorf("--protocol %q isn't auto, http or tcp", f.protocol)}
	}
	if f.Listen == "" {
		f.Listen = "tcp://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(f.port))
	}
	if f.protocol == protocolTCP && f.BearerToken != "" {
		return &usageError{errors.New("--bearer-token goes with HTTP only: a TCP application's clients can't be asked for a token; use --peer-user or a unix socket")}
	}
	f.Name, f.Names = "proxy", proxyFlagNames()
	return flagErrors(f.Validate(), f.Names)
}

// isHostPort says whether an address has a port, as a number.
func isHostPort(address string) bool {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	_, err = strconv.ParseUint(port, 10, 16)
	return err == nil
}

// proxyFlagNames are the flags that set a tunnel's options.
func proxyFlagNames() tunnel.Names {
	return tunnel.Names{
		"app_name": "APPLICATION", "listen": "--listen", "allow_remote": "--allow-remote", "allowed_hosts": "--allowed-host",
		"bearer_token": "--bearer-token", "peer_users": "--peer-user", "max_connections": "--max-connections",
		"socket": "--socket-…", "socket.mode": "--socket-mode", "socket.user": "--socket-user", "socket.group": "--socket-group",
	}
}

// flagErrors tells what is wrong with options by the flags that set them.
func flagErrors(err error, names tunnel.Names) error {
	for _, field := range failure.Fields(err) {
		return &usageError{fmt.Errorf("%s: %s", names.Of(field.Field), field.Message)}
	}
	return err
}

// proxyApp serves one application until ctx ends or a signal comes.
func proxyApp(ctx context.Context, f *appFlags, env environment, g *globals) error {
	footprint.Tune(env.Getenv)
	log := newLogger(env, g.logFormat, g.debug)
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal kills
	log.Info("rollcall proxy starts.", "version", version.Version(), "app", f.AppName, "destination", f.dir, "proxy", f.proxy)

	place := cluster.New(cluster.Options{ProxyServer: f.proxy, ProxyCA: f.proxyCA, Insecure: f.insecure}, log)
	bot := cluster.NewBot(place, log)
	defer bot.Close()
	dialer := cluster.NewAppDialer(place)
	source, err := newDiskSource(f, bot, dialer, log)
	if err != nil {
		return err
	}
	// What can be known to be wrong is told before anything listens.
	first, err := source.first(ctx)
	if err != nil {
		return err
	}
	tokenWarnings{}.look(f.BearerToken, log.Warn)
	board, metrics := diagnostics.NewBoard(nowIs), tunnel.NewMetrics()
	built, err := tunnel.New(f.Options, tunnel.Dependencies{
		Source: source, Interval: pollInterval, Polls: true,
		Reporter: board.Reporter(f.Name, tunnel.TypeTunnel),
		Log:      log, Metrics: metrics,
		Secret: secretOf(&f.ListenOptions, env), TCP: first.App.TCP(),
	})
	if err != nil {
		return err
	}
	defer built.Close()
	server, err := bindDiagnostics(ctx, f.diagAddr, board, metrics, log, g.debug)
	if err != nil {
		return err
	}
	if server != nil {
		defer server.Close()
	}
	if err := built.Bind(ctx); err != nil {
		return err
	}
	fmt.Fprintf(env.Stdout, "Proxying connections to %s on %s\n", f.AppName, shownAddress(built.Address(), first.App))
	return runProxy(ctx, built, source, server, log)
}

// bindDiagnostics returns what answers on --diag-addr, or nil if there's none.
func bindDiagnostics(ctx context.Context, addr string, board *diagnostics.Board, metrics *tunnel.Metrics, log *slog.Logger, debug bool) (*diagnostics.Server, error) {
	if addr == "" {
		return nil, nil
	}
	build := version.Read()
	registry := diagnostics.NewRegistry(board, diagnostics.Build{Version: build.Version, Commit: build.Commit, GoVersion: build.Go})
	registry.MustRegister(metrics)
	server := diagnostics.NewServer(diagnostics.ServerOptions{Addr: addr, Setting: "--diag-addr", Board: board, Registry: registry, Log: log, Pprof: debug})
	if err := server.Bind(ctx); err != nil {
		return nil, err
	}
	return server, nil
}

// runProxy serves the tunnel and the diagnostics (nil: none), and follows the
// directory and SIGHUP.
func runProxy(ctx context.Context, built *tunnel.Tunnel, source *diskSource, server *diagnostics.Server, log *slog.Logger) error {
	ctx, cancel := context.WithCancel(ctx)
	var background sync.WaitGroup
	defer background.Wait()
	defer cancel()
	signals := takeRenewSignals()
	defer signal.Stop(signals)
	background.Go(func() { source.watch(ctx, func() { built.RenewNow("the files changed") }) })
	background.Go(func() { hearRenewals(ctx, signals, built) })
	if server != nil {
		background.Go(func() {
			if err := server.Run(ctx); err != nil {
				log.WarnContext(ctx, "Diagnostics aren't served any more; the application is.", "err", err)
			}
		})
	}
	err := built.Run(ctx)
	if err == nil {
		log.Info("rollcall proxy stopped.")
	}
	return err
}

func hearRenewals(ctx context.Context, signals <-chan os.Signal, built *tunnel.Tunnel) {
	for {
		select {
		case got := <-signals:
			built.RenewNow("signal " + got.String())
		case <-ctx.Done():
			return
		}
	}
}

// shownAddress is the address as a user would type it.
func shownAddress(address string, app cluster.App) string {
	if app.TCP() {
		return address
	}
	if host, ok := cutScheme(address, "tcp://"); ok {
		return "http://" + host
	}
	return address
}
