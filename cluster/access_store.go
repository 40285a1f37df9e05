package cluster

import (
	"context"

	"github.com/gravitational/teleport/api/client"
	"github.com/gravitational/teleport/api/types"
)

// Store reads and writes the resources of one kind. Errors have a kind
// (package failure): Conflict for a name that is taken, maybe by something that
// this identity may not see; Refused, with the rule or the labels that the roles
// lack; NotFound. Safe for concurrent use.
type Store[R types.ResourceWithLabels] struct {
	access *Access
	kind   string
	calls  storeCalls[R]
}

// storeCalls are the API client's methods for a kind.
type storeCalls[R types.ResourceWithLabels] struct {
	list           func(c *client.Client, ctx context.Context) ([]R, error)
	find           func(c *client.Client, ctx context.Context, name string) ([]R, error)
	create, update func(c *client.Client, ctx context.Context, r R) error
	remove         func(c *client.Client, ctx context.Context, r R) error
}

// Apps are the dynamic applications.
func (a *Access) Apps() *Store[types.Application] {
	return &Store[types.Application]{a, types.KindApp, storeCalls[types.Application]{
		list: (*client.Client).GetApps, find: single((*client.Client).GetApp),
		create: (*client.Client).CreateApp, update: (*client.Client).UpdateApp,
		remove: byName[types.Application]((*client.Client).DeleteApp),
	}}
}

// Databases are the dynamic databases.
func (a *Access) Databases() *Store[types.Database] {
	return &Store[types.Database]{a, types.KindDatabase, storeCalls[types.Database]{
		list: (*client.Client).GetDatabases, find: single((*client.Client).GetDatabase),
		create: (*client.Client).CreateDatabase, update: (*client.Client).UpdateDatabase,
		remove: byName[types.Database]((*client.Client).DeleteDatabase),
	}}
}

// KubeClusters are the dynamic Kubernetes clusters.
func (a *Access) KubeClusters() *Store[types.KubeCluster] {
	return &Store[types.KubeCluster]{a, types.KindKubernetesCluster, storeCalls[types.KubeCluster]{
		list: (*client.Client).GetKubernetesClusters, find: single((*client.Client).GetKubernetesCluster),
		create: (*client.Client).CreateKubernetesCluster, update: (*client.Client).UpdateKubernetesCluster,
		remove: byName[types.KubeCluster]((*client.Client).DeleteKubernetesCluster),
	}}
}

// WindowsDesktops are the registered Windows desktops, those of Teleport's own
// discovery among them. Their names are unique for each host ID only.
func (a *Access) WindowsDesktops() *Store[types.WindowsDesktop] {
	return &Store[types.WindowsDesktop]{a, types.KindWindowsDesktop, storeCalls[types.WindowsDesktop]{
		list: func(c *client.Client, ctx context.Context) ([]types.WindowsDesktop, error) {
			return c.GetWindowsDesktops(ctx, types.WindowsDesktopFilter{})
		},
		find: func(c *client.Client, ctx context.Context, name string) ([]types.WindowsDesktop, error) {
			return c.GetWindowsDesktops(ctx, types.WindowsDesktopFilter{Name: name})
		},
		create: (*client.Client).CreateWindowsDesktop, update: (*client.Client).UpdateWindowsDesktop,
		remove: func(c *client.Client, ctx context.Context, r types.WindowsDesktop) error {
			return c.DeleteWindowsDesktop(ctx, r.GetHostID(), r.GetName())
		},
	}}
}

// single makes a list of the one resource that a name can have.
func single[R types.ResourceWithLabels](get func(*client.Client, context.Context, string) (R, error)) func(*client.Client, context.Context, string) ([]R, error) {
	return func(c *client.Client, ctx context.Context, name string) ([]R, error) {
		r, err := get(c, ctx, name)
		if err != nil {
			return nil, err
		}
		return []R{r}, nil
	}
}

// byName deletes by the name alone.
func byName[R types.ResourceWithLabels](remove func(*client.Client, context.Context, string) error) func(*client.Client, context.Context, R) error {
	return func(c *client.Client, ctx context.Context, r R) error { return remove(c, ctx, r.GetName()) }
}

// List returns all resources that the identity may see, in the server's order.
// The server leaves out without a word what the roles' labels don't match.
func (s *Store[R]) List(ctx context.Context) (all []R, err error) {
	err = s.access.do(ctx, intent{op: "listing " + s.kind, kind: s.kind}, func(ctx context.Context, conn *lent) (err error) {
		all, err = s.calls.list(conn.Client, ctx)
		return err
	})
	return all, err
}

// Find returns the resources of a name. There can be more than one of Windows
// desktops only; none is failure.NotFound. One that the identity may not see is
// failure.Refused, with ErrHidden; a Windows desktop is failure.NotFound then, too.
func (s *Store[R]) Find(ctx context.Context, name string) (all []R, err error) {
	what := s.intent("reading", name, nil)
	what.lookup = true
	err = s.access.do(ctx, what, func(ctx context.Context, conn *lent) (err error) {
		all, err = s.calls.find(conn.Client, ctx, name)
		return err
	})
	return all, err
}

// Create makes a resource. Conflict: the name is taken.
func (s *Store[R]) Create(ctx context.Context, r R) error {
	return s.access.do(ctx, s.intent("creating", r.GetName(), r.GetAllLabels()), func(ctx context.Context, conn *lent) error {
		return s.calls.create(conn.Client, ctx, r)
	})
}

// Update overwrites a resource. The server doesn't compare revisions: read it
// right before.
func (s *Store[R]) Update(ctx context.Context, r R) error {
	return s.access.do(ctx, s.intent("updating", r.GetName(), r.GetAllLabels()), func(ctx context.Context, conn *lent) error {
		return s.calls.update(conn.Client, ctx, r)
	})
}

// Delete removes a resource by its name (Windows desktops: and host ID).
func (s *Store[R]) Delete(ctx context.Context, r R) error {
	return s.access.do(ctx, s.intent("deleting", r.GetName(), r.GetAllLabels()), func(ctx context.Context, conn *lent) error {
		return s.calls.remove(conn.Client, ctx, r)
	})
}

func (s *Store[R]) intent(op, name string, labels map[string]string) intent {
	return intent{op: op + " " + s.kind + "/" + name, kind: s.kind, labels: labels}
}
