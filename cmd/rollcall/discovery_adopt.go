package main

import (
	"context"
	"encoding/hex"
	"os"
	"strings"

	"github.com/gravitational/trace"

	"rollcall/cluster"
	"rollcall/config"
	"rollcall/discovery"
	"rollcall/discovery/registry/dynamic"
	"rollcall/discovery/resource"
	"rollcall/discovery/settings"
	"rollcall/failure"
)

// adoptAs adopts as an administrator. The bot's identity isn't used for it; whose
// the resource becomes is asked of the agent, or of its storage.
func (c *discoveryCommand) adoptAs(ctx context.Context, cfg *config.Config, socket string, q question) (*reply, error) {
	identity, err := os.ReadFile(c.identity)
	if err != nil {
		return nil, failure.Wrap(failure.Configuration, err, "the identity file %s can't be read: %v", c.identity, err)
	}
	options, err := discoverySettings(cfg, q.Service)
	if err != nil {
		return nil, err
	}
	ownerOf := func(o *settings.Options) (string, error) { return c.askOwner(ctx, cfg, socket, q, o) }
	owner, err := ownerOf(options)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	if options.Register == settings.RegisterAgent {
		return nil, failure.New(failure.Configuration, "with register: agent there's nothing to adopt: what an Application Service serves is its own record")
	}
	log, audit := c.loggers(cfg)
	a := &agent{cfg: cfg, log: log, audit: audit}
	access, err := cluster.New(cfg.Cluster, a.log).AccessWithIdentity(identity, a.log)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	defer access.Close()
	s := &discoveryService{options: options, owner: owner, administrator: true}
	s.sibling = func(mark string) (string, error) { return siblingOf(cfg, options, mark, ownerOf) }
	defer s.close()
	if s.source, err = a.discoverySource(s, c.env); err != nil {
		return nil, trace.Wrap(err)
	}
	registries := map[resource.Kind]discovery.Registry{}
	for _, kind := range options.Kinds {
		if registries[kind], err = dynamic.NewAdopting(access, kind, s.owner); err != nil {
			return nil, trace.Wrap(err)
		}
	}
	s.Reconciler, err = discovery.New(a.reconcilerOptions(s, registries))
	if err != nil {
		return nil, trace.Wrap(err)
	}
	answer, err := s.answer(ctx, q)
	if err == nil && q.Write && socket != "" {
		// The agent knows what it has registered, and looks again only now and
		// then.
		asking := q
		asking.Verb, asking.Write, asking.Color = verbApply, true, false
		if _, err := askDiscovery(ctx, socket, asking); err != nil {
			answer.Notes = append(answer.Notes, "the running agent sees it at its next full comparison: "+err.Error())
		}
	}
	return answer, err
}

// askOwner asks whose the resources of a service of the file are.
func (c *discoveryCommand) askOwner(ctx context.Context, cfg *config.Config, socket string, q question, o *settings.Options) (string, error) {
	q.Service, q.Verb, q.Write, q.Color = o.Name, verbOwner, false, false
	answer, err := c.askAgent(ctx, cfg, socket, q)
	if err != nil {
		return "", trace.Wrap(err)
	}
	owner := strings.TrimSpace(answer.Text)
	return owner, plausibleOwner(o, owner)
}

// plausibleOwner refuses an owner that can't be the service's. Whoever answers on
// the socket only says whose the resource becomes; what is written with an
// administrator's rights mustn't be another service's.
func plausibleOwner(o *settings.Options, owner string) error {
	if o.Owner != "" && owner == o.Owner {
		return nil
	}
	parts := strings.Split(owner, "/")
	if o.Owner == "" && len(parts) == 3 && parts[0] != "" && parts[2] == o.Name {
		if id, err := hex.DecodeString(parts[1]); err == nil && len(id) == 8 {
			return nil
		}
	}
	return failure.New(failure.Trust, "the answer %q can't be whose the service %s's resources are: nothing is adopted", owner, o.Name)
}
