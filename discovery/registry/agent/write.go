package agent

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/gravitational/teleport/api/types"
	"github.com/gravitational/trace"

	"rollcall/discovery/resource"
	"rollcall/failure"
)

// cleanupTimeout bounds what is done after a failure, or a stop, to leave
// nothing behind.
const cleanupTimeout = 20 * time.Second

// Create starts an agent for an application. failure.Conflict: another's agent
// serves one of that name already. What is left of an earlier agent of ours is
// removed.
func (g *Registry) Create(ctx context.Context, r resource.Resource) error { return g.put(ctx, r) }

// Update makes the application be served as r says, by the agent that's there or
// by a new one. The old one goes when the new one has registered.
func (g *Registry) Update(ctx context.Context, r resource.Resource) error { return g.put(ctx, r) }

func (g *Registry) put(ctx context.Context, r resource.Resource) error {
	one, settings, err := g.find(ctx, r.Name)
	if err != nil {
		return trace.Wrap(err)
	}
	if one == nil {
		return trace.Wrap(g.start(ctx, r, settings, nil))
	}
	if !one.ours() {
		return g.foreign("registering", one)
	}
	trouble := one.trouble(&g.opts, settings, time.Now())
	if one.usable(trouble, r) {
		return trace.Wrap(g.tidy(ctx, one))
	}
	if trouble == troubleJoin {
		if err := g.resting(one.agents[0], r, settings); err != nil {
			return trace.Wrap(err)
		}
	}
	serving := make([]*seen, 0, len(one.agents))
	for _, agent := range one.agents {
		if agent.state == container.StateRunning && one.present[agent.node] {
			serving = append(serving, agent)
			continue
		}
		if err := g.removeAgent(ctx, agent); err != nil {
			return trace.Wrap(err)
		}
	}
	if err := g.removeRecords(ctx, r.Name, one.stale); err != nil {
		return trace.Wrap(err)
	}
	return trace.Wrap(g.start(ctx, r, settings, serving))
}

