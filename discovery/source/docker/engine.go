package docker

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	types "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
	"golang.org/x/sync/errgroup"

	"rollcall/failure"
)

const (
	// maxInspects is how many containers are inspected at once.
	maxInspects = 8
	// maxRead bounds a whole reading, however many containers there are.
	maxRead = 5 * time.Minute
)

// engine reads containers. It keeps one connection, and what it knows of
// containers that haven't changed. Its methods run one at a time.
type engine struct {
	endpoint endpoint

	mu   sync.Mutex // protects the following, and serialises readings
	conn *connection
	// known are the containers by ID, as they were inspected.
	known map[string]*box
}

func newEngine(e endpoint) *engine { return &engine{endpoint: e, known: map[string]*box{}} }

// read returns the containers that the filters match, in the list's order, or
// an error: never a part. all asks for stopped ones too. Those that keep says no
// to are left out, and not asked for details; nil keeps all.
func (e *engine) read(ctx context.Context, filter filters.Args, all bool, keep func(types.Summary) bool) ([]*box, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, maxRead)
	defer cancel()
	boxes, err := e.readLocked(ctx, filter, all, keep)
	if err != nil {
		e.drop()
		return nil, err
	}
	return boxes, nil
}

func (e *engine) readLocked(ctx context.Context, filter filters.Args, all bool, keep func(types.Summary) bool) ([]*box, error) {
	if err := e.ensure(ctx); err != nil {
		return nil, err
	}
	found, err := e.list(ctx, filter, all)
	if err != nil {
		return nil, err
	}
	if keep != nil {
		found = slices.DeleteFunc(found, func(c types.Summary) bool { return !keep(c) })
	}
	joined, err := e.listJoined(ctx, found)
	if err != nil {
		return nil, err
	}
	known, err := e.inspect(ctx, slices.Concat(found, joined))
	if err != nil {
		return nil, err
	}
	boxes := make([]*box, 0, len(found))
	for _, summary := range found {
		if b := known[summary.ID]; b != nil {
			boxes = append(boxes, b)
		}
	}
	return boxes, nil
}

// ensure connects if there's no connection.
func (e *engine) ensure(ctx context.Context) (err error) {
	if e.conn == nil {
		e.conn, err = e.endpoint.connect(ctx, nil)
	}
	return err
}

// matches says if the filters match one container, running or not.
func (e *engine) matches(ctx context.Context, filter filters.Args, id string) (bool, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.ensure(ctx); err != nil {
		return false, err
	}
	filter.Add("id", id)
	found, err := e.list(ctx, filter, true)
	return slices.ContainsFunc(found, func(c types.Summary) bool { return c.ID == id }), err
}

// list is the one call that every reading makes.
func (e *engine) list(ctx context.Context, filter filters.Args, all bool) ([]types.Summary, error) {
	ctx, cancel := context.WithTimeout(ctx, e.endpoint.timeout)
	defer cancel()
	found, err := e.conn.ContainerList(ctx, types.ListOptions{All: all, Filters: filter})
	if err != nil {
		return nil, e.endpoint.explain(err, "the list of containers")
	}
	// An Engine without containers answers []. `null` comes from something
	// else, and would be taken for "everything is gone".
	if found == nil || slices.ContainsFunc(found, func(c types.Summary) bool { return c.ID == "" }) {
		return nil, failure.New(failure.Transient, "the Docker Engine %s answered no list of containers", e.endpoint.host)
	}
	return found, nil
}

// listJoined lists the containers whose network others share, if the filters
// left them out: one more call, however many there are.
func (e *engine) listJoined(ctx context.Context, found []types.Summary) ([]types.Summary, error) {
	present := map[string]bool{}
	for _, summary := range found {
		present[summary.ID] = true
	}
	missing := filters.NewArgs()
	for _, summary := range found {
		if id, ok := joins(summary.HostConfig.NetworkMode); ok && !present[id] {
			missing.Add("id", id)
		}
	}
	if missing.Len() == 0 {
		return nil, nil
	}
	return e.list(ctx, missing, false)
}

