package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/gravitational/teleport/api/client"
	"github.com/gravitational/teleport/api/types"
	"github.com/stretchr/testify/require"

	"rollcall/e2e/harness"
)

// kind is one kind of what can be registered, as an inventory has it and as
// Teleport's client does.
type kind struct {
	// name is Teleport's, and that of configurations.
	name string
	// entry is an entry of an inventory, but for name, kind and labels.
	entry func(host string) map[string]any
	// host is where a resource points to.
	host func(types.ResourceWithLabels) string
	// foreign makes one that nobody has registered yet.
	foreign func(types.Metadata) (types.ResourceWithLabels, error)

	list           func(context.Context, *client.Client) ([]types.ResourceWithLabels, error)
	create, update func(context.Context, *client.Client, types.ResourceWithLabels) error
	remove         func(context.Context, *client.Client, types.ResourceWithLabels) error
	// freely says that Teleport lets one be created without asking for labels.
	freely bool
}

const kubeconfigText = `{apiVersion: v1, kind: Config, clusters: [{name: c, cluster: {server: "https://%s:6443"}}],
contexts: [{name: c, context: {cluster: c, user: u}}], current-context: c, users: [{name: u, user: {token: t}}]}`

// desktopHost is the host ID that the tests' desktops have.
const desktopHost = "0a1b2c3d-0000-0000-0000-000000000000"

func kinds() []kind {
	return []kind{
		{
			name:  types.KindApp,
			entry: func(host string) map[string]any { return map[string]any{"uri": "http://" + host} },
			host:  func(r types.ResourceWithLabels) string { return r.(types.Application).GetURI() },
			foreign: func(m types.Metadata) (types.ResourceWithLabels, error) {
				return types.NewAppV3(m, types.AppSpecV3{URI: "http://theirs"})
			},
			list:   widened((*client.Client).GetApps),
			create: narrowed((*client.Client).CreateApp), update: narrowed((*client.Client).UpdateApp),
			remove: named((*client.Client).DeleteApp),
		},
		{
			name: types.KindDatabase,
			entry: func(host string) map[string]any {
				return map[string]any{"protocol": "postgres", "uri": host + ":5432"}
			},
			host: func(r types.ResourceWithLabels) string { return r.(types.Database).GetURI() },
			foreign: func(m types.Metadata) (types.ResourceWithLabels, error) {
				return types.NewDatabaseV3(m, types.DatabaseSpecV3{Protocol: "postgres", URI: "theirs:5432"})
			},
			list:   widened((*client.Client).GetDatabases),
			create: narrowed((*client.Client).CreateDatabase), update: narrowed((*client.Client).UpdateDatabase),
			remove: named((*client.Client).DeleteDatabase),
		},
		{
			name: types.KindKubernetesCluster,
			entry: func(host string) map[string]any {
				return map[string]any{"kubeconfig_inline": fmt.Sprintf(kubeconfigText, host)}
			},
			host: func(r types.ResourceWithLabels) string { return string(r.(types.KubeCluster).GetKubeconfig()) },
			foreign: func(m types.Metadata) (types.ResourceWithLabels, error) {
				return types.NewKubernetesClusterV3(m, types.KubernetesClusterSpecV3{Kubeconfig: fmt.Appendf(nil, kubeconfigText, "theirs")})
			},
			list:   widened((*client.Client).GetKubernetesClusters),
			create: narrowed((*client.Client).CreateKubernetesCluster), update: narrowed((*client.Client).UpdateKubernetesCluster),
			remove: named((*client.Client).DeleteKubernetesCluster),
		},
		{
			name: types.KindWindowsDesktop,
			entry: func(host string) map[string]any {
				return map[string]any{"addr": host + ":3389", "host_id": desktopHost, "non_ad": true}
			},
			host: func(r types.ResourceWithLabels) string { return r.(types.WindowsDesktop).GetAddr() },
			foreign: func(m types.Metadata) (types.ResourceWithLabels, error) {
				return types.NewWindowsDesktopV3(m.Name, m.Labels, types.WindowsDesktopSpecV3{Addr: "theirs:3389", HostID: desktopHost, NonAD: true})
			},
			list: func(ctx context.Context, c *client.Client) ([]types.ResourceWithLabels, error) {
				return widen(c.GetWindowsDesktops(ctx, types.WindowsDesktopFilter{}))
			},
			create: narrowed((*client.Client).CreateWindowsDesktop), update: narrowed((*client.Client).UpdateWindowsDesktop),
			remove: func(ctx context.Context, c *client.Client, r types.ResourceWithLabels) error {
				return c.DeleteWindowsDesktop(ctx, desktopHost, r.GetName())
			},
			freely: true,
		},
	}
}

