package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/gravitational/trace"

	"rollcall/cluster"
	"rollcall/config"
	"rollcall/discovery"
	agents "rollcall/discovery/registry/agent"
	"rollcall/discovery/registry/dynamic"
	"rollcall/discovery/resource"
	"rollcall/discovery/settings"
	"rollcall/discovery/source/docker"
	"rollcall/discovery/source/file"
	"rollcall/discovery/template"
	"rollcall/failure"
)

// discoveryUse says what a discovery service is built for.
type discoveryUse int

const (
	// hosted: the agent runs it.
	hosted discoveryUse = iota
	// standingIn: a command answers, and holds the agent's storage.
	standingIn
	// looking: it answers one question, and writes nothing of its own.
	looking
)

// discoveryService is a discovery service, put together.
type discoveryService struct {
	*discovery.Reconciler
	source  discovery.Source
	options *settings.Options
	owner   string
	// running is the service that the agent runs, of which this one is a copy
	// that only looks; nil: there's none.
	running *discoveryService
	// administrator says that the registries are those of one.
	administrator bool
	// sibling finds the other service of the same file that a mark is of; empty: it's
	// none's.
	sibling func(mark string) (string, error)
	// approve keeps an approval where the running service will find it; nil:
	// nowhere.
	approve func(hash string) error
	// settle waits for what a write has begun; nil: writes are done when they
	// return.
	settle func(ctx context.Context) error
	// begun has f called when something that a write has begun is done; nil: as
	// above.
	begun   func(f func())
	closers []func()
}

func (s *discoveryService) close() {
	for i := len(s.closers) - 1; i >= 0; i-- {
		s.closers[i]()
	}
}

// buildDiscovery puts the service of that name together. The bot must have an
// identity: its name is in the owner.
func (a *agent) buildDiscovery(ctx context.Context, cfg *config.Config, name string, env environment, use discoveryUse) (*discoveryService, error) {
	options, err := discoverySettings(cfg, name)
	if err != nil {
		return nil, err
	}
	s := &discoveryService{options: options}
	if s.owner, err = a.ownerOf(options); err != nil {
		return nil, trace.Wrap(err)
	}
	s.sibling = func(mark string) (string, error) { return siblingOf(cfg, options, mark, a.ownerOf) }
	access := a.issuer.Access(cluster.CertRequest{Roles: options.Roles, TTL: options.CredentialTTL})
	if err := a.assemble(s, access, env, use); err != nil {
		s.close()
		return nil, trace.Wrap(err)
	}
	return s, nil
}

// discoverySettings finds the options of a service.
func discoverySettings(cfg *config.Config, name string) (*settings.Options, error) {
	for _, s := range cfg.Services {
		if options, ok := s.Options.(*settings.Options); ok && s.Name == name {
			withTTL := *options
			if withTTL.CredentialTTL == 0 {
				withTTL.CredentialTTL = cfg.CredentialTTL
			}
			return &withTTL, nil
		}
	}
	return nil, failure.New(failure.Configuration, "there is no discovery service %q", name)
}

// siblingOf finds the other service of a file whose resources are told from those
// of o by that mark: their owner, or their source if they share the owner. ownerOf
// tells whose the resources of a service are that has no owner in the file; it's
// only asked if the mark can be that.
func siblingOf(cfg *config.Config, o *settings.Options, mark string, ownerOf func(*settings.Options) (string, error)) (string, error) {
	for _, name := range discoveryNames(cfg) {
		other, err := discoverySettings(cfg, name)
		if err != nil || name == o.Name {
			continue
		}
		theirs := other.Owner
		switch {
		case other.HostOwned() && plausibleOwner(other, mark) == nil:
			if theirs, err = ownerOf(other); err != nil {
				return "", trace.Wrap(err)
			}
		case !other.HostOwned() && other.Owner == o.Owner:
			theirs = sourceName(other)
		}
		if theirs != "" && theirs == mark {
			return name, nil
		}
	}
	return "", nil
}

// sourceName is the value of the label that says which service a resource is from.
func sourceName(o *settings.Options) string { return o.Source.Type + "/" + o.Name }

