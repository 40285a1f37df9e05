package resource

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func changed(change func(*Resource, *AppSpec)) Resource {
	r := Resource{Kind: KindApp, Name: "a", Description: "d", Labels: map[string]string{"env": "prod"}}
	spec := AppSpec{
		URI: "http://10.0.0.1:80", Rewrite: &Rewrite{Headers: []Header{{"X-Key", "hunter2"}}, Redirect: []string{"a"}},
		DynamicLabels: map[string]DynamicLabel{"up": {Period: time.Minute, Command: []string{"uptime", "-p"}}},
	}
	if change != nil {
		change(&r, &spec)
	}
	r.Spec = spec
	return r
}

// TestEveryFieldCounts changes one field at a time: Equal must see it, and Diff
// must name it, in both directions.
func TestEveryFieldCounts(t *testing.T) {
	database := func(s DatabaseSpec) Resource { return Resource{Kind: KindDatabase, Name: "a", Spec: s} }
	desktop := func(s WindowsDesktopSpec) Resource { return Resource{Kind: KindWindowsDesktop, Name: "a", Spec: s} }
	kube := func(s KubeClusterSpec) Resource { return Resource{Kind: KindKubeCluster, Name: "a", Spec: s} }
	for field, pair := range map[string][2]Resource{
		"description":               {changed(nil), changed(func(r *Resource, _ *AppSpec) { r.Description = "e" })},
		"labels.env":                {changed(nil), changed(func(r *Resource, _ *AppSpec) { r.Labels["env"] = "test" })},
		"labels.more":               {changed(nil), changed(func(r *Resource, _ *AppSpec) { r.Labels["more"] = "x" })},
		"spec.uri":                  {changed(nil), changed(func(_ *Resource, s *AppSpec) { s.URI = "http://10.0.0.2:80" })},
		"spec.public_addr":          {changed(nil), changed(func(_ *Resource, s *AppSpec) { s.PublicAddr = "a.example.com" })},
		"spec.insecure_skip_verify": {changed(nil), changed(func(_ *Resource, s *AppSpec) { s.InsecureSkipVerify = true })},
		"spec.rewrite.headers[0]": {changed(nil), changed(func(_ *Resource, s *AppSpec) {
			s.Rewrite = &Rewrite{Headers: []Header{{"X-Key", "other"}}, Redirect: []string{"a"}}
		})},
		"spec.rewrite.redirect": {changed(nil), changed(func(_ *Resource, s *AppSpec) { s.Rewrite = &Rewrite{Headers: []Header{{"X-Key", "hunter2"}}} })},
		"spec.dynamic_labels.up": {changed(nil), changed(func(_ *Resource, s *AppSpec) {
			s.DynamicLabels = map[string]DynamicLabel{"up": {Period: time.Hour, Command: []string{"uptime", "-p"}}}
		})},
		"spec.protocol":    {database(DatabaseSpec{}), database(DatabaseSpec{Protocol: "mysql"})},
		"spec.ca_cert":     {database(DatabaseSpec{}), database(DatabaseSpec{CACert: "pem"})},
		"spec.tls_mode":    {database(DatabaseSpec{}), database(DatabaseSpec{TLSMode: "insecure"})},
		"spec.server_name": {database(DatabaseSpec{}), database(DatabaseSpec{ServerName: "db"})},
		"spec.kubeconfig":  {kube(KubeClusterSpec{Kubeconfig: "a"}), kube(KubeClusterSpec{Kubeconfig: "b"})},
		"spec.addr":        {desktop(WindowsDesktopSpec{}), desktop(WindowsDesktopSpec{Addr: "a:3389"})},
		"spec.host_id":     {desktop(WindowsDesktopSpec{}), desktop(WindowsDesktopSpec{HostID: "h"})},
		"spec.domain":      {desktop(WindowsDesktopSpec{}), desktop(WindowsDesktopSpec{Domain: "d"})},
		"spec.non_ad":      {desktop(WindowsDesktopSpec{}), desktop(WindowsDesktopSpec{NonAD: true})},
	} {
		t.Run(field, func(t *testing.T) {
			a, b := pair[0], pair[1]
			require.False(t, Equal(a, b))
			require.False(t, Equal(b, a))
			for _, changes := range [][]Change{Diff(&a, &b), Diff(&b, &a)} {
				require.Len(t, changes, 1)
				require.Equal(t, field, changes[0].Field)
			}
		})
	}
}