func widen[R types.ResourceWithLabels](all []R, err error) ([]types.ResourceWithLabels, error) {
	var wide []types.ResourceWithLabels
	for _, r := range all {
		wide = append(wide, r)
	}
	return wide, err
}

func widened[R types.ResourceWithLabels](list func(*client.Client, context.Context) ([]R, error)) func(context.Context, *client.Client) ([]types.ResourceWithLabels, error) {
	return func(ctx context.Context, c *client.Client) ([]types.ResourceWithLabels, error) {
		return widen(list(c, ctx))
	}
}

func narrowed[R types.ResourceWithLabels](write func(*client.Client, context.Context, R) error) func(context.Context, *client.Client, types.ResourceWithLabels) error {
	return func(ctx context.Context, c *client.Client, r types.ResourceWithLabels) error {
		return write(c, ctx, r.(R))
	}
}

func named(remove func(*client.Client, context.Context, string) error) func(context.Context, *client.Client, types.ResourceWithLabels) error {
	return func(ctx context.Context, c *client.Client, r types.ResourceWithLabels) error {
		return remove(c, ctx, r.GetName())
	}
}

// everyKind is a discovery service with an inventory of every kind, and an output
// that shows the identity that the service works with.
func (r *registrar) everyKind(more ...string) string {
	names := ""
	for _, k := range kinds() {
		names += k.name + ", "
	}
	return r.service(append([]string{r.fromFile(), "kinds: [" + names + "]"}, more...)...) +
		fmt.Sprintf("outputs: [{type: identity, destination: {type: directory, path: %s}}]\n", r.identityDir())
}

func (r *registrar) identityDir() string { return filepath.Join(r.dir, "identity") }

// of is the name of the registrar's resource of a kind.
func (k kind) of(r *registrar) string { return fmt.Sprintf("%s-%.2s", r.name, k.name) }

// inventoryEntry is an entry of an inventory.
func (k kind) inventoryEntry(r *registrar, host string) any {
	e := k.entry(host)
	e["kind"], e["name"], e["labels"] = k.name, k.of(r), map[string]string{"team": r.name}
	return e
}

// find looks a resource up past its labels; nil: there's none.
func (k kind) find(t *testing.T, c *harness.Cluster, name string) types.ResourceWithLabels {
	t.Helper()
	all, err := k.list(t.Context(), c.Client(t))
	require.NoError(t, err)
	if i := slices.IndexFunc(all, func(r types.ResourceWithLabels) bool { return r.GetName() == name }); i >= 0 {
		return all[i]
	}
	return nil
}

// asRegistrar is a client with the identity that the service's role gives.
func (r *registrar) asRegistrar(t *testing.T, agent *harness.Process) *client.Client {
	t.Helper()
	file := filepath.Join(r.identityDir(), "identity")
	agent.WaitFor(t, patience, "the identity", func() error { _, err := os.Stat(file); return err })
	c, err := client.New(t.Context(), client.Config{
		Addrs: []string{r.cluster.Info().AuthAddr}, Credentials: []client.Credentials{client.LoadIdentityFile(file)},
	})
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}
