//go:build rollcall_e2e

package registry_test

import (
	"testing"
	"time"

	"github.com/gravitational/teleport/api/types"
	"github.com/stretchr/testify/require"

	"rollcall/cluster"
	"rollcall/discovery/resource"
)

// fixture is a kind of resources as the generic tests need it.
type fixture struct {
	kind resource.Kind
	// field is the role's that limits the kind.
	field string
	// least is the smallest resource, full one that has everything, and other
	// one that differs from full in everything.
	least, full, other resource.Spec
	// tamper changes a registered resource by hand: one field that we have words
	// for, and one that we haven't. untouched says whether the second is still
	// as tamper has made it.
	tamper    func(t *testing.T, admin *cluster.Access, name string)
	untouched func(t *testing.T, admin *cluster.Access, name string) bool
}

func fixtures() []fixture {
	dynamic := map[string]resource.DynamicLabel{"load": {Period: time.Minute, Command: []string{"/usr/bin/uptime", "-p"}}}
	return []fixture{
		{
			kind: resource.KindApp, field: "app_labels",
			least: resource.AppSpec{URI: "http://127.0.0.1:1"},
			full: resource.AppSpec{
				URI: "https://10.0.0.1:8443/path", PublicAddr: "full.apps.localhost", InsecureSkipVerify: true,
				Rewrite: &resource.Rewrite{
					Headers:  []resource.Header{{Name: "Host", Value: "inner.example.com"}, {Name: "X-User", Value: "{{internal.logins}}"}},
					Redirect: []string{"localhost", "inner.example.com"},
				},
				DynamicLabels: dynamic,
			},
			other: resource.AppSpec{URI: "tcp://10.0.0.2:5432", PublicAddr: "other.apps.localhost"},
			tamper: func(t *testing.T, admin *cluster.Access, name string) {
				tamper(t, admin.Apps(), name, func(r types.Application) {
					app := r.(*types.AppV3)
					app.Spec.URI = "http://192.0.2.1"
					app.Spec.Rewrite.JWTClaims = types.JWTClaimsRewriteNone
				})
			},
			untouched: func(t *testing.T, admin *cluster.Access, name string) bool {
				rewrite := one(t, admin.Apps(), name).GetRewrite()
				return rewrite != nil && rewrite.JWTClaims == types.JWTClaimsRewriteNone
			},
		},
		{
			kind: resource.KindDatabase, field: "db_labels",
			least: resource.DatabaseSpec{Protocol: "postgres", URI: "127.0.0.1:5432"},
			full: resource.DatabaseSpec{
				Protocol: "mysql", URI: "db.example.com:3306", CACert: testCA, TLSMode: "verify-ca",
				ServerName: "db.internal", DynamicLabels: dynamic,
			},
			other: resource.DatabaseSpec{Protocol: "postgres", URI: "pg.example.com:5432"},
			tamper: func(t *testing.T, admin *cluster.Access, name string) {
				tamper(t, admin.Databases(), name, func(r types.Database) {
					db := r.(*types.DatabaseV3)
					db.Spec.URI = "192.0.2.1:3306"
					db.Spec.AD.SPN = "MSSQLSvc/kept:1433"
				})
			},
			untouched: func(t *testing.T, admin *cluster.Access, name string) bool {
				return one(t, admin.Databases(), name).GetAD().SPN == "MSSQLSvc/kept:1433"
			},
		},
		{
			kind: resource.KindKubeCluster, field: "kubernetes_labels",
			least: resource.KubeClusterSpec{Kubeconfig: resource.Secret(kubeconfig("https://127.0.0.1:6443"))},
			full:  resource.KubeClusterSpec{Kubeconfig: resource.Secret(kubeconfig("https://10.0.0.1:6443")), DynamicLabels: dynamic},
			other: resource.KubeClusterSpec{Kubeconfig: resource.Secret(kubeconfig("https://10.0.0.2:6443"))},
			tamper: func(t *testing.T, admin *cluster.Access, name string) {
				tamper(t, admin.KubeClusters(), name, func(r types.KubeCluster) {
					kube := r.(*types.KubernetesClusterV3)
					kube.Spec.Kubeconfig = []byte(kubeconfig("https://192.0.2.1:6443"))
					kube.Spec.AWS = types.KubeAWS{AccountID: "123456789012", Region: "eu-west-1", Name: "kept"}
				})
			},
			untouched: func(t *testing.T, admin *cluster.Access, name string) bool {
				return one(t, admin.KubeClusters(), name).GetAWSConfig().Name == "kept"
			},
		},
		{
			kind: resource.KindWindowsDesktop, field: "windows_desktop_labels",
			least: resource.WindowsDesktopSpec{Addr: "127.0.0.1:3389", HostID: "11111111-1111-1111-1111-111111111111"},
			full:  resource.WindowsDesktopSpec{Addr: "10.0.0.1:3389", HostID: "22222222-2222-2222-2222-222222222222", Domain: "example.com"},
			// Another host ID is another place in the cluster.
			other: resource.WindowsDesktopSpec{Addr: "10.0.0.2:3389", HostID: "33333333-3333-3333-3333-333333333333", NonAD: true},
			tamper: func(t *testing.T, admin *cluster.Access, name string) {
				tamper(t, admin.WindowsDesktops(), name, func(r types.WindowsDesktop) {
					desktop := r.(*types.WindowsDesktopV3)
					desktop.Spec.Addr = "192.0.2.1:3389"
					desktop.Metadata.Labels["teleport.dev/kept"] = "yes"
				})
			},
			untouched: func(t *testing.T, admin *cluster.Access, name string) bool {
				return one(t, admin.WindowsDesktops(), name).GetAllLabels()["teleport.dev/kept"] == "yes"
			},
		},
	}
}

