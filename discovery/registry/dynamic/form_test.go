package dynamic

import (
	"testing"
	"time"

	"github.com/gravitational/teleport/api/types"
	"github.com/stretchr/testify/require"

	"rollcall/discovery/resource"
	"rollcall/failure"
)

func ofKind(spec resource.Spec) resource.Resource {
	return resource.Resource{Kind: spec.Kind(), Name: "web", Spec: spec, Labels: map[string]string{resource.LabelOwner: "us"}}
}

// dynamicLabels are ones that everybody takes.
func dynamicLabels() map[string]resource.DynamicLabel {
	return map[string]resource.DynamicLabel{"up": {Period: time.Minute, Command: []string{"/usr/bin/uptime"}}}
}

// The canonical form is its own: a second look at it finds nothing to do.
func TestCanonical(t *testing.T) {
	tests := map[string]struct{ given, want resource.Spec }{
		"app, as it is": {
			resource.AppSpec{URI: "http://a", PublicAddr: "a.example.com", InsecureSkipVerify: true, DynamicLabels: dynamicLabels(),
				Rewrite: &resource.Rewrite{Headers: []resource.Header{{Name: "a", Value: "b"}}}},
			resource.AppSpec{URI: "http://a", PublicAddr: "a.example.com", InsecureSkipVerify: true, DynamicLabels: dynamicLabels(),
				Rewrite: &resource.Rewrite{Headers: []resource.Header{{Name: "a", Value: "b"}}}},
		},
		"app, empty rewrite": {resource.AppSpec{URI: "http://a", Rewrite: &resource.Rewrite{}, DynamicLabels: map[string]resource.DynamicLabel{}},
			resource.AppSpec{URI: "http://a"}},
		"app of a cloud": {resource.AppSpec{URI: "https://console.aws.amazon.com"}, resource.AppSpec{URI: "https://console.aws.amazon.com"}},
		"db, default said": {resource.DatabaseSpec{Protocol: "postgres", URI: "a:1", TLSMode: "verify-full"},
			resource.DatabaseSpec{Protocol: "postgres", URI: "a:1"}},
		"db, another mode": {resource.DatabaseSpec{Protocol: "postgres", URI: "a:1", TLSMode: "insecure"},
			resource.DatabaseSpec{Protocol: "postgres", URI: "a:1", TLSMode: "insecure"}},
		"db, scheme filled in": {resource.DatabaseSpec{Protocol: "clickhouse", URI: "a:1"},
			resource.DatabaseSpec{Protocol: "clickhouse", URI: "clickhouse://a:1"}},
		"db of a cloud": {resource.DatabaseSpec{Protocol: "postgres", URI: "aurora-instance-1.abcdefghijklmnop.us-west-1.rds.amazonaws.com:5432"},
			resource.DatabaseSpec{Protocol: "postgres", URI: "aurora-instance-1.abcdefghijklmnop.us-west-1.rds.amazonaws.com:5432"}},
		"kube":    {resource.KubeClusterSpec{Kubeconfig: "a: b"}, resource.KubeClusterSpec{Kubeconfig: "a: b"}},
		"desktop": {resource.WindowsDesktopSpec{Addr: "a:3389", HostID: "h", NonAD: true}, resource.WindowsDesktopSpec{Addr: "a:3389", HostID: "h", NonAD: true}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			given := ofKind(test.given)
			given.Expires = time.Date(2030, 1, 1, 12, 0, 0, 0, time.FixedZone("x", 3600))
			given.Labels["teleport.dev/origin"] = "mine"

			first, err := Canonical(given)
			require.NoError(t, err)
			require.Equal(t, test.want, first.Spec)
			require.Equal(t, map[string]string{resource.LabelOwner: "us"}, first.Labels)
			require.Equal(t, time.Date(2030, 1, 1, 11, 0, 0, 0, time.UTC), first.Expires)

			second, err := Canonical(first)
			require.NoError(t, err)
			require.Equal(t, first, second)
		})
	}
}

// What Teleport would refuse is found before anything is sent, for that one
// resource alone.
func TestCanonicalRefuses(t *testing.T) {
	for want, r := range map[string]resource.Resource{
		"app/web: app \"web\" URI is empty":                        ofKind(resource.AppSpec{}),
		"a period must be at least 1s":                             ofKind(resource.AppSpec{URI: "http://a", DynamicLabels: map[string]resource.DynamicLabel{"a": {Command: []string{"x"}}}}),
		"dynamic_labels.a has no command":                          ofKind(resource.AppSpec{URI: "http://a", DynamicLabels: map[string]resource.DynamicLabel{"a": {Period: time.Hour}}}),
		"db/web: tls_mode \"none\" is unknown":                     ofKind(resource.DatabaseSpec{Protocol: "postgres", URI: "a:1", TLSMode: "none"}),
		"protocol is empty":                                        ofKind(resource.DatabaseSpec{URI: "a:1"}),
		"kube_cluster/web: it has no kubeconfig":                   ofKind(resource.KubeClusterSpec{}),
		"windows_desktop/web: it has no host_id":                   ofKind(resource.WindowsDesktopSpec{Addr: "a:1"}),
		"db/web: its spec isn't one of the kind db":                {Kind: resource.KindDatabase, Name: "web", Spec: resource.AppSpec{URI: "http://a"}},
		"\"node\" is no kind of resource that can be registered":   {Kind: "node", Name: "web"},
		"kube_cluster/web: its spec isn't one of the kind kube_cl": {Kind: resource.KindKubeCluster, Name: "web"},
	} {
		_, err := Canonical(r)
		require.Equal(t, failure.Configuration, failure.KindOf(err), "%v", err)
		require.ErrorContains(t, err, want)
	}
}

