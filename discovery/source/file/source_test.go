package file_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"rollcall/config"
	"rollcall/discovery"
	"rollcall/discovery/resource"
	"rollcall/discovery/source/file"
	"rollcall/failure"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const grafana = "resources:\n  - name: grafana\n    uri: http://127.0.0.1:3000\n"

func sourceOf(t *testing.T, path string) *file.Source {
	t.Helper()
	return sourceWith(t, file.Options{Path: path})
}

func sourceWith(t *testing.T, options file.Options) *file.Source {
	t.Helper()
	s, err := file.New(options, file.Deps{Decode: config.DecodeInventory, Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	s.Settle(5 * time.Millisecond)
	return s
}

// put writes files below a new directory, and returns it.
func put(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		write(t, filepath.Join(dir, name), text)
	}
	return dir
}

func write(t *testing.T, path, text string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))                  //nolint:gosec // A test's directory.
	require.NoError(t, os.WriteFile(path, []byte(text), 0o644))                 //nolint:gosec // A test's file.
	require.NoError(t, os.Chtimes(path, time.Time{}, time.Now().Add(offset()))) // two writings within one tick of the clock differ
}

var ticks int64

// offset is another one at each call.
func offset() time.Duration { ticks++; return time.Duration(ticks) * time.Millisecond }

// TestRead is a file with all four kinds, as YAML and as JSON.
func TestRead(t *testing.T) {
	dir := put(t, map[string]string{
		"all.yaml": `
resources:
  - kind: app
    name: grafana
    uri: http://127.0.0.1:3000
    description: Graphs
    labels: {env: prod}
    public_addr: grafana.example.com
    rewrite:
      headers: [{name: X-User, value: "{{internal.logins}}"}]
    dynamic_labels: {load: {period: 1m, command: [uptime]}}
    keep: true
    workload: dashboards
  - {kind: db, name: orders, protocol: postgres, uri: "db.internal:5432"}
  - {kind: kube_cluster, name: prod, kubeconfig: kube/prod}
  - kind: windows_desktop
    name: win
    addr: 10.0.0.9:3389
    host_id: abc
    non_ad: true
`,
		"more.json":    "{\n\t\"resources\": [\n\t\t{\"name\": \"a\", \"uri\": \"tcp://h:1\"}\n\t]\n}",
		"none.yml":     "resources: []",
		".hidden.yaml": "this isn't read",
		"README.txt":   "nor this",
		"kube/prod":    "clusters: []",
	})

	candidates, err := sourceWith(t, file.Options{Path: dir, AllowDynamicLabels: true}).Read(t.Context())

	require.NoError(t, err)
	var names []string
	for _, c := range candidates {
		require.NoError(t, c.Err)
		names = append(names, c.Workload+" "+c.Resource.Key().String())
	}
	require.Equal(t, []string{"dashboards app/grafana", "db/orders db/orders", "kube_cluster/prod kube_cluster/prod", "windows_desktop/win windows_desktop/win", "app/a app/a"}, names)
	require.True(t, candidates[0].Keep)
	require.Equal(t, resource.AppSpec{
		URI: "http://127.0.0.1:3000", PublicAddr: "grafana.example.com",
		Rewrite:       &resource.Rewrite{Headers: []resource.Header{{Name: "X-User", Value: "{{internal.logins}}"}}},
		DynamicLabels: map[string]resource.DynamicLabel{"load": {Period: time.Minute, Command: []string{"uptime"}}},
	}, candidates[0].Resource.Spec)
	require.Equal(t, resource.Secret("clusters: []"), candidates[2].Resource.Spec.(resource.KubeClusterSpec).Kubeconfig)
	require.Contains(t, candidates[0].Rules[0].Detail, filepath.Join(dir, "all.yaml")+":3:5")
}

