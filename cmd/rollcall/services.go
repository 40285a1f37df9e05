package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"

	"github.com/gravitational/trace"

	"rollcall/cluster"
	"rollcall/config"
	"rollcall/diagnostics"
	"rollcall/discovery/settings"
	"rollcall/failure"
	"rollcall/service"
	"rollcall/systemd"
	"rollcall/tunnel"
)

// addOnceServices adds the services that can do their work once; of the others
// it's said that they're left out.
func (a *agent) addOnceServices(env environment) error {
	for _, s := range a.cfg.Services {
		if _, ok := s.Options.(*settings.Options); !ok {
			a.log.Warn("A service that only runs for long is left out.", diagnostics.KeyService, s.Name)
			continue
		}
		if err := a.addService(s, env); err != nil {
			return trace.Wrap(err, "service %s", s.Name)
		}
	}
	return nil
}

// addService is the table of service types that write no files.
func (a *agent) addService(s config.Service, env environment) error {
	switch opts := s.Options.(type) {
	case *tunnel.Options:
		return a.addTunnel(*opts, env)
	case *tunnel.ProxyOptions:
		return a.addProxy(*opts, env)
	case *settings.Options:
		return a.addDiscovery(s, env)
	default:
		return failure.New(failure.Configuration, "this build has no service for %T", s.Options)
	}
}

// listener is a service that clients connect to.
type listener interface {
	renewed
	Bind(ctx context.Context) error
	Close()
}

func (a *agent) addTunnel(opts tunnel.Options, env environment) error {
	deps := a.tunnelDependencies(&opts.CommonOptions, opts.ListenOptions, tunnel.TypeTunnel, env)
	deps.Source = a.applications(&opts.CommonOptions).Source(opts.AppName)
	built, err := tunnel.New(opts, deps)
	if err != nil {
		return trace.Wrap(err)
	}
	return a.addListener(built)
}

func (a *agent) addProxy(opts tunnel.ProxyOptions, env environment) error {
	deps := a.tunnelDependencies(&opts.CommonOptions, opts.ListenOptions, tunnel.TypeProxy, env)
	built, err := tunnel.NewProxy(opts, tunnel.ProxyDependencies{Dependencies: deps, Applications: a.applications(&opts.CommonOptions)})
	if err != nil {
		return trace.Wrap(err)
	}
	return a.addListener(built)
}

// applications are those that a service's roles may use.
func (a *agent) applications(common *service.CommonOptions) *tunnel.Issued {
	return tunnel.NewIssued(a.issuer, a.dialer, cluster.CertRequest{Roles: common.Roles, TTL: common.CredentialTTL})
}

// addListener binds already now, so that clients can connect as soon as systemd
// hears that the agent is ready. What can't be bound is tried again.
func (a *agent) addListener(built listener) error {
	if err := built.Bind(context.Background()); err != nil {
		a.log.Warn("A tunnel can't listen yet.", "service", built.Name(), "err", err)
	}
	a.closers = append(a.closers, built.Close)
	a.renewed = append(a.renewed, built)
	return trace.Wrap(a.host.Add(built))
}

func (a *agent) tunnelDependencies(common *service.CommonOptions, opts tunnel.ListenOptions, kind string, env environment) tunnel.Dependencies {
	if a.tunnelMetrics == nil {
		a.tunnelMetrics = tunnel.NewMetrics()
		a.collectors = append(a.collectors, a.tunnelMetrics)
	}
	a.tokenWarnings.look(opts.BearerToken, a.log.With(diagnostics.KeyService, common.Name).Warn)
	return tunnel.Dependencies{
		Interval: common.RenewalInterval,
		Reporter: a.board.Reporter(common.Name, kind),
		Log:      a.log,
		Metrics:  a.tunnelMetrics,
		Secret:   secretOf(&opts, env),
		Listener: a.takeSocket(common.Name),
	}
}

// maxSecret bounds what is read of a secret's file, in bytes.
const maxSecret = 64 << 10

// secretOf returns what reads the bearer token from where the options say; nil
// if they say nothing.
func secretOf(opts *tunnel.ListenOptions, env environment) func() (string, error) {
	place, setting := opts.BearerToken, opts.Names.Of("bearer_token")
	if place == "" {
		return nil
	}
	return func() (string, error) {
		if name, ok := strings.CutPrefix(place, "credential:"); ok {
			content, err := systemd.NewCredentials(env.Getenv).Credential(name)
			return string(content), trace.Wrap(err)
		}
		info, err := os.Stat(place)
		if err == nil && (!info.Mode().IsRegular() || info.Size() > maxSecret) {
			return "", failure.New(failure.Configuration, "%s: %s isn't a file that holds a token", setting, place)
		}
		var content []byte
		if err == nil {
			content, err = os.ReadFile(place)
		}
		var path *fs.PathError
		if errors.As(err, &path) {
			return "", failure.Wrap(failure.Configuration, err, "%s: the file %s can't be read: %s", setting, place, path.Err)
		}
		return string(content), trace.Wrap(err)
	}
}
