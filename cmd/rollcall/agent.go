package main

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"os/signal"
	"path/filepath"
	"sync"
	"time"

	"github.com/gravitational/trace"
	"github.com/prometheus/client_golang/prometheus"

	"rollcall/cluster"
	"rollcall/config"
	"rollcall/destination"
	"rollcall/diagnostics"
	"rollcall/discovery"
	"rollcall/failure"
	"rollcall/hooks"
	"rollcall/identity"
	"rollcall/internal/footprint"
	"rollcall/internal/version"
	"rollcall/outputs"
	"rollcall/service"
	"rollcall/systemd"
	"rollcall/tunnel"
)

// agent is everything that one process hosts, put together.
type agent struct {
	cfg *config.Config
	log *slog.Logger
	// audit is where writes are told of: log, unless that leaves out what is no
	// warning.
	audit    *slog.Logger
	board    *diagnostics.Board
	host     *service.Host
	bot      *cluster.Bot
	issuer   *cluster.Issuer
	keeper   *identity.Keeper
	store    identity.Store
	notifier *systemd.Notifier
	outputs  []output
	// dialer connects tunnels to the proxy.
	dialer *cluster.AppDialer
	// renewed are the services that hold certificates beside the outputs.
	renewed []renewed
	// passed are the sockets that systemd passed and nobody has taken yet.
	passed map[string]net.Listener
	// collectors are the services' own metrics, tunnelMetrics those of all
	// tunnels.
	collectors    []prometheus.Collector
	tunnelMetrics *tunnel.Metrics
	tokenWarnings tokenWarnings
	// discoveries are the discovery services by name, and discoveryMetrics
	// what they share.
	discoveries      map[string]*discoveryRunner
	discoveryMetrics *discovery.Metrics
	// hookMetrics and hookUnits are shared by the hooks of all outputs.
	hookMetrics *hooks.Metrics
	hookUnits   *hooks.Units
	hookLedger  *hooks.Ledger // see ledger
	closers     []func()
	began       time.Time

	// rotated is when the last rotation step was followed; it belongs to the
	// follower's goroutine.
	rotated time.Time

	// fail ends the agent with an error; set by run.
	fail context.CancelCauseFunc
}

// fatalError tells the end of the agent's work by its own failure from the end
// by a signal.
type fatalError struct{ error }

// vital is the keeper as a service whose failure ends the agent: without an
// identity, and with no hope of one, nothing else can work.
type vital struct {
	*identity.Keeper
	agent *agent
}

// Run keeps the identity until ctx ends.
func (v vital) Run(ctx context.Context) error {
	if err := v.Keeper.Run(ctx); err != nil {
		v.agent.fail(&fatalError{err})
	}
	return nil
}

// newAgent opens the storage and builds every service. Nothing is asked of the
// cluster.
func newAgent(cfg *config.Config, log *slog.Logger, env environment) (*agent, error) {
	a := &agent{
		cfg:      cfg,
		log:      log,
		audit:    log,
		board:    diagnostics.NewBoard(time.Now),
		notifier: systemd.NewNotifier(env.Getenv, log),
		began:    time.Now(),

		discoveries:   map[string]*discoveryRunner{},
		tokenWarnings: tokenWarnings{},

		hookMetrics: hooks.NewMetrics(),
		hookUnits:   hooks.NewUnits(),
	}
	a.host = service.NewHost(log, func(name string) diagnostics.Reporter { return a.board.Reporter(name, "") })
	if err := a.build(env); err != nil {
		a.close()
		return nil, trace.Wrap(err)
	}
	return a, nil
}