// TestFails is every mistake that makes the whole reading fail, since nobody can
// say what is meant.
func TestFails(t *testing.T) {
	tests := map[string]struct {
		text string
		kind failure.Kind
		says string
	}{
		"empty":             {"", failure.Transient, "is empty; if nothing is to be registered, write `resources: []`"},
		"blank":             {" \n", failure.Transient, "is empty"},
		"only a comment":    {"# nothing\n", failure.Configuration, ":1:1: the file is empty; write `resources: []` if"},
		"cut in a line":     {"resources:\n  - name: a\n    uri: http://h\n  - na", failure.Configuration, "f.yaml:4:5"},
		"cut in a quote":    {"resources:\n  - name: \"a", failure.Configuration, "f.yaml:"},
		"cut JSON":          {`{"resources": [{"name": "a", "uri": "http://h"},`, failure.Configuration, "f.yaml:"},
		"no resources":      {"{}", failure.Configuration, "has no `resources`"},
		"another key":       {"resource: []", failure.Configuration, `f.yaml:1:1: unknown key "resource"; did you mean "resources"?`},
		"a list":            {"- name: a", failure.Configuration, "the file must be a mapping with the key `resources`"},
		"an unknown key":    {"resources:\n  - name: a\n    url: http://h\n", failure.Configuration, `f.yaml:3:5: unknown key "url"`},
		"a key of tbot's":   {"version: v2\nresources: []", failure.Configuration, `unknown key "version"`},
		"a key twice":       {"resources:\n  - name: a\n    name: b\n", failure.Configuration, "f.yaml:3:5"},
		"a list for a text": {"resources:\n  - name: [a]\n", failure.Configuration, "f.yaml:2:11"},
		"two documents":     {"resources: []\n---\nresources: []\n", failure.Configuration, "more than one document"},
		"no name":           {"resources:\n  - uri: http://h\n", failure.Configuration, "f.yaml:2:5: the entry has no name"},
		"a bad workload":    {"resources:\n  - {name: a, workload: 'a b'}\n", failure.Configuration, "f.yaml:2:25: workload is"},
		"an alias's bomb":   {bomb(), failure.Configuration, "aliases make it too large"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			dir := put(t, map[string]string{"f.yaml": test.text, "good.yaml": grafana})

			candidates, err := sourceOf(t, dir).Read(t.Context())

			require.Error(t, err)
			require.Nil(t, candidates)
			require.ErrorContains(t, err, test.says)
			require.Equal(t, test.kind, failure.KindOf(err))
		})
	}
}

// bomb is a small file whose aliases stand for many values.
func bomb() string {
	text := "resources:\n"
	for range 3 {
		text += "  - &s {name: z, rewrite: {redirect: [" + strings.Repeat("x, ", 20) + "x]}}\n" + strings.Repeat("  - *s\n", 1200)
	}
	return text
}

// TestUnreadable is what the file system can have against it.
func TestUnreadable(t *testing.T) {
	dir := put(t, map[string]string{"open.yaml": grafana, "empty/x": "", "dir.yaml/x": ""})
	require.NoError(t, os.Chmod(filepath.Join(dir, "open.yaml"), 0o666)) //nolint:gosec // That's the test.
	shared := put(t, map[string]string{"f.yaml": grafana})
	require.NoError(t, os.Chmod(shared, 0o777)) //nolint:gosec // That's the test.
	for _, path := range []string{shared, filepath.Join(shared, "f.yaml")} {
		_, err := sourceOf(t, path).Read(t.Context())
		require.ErrorContains(t, err, "everybody may write to the directory "+shared)
	}
	for path, says := range map[string]string{
		"none.yaml": "doesn't exist",
		"open.yaml": "everybody may write",
		"empty":     "holds no .yaml, .yml or .json file",
		"dir.yaml":  "holds no .yaml, .yml or .json file",
	} {
		_, err := sourceOf(t, filepath.Join(dir, path)).Read(t.Context())
		require.ErrorContains(t, err, says, path)
	}
	require.Error(t, (&file.Options{}).Validate())
	require.Error(t, (&file.Options{Path: "a.yaml"}).Validate())
}