// resting returns why the same agent as before isn't started again just now.
func (g *Registry) resting(failed *seen, wanted resource.Resource, settings string) error {
	if !failed.readable || failed.settings != settings || !resource.Equal(failed.record, wanted) {
		return nil // it was another; that one may do better
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.failures.resting(wanted.Name, time.Now())
}

// Delete ends the application's agents: first the agent, then its record, which
// a living agent would write again, and then the container. Nothing of ours
// there is no error.
func (g *Registry) Delete(ctx context.Context, r resource.Resource) error {
	one, _, err := g.find(ctx, r.Name)
	if err != nil || one == nil {
		return trace.Wrap(err)
	}
	if !one.ours() {
		return g.foreign("deleting", one)
	}
	for _, agent := range one.agents {
		if err := g.removeAgent(ctx, agent); err != nil {
			return trace.Wrap(err)
		}
	}
	g.mu.Lock()
	delete(g.failures, r.Name)
	delete(g.unserved, r.Name)
	g.mu.Unlock()
	return trace.Wrap(g.removeRecords(ctx, r.Name, one.stale))
}

func (g *Registry) foreign(op string, one *group) error {
	record := one.foreign[0]
	return failure.New(failure.Conflict, "%s app/%s: the agent on the host %s serves it, which isn't ours", op, one.name, record.node)
}

// tidy finishes what a crash or a failure has left undone beside an agent that
// serves as it should.
func (g *Registry) tidy(ctx context.Context, one *group) error {
	agent := one.agents[0]
	if !agent.joining && !agent.spent && one.present[agent.node] {
		if err := g.spend(ctx, agent.id); err != nil {
			return trace.Wrap(err)
		}
	}
	if !agent.joining {
		for _, extra := range one.agents[1:] {
			if err := g.removeAgent(ctx, extra); err != nil {
				return trace.Wrap(err)
			}
		}
	}
	return trace.Wrap(g.removeRecords(ctx, one.name, one.stale))
}

// start makes and starts an agent. The token is in the container before Teleport
// knows it: whenever we crash, whoever finds the container finds the token. It's
// nowhere else.
func (g *Registry) start(ctx context.Context, r resource.Resource, settings string, replaced []*seen) error {
	if !g.open() {
		return trace.Wrap(context.Canceled)
	}
	secret := randomHex(tokenBytes)
	node := g.nodeName(r.Name)
	files, err := g.files(node, r, secret)
	if err != nil {
		return failure.Wrap(failure.Configuration, err, "%s: %s", r.Key(), trace.UserMessage(err))
	}
	config, host := g.containerOf(r, node, settings)
	id, err := g.engine.create(ctx, node, config, host, files)
	agent := &seen{id: id, node: node, app: r.Name, state: container.StateCreated}
	if err == nil {
		g.remember(id, &known{record: r.Clone(), readable: true})
		err = g.createToken(ctx, secret)
	}
	if err == nil {
		err = g.engine.start(ctx, id)
	}
	if err != nil {
		g.undo(ctx, agent, secret)
		return trace.Wrap(err, "starting the agent of %s", r.Key())
	}
	g.log.InfoContext(ctx, "An agent was started.", "app", r.Name, "container", node)
	g.mu.Lock()
	if len(replaced) == 0 {
		g.unserved[r.Name] = true
	}
	g.leave(replaced)
	g.mu.Unlock()
	g.await(agent, secret, replaced)
	return nil
}

// undo removes a container that couldn't be started, and its token. What can't
// be removed now is found by its labels later.
func (g *Registry) undo(ctx context.Context, agent *seen, secret string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	err := g.deleteToken(ctx, secret)
	if err == nil && agent.id != "" {
		err = g.engine.remove(ctx, agent.id)
	}
	if err != nil {
		g.log.WarnContext(ctx, "An agent that couldn't be started is left behind; it's removed later.", "container", agent.node, "err", err)
		return
	}
	g.drop(agent.id)
}

// removeAgent ends an agent: its token, the agent, its records, the container.
// Each step's failure keeps the next from being done.
func (g *Registry) removeAgent(ctx context.Context, agent *seen) error {
	if err := g.endJoin(ctx, agent.id); err != nil {
		return trace.Wrap(err)
	}
	if err := g.spend(ctx, agent.id); err != nil {
		return trace.Wrap(err)
	}
	if err := g.engine.stop(ctx, agent.id); err != nil {
		return trace.Wrap(err)
	}
	// What it wrote until now; after its end it writes nothing.
	servers, err := g.access.AppServers(ctx, agent.app)
	if err != nil {
		return trace.Wrap(err)
	}
	var records []served
	for _, server := range servers {
		if server.GetHostname() == agent.node && server.GetApp().GetStaticLabels()[resource.LabelOwner] == g.owner {
			records = append(records, served{hostID: server.GetHostID()})
		}
	}
	if err := g.removeRecords(ctx, agent.app, records); err != nil {
		return trace.Wrap(err)
	}
	if err := g.engine.remove(ctx, agent.id); err != nil {
		return trace.Wrap(err)
	}
	g.drop(agent.id)
	g.log.InfoContext(ctx, "An agent was removed.", "app", agent.app, "container", agent.node)
	return nil
}

// removeRecords removes records of ours.
func (g *Registry) removeRecords(ctx context.Context, app string, records []served) error {
	for _, record := range records {
		err := g.access.DeleteAppServer(ctx, record.hostID, app)
		if err != nil && failure.KindOf(err) != failure.NotFound {
			return trace.Wrap(err)
		}
		g.mu.Lock()
		g.removed[record.hostID] = time.Now()
		g.mu.Unlock()
	}
	return nil
}

// spend deletes a container's token, and then empties its file, which says that
// there's nothing to delete any more.
func (g *Registry) spend(ctx context.Context, id string) error {
	g.mu.Lock()
	k := g.known[id]
	spent := k != nil && k.spent
	g.mu.Unlock()
	if spent {
		return nil
	}
	secret, err := g.token(ctx, id)
	switch {
	case failure.KindOf(err) == failure.NotFound:
		return nil // the container is gone
	case err != nil:
		return trace.Wrap(err)
	case secret != "":
		if err := g.deleteToken(ctx, secret); err != nil {
			return trace.Wrap(err)
		}
		empty, err := pack(time.Now(), file{name: g.opts.fileAt(tokenFile), mode: 0o600})
		if err != nil {
			return trace.Wrap(err)
		}
		if err := g.engine.put(ctx, id, empty); err != nil && failure.KindOf(err) != failure.NotFound {
			return trace.Wrap(err)
		}
	}
	g.mu.Lock()
	if k := g.known[id]; k != nil {
		k.spent = true
	}
	g.mu.Unlock()
	return nil
}

// createToken makes the token that one agent joins with.
func (g *Registry) createToken(ctx context.Context, secret string) error {
	token, err := types.NewProvisionToken(secret, types.SystemRoles{types.RoleApp}, time.Now().Add(tokenTTL).UTC())
	if err != nil {
		return trace.BadParameter("the token can't be made")
	}
	return trace.Wrap(g.access.CreateToken(ctx, token))
}

func (g *Registry) deleteToken(ctx context.Context, secret string) error {
	if !isToken(secret) {
		return failure.New(failure.Conflict, "a token that no agent of ours can have is never deleted")
	}
	err := g.access.DeleteToken(ctx, secret)
	if failure.KindOf(err) == failure.NotFound {
		return nil
	}
	return trace.Wrap(err)
}

// files are what the agent's container holds of ours, packed as soon as its ID
// is known: the record is sealed for that one.
func (g *Registry) files(node string, r resource.Resource, secret string) (func(id string) ([]byte, error), error) {
	config, err := teleportConfig(&g.opts, node, r)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	content, err := encodeRecord(r)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	ca, err := g.caCerts()
	if err != nil {
		return nil, trace.Wrap(err)
	}
	files := []file{
		// The token comes first: what has a record has had its token.
		{name: g.opts.fileAt(tokenFile), content: []byte(secret), mode: 0o600},
		{name: g.opts.ConfigPath, content: config, mode: 0o600},
	}
	if ca != nil {
		files = append(files, file{name: g.opts.fileAt(caFile), content: ca, mode: 0o644})
	}
	return func(id string) ([]byte, error) {
		record, err := g.seals.close(id, content)
		if err != nil {
			return nil, trace.Wrap(err)
		}
		return pack(time.Now(), append(files, file{name: g.opts.fileAt(recordFile), content: record, mode: 0o600})...)
	}, nil
}

// containerOf is the container as Docker is asked for it.
func (g *Registry) containerOf(r resource.Resource, node, settings string) (*container.Config, *container.HostConfig) {
	config := &container.Config{
		Image: g.opts.Image,
		Labels: map[string]string{
			resource.LabelOwner: g.owner, labelApp: r.Name, labelSettings: settings,
			// Whose it is must be known even if we crash before its files are in it.
			resource.LabelSource: r.Labels[resource.LabelSource], resource.LabelWorkload: r.Labels[resource.LabelWorkload],
		},
	}
	config.Labels[labelSeal] = g.seals.container(node, config.Labels)
	if g.opts.CAFile != "" {
		config.Env = []string{"SSL_CERT_FILE=" + g.opts.fileAt(caFile)}
	}
	return config, &container.HostConfig{
		NetworkMode: container.NetworkMode(g.opts.Network),
		ExtraHosts:  g.opts.ExtraHosts,
		// It comes back with the host; its identity is in its own file system.
		RestartPolicy: container.RestartPolicy{Name: container.RestartPolicyUnlessStopped},
	}
}

// nodeName names a container and the agent in it: unique for each start, so that
// a record can be told from that of an earlier start.
func (g *Registry) nodeName(app string) string {
	sum := sha256.Sum256([]byte(g.owner))
	return fmt.Sprintf("rollcall-%s-%s-%s", app[:min(len(app), 40)], hex.EncodeToString(sum[:3]), randomHex(4))
}

func randomHex(bytes int) string {
	content := make([]byte, bytes)
	_, _ = rand.Read(content) // never fails
	return hex.EncodeToString(content)
}
