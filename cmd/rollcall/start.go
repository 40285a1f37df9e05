package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"rollcall/config"
	"rollcall/failure"
	"rollcall/internal/footprint"
	"rollcall/internal/version"
	"rollcall/service"
)

func newStartCommand(env environment, g *globals) *cobra.Command {
	var o config.Overrides
	var format string
	cmd := &cobra.Command{
		Use:   "start",
		Short: "Join the cluster, and keep identity and outputs fresh",
		Long: `start joins the cluster (or takes the identity from its storage), writes every
output, and renews all of it ahead of time until it's stopped.

It starts while the cluster is down, and catches up. SIGHUP and SIGUSR1 renew
everything now; SIGINT and SIGTERM stop it. Flags override the file.

Exit codes: 0 stopped or done; 1 the configuration is wrong; 2 with --oneshot,
an output or a discovery service failed; 3 the cluster refused the bot; 4 the
cluster can't be reached (--oneshot) or trusted; 5 the storage is in use or
unusable.`,
		Example: `  # By configuration file
  rollcall start -c /etc/rollcall.yaml

  # By flags alone: one identity output
  rollcall start --proxy-server=teleport.example.com:443 --join-method=token \
      --token=/etc/rollcall/token --storage=/var/lib/rollcall \
      --destination-dir=/opt/machine-id

  # Once, with the outcome of every output as JSON
  rollcall start -c rollcall.yaml --oneshot --format json`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Debug, o.LogFormat = g.debug, g.logFormat
			o.Origin = origins(cmd.Flags())
			fromEnvironment(&o, env)
			path := g.path(env, o.ProxyServer != "" || o.AuthServer != "")
			cfg, err := config.Load(path, o)
			if err != nil {
				return err
			}
			if format != "text" && format != "json" {
				return &usageError{fmt.Errorf("--format %q isn't text or json", format)}
			}
			return start(cmd.Context(), cfg, env, format)
		},
	}
	startFlags(cmd.Flags(), &o)
	cmd.Flags().StringVar(&format, "format", "text", "with --oneshot, print the outcome as `text or json`")
	return cmd
}

// startFlags are the official agent's, under its names and under ours.
func startFlags(flags *pflag.FlagSet, o *config.Overrides) {
	flags.StringVar(&o.ProxyServer, "proxy-server", "", "`address` of the Teleport proxy, host:port (environment TELEPORT_PROXY)")
	flags.StringVarP(&o.AuthServer, "auth-server", "a", "", "`address` of the Auth Service, or of a proxy (environment TELEPORT_AUTH_SERVER)")
	flags.StringVar(&o.ProxyCA, "proxy-ca", "", "PEM `file` with the authority of the proxy's certificate, if the system doesn't know it")
	flags.StringVar(&o.JoinMethod, "join-method", "", "`method` to join by: token or kubernetes")
	flags.StringVar(&o.Token, "token", "", "join token: `path` of a file, credential:NAME, or the token itself, which others can see in the process list (environment TELEPORT_BOT_TOKEN)")
	flags.StringArrayVar(&o.CAPins, "ca-pin", nil, "`sha256:…` pin of the cluster's authority, for joining an Auth Service directly; may be repeated")
	flags.StringVar(&o.CAPath, "ca-path", "", "PEM `file` with the cluster's authority, in place of pins")
	flags.StringVar(&o.Storage, "storage", "", "`place` of the bot's own identity: a directory, or memory://")
	flags.StringVar(&o.Storage, "data-dir", "", "the official agent's name of --storage")
	flags.StringVar(&o.DestinationDir, "destination-dir", "", "write one identity output into this `directory` in place of the file's outputs")
	flags.DurationVar(&o.CredentialTTL, "credential-ttl", 0, "life of certificates, such as 1h")
	flags.DurationVar(&o.CredentialTTL, "certificate-ttl", 0, "the official agent's name of --credential-ttl")
	flags.DurationVar(&o.RenewalInterval, "renewal-interval", 0, "`time` between renewals, such as 20m; less than the TTL")
	flags.BoolVar(&o.Oneshot, "oneshot", false, "do everything once and exit")
	flags.StringVar(&o.DiagAddr, "diag-addr", "", "serve /livez, /readyz and /metrics on this `address`")
	flags.BoolVar(&o.Insecure, "insecure", false, "trust whoever answers on first connect; never outside a test")
	flags.BoolVar(&o.FIPS, "fips", false, "refuse to run unless Go's FIPS 140-3 mode is on")
}

