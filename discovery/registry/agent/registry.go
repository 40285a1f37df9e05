package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"
	"github.com/gravitational/teleport/api/types"
	"github.com/gravitational/trace"

	"rollcall/cluster"
	"rollcall/discovery/registry/dynamic"
	"rollcall/discovery/resource"
	"rollcall/failure"
)

// Registry is a discovery.Registry of applications, each served by an agent of
// its own. Create and Update return when the agent was started; a goroutine
// waits until it has registered, takes its token away and ends the agent that it
// replaces. Safe for concurrent use on different applications.
type Registry struct {
	opts   Options
	owner  string
	seals  sealer
	access access
	engine *engine
	log    *slog.Logger

	poll time.Duration // how often it's looked for a new agent's record

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	joins  sync.WaitGroup
	looks  sync.WaitGroup // of expect

	mu sync.Mutex // protects the following
	// known is what was learned of containers, by ID.
	known map[string]*known
	// strangers are the IDs of containers of which it was told that they bear our
	// labels and aren't ours.
	strangers map[string]bool
	// removed are host IDs whose records were removed just now: lists lag.
	removed map[string]time.Time
	// unserved are those of our applications that no agent has registered; see
	// Pending.
	unserved map[string]bool
	// outgoing is what our agents besides the newest of an application were started
	// for, by the container's ID; see Outgoing.
	outgoing map[string]resource.Resource
	// expecting ends the looking for agents that nobody waits for; nil: none are
	// looked for.
	expecting context.CancelFunc
	// tell is called when a join has ended; nil: nobody wants to know.
	tell func()
	// failures are of joins, until one of that application succeeds.
	failures failures
	closed   bool
}

// records are what the cluster knows of agents.
type records interface {
	AppServers(ctx context.Context, name string) ([]types.AppServer, error)
	DeleteAppServer(ctx context.Context, hostID, name string) error
}

// tokens are what agents join with.
type tokens interface {
	CreateToken(ctx context.Context, token types.ProvisionToken) error
	DeleteToken(ctx context.Context, name string) error
}

// access is what is asked of the cluster: *cluster.Access.
type access interface {
	records
	tokens
}

// known is what was learned of a container and doesn't change by itself.
type known struct {
	record   resource.Resource
	readable bool
	spent    bool
	failed   bool
	away     time.Time
	join     *join
}

// New returns a registry that makes containers with an Engine, for an owner.
// The options were validated, and have a ProxyAddr. key, of KeySize bytes, proves
// which containers are ours; with another one they're strangers to us, which are
// never touched. Nothing is asked yet. The caller closes the registry, and the
// Engine's client after it.
func New(docker *client.Client, access *cluster.Access, opts Options, owner string, key []byte, log *slog.Logger) (*Registry, error) {
	return build(docker, access, opts, owner, key, log)
}

func build(docker *client.Client, access access, opts Options, owner string, key []byte, log *slog.Logger) (*Registry, error) {
	if err := opts.Validate(); err != nil {
		return nil, trace.Wrap(err)
	}
	if len(key) != KeySize {
		return nil, failure.New(failure.Configuration, "the key that proves which agents are ours must have %d bytes, and has %d", KeySize, len(key))
	}
	if opts.ProxyAddr == "" {
		return nil, failure.New(failure.Configuration, "an agent needs the proxy's address: set proxy_addr")
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &Registry{
		opts: opts, owner: owner, seals: sealer{key}, access: access, engine: &engine{docker: docker, owner: owner}, log: log,
		poll: joinPoll, ctx: ctx, cancel: cancel, failures: failures{}, known: map[string]*known{}, strangers: map[string]bool{}, removed: map[string]time.Time{}, unserved: map[string]bool{}, outgoing: map[string]resource.Resource{},
	}, nil
}

// Close ends the waiting for agents that haven't registered yet. They go on by
// themselves; the next Registry finds them.
func (g *Registry) Close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.cancel()
	g.joins.Wait()
	g.looks.Wait()
}

// Settle waits until every agent that was started has registered or failed, and
// returns what failed since it was called last, once for each application.
func (g *Registry) Settle(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		g.joins.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		return trace.Wrap(ctx.Err())
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.failures.take()
}

// writeTimeout bounds one write: it ends agents that have died, and makes and
// starts another, each by several calls to an Engine that may be busy.
const writeTimeout = time.Minute

// WriteTimeout bounds one write; see discovery.Slow.
func (g *Registry) WriteTimeout() time.Duration { return writeTimeout }