// inspect returns the containers by ID. It asks only for those that changed.
func (e *engine) inspect(ctx context.Context, found []types.Summary) (map[string]*box, error) {
	fresh := make([]*box, len(found))
	gone := make([]bool, len(found))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(maxInspects)
	for i, summary := range found {
		if b := e.known[summary.ID]; b != nil && b.fingerprint() == fingerprintOf(summary) {
			fresh[i] = b
			continue
		}
		group.Go(func() (err error) {
			fresh[i], err = e.inspectOne(groupCtx, summary.ID)
			gone[i] = err == nil && fresh[i] == nil
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	if err := e.proveGone(ctx, found, gone); err != nil {
		return nil, err
	}
	known := make(map[string]*box, len(found))
	for _, b := range fresh {
		if b != nil {
			known[b.id] = b
		}
	}
	// What differs from the list was taken in the middle of a change; its
	// fingerprint will differ from the next list's as well, and so it's asked
	// for again then.
	e.known = known
	return linked(known), nil
}

// proveGone is an error if a container that was said not to exist is listed
// all the same. A proxy that says so of what it doesn't let through would turn
// a full list into an empty one.
func (e *engine) proveGone(ctx context.Context, found []types.Summary, gone []bool) error {
	missing := filters.NewArgs()
	for i, summary := range found {
		if gone[i] {
			missing.Add("id", summary.ID)
		}
	}
	if missing.Len() == 0 {
		return nil
	}
	still, err := e.list(ctx, missing, true)
	if err != nil {
		return err
	}
	for _, summary := range still {
		if slices.Contains(missing.Get("id"), summary.ID) {
			return failure.New(failure.Transient, "the Docker Engine %s lists the container %s (%.12s), and says that it doesn't exist when it's asked for details; "+
				"a proxy in front of it must allow GET of containers/ID/json", e.endpoint.host, ownName(summary.Names), summary.ID)
		}
	}
	return nil
}

// linked returns copies of the containers that know which one they've joined.
func linked(known map[string]*box) map[string]*box {
	out := make(map[string]*box, len(known))
	for id, b := range known {
		c := *b
		out[id] = &c
	}
	for _, b := range out {
		if id, ok := joins(b.mode); ok {
			b.joined = out[id]
		}
	}
	return out
}

// inspectOne returns nil for a container that is said to be gone by now.
func (e *engine) inspectOne(ctx context.Context, id string) (*box, error) {
	ctx, cancel := context.WithTimeout(ctx, e.endpoint.timeout)
	defer cancel()
	details, err := e.conn.ContainerInspect(ctx, id)
	switch {
	case errdefs.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, e.endpoint.explain(err, "what it knows of a container")
	}
	b, err := boxOf(details)
	if err != nil {
		return nil, err
	}
	if b.id != id {
		return nil, failure.New(failure.Transient, "the Docker Engine %s was asked for one container and told of another", e.endpoint.host)
	}
	return b, nil
}

// networks returns the networks' drivers by name.
func (e *engine) networks(ctx context.Context) (map[string]string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, e.endpoint.timeout)
	defer cancel()
	if err := e.ensure(ctx); err != nil {
		return nil, err
	}
	all, err := e.conn.NetworkList(ctx, network.ListOptions{})
	if err != nil {
		e.drop()
		return nil, e.endpoint.explain(err, "the list of networks")
	}
	drivers := map[string]string{}
	for _, one := range all {
		drivers[one.Name] = one.Driver
	}
	return drivers, nil
}

// start names the start of the Engine; empty: it isn't known. A proxy that doesn't
// tell of networks costs no connection.
func (e *engine) start(ctx context.Context) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ensure(ctx) != nil {
		return ""
	}
	return e.conn.start(ctx, e.endpoint.timeout)
}

// drop gives up the connection, and with it what is known: the next reading
// starts afresh.
func (e *engine) drop() {
	e.conn.close()
	e.conn = nil
	e.known = map[string]*box{}
}

func (e *engine) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.drop()
}