// origins says which values were given under the official agent's name of a
// flag, so that what is wrong with them is told under that name.
func origins(flags *pflag.FlagSet) map[string]string {
	from := make(map[string]string)
	for name, path := range map[string]string{"data-dir": "storage", "certificate-ttl": "credential_ttl"} {
		if flags.Changed(name) {
			from[path] = "--" + name
		}
	}
	return from
}

// fromEnvironment fills in what flags don't say. A token from the environment
// is supported because the official agent takes it; a file is better.
func fromEnvironment(o *config.Overrides, env environment) {
	take := func(to *string, name, path string) {
		if *to != "" {
			return
		}
		if value := env.Getenv(name); value != "" {
			*to = value
			o.Origin[path] = "environment " + name
		}
	}
	if o.ProxyServer == "" && o.AuthServer == "" {
		take(&o.ProxyServer, "TELEPORT_PROXY", "proxy_server")
		if o.ProxyServer == "" {
			take(&o.AuthServer, "TELEPORT_AUTH_SERVER", "auth_server")
		}
	}
	take(&o.Token, "TELEPORT_BOT_TOKEN", "onboarding.token")
}

// start runs the agent until it's done or told to stop.
func start(ctx context.Context, cfg *config.Config, env environment, format string) error {
	footprint.Tune(env.Getenv)
	log := newLogger(env, string(cfg.LogFormat), cfg.Debug)
	log.Info("rollcall starts.", "version", version.Version(), "config", cfg)
	if cfg.Cluster.Insecure {
		log.Warn("insecure is set: whoever answers at the cluster's address is trusted, and may take the join token.")
	}

	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	// A second signal kills, as a user who presses Ctrl-C twice expects.
	context.AfterFunc(ctx, stop)

	a, err := newAgent(cfg, log, env)
	if err != nil {
		return logged(log, err)
	}
	defer a.close()
	if cfg.Oneshot {
		return once(ctx, a, env, format)
	}
	return logged(log, a.run(ctx))
}

// logged logs the error that ends the agent, so that it's in the journal beside
// the rest, and not printed a second time.
func logged(log *slog.Logger, err error) error {
	if err == nil {
		return nil
	}
	log.Error("rollcall can't go on.", "err", err, "kind", failure.KindOf(err), "exit_code", exitCode(err))
	return &shownError{err: err, code: exitCode(err)}
}

// once does everything once and prints a table of what came of it.
func once(ctx context.Context, a *agent, env environment, format string) error {
	outcomes := a.host.Once(ctx)
	var err error
	if format == "json" {
		err = service.WriteJSON(env.Stdout, outcomes)
	} else {
		err = service.WriteTable(env.Stdout, outcomes, service.UseColor(env.Stdout, env.Getenv("NO_COLOR")))
	}
	if err != nil {
		return err
	}
	failed := service.Failed(outcomes)
	if failed == nil {
		return nil
	}
	code := exitFailed
	// Without an identity nothing was tried: what kept the bot from joining
	// decides the code.
	if first := outcomes[0]; first.Err != nil {
		code = exitCode(first.Err)
	}
	return &shownError{err: failed, code: code}
}

// takeRenewSignals has SIGHUP and SIGUSR1 sent to a channel. It's called before
// systemd hears that the agent is ready: a reload kills a process that doesn't
// take its signal yet.
func takeRenewSignals() chan os.Signal {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGUSR1)
	return signals
}

// hostname is for the heartbeat; a host without a name is no reason to fail.
func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return ""
	}
	return name
}
