package resource

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rollcall/failure"
)

func validApp(change ...func(*Resource, *AppSpec)) Resource {
	r := Resource{Kind: KindApp, Name: "grafana", Labels: map[string]string{"env": "prod"}}
	spec := AppSpec{URI: "http://127.0.0.1:3000"}
	for _, do := range change {
		do(&r, &spec)
	}
	r.Spec = spec
	return r
}

func withURI(uri string) Resource {
	return validApp(func(_ *Resource, s *AppSpec) { s.URI = uri })
}

func TestCheckGood(t *testing.T) {
	for _, r := range []Resource{
		validApp(),
		withURI("https://grafana.internal/d/x?y=z"),
		withURI("tcp://db_1:5432"),
		withURI("http://[::1]:80"),
		validApp(func(_ *Resource, s *AppSpec) {
			s.PublicAddr = "grafana.example.com"
			s.Rewrite = &Rewrite{Headers: []Header{{"Authorization", "Bearer {{internal.jwt}}"}}, Redirect: []string{"10.0.0.1"}}
			s.DynamicLabels = map[string]DynamicLabel{"load": {time.Minute, []string{"uptime"}}}
		}),
		{Kind: KindDatabase, Name: "db", Spec: DatabaseSpec{Protocol: "postgres", URI: "db.internal:5432", TLSMode: "verify-ca", ServerName: "db"}},
		{Kind: KindDatabase, Name: "db", Spec: DatabaseSpec{Protocol: "mongodb", URI: "mongodb://a:27017,b:27017/?replicaSet=r"}},
		{Kind: KindKubeCluster, Name: "kube", Spec: KubeClusterSpec{Kubeconfig: "clusters: []"}},
		{Kind: KindWindowsDesktop, Name: "win", Spec: WindowsDesktopSpec{Addr: "10.0.0.9:3389", HostID: "abc", NonAD: true}},
		{Kind: KindWindowsDesktop, Name: "win", Spec: WindowsDesktopSpec{Addr: "win.example.com:3389", HostID: "abc", Domain: "example.com"}},
	} {
		require.NoError(t, Check(r), "%v", r)
	}
}