func (a *agent) build(env environment) error {
	if err := a.openStore(); err != nil {
		return trace.Wrap(err)
	}
	opts := a.cfg.Cluster
	opts.CAPins, opts.CAPath = a.cfg.Onboarding.CAPins, a.cfg.Onboarding.CAPath
	place := cluster.New(opts, a.log)
	a.bot = cluster.NewBot(place, a.log)
	a.dialer = cluster.NewAppDialer(place)
	a.closers = append(a.closers, a.bot.Close)
	if err := a.buildKeeper(env); err != nil {
		return trace.Wrap(err)
	}
	a.issuer = cluster.NewIssuer(a.bot, a.keeper, opts, a.log)
	a.closers = append(a.closers, a.issuer.Close)
	for _, out := range a.cfg.Outputs {
		if err := a.addOutput(out, env); err != nil {
			return trace.Wrap(err, "output %s", out.Name)
		}
	}
	if a.cfg.Oneshot {
		return trace.Wrap(a.addOnceServices(env))
	}
	passed, err := systemd.Listeners(env.Getenv)
	if err != nil {
		return trace.Wrap(err)
	}
	a.passed = passed
	for _, s := range a.cfg.Services {
		if err := a.addService(s, env); err != nil {
			return trace.Wrap(err, "service %s", s.Name)
		}
	}
	return trace.Wrap(a.addBackground(env))
}

// openStore opens the bot's own storage, and takes over what the official agent
// left there.
func (a *agent) openStore() error {
	if a.cfg.Storage.Type == destination.TypeMemory {
		a.store = identity.NewMemory()
		return nil
	}
	place := a.cfg.Storage.Directory
	dir, err := identity.OpenDirectory(place.Path, place.Symlinks, a.log)
	if err != nil {
		return trace.Wrap(err)
	}
	a.store = dir
	a.closers = append(a.closers, func() { _ = dir.Close() })
	backup, err := dir.Import()
	if err != nil {
		return trace.Wrap(err)
	}
	if backup != "" {
		a.log.Info("The official agent's identity was imported; its files are kept.",
			"storage", dir.String(), "backup", filepath.Join(place.Path, backup))
	}
	return nil
}

func (a *agent) buildKeeper(env environment) error {
	keeper, err := identity.NewKeeper(identity.Options{
		Joiner: a.bot,
		Store:  a.store,
		Tokens: identity.TokenSource{
			Options:    a.cfg.Onboarding,
			Credential: systemd.NewCredentials(env.Getenv).Credential,
			Getenv:     env.Getenv,
		},
		Method:    a.cfg.Onboarding.JoinMethod,
		TTL:       a.cfg.CredentialTTL,
		Interval:  a.cfg.RenewalInterval,
		Reporter:  a.board.Reporter("identity", "identity"),
		Log:       a.log,
		Jitter:    rand.Float64,
		OnRenewed: func(*cluster.Credentials) { a.retryOutputs() },
	})
	if err != nil {
		return trace.Wrap(err)
	}
	a.keeper = keeper
	return trace.Wrap(a.host.Add(vital{Keeper: keeper, agent: a}, service.First))
}

// retryOutputs wakes outputs that wait after a failure: the cluster has just
// answered.
func (a *agent) retryOutputs() {
	for _, r := range a.outputs {
		r.RetryNow("the cluster answers again")
	}
	for _, r := range a.renewed {
		r.RetryNow("the cluster answers again")
	}
	for _, r := range a.discoveries {
		r.RetryNow("the cluster answers again")
	}
}

// renewed is a service that holds certificates.
type renewed interface {
	service.Service
	service.Renewer
	// RetryNow says that the cluster is back.
	RetryNow(reason string)
}

func (a *agent) addOutput(out config.Output, env environment) error {
	place, err := a.place(out.Destination)
	if err != nil {
		return trace.Wrap(err)
	}
	place = stickable(place)
	deps := outputs.Dependencies{
		Issuer:      a.issuer,
		Destination: place,
		Reporter:    a.board.Reporter(out.Common.Name, out.Type),
		Log:         a.log,
		TTL:         a.cfg.CredentialTTL,
		Interval:    a.cfg.RenewalInterval,
		StuckAfter:  stuckAfter,
	}
	if out.Destination.Directory != nil {
		if deps.DirectoryPath, err = filepath.Abs(out.Destination.Directory.Path); err != nil {
			return trace.Wrap(err)
		}
	}
	runner, err := a.addHooks(out, env, &deps)
	if err != nil {
		return trace.Wrap(err)
	}
	built, err := buildOutput(out.Options, deps)
	if err != nil {
		return trace.Wrap(err)
	}
	built = hooked(built, runner)
	a.outputs = append(a.outputs, built)
	return trace.Wrap(a.host.Add(built))
}