// An update leaves what we have no words for, and takes away what was only ever
// read off an address that isn't there any more.
func TestMergeKeeps(t *testing.T) {
	t.Run("app", func(t *testing.T) {
		app, err := types.NewAppV3(types.Metadata{Name: "web", Labels: map[string]string{"old": "1", "teleport.dev/origin": "dynamic"}}, types.AppSpecV3{
			URI: "https://console.aws.amazon.com", UserGroups: []string{"g"}, CORS: &types.CORSPolicy{MaxAge: 5},
			Rewrite: &types.Rewrite{JWTClaims: types.JWTClaimsRewriteRoles, Redirect: []string{"a"}},
		})
		require.NoError(t, err)
		require.Equal(t, types.CloudAWS, app.Spec.Cloud)

		require.NoError(t, mergeApp(app, ofKind(resource.AppSpec{URI: "http://a"})))

		require.Equal(t, []string{"g"}, app.Spec.UserGroups)
		require.EqualValues(t, 5, app.Spec.CORS.MaxAge)
		require.Equal(t, &types.Rewrite{JWTClaims: types.JWTClaimsRewriteRoles}, app.Spec.Rewrite)
		require.Empty(t, app.Spec.Cloud)
		require.Equal(t, map[string]string{resource.LabelOwner: "us", "teleport.dev/origin": "dynamic"}, app.Metadata.Labels)
	})
	t.Run("database", func(t *testing.T) {
		db, err := types.NewDatabaseV3(types.Metadata{Name: "web"}, types.DatabaseSpecV3{
			Protocol: "postgres", URI: "one.abcdefghijklmnop.us-west-1.rds.amazonaws.com:5432", CACert: "old", //nolint:staticcheck // as older clients do
		})
		require.NoError(t, err)
		require.Equal(t, "us-west-1", db.Spec.AWS.Region)

		require.NoError(t, mergeDatabase(db, ofKind(resource.DatabaseSpec{Protocol: "postgres", URI: "two.abcdefghijklmnop.eu-west-1.rds.amazonaws.com:5432"})))

		require.Equal(t, "eu-west-1", db.Spec.AWS.Region)
		require.Equal(t, "two", db.Spec.AWS.RDS.InstanceID)
		require.Empty(t, readDatabase(db).Spec.(resource.DatabaseSpec).CACert)
	})
	t.Run("database, by hand", func(t *testing.T) {
		db, err := types.NewDatabaseV3(types.Metadata{Name: "web"}, types.DatabaseSpecV3{
			Protocol: "postgres", URI: "a:1", AWS: types.AWS{Region: "us-east-1", AccountID: "123456789012"},
		})
		require.NoError(t, err)
		require.NoError(t, mergeDatabase(db, ofKind(resource.DatabaseSpec{Protocol: "postgres", URI: "b:1"})))
		require.Equal(t, "us-east-1", db.Spec.AWS.Region)
	})
}

func TestCollapse(t *testing.T) {
	desktop := func(owner, host string) resource.Resource {
		return resource.Resource{Kind: resource.KindWindowsDesktop, Name: "d", Labels: map[string]string{resource.LabelOwner: owner},
			Spec: resource.WindowsDesktopSpec{HostID: host}}
	}
	hosts := func(all []resource.Resource) []string {
		var found []string
		for _, r := range all {
			found = append(found, r.Owner()+"@"+r.Spec.(resource.WindowsDesktopSpec).HostID)
		}
		return found
	}
	for name, test := range map[string]struct {
		all  []resource.Resource
		want []string
	}{
		"one":             {[]resource.Resource{desktop("us", "1")}, []string{"us@1"}},
		"ours beside":     {[]resource.Resource{desktop("them", "1"), desktop("us", "2"), desktop("", "3")}, []string{"us@2"}},
		"only others'":    {[]resource.Resource{desktop("them", "1"), desktop("", "3")}, []string{"them@1"}},
		"moved half way":  {[]resource.Resource{desktop("us", "1"), desktop("us", "2")}, []string{"us@1,2"}},
		"and others' too": {[]resource.Resource{desktop("them", "0"), desktop("us", "1"), desktop("us", "2")}, []string{"us@1,2"}},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, test.want, hosts(collapse(test.all, "us"))) })
	}
}