// Canonical returns r as the registry lists it: see dynamic.Canonical. An agent's
// record has no end of its own.
func Canonical(r resource.Resource) (resource.Resource, error) {
	r, err := dynamic.Canonical(r)
	r.Expires = time.Time{}
	return r, err
}

// List returns our applications (those whose agents haven't registered yet among
// them) and all others that agents serve, one a name. See LabelState.
func (g *Registry) List(ctx context.Context) ([]resource.Resource, error) {
	groups, settings, err := g.look(ctx, "")
	if err != nil {
		return nil, trace.Wrap(err)
	}
	g.noteUnserved(groups)
	g.noteOutgoing(groups)
	g.expect(groups, settings)
	all := make([]resource.Resource, 0, len(groups))
	for _, one := range groups {
		r, _ := one.shown(&g.opts, settings, time.Now())
		all = append(all, r)
	}
	return all, nil
}

// Get is List for one name; failure.NotFound: there's none.
func (g *Registry) Get(ctx context.Context, name string) (resource.Resource, error) {
	one, settings, err := g.find(ctx, name)
	if err != nil {
		return resource.Resource{}, trace.Wrap(err)
	}
	if one == nil {
		return resource.Resource{}, failure.New(failure.NotFound, "no agent serves app/%s", name)
	}
	r, _ := one.shown(&g.opts, settings, time.Now())
	return r, nil
}

// find returns all about one application, or nil.
func (g *Registry) find(ctx context.Context, name string) (*group, string, error) {
	groups, settings, err := g.look(ctx, name)
	if err != nil {
		return nil, "", trace.Wrap(err)
	}
	for _, one := range groups {
		if one.name == name {
			return one, settings, nil
		}
	}
	return nil, settings, nil
}