// assemble fills in the reconciler.
func (a *agent) assemble(s *discoveryService, access *cluster.Access, env environment, use discoveryUse) error {
	var err error
	if s.source, err = a.discoverySource(s, env); err != nil {
		return trace.Wrap(err)
	}
	registries, err := a.registries(s, access, env)
	if err != nil {
		return trace.Wrap(err)
	}
	o, made := s.options, a.reconcilerOptions(s, registries)
	if o.Owner != "" && use != looking {
		semaphore := access.Semaphore(semaphoreName(o.Owner, o.Name), a.holder())
		// A command that waits for the lease has to say so: hence the audit's log.
		made.Lease = discovery.NewSemaphoreLease(semaphore, o.HATTL, a.audit, rand.Float64)
	}
	if use == hosted {
		made.Reporter = a.board.Reporter(o.Name, settings.Type)
		made.Metrics = a.discoveryMetrics
	}
	if err := a.keepState(s, &made); err != nil {
		return trace.Wrap(err)
	}
	if s.Reconciler, err = discovery.New(made); err != nil {
		return trace.Wrap(err)
	}
	if s.begun != nil && use == hosted {
		s.begun(s.Changed)
	}
	return nil
}

// reconcilerOptions are those that a service always has.
func (a *agent) reconcilerOptions(s *discoveryService, registries map[resource.Kind]discovery.Registry) discovery.Options {
	o := s.options
	return discovery.Options{
		Name:        o.Name,
		Owner:       s.owner,
		SourceName:  sourceName(o),
		Source:      s.source,
		Registries:  registries,
		Policy:      o.Policy,
		Guard:       o.Guard.Plan(),
		Interval:    o.Interval,
		TTL:         o.Expires,
		Concurrency: o.Concurrency,
		Rate:        float64(o.Rate),
		Auditor:     discovery.NewLogAuditor(a.audit),
		Log:         a.log,
		Random:      rand.Float64,
	}
}

// keepState has the service's memory kept beside the bot's identity.
func (a *agent) keepState(s *discoveryService, made *discovery.Options) error {
	place := a.cfg.Storage.Directory
	if place == nil {
		return nil
	}
	state, err := discovery.OpenStateDirectory(place.Path, place.Symlinks, s.options.Name)
	if err != nil {
		return trace.Wrap(err)
	}
	s.closers = append(s.closers, func() { _ = state.Close() })
	made.Store = state
	s.approve = state.Approve
	return nil
}

// discoverySource is a service's source, whose resources have the form in which
// they're read back.
func (a *agent) discoverySource(s *discoveryService, env environment) (discovery.Source, error) {
	source, err := a.rawSource(s, env)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	return canonical{source, formOf(s.options.Register)}, nil
}

// rawSource is the table of sources.
func (a *agent) rawSource(s *discoveryService, env environment) (discovery.Source, error) {
	switch o := s.options.Source; {
	case o.Docker != nil:
		shape, err := template.New(s.options.Resource)
		if err != nil {
			return nil, trace.Wrap(err)
		}
		short, _, _ := strings.Cut(hostname(), ".")
		source, err := docker.New(*o.Docker, docker.Deps{Template: shape, Host: short, Getenv: env.Getenv, Log: a.log})
		if err != nil {
			return nil, trace.Wrap(err)
		}
		s.closers = append(s.closers, source.Close)
		return source, nil
	case o.File != nil:
		return file.New(*o.File, file.Deps{Decode: config.DecodeInventory, Log: a.log})
	default:
		return nil, failure.New(failure.Configuration, "this build has no source %q", o.Type)
	}
}