func TestCheckBad(t *testing.T) {
	many := map[string]string{}
	for i := range 65 {
		many[fmt.Sprintf("k%d", i)] = ""
	}
	tests := []struct {
		name  string
		r     Resource
		field string
		says  string
	}{
		{"no name", validApp(func(r *Resource, _ *AppSpec) { r.Name = "" }), "name", "is empty"},
		{"a name that isn't a label", validApp(func(r *Resource, _ *AppSpec) { r.Name = "My App" }), "name", `"my-app" would do`},
		{"a description of two lines", validApp(func(r *Resource, _ *AppSpec) { r.Description = "a\nb" }), "description", "control"},
		{"a description that isn't text", validApp(func(r *Resource, _ *AppSpec) { r.Description = "\xff" }), "description", "UTF-8"},
		{"a long description", validApp(func(r *Resource, _ *AppSpec) { r.Description = strings.Repeat("a", 2000) }), "description", "1024 is the most"},
		{"too many labels", validApp(func(r *Resource, _ *AppSpec) { r.Labels = many }), "labels", "64 is the most"},
		{"a label's key", validApp(func(r *Resource, _ *AppSpec) { r.Labels = map[string]string{"a b": "c"} }), "labels", `"a b"`},
		{"an owner's label", validApp(func(r *Resource, _ *AppSpec) { r.Labels = map[string]string{LabelOwner: "me"} }), "labels." + LabelOwner, "reserved"},
		{"a label's value", validApp(func(r *Resource, _ *AppSpec) { r.Labels = map[string]string{"a": "b\x00"} }), "labels.a", "control"},
		{"no URI", withURI(""), "uri", "is empty"},
		{"no scheme", withURI("127.0.0.1:3000"), "uri", "no URI"},
		{"a file", withURI("file:///etc/passwd"), "uri", "scheme"},
		{"no host", withURI("http://:80"), "uri", "host"},
		{"a user", withURI("http://me:secret@h/"), "uri", "a user or a password"},
		{"a port of 0", withURI("http://h:0"), "uri", "1 to 65535"},
		{"a port that is too large", withURI("http://h:65536"), "uri", "1 to 65535"},
		{"an empty port", withURI("http://h:/"), "uri", "1 to 65535"},
		{"TCP without a port", withURI("tcp://h"), "uri", "1 to 65535"},
		{"TCP with a path", withURI("tcp://h:1/x"), "uri", "no path"},
		{"a space", withURI("http://h/a b"), "uri", "no URI"},
		{"a template that was left over", withURI("http://h/{{ .Name }}"), "uri", "no URI"},
		{"a line's end", withURI("http://h/\r\nX: y"), "uri", "control"},
		{"a public address with a port", validApp(func(_ *Resource, s *AppSpec) { s.PublicAddr = "a.example.com:443" }), "public_addr", "without scheme and port"},
		{"a header's name", validApp(func(_ *Resource, s *AppSpec) { s.Rewrite = &Rewrite{Headers: []Header{{"A B", "c"}}} }), "rewrite.headers[0].name", "no name of a header"},
		{"a header's value", validApp(func(_ *Resource, s *AppSpec) { s.Rewrite = &Rewrite{Headers: []Header{{"A", "c\r\nB: d"}}} }), "rewrite.headers[0].value", "control"},
		{"a redirect", validApp(func(_ *Resource, s *AppSpec) { s.Rewrite = &Rewrite{Redirect: []string{"http://a"}} }), "rewrite.redirect[0]", "host name"},
		{"a period", validApp(func(_ *Resource, s *AppSpec) {
			s.DynamicLabels = map[string]DynamicLabel{"a": {time.Millisecond, []string{"x"}}}
		}), "dynamic_labels.a.period", "a second"},
		{"a command", validApp(func(_ *Resource, s *AppSpec) { s.DynamicLabels = map[string]DynamicLabel{"a": {time.Second, nil}} }), "dynamic_labels.a.command", "empty"},
		{"no spec", Resource{Kind: "x", Name: "a"}, "kind", "use app, db"},
		{"no protocol", Resource{Kind: KindDatabase, Name: "a", Spec: DatabaseSpec{URI: "a:1"}}, "protocol", "postgres"},
		{"a database without a port", Resource{Kind: KindDatabase, Name: "a", Spec: DatabaseSpec{Protocol: "mysql", URI: "a"}}, "uri", "host:port"},
		{"a TLS mode", Resource{Kind: KindDatabase, Name: "a", Spec: DatabaseSpec{Protocol: "mysql", URI: "a:1", TLSMode: "off"}}, "tls_mode", "verify-full"},
		{"a CA that is none", Resource{Kind: KindDatabase, Name: "a", Spec: DatabaseSpec{Protocol: "mysql", URI: "a:1", CACert: "x"}}, "ca_cert", "PEM"},
		{"no kubeconfig", Resource{Kind: KindKubeCluster, Name: "a", Spec: KubeClusterSpec{}}, "kubeconfig", "empty"},
		{"not a kubeconfig", Resource{Kind: KindKubeCluster, Name: "a", Spec: KubeClusterSpec{Kubeconfig: "hello"}}, "kubeconfig", "isn't a kubeconfig"},
		{"a large kubeconfig", Resource{Kind: KindKubeCluster, Name: "a", Spec: KubeClusterSpec{Kubeconfig: Secret(strings.Repeat("clusters", 40_000))}}, "kubeconfig", "256 KiB"},
		{"a desktop without a host ID", Resource{Kind: KindWindowsDesktop, Name: "a", Spec: WindowsDesktopSpec{Addr: "a:1", NonAD: true}}, "host_id", "windows_desktop_service"},
		{"a desktop of no and of a domain", Resource{Kind: KindWindowsDesktop, Name: "a", Spec: WindowsDesktopSpec{Addr: "a:1", HostID: "x", NonAD: true, Domain: "d"}}, "domain", "non_ad"},
		{"a desktop of neither", Resource{Kind: KindWindowsDesktop, Name: "a", Spec: WindowsDesktopSpec{Addr: "a:1", HostID: "x"}}, "domain", "non_ad"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			fields := failure.Fields(Check(test.r))
			require.Len(t, fields, 1, "%v", Check(test.r))
			require.Equal(t, test.field, fields[0].Field)
			require.Contains(t, fields[0].Message, test.says)
			require.NotContains(t, fields[0].Message, "secret")
		})
	}
}

func TestValidHost(t *testing.T) {
	for host, want := range map[string]bool{
		"a": true, "a.b": true, "a_b": true, "10.0.0.1": true, "::1": true, "a.": true, "A": true, "1a": true,
		"": false, ".": false, "a..b": false, "-a": false, "a-": false, "a:1": false, "a/b": false, "a@b": false, "fe80::1%eth0": false,
		"a b": false, "a\x10": false, "\x11": false, "ä": false, "a?b": false, "a#b": false, "[::1]": false,
		strings.Repeat("a", 64): false, strings.Repeat("a.", 127) + "aa": false,
	} {
		require.Equal(t, want, ValidHost(host), "%q", host)
	}
}

func TestParsePort(t *testing.T) {
	for _, text := range []string{"", "0", "-1", "65536", "+80", "080", " 80", "80 ", "0x50", "八"} {
		_, err := ParsePort(text)
		require.Error(t, err, text)
	}
	port, err := ParsePort("65535")
	require.NoError(t, err)
	require.Equal(t, 65535, port)
}