// look reads records and containers: of one application, or of all.
func (g *Registry) look(ctx context.Context, name string) ([]*group, string, error) {
	settings, err := g.settings()
	if err != nil {
		return nil, "", trace.Wrap(err)
	}
	servers, err := g.access.AppServers(ctx, name)
	if err != nil {
		return nil, "", trace.Wrap(err)
	}
	agents, strangers, err := g.agents(ctx, name)
	if err != nil {
		return nil, "", trace.Wrap(err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	groups := assemble(g.owner, agents, strangers, g.records(servers))
	for _, one := range groups {
		for _, agent := range one.agents {
			g.noteAway(agent, one.present[agent.node])
		}
	}
	return groups, settings, nil
}

// records are what lists show, but for what was removed just now. g.mu is held.
func (g *Registry) records(servers []types.AppServer) []served {
	records := make([]served, 0, len(servers))
	for _, server := range servers {
		if at, ok := g.removed[server.GetHostID()]; ok && time.Since(at) < time.Minute {
			continue
		}
		records = append(records, served{server.GetHostID(), server.GetHostname(), dynamic.ReadApp(server.GetApp())})
	}
	return records
}

// noteAway remembers since when an agent hasn't been registered. g.mu is held.
func (g *Registry) noteAway(agent *seen, present bool) {
	k := g.known[agent.id]
	switch {
	case k == nil:
	case present:
		k.away = time.Time{}
	case k.away.IsZero():
		k.away = time.Now()
	}
	if k != nil {
		agent.awaySince = k.away
	}
}

// agents returns our containers with what is known of them; what isn't known yet
// is read from their files. So it's after a restart of ours. Of containers that
// have our labels and aren't proven to be ours it returns the names, and reads
// nothing.
func (g *Registry) agents(ctx context.Context, name string) ([]*seen, map[string]bool, error) {
	containers, err := g.engine.list(ctx, name)
	if err != nil {
		return nil, nil, trace.Wrap(err)
	}
	if name == "" {
		g.forget(containers)
	}
	var agents []*seen
	strangers := map[string]bool{}
	for _, c := range containers {
		node := nodeOf(c)
		if !g.seals.made(node, c.Labels) {
			g.tellStranger(ctx, c.ID, node)
			strangers[node] = true
			continue
		}
		agent := &seen{
			id: c.ID, node: node, app: c.Labels[labelApp], settings: c.Labels[labelSettings], state: c.State, created: time.Unix(c.Created, 0),
		}
		agent.marks = map[string]string{
			resource.LabelOwner: c.Labels[resource.LabelOwner], resource.LabelSource: c.Labels[resource.LabelSource],
			resource.LabelWorkload: c.Labels[resource.LabelWorkload],
		}
		if err := g.learn(ctx, agent); err != nil {
			return nil, nil, trace.Wrap(err)
		}
		agents = append(agents, agent)
	}
	return agents, strangers, nil
}

// nodeOf is a container's own name; beside it, links of others name it.
func nodeOf(c container.Summary) string {
	for _, name := range c.Names {
		if name = strings.TrimPrefix(name, "/"); !strings.Contains(name, "/") {
			return name
		}
	}
	return ""
}

// tellStranger says once that a container has our labels and isn't ours.
func (g *Registry) tellStranger(ctx context.Context, id, node string) {
	g.mu.Lock()
	told := g.strangers[id]
	g.strangers[id] = true
	g.mu.Unlock()
	if !told {
		g.log.WarnContext(ctx, "A container has the labels of an agent of ours, and it isn't proven that we've made it: it's left alone. If it was renamed, name it as before; if the storage was lost, or it's a copy, remove it.",
			"container", node, "id", short(id))
	}
}

// learn fills in what is known of a container.
func (g *Registry) learn(ctx context.Context, agent *seen) error {
	g.mu.Lock()
	k := g.known[agent.id]
	g.mu.Unlock()
	if k == nil {
		fresh, whole, err := g.readFiles(ctx, agent)
		if failure.KindOf(err) == failure.NotFound {
			return nil // it's gone since it was listed
		}
		if err != nil {
			return trace.Wrap(err)
		}
		g.mu.Lock()
		if k = g.known[agent.id]; k == nil {
			k = fresh
			if whole {
				g.known[agent.id] = k
			}
		}
		g.mu.Unlock()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	agent.record, agent.readable, agent.spent, agent.failed = k.record, k.readable, k.spent, k.failed
	agent.joining = k.join != nil
	return nil
}

// readFiles reads what a container was started for, and if its token is still
// there. Not whole: somebody may be about to write the files.
func (g *Registry) readFiles(ctx context.Context, agent *seen) (k *known, whole bool, err error) {
	k = &known{}
	content, err := g.engine.read(ctx, agent.id, g.opts.fileAt(recordFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return k, false, nil
	case err != nil:
		return nil, false, trace.Wrap(err)
	}
	if record, err := g.believe(agent, content); err == nil {
		k.record, k.readable = record, true
	} else {
		g.log.WarnContext(ctx, "What an agent was started for can't be believed.", "app", agent.app, "container", agent.node, "err", err)
	}
	token, err := g.token(ctx, agent.id)
	if err != nil {
		return nil, false, trace.Wrap(err)
	}
	k.spent = token == ""
	return k, k.readable, nil
}

// believe returns a container's record if we've put it there, for what the
// container's labels say.
func (g *Registry) believe(agent *seen, content []byte) (resource.Resource, error) {
	content, err := g.seals.open(agent.id, content)
	if err != nil {
		return resource.Resource{}, trace.Wrap(err)
	}
	record, err := decodeRecord(content)
	if err != nil {
		return resource.Resource{}, trace.Wrap(err)
	}
	if record.Name != agent.app {
		return resource.Resource{}, trace.BadParameter("it's for another application than the container's label names")
	}
	for label, value := range agent.marks {
		if record.Labels[label] != value {
			return resource.Resource{}, trace.BadParameter("it differs from the container in the label %s", label)
		}
	}
	return record, nil
}

// token reads a container's token; empty: it's spent, was never there, or isn't
// one that we can have made.
func (g *Registry) token(ctx context.Context, id string) (string, error) {
	content, err := g.engine.read(ctx, id, g.opts.fileAt(tokenFile))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", trace.Wrap(err)
	}
	secret := strings.TrimSpace(string(content))
	if !isToken(secret) {
		return "", nil
	}
	return secret, nil
}

// settings is a hash of all that makes two containers for one application differ.
func (g *Registry) settings() (string, error) {
	ca, err := g.caCerts()
	if err != nil {
		return "", trace.Wrap(err)
	}
	content, err := json.Marshal([]any{g.opts.Image, g.opts.ProxyAddr, g.opts.Network, g.opts.ExtraHosts, g.opts.ConfigPath, string(ca)})
	if err != nil {
		return "", trace.Wrap(err)
	}
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:8]), nil
}

// caCerts reads the file of the proxy's CAs, if there's one.
func (g *Registry) caCerts() ([]byte, error) {
	if g.opts.CAFile == "" {
		return nil, nil
	}
	content, err := os.ReadFile(g.opts.CAFile)
	return content, failure.Wrap(failure.Configuration, err, "the agents' ca_file can't be read: %v", err)
}