// TestWrongEntries leaves the others alone, and says where and what.
func TestWrongEntries(t *testing.T) {
	dir := put(t, map[string]string{"f.yaml": `resources:
  - {name: good, uri: "http://h:1"}
  - name: Bad Name
    uri: http://h:0
  - name: other
    kind: db
    uri: h:1
    public_addr: x
  - name: kube
    kind: kube_cluster
    kubeconfig: none
`})

	candidates, err := sourceOf(t, filepath.Join(dir, "f.yaml")).Read(t.Context())

	require.NoError(t, err)
	require.Len(t, candidates, 4)
	require.NoError(t, candidates[0].Err)
	file := filepath.Join(dir, "f.yaml")
	require.ErrorContains(t, candidates[1].Err, file+`:3:11: name is "Bad Name", and must be a DNS label`)
	require.ErrorContains(t, candidates[1].Err, file+":4:10: uri is")
	require.ErrorContains(t, candidates[2].Err, file+":8:18: public_addr isn't for a resource of kind db")
	require.ErrorContains(t, candidates[3].Err, file+":11:17: kubeconfig can't be read")
	require.Equal(t, "app/Bad Name", candidates[1].Workload)
}

// TestRivals has names that are claimed twice: both are told, and where.
func TestRivals(t *testing.T) {
	dir := put(t, map[string]string{
		"a.yaml": grafana + "  - {kind: db, name: grafana, protocol: mysql, uri: 'h:1'}\n  - {name: x, workload: w, uri: 'http://h'}\n",
		"b.yaml": grafana + "  - {name: y, workload: w, uri: 'http://h'}\n",
	})

	candidates, err := sourceOf(t, dir).Read(t.Context())

	require.NoError(t, err)
	require.Len(t, candidates, 5)
	require.ErrorContains(t, candidates[0].Err, "the name app/grafana is claimed at "+filepath.Join(dir, "b.yaml:2:5"))
	require.ErrorContains(t, candidates[3].Err, "the name app/grafana is claimed at "+filepath.Join(dir, "a.yaml:2:5"))
	require.NoError(t, candidates[1].Err, "a database may have an application's name")
	require.ErrorContains(t, candidates[2].Err, "the workload w is claimed")
	require.ErrorContains(t, candidates[4].Err, "the workload w is claimed")
	require.Equal(t, failure.Conflict, failure.KindOf(candidates[0].Err))
}

// TestExplain finds an entry by what people call it.
func TestExplain(t *testing.T) {
	s := sourceOf(t, put(t, map[string]string{"a.yaml": grafana}))
	for _, name := range []string{"grafana", "app/grafana"} {
		told, err := s.Explain(t.Context(), name)
		require.NoError(t, err)
		require.Len(t, told, 1)
	}
	_, err := s.Explain(t.Context(), "none")
	require.Equal(t, failure.NotFound, failure.KindOf(err))
}

// TestReadAgain reads what has changed, and fails while it's broken.
func TestReadAgain(t *testing.T) {
	dir := put(t, map[string]string{"a.yaml": grafana})
	s := sourceOf(t, dir)
	requireNames(t, s, "grafana")

	write(t, filepath.Join(dir, "b.yaml"), strings.ReplaceAll(grafana, "grafana", "loki"))
	requireNames(t, s, "grafana", "loki")
	write(t, filepath.Join(dir, "b.yaml"), "")
	_, err := s.Read(t.Context())
	require.Error(t, err)
	require.NoError(t, os.Remove(filepath.Join(dir, "b.yaml")))
	requireNames(t, s, "grafana")
	write(t, filepath.Join(dir, "a.yaml"), "resources: []")
	requireNames(t, s)
}

func requireNames(t *testing.T, s *file.Source, want ...string) {
	t.Helper()
	candidates, err := s.Read(t.Context())
	require.NoError(t, err)
	var names []string
	for _, c := range candidates {
		names = append(names, c.Resource.Name)
	}
	require.Equal(t, want, names)
}