// registries is the table of what a service may write.
func (a *agent) registries(s *discoveryService, access *cluster.Access, env environment) (map[resource.Kind]discovery.Registry, error) {
	all := map[resource.Kind]discovery.Registry{}
	if s.options.Register == settings.RegisterAgent {
		engine, err := docker.NewClient(s.options.Source.Docker, env.Getenv)
		if err != nil {
			return nil, trace.Wrap(err)
		}
		s.closers = append(s.closers, func() { _ = engine.Close() })
		options := s.options.Agent
		options.ProxyAddr = cmp.Or(options.ProxyAddr, a.cfg.Cluster.ProxyServer)
		key, err := a.serviceKey(s.options.Name)
		if err != nil {
			return nil, trace.Wrap(err)
		}
		registry, err := agents.New(engine, access, options, s.owner, key, a.log)
		if err != nil {
			return nil, trace.Wrap(err)
		}
		s.closers = append(s.closers, registry.Close)
		s.settle, s.begun = registry.Settle, registry.Tell
		all[resource.KindApp] = registry
		return all, nil
	}
	for _, kind := range s.options.Kinds {
		registry, err := dynamic.New(access, kind, s.owner)
		if err != nil {
			return nil, trace.Wrap(err)
		}
		all[kind] = registry
	}
	return all, nil
}

// canonical is a source whose resources have the form in which they're read back
// once they're registered, so that a comparison finds no difference that a write
// wouldn't end. What Teleport wouldn't take is found by that, too.
type canonical struct {
	discovery.Source
	form func(resource.Resource) (resource.Resource, error)
}

// formOf is how what is registered in that way is read back.
func formOf(register settings.Register) func(resource.Resource) (resource.Resource, error) {
	if register == settings.RegisterAgent {
		return agents.Canonical
	}
	return dynamic.Canonical
}

// Read reads the source.
func (c canonical) Read(ctx context.Context) ([]discovery.Candidate, error) {
	candidates, err := c.Source.Read(ctx)
	return c.canonicalised(candidates), err
}

// Since is the source's own, if it has one.
func (c canonical) Since() (at time.Time, lost bool) {
	if source, ok := c.Source.(discovery.Gradual); ok {
		return source.Since()
	}
	return time.Time{}, false
}

// Explain asks the source about a name, if it can tell.
func (c canonical) Explain(ctx context.Context, name string) ([]discovery.Candidate, error) {
	source, ok := c.Source.(explainer)
	if !ok {
		return nil, nil
	}
	candidates, err := source.Explain(ctx, name)
	return c.canonicalised(candidates), err
}

func (c canonical) canonicalised(candidates []discovery.Candidate) []discovery.Candidate {
	for i := range candidates {
		found := &candidates[i]
		if found.Err == nil && found.Skip == "" {
			found.Resource, found.Err = c.form(found.Resource)
		}
	}
	return candidates
}

// ownerOf is whose a service's resources are: what the file says, or the bot,
// the host and the service. The host is known by an id in the storage: a host's
// name can change, and two hosts can have the same.
func (a *agent) ownerOf(o *settings.Options) (string, error) {
	if o.Owner != "" {
		return o.Owner, nil
	}
	bot := a.botName()
	if bot == "" {
		return "", failure.New(failure.Transient, "the bot has no identity yet, and so it isn't known whose the resources are")
	}
	host, err := a.hostID()
	if err != nil {
		return "", trace.Wrap(err)
	}
	return ownerLabel(bot, host, o.Name), nil
}

func ownerLabel(bot, host, service string) string { return bot + "/" + host + "/" + service }

// hostID is the storage's.
func (a *agent) hostID() (string, error) {
	keeper, ok := a.store.(interface{ HostID() (string, error) })
	if !ok {
		return "", failure.New(failure.Configuration, "a storage of type memory forgets which host this is: use type directory, or give the service an owner")
	}
	return keeper.HostID()
}

// botName is the bot's name, without the prefix that its user has; empty: it has
// no identity yet.
func (a *agent) botName() string {
	creds := a.keeper.Current()
	if creds == nil {
		return ""
	}
	return strings.TrimPrefix(creds.Username(), "bot-")
}

// holder is what the semaphore shows of who holds it.
func (a *agent) holder() string { return a.botName() + "@" + hostname() }

// semaphoreName is one name for all agents that share an owner and a service. The
// cluster's backend doesn't take every character, so that a hash tells apart what
// looks the same.
func semaphoreName(owner, service string) string {
	plain := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return '-'
	}, owner+"-"+service)
	sum := sha256.Sum256([]byte(owner + "\x00" + service))
	return plain + "-" + hex.EncodeToString(sum[:4])
}
