package agent

import (
	"archive/tar"
	"bytes"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"rollcall/discovery/resource"
	"rollcall/failure"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var update = flag.Bool("update", false, "write the golden files anew")

// full is an application with everything, and with what could break out of its
// place in a file.
func full() resource.Resource {
	return resource.Resource{
		Kind: resource.KindApp, Name: "grafana", Description: "It's \"quoted\"\nauth_service: {enabled: true}",
		Labels: map[string]string{resource.LabelOwner: testOwner, "env": "a: b"},
		Spec: resource.AppSpec{
			URI: "http://172.17.0.2:3000/?a=b", PublicAddr: "grafana.example.com", InsecureSkipVerify: true,
			Rewrite: &resource.Rewrite{
				Headers:  []resource.Header{{Name: "X-Token", Value: "hush: \"hush\""}},
				Redirect: []string{"grafana.internal"},
			},
			DynamicLabels: map[string]resource.DynamicLabel{
				"b": {Period: time.Hour, Command: []string{"/bin/b"}},
				"a": {Period: 90 * time.Second, Command: []string{"/bin/a", "-x", "y z"}},
			},
		},
	}
}

func TestTeleportConfig(t *testing.T) {
	for name, r := range map[string]resource.Resource{
		"full":  full(),
		"least": {Kind: resource.KindApp, Name: "least", Spec: resource.AppSpec{URI: "tcp://172.17.0.2:5432"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := teleportConfig(&Options{ProxyAddr: "proxy.example.com:443", ConfigPath: DefaultConfigPath}, "node-1", r)
			require.NoError(t, err)
			golden := filepath.Join("testdata", name+".json")
			if *update {
				require.NoError(t, os.WriteFile(golden, got, 0o644))
			}
			want, err := os.ReadFile(golden)
			require.NoError(t, err)
			require.Equal(t, string(want), string(got))
		})
	}
	_, err := teleportConfig(&Options{}, "n", resource.Resource{Kind: resource.KindDatabase, Name: "d", Spec: resource.DatabaseSpec{}})
	require.ErrorContains(t, err, "isn't an application")
}

// What was kept in a container is what was wanted, secrets included.
func TestRecord(t *testing.T) {
	for _, r := range []resource.Resource{full(), {Kind: resource.KindApp, Name: "least", Spec: resource.AppSpec{URI: "http://a"}}} {
		content, err := encodeRecord(r)
		require.NoError(t, err)
		got, err := decodeRecord(content)
		require.NoError(t, err)
		require.Equal(t, r, got)
	}
	for _, bad := range []string{"", "{", "[]", "{}", `{"name": 1}`} {
		_, err := decodeRecord([]byte(bad))
		require.Error(t, err, bad)
	}
}

func TestPack(t *testing.T) {
	content, err := pack(time.Unix(1, 0), file{"/etc/teleport/a", []byte("one"), 0o600}, file{"/etc/teleport/b", nil, 0o644})
	require.NoError(t, err)
	type entry struct {
		name    string
		mode    int64
		content string
	}
	var got []entry
	for archive := tar.NewReader(bytes.NewReader(content)); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		text, err := io.ReadAll(archive)
		require.NoError(t, err)
		got = append(got, entry{header.Name, header.Mode, string(text)})
	}
	require.Equal(t, []entry{{"etc/teleport/", 0o755, ""}, {"etc/teleport/a", 0o600, "one"}, {"etc/teleport/b", 0o644, ""}}, got)
}

func TestLogText(t *testing.T) {
	frame := func(text string) string { return "\x02\x00\x00\x00\x00\x00\x00" + string(rune(len(text))) + text }
	require.Equal(t, "first; second", logText([]byte(frame("first\n")+frame("second\r\n"))))
	require.Equal(t, "cut", logText([]byte(frame("cut off")[:11])))
	require.Empty(t, logText([]byte("\x02\x00")))
	require.Empty(t, logText([]byte("\x02\x00\x00\x00\xff\xff\xff\xff")))
}

func TestOptions(t *testing.T) {
	good := Options{Image: "registry.example.com:5000/teleport:14.2.3"}
	require.NoError(t, good.Validate())
	require.Equal(t, DefaultConfigPath, good.ConfigPath)
	require.Equal(t, DefaultJoinTimeout, good.JoinTimeout)

	tests := map[string]struct {
		change func(*Options)
		field  string
	}{
		"no image":             {func(o *Options) { o.Image = "" }, "image"},
		"no tag":               {func(o *Options) { o.Image = "teleport" }, "image"},
		"no tag, with a port":  {func(o *Options) { o.Image = "localhost:5000/teleport" }, "image"},
		"latest":               {func(o *Options) { o.Image = "teleport:latest" }, "image"},
		"no digest":            {func(o *Options) { o.Image = "teleport@md5:aa" }, "image"},
		"proxy without port":   {func(o *Options) { o.ProxyAddr = "proxy.example.com" }, "proxy_addr"},
		"proxy without host":   {func(o *Options) { o.ProxyAddr = ":443" }, "proxy_addr"},
		"host without address": {func(o *Options) { o.ExtraHosts = []string{"a"} }, "extra_hosts"},
		"host with a name":     {func(o *Options) { o.ExtraHosts = []string{"a:b"} }, "extra_hosts"},
		"relative CA":          {func(o *Options) { o.CAFile = "ca.pem" }, "ca_file"},
		"relative config":      {func(o *Options) { o.ConfigPath = "teleport.yaml" }, "config_path"},
		"too short":            {func(o *Options) { o.JoinTimeout = time.Second }, "join_timeout"},
		"longer than a token":  {func(o *Options) { o.JoinTimeout = 5 * time.Minute }, "join_timeout"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			o := good
			test.change(&o)
			fields := failure.Fields(o.Validate())
			require.Len(t, fields, 1)
			require.Equal(t, test.field, fields[0].Field)
		})
	}
	for _, image := range []string{"teleport:14", "a/b/teleport:14.2.3", "teleport@sha256:abc", "teleport:latest@sha256:abc"} {
		o := Options{Image: image, ExtraHosts: []string{"a:10.0.0.1", "b:host-gateway", "c:[::1]", "d:::1"}}
		require.NoError(t, o.Validate(), image)
	}
}