// TestReadWhileWritten reads a file that someone writes in place, in pieces: it
// gets the old, the new or an error, and never a part.
func TestReadWhileWritten(t *testing.T) {
	path := filepath.Join(put(t, map[string]string{"a.yaml": entries(50)}), "a.yaml")
	s := sourceOf(t, path)
	s.Settle(file.DefaultSettle)
	requireCount(t, s, 50)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			// Each state between is a file that can be decoded.
			f, err := os.Create(path) //nolint:gosec // A test's file.
			if err != nil {
				return
			}
			for line := range strings.Lines(entries(50)) {
				_, _ = f.WriteString(line)
				time.Sleep(time.Millisecond)
			}
			_ = f.Close()
			time.Sleep(20 * time.Millisecond)
		}
	}()

	for range 3 {
		candidates, err := s.Read(t.Context())
		if err == nil {
			require.Len(t, candidates, 50)
		}
	}
	cancel()
	<-done
	requireCount(t, s, 50)
}

func entries(count int) string {
	var b strings.Builder
	b.WriteString("resources:\n")
	for i := range count {
		b.WriteString("  - {name: app" + strings.Repeat("x", i) + ", uri: 'http://h'}\n")
	}
	return b.String()
}

func requireCount(t *testing.T, s *file.Source, want int) {
	t.Helper()
	candidates, err := s.Read(t.Context())
	require.NoError(t, err)
	require.Len(t, candidates, want)
}

var _ discovery.Source = (*file.Source)(nil)

// TestTrust is what whoever writes an inventory can't have: files from
// elsewhere, keys, commands on Teleport's agents.
func TestTrust(t *testing.T) {
	certificate := "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
	key := "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
	elsewhere := put(t, map[string]string{"ca.pem": certificate, "kube": "clusters: []"})
	dir := put(t, map[string]string{"ca.pem": "# ours\n" + certificate, "bundle.pem": certificate + key, "text.pem": "-----BEGIN CERTIFICATE-----"})
	require.NoError(t, os.Symlink(filepath.Join(elsewhere, "ca.pem"), filepath.Join(dir, "out.pem")))
	require.NoError(t, os.Symlink("ca.pem", filepath.Join(dir, "in.pem")))
	db := func(key, value string) string {
		return "{kind: db, name: a, protocol: mysql, uri: 'h:1', " + key + ": " + value + "}"
	}
	for name, test := range map[string]struct{ entry, says string }{
		"its own":                  {db("ca_cert_file", "ca.pem"), ""},
		"its own, by its path":     {db("ca_cert_file", filepath.Join(dir, "ca.pem")), ""},
		"its own, by a link":       {db("ca_cert_file", "in.pem"), ""},
		"another's, by its path":   {db("ca_cert_file", filepath.Join(elsewhere, "ca.pem")), "must be in the entry's own directory"},
		"another's, by the parent": {db("ca_cert_file", "../"+filepath.Base(elsewhere)+"/ca.pem"), "must be in the entry's own directory"},
		"another's, by a link":     {db("ca_cert_file", "out.pem"), "can't be read"},
		"a bundle with a key":      {db("ca_cert_file", "bundle.pem"), "holds a PRIVATE KEY beside certificates"},
		"no certificate":           {db("ca_cert_file", "text.pem"), "holds no certificate in PEM"},
		"a key in the entry":       {db("ca_cert", `"-----BEGIN CERTIFICATE-----\n-----BEGIN EC PRIVATE KEY-----"`), "holds a private key"},
		"another's kubeconfig":     {"{kind: kube_cluster, name: a, kubeconfig: " + filepath.Join(elsewhere, "kube") + "}", "must be in the entry's own directory"},
		"a command":                {"{name: a, uri: 'http://h', dynamic_labels: {x: {period: 1m, command: [id]}}}", "set `allow_dynamic_labels`"},
	} {
		t.Run(name, func(t *testing.T) {
			write(t, filepath.Join(dir, "f.yaml"), "resources:\n  - "+test.entry+"\n")

			candidates, err := sourceOf(t, filepath.Join(dir, "f.yaml")).Read(t.Context())

			require.NoError(t, err)
			require.Len(t, candidates, 1)
			if test.says != "" {
				require.ErrorContains(t, candidates[0].Err, test.says)
				return
			}
			require.NoError(t, candidates[0].Err)
			require.Equal(t, certificate, candidates[0].Resource.Spec.(resource.DatabaseSpec).CACert, "the certificate, and nothing else of the file")
		})
	}
}