func TestWhatMakesNoDifference(t *testing.T) {
	for name, b := range map[string]Resource{
		"nothing":               changed(nil),
		"labels of Teleport's":  changed(func(r *Resource, _ *AppSpec) { r.Labels["teleport.dev/origin"] = "dynamic" }),
		"when it ends":          changed(func(r *Resource, _ *AppSpec) { r.Expires = time.Now() }),
		"an equal copy's place": changed(func(_ *Resource, s *AppSpec) { copied := *s.Rewrite; s.Rewrite = &copied }),
	} {
		require.True(t, Equal(changed(nil), b), name)
		require.True(t, Equal(b, changed(nil)), name)
	}
	none := Resource{Spec: AppSpec{}}
	require.True(t, Equal(none, Resource{Spec: AppSpec{Rewrite: &Rewrite{}}, Labels: map[string]string{}}))
	require.True(t, EqualSpec(DatabaseSpec{}, DatabaseSpec{TLSMode: "verify-full"}), "the default")
	require.False(t, EqualSpec(AppSpec{}, DatabaseSpec{}))
	require.False(t, EqualSpec(AppSpec{}, nil))
}

func TestDiffOfWhatIsntThere(t *testing.T) {
	r := Resource{Kind: KindApp, Name: "a", Spec: AppSpec{URI: "u"}}
	require.Equal(t, []Change{{Field: "spec.uri", After: "u"}}, Diff(nil, &r))
	require.Equal(t, []Change{{Field: "spec.uri", Before: "u"}}, Diff(&r, nil))
	require.Empty(t, Diff(nil, nil))
	require.Equal(t, `spec.uri: "" -> "u"`, Diff(nil, &r)[0].String())
}

// Whatever is shown of a resource shows no credential.
func TestNoSecretIsShown(t *testing.T) {
	for _, r := range []Resource{
		changed(nil),
		{Kind: KindApp, Name: "b", Spec: AppSpec{URI: "http://user:hunter2@hunter2@10.0.0.1/"}},
		{Kind: KindDatabase, Name: "d", Spec: DatabaseSpec{URI: "mongodb://user:hunter2@db/"}},
		{Kind: KindKubeCluster, Name: "k", Spec: KubeClusterSpec{Kubeconfig: "hunter2"}},
	} {
		data, err := json.Marshal(r)
		require.NoError(t, err)
		require.NotContains(t, string(data), "hunter2")
		for _, change := range Diff(nil, &r) {
			require.NotContains(t, change.After, "hunter2")
		}
	}
	one, other := "http://u:1@h/", "http://u:2@h/"
	require.NotEqual(t, shownURI(one), shownURI(other), "but that it changed is")
}

func TestJSON(t *testing.T) {
	r := changed(func(r *Resource, _ *AppSpec) { r.Expires = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) })
	data, err := json.Marshal(r)
	require.NoError(t, err)
	require.JSONEq(t, `{
		"kind": "app", "name": "a", "description": "d", "labels": {"env": "prod"}, "expires": "2026-01-02T03:04:05Z",
		"spec": {
			"uri": "http://10.0.0.1:80",
			"rewrite": {"headers": [{"name": "X-Key", "value": "sha256:f52fbd32b2b3"}], "redirect": ["a"]},
			"dynamic_labels": {"up": {"period": "1m0s", "command": ["uptime", "-p"]}}
		}
	}`, string(data))
}