// tamper changes a resource as an administrator would by hand.
func tamper[R types.ResourceWithLabels](t *testing.T, store *cluster.Store[R], name string, change func(R)) {
	t.Helper()
	now := one(t, store, name)
	change(now)
	require.NoError(t, store.Update(t.Context(), now))
}

// one returns the only resource of a name.
func one[R types.ResourceWithLabels](t *testing.T, store *cluster.Store[R], name string) R {
	t.Helper()
	all, err := store.Find(t.Context(), name)
	require.NoError(t, err)
	require.Len(t, all, 1)
	return all[0]
}

func kubeconfig(server string) string {
	return `apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "` + server + `"}}]
contexts: [{name: c, context: {cluster: c, user: u}}]
current-context: c
users: [{name: u, user: {token: "not-a-real-token"}}]
`
}

// testCA is a certificate that nobody has the key of.
const testCA = `-----BEGIN CERTIFICATE-----
MIIBeDCCAR2gAwIBAgIUBa5GJFyVHHvke43r7jTET+EL6EwwCgYIKoZIzj0EAwIw
ETEPMA0GA1UEAwwGdW51c2VkMB4XDTI2MTEyNzEzNDQwN1oXDTM2MTEyNDEzNDQw
N1owETEPMA0GA1UEAwwGdW51c2VkMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE
WChz0sXAaoAAUacQ/2UjVNoq0HBdbAIUMz1CFKFZf4+B6oBZbKq6arSTw1FZdq7s
tx5c8oRpO7jSYOyg4kl5TKNTMFEwHQYDVR0OBBYEFKmbBkXo7xHAWl84Wwz9d2j8
WBQJMB8GA1UdIwQYMBaAFKmbBkXo7xHAWl84Wwz9d2j8WBQJMA8GA1UdEwEB/wQF
MAMBAf8wCgYIKoZIzj0EAwIDSQAwRgIhAIkaj/yjkvo+Xkf9xoi/bF+QKD34LplX
/P3uRiUq0LWFAiEAwsRK65FlS2A2rvLN6xcEvqV9HKuX7RESGzIbxn+pHxg=
-----END CERTIFICATE-----
`
