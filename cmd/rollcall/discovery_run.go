package main

import (
	"context"
	"sync"

	"github.com/gravitational/trace"

	"rollcall/config"
	"rollcall/discovery"
	"rollcall/discovery/settings"
	"rollcall/failure"
	"rollcall/service"
)

// discoveryRunner hosts a discovery service. The service is put together when
// the bot has its identity, and again if it fails for good.
type discoveryRunner struct {
	agent  *agent
	config config.Service
	env    environment

	mu    sync.Mutex // protects the following
	built *discoveryService
}

var (
	_ service.Service = (*discoveryRunner)(nil)
	_ service.Oncer   = (*discoveryRunner)(nil)
	_ service.Renewer = (*discoveryRunner)(nil)
	_ service.Prober  = (*discoveryRunner)(nil)
)

func (a *agent) addDiscovery(s config.Service, env environment) error {
	options, err := discoverySettings(a.cfg, s.Name)
	if err != nil {
		return trace.Wrap(err)
	}
	if options.Owner != "" && options.Source.Docker != nil && options.Source.Docker.Local(env.Getenv) {
		return failure.New(failure.Configuration,
			"%s: a shared owner and this host's own Docker Engine contradict each other: remove owner, or name a remote Engine that all agents use", s.Name)
	}
	if options.Register == settings.RegisterAgent {
		a.log.Warn("This service starts Application Services, and for that may create join tokens, which is the right to everything in the cluster. Use register: dynamic unless that is meant.", "service", s.Name)
	}
	if a.discoveryMetrics == nil {
		a.discoveryMetrics = discovery.NewMetrics()
		a.collectors = append(a.collectors, a.discoveryMetrics)
	}
	runner := &discoveryRunner{agent: a, config: s, env: env}
	a.discoveries[s.Name] = runner
	a.board.Reporter(s.Name, settings.Type)
	return trace.Wrap(a.host.Add(runner))
}

// Name is the service's.
func (r *discoveryRunner) Name() string { return r.config.Name }

// Run waits for the bot's identity, and then keeps the resources in agreement
// until ctx ends.
func (r *discoveryRunner) Run(ctx context.Context) error {
	if _, err := r.agent.keeper.Wait(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return trace.Wrap(err)
	}
	built, err := r.agent.buildDiscovery(ctx, r.agent.cfg, r.config.Name, r.env, hosted)
	if err != nil {
		return trace.Wrap(err)
	}
	r.set(built)
	defer built.close()
	defer r.set(nil)
	return trace.Wrap(built.Run(ctx))
}

// Once applies everything once, for --oneshot: it waits as long as the absent
// gate takes, and with a shared owner till no other agent leads. An error says
// what of it isn't registered.
func (r *discoveryRunner) Once(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, discoveryTimeout)
	defer cancel()
	built, err := r.agent.buildDiscovery(ctx, r.agent.cfg, r.config.Name, r.env, hosted)
	if err != nil {
		return trace.Wrap(err)
	}
	defer built.close()
	_, _, err, unsettled := built.finish(ctx)
	if unsettled != nil {
		return unsettled // what waits does so for this
	}
	return trace.Wrap(err)
}

func (r *discoveryRunner) set(built *discoveryService) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.built = built
}

func (r *discoveryRunner) get() *discoveryService {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.built
}

// current is the service that runs now.
func (r *discoveryRunner) current() (*discoveryService, error) {
	if built := r.get(); built != nil {
		return built, nil
	}
	return nil, failure.New(failure.Transient, "the service %s isn't running yet: the bot has no identity, or the service failed; `rollcall status` tells which", r.config.Name)
}

// RenewNow has a full comparison made now.
func (r *discoveryRunner) RenewNow(reason string) {
	if built := r.get(); built != nil {
		built.RenewNow(reason)
	}
}

// RetryNow ends the wait after a failure.
func (r *discoveryRunner) RetryNow(reason string) {
	if built := r.get(); built != nil {
		built.RetryNow(reason)
	}
}

// Alive says whether the loop still turns.
func (r *discoveryRunner) Alive() error {
	if built := r.get(); built != nil {
		return built.Alive()
	}
	return nil
}