// output is what every kind of output is to the agent.
type output interface {
	service.Service
	service.Oncer
	service.Renewer
	service.Prober
	// RetryNow says that the cluster is back.
	RetryNow(reason string)
	// Holds says whether the files in place have these authorities.
	Holds(ctx context.Context, authorities *cluster.Authorities) bool
}

// buildOutput is the table of output types.
func buildOutput(options any, deps outputs.Dependencies) (output, error) {
	switch opts := options.(type) {
	case *outputs.ApplicationOptions:
		return outputs.NewApplication(*opts, deps)
	case *outputs.IdentityOptions:
		return outputs.NewIdentity(*opts, deps)
	default:
		return nil, failure.New(failure.Configuration, "this build has no output for %T", options)
	}
}

// place is the table of destination types.
func (a *agent) place(d config.Destination) (destination.Destination, error) {
	switch d.Type {
	case destination.TypeDirectory:
		return destination.NewDirectory(*d.Directory, a.log)
	case destination.TypeMemory:
		return destination.NewMemory(), nil
	case destination.TypeNop:
		return destination.NewNop(), nil
	default:
		return nil, failure.New(failure.Configuration, "this build has no destination %q", d.Type)
	}
}

// addBackground adds what only a long-running agent has.
func (a *agent) addBackground(env environment) error {
	follower := identity.NewFollower(a.bot, a.keeper, identity.Listeners{
		Changed: a.followRotation,
		Same:    a.refreshStale,
	}, a.log)
	heart := identity.NewHeart(a.bot, a.keeper, cluster.Heartbeat{
		Version:    version.Version(),
		Hostname:   hostname(),
		JoinMethod: a.cfg.Onboarding.JoinMethod,
	}, a.log)
	for _, s := range []service.Service{follower, heart} {
		if err := a.host.Add(s, service.Unreported); err != nil {
			return trace.Wrap(err)
		}
	}
	return trace.Wrap(a.addListeners(env))
}

// rotationWait bounds the wait for a new identity after a rotation step. The
// outputs are renewed all the same: with the old one they get at least the new
// authorities.
const rotationWait = time.Minute

// followRotation renews the identity and then, with it, every output.
func (a *agent) followRotation(ctx context.Context) {
	changed := a.keeper.Changed()
	a.keeper.RenewNow("certificate authorities changed")
	timer := time.NewTimer(rotationWait)
	defer timer.Stop()
	select {
	case <-changed:
	case <-timer.C:
	case <-ctx.Done():
		return
	}
	a.issuer.Reset()
	for _, r := range a.outputs {
		r.RenewNow("certificate authorities changed")
	}
	for _, r := range a.renewed {
		r.RenewNow("certificate authorities changed")
	}
	a.rotated = time.Now()
}

// rotationRound is what the outputs get to be renewed after a rotation step
// before the follower looks for those that weren't.
const rotationRound = 2 * time.Minute

// refreshStale renews the outputs whose files are from before a rotation that
// happened while the agent wasn't there to see it.
func (a *agent) refreshStale(ctx context.Context, authorities *cluster.Authorities) {
	if time.Since(a.rotated) < rotationRound {
		return
	}
	a.issuer.ForgetAuthorities()
	for _, out := range a.outputs {
		if !out.Holds(ctx, authorities) {
			out.RenewNow("the files hold other certificate authorities than the cluster")
		}
	}
}

// run hosts everything until ctx ends, or until the bot can't get an identity.
func (a *agent) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	a.fail = cancel
	var background sync.WaitGroup
	signals := takeRenewSignals()
	defer signal.Stop(signals)
	background.Go(func() { a.converse(ctx, signals) })
	background.Go(func() { a.notifier.Run(ctx, a.host.Alive) })
	background.Go(func() { footprint.Release(ctx) })

	err := a.host.Run(ctx)
	cancel(nil) // a no-op if ctx has ended, which is what ends Run
	background.Wait()
	var fatal *fatalError
	if errors.As(context.Cause(ctx), &fatal) {
		return fatal.error
	}
	if err == nil {
		a.log.Info("rollcall stopped.")
	}
	return trace.Wrap(err)
}

// close gives back what newAgent opened, in reverse order.
func (a *agent) close() {
	for i := len(a.closers) - 1; i >= 0; i-- {
		a.closers[i]()
	}
	a.closers = nil
}
