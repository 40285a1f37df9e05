package template

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rollcall/discovery/resource"
	"rollcall/failure"
)

func rabbit() Facts {
	return Facts{
		Name: "rabbitmq", Host: "host1", IP: "172.17.0.2", Port: 15672, ContainerPort: 15672, Scheme: "http", ID: "0123456789ab",
		Image: "rabbitmq:3-management", Container: "rabbitmq", Workload: "rabbitmq", Network: "bridge",
		Labels: map[string]string{"team": "Queues", "com.example.tier": "back"},
	}
}

func render(t *testing.T, o Options, f Facts) (Result, error) {
	t.Helper()
	made, err := New(o)
	require.NoError(t, err)
	return made.Render(f)
}

// TestGuide is the example of Teleport's guide, and ours.
func TestGuide(t *testing.T) {
	for name, want := range map[string]string{
		"rabbitmq-{{ .IP | dashes }}":               "rabbitmq-172-17-0-2",
		"{{ .Name }}-{{ .Host }}":                   "rabbitmq-host1",
		"":                                          "rabbitmq",
		`{{ .Labels.team | lower | trunc 3 }}`:      "que",
		`{{ index .Labels "com.example.tier" }}`:    "back",
		`{{ index .Labels "none" | default "x" }}`:  "x",
		`{{ if .Project }}{{ .Project }}{{ end }}y`: "y",
		`{{ .Service | default .Name | upper }}`:    "rabbitmq",
		`{{ .Image | replace ":" "-" }}`:            "rabbitmq-3-management",
		`{{ .Name | trimPrefix "rabbit" }}`:         "mq",
		`{{ .Name | trimSuffix "mq" }}`:             "rabbit",
		`{{ print .Name .Port }}`:                   "rabbitmq15672",
		`{{ $x := .Name }}{{ $x }}-{{ $.Host }}`:    "rabbitmq-host1",
		`{{ slice .ID 0 4 }}`:                       "0123",
		`{{/* a comment */}}a`:                      "a",
	} {
		result, err := render(t, Options{Name: name}, rabbit())
		require.NoError(t, err, name)
		require.Equal(t, want, result.Resource.Name, name)
		require.Equal(t, "http://172.17.0.2:15672", result.Resource.Spec.(resource.AppSpec).URI)
	}
}

// TestEverything is one resource of each kind with all that it can have.
func TestEverything(t *testing.T) {
	kubeconfig := filepath.Join(t.TempDir(), "rabbitmq.yaml")
	require.NoError(t, os.WriteFile(kubeconfig, []byte("clusters: [a]"), 0o600))
	dynamic := map[string]resource.DynamicLabel{"load": {Period: time.Minute, Command: []string{"uptime", "{{ .Name }}"}}}
	tests := map[resource.Kind]struct {
		options Options
		want    resource.Spec
	}{
		resource.KindApp: {
			Options{
				URI: "https://{{ .IP }}:{{ .Port }}/{{ .Name }}", PublicAddr: "{{ .Name }}.Apps.example.com", InsecureSkipVerify: true, DynamicLabels: dynamic,
				Rewrite: resource.Rewrite{Headers: []resource.Header{{Name: "X-User", Value: "{{internal.logins}}"}}, Redirect: []string{"{{ .IP }}"}},
			},
			resource.AppSpec{
				URI: "https://172.17.0.2:15672/rabbitmq", PublicAddr: "rabbitmq.apps.example.com", InsecureSkipVerify: true, DynamicLabels: dynamic,
				Rewrite: &resource.Rewrite{Headers: []resource.Header{{Name: "X-User", Value: "{{internal.logins}}"}}, Redirect: []string{"172.17.0.2"}},
			},
		},
		resource.KindDatabase: {
			Options{Protocol: "postgres", TLSMode: "verify-ca", ServerName: "{{ .Name }}.db", CACert: "-----BEGIN CERTIFICATE-----"},
			resource.DatabaseSpec{Protocol: "postgres", URI: "172.17.0.2:15672", TLSMode: "verify-ca", ServerName: "rabbitmq.db", CACert: "-----BEGIN CERTIFICATE-----"},
		},
		resource.KindKubeCluster: {
			Options{Kubeconfig: filepath.Dir(kubeconfig) + "/{{ .Name }}.yaml"},
			resource.KubeClusterSpec{Kubeconfig: "clusters: [a]"},
		},
		resource.KindWindowsDesktop: {
			Options{HostID: "id", Domain: "example.com"},
			resource.WindowsDesktopSpec{Addr: "172.17.0.2:15672", HostID: "id", Domain: "example.com"},
		},
	}
	for kind, test := range tests {
		t.Run(string(kind), func(t *testing.T) {
			test.options.Kind = kind
			test.options.Description = "{{ .Image }} on {{ .Host }}"
			test.options.Labels = map[string]string{"team": "{{ .Labels.team }}"}

			result, err := render(t, test.options, rabbit())

			require.NoError(t, err)
			require.Equal(t, resource.Resource{
				Kind: kind, Name: "rabbitmq", Description: "rabbitmq:3-management on host1",
				Labels: map[string]string{"team": "Queues"}, Spec: test.want,
			}, result.Resource)
		})
	}
}

// TestValidate is every mistake that can be seen before a workload is.
func TestValidate(t *testing.T) {
	tests := map[string]struct {
		options Options
		field   string
		says    string
	}{
		"not closed":            {Options{Name: "{{ .Name"}, "name", "unclosed action"},
		"on its third line":     {Options{Name: "a\nb\n{{ .Name"}, "name", "line 3: unclosed action"},
		"a field that isn't":    {Options{Name: "a-{{ .Nmae }}"}, "name", "at character 6: there's no field .Nmae; there are .Name, .Host"},
		"a field behind $":      {Options{Name: "{{ $.Nmae }}"}, "name", "there's no field .Nmae"},
		"a field in an if":      {Options{Name: "{{ if .Nmae }}a{{ else }}{{ .X }}{{ end }}"}, "name", "no field .Nmae"},
		"a field in an else":    {Options{Name: "{{ if .Name }}a{{ else }}{{ .X }}{{ end }}"}, "name", "no field .X"},
		"a field in brackets":   {Options{Name: "{{ lower (print .X) }}"}, "name", "no field .X"},
		"what isn't theirs":     {Options{Name: "{{ .networkFixed }}"}, "name", "no field .networkFixed"},
		"a method":              {Options{Name: "{{ .FixNetwork }}"}, "name", "no field .FixNetwork"},
		"everything at once":    {Options{Name: "{{ . }}"}, "name", "name a field"},
		"everything behind $":   {Options{Name: "{{ $ }}"}, "name", "name a field"},
		"a function that isn't": {Options{Name: "{{ .Name | env }}"}, "name", `function "env" not defined`},
		"a function of Go's":    {Options{Name: `{{ printf "%99999999d" 1 }}`}, "name", "the function printf can't be used here; there are and"},
		"a loop":                {Options{Name: "{{ range 1000000000 }}{{ end }}"}, "name", "at character 10: only values, pipes and if"},
		"with":                  {Options{Name: "{{ with .Name }}{{ . }}{{ end }}"}, "name", "only values, pipes and if"},
		"a template":            {Options{Name: `{{ define "x" }}{{ end }}`}, "name", "a template of its own"},
		"a call of one":         {Options{Name: `{{ template "x" }}`}, "name", "only values, pipes and if"},
		"in a label":            {Options{Labels: map[string]string{"team": "{{ .X }}"}}, "labels.team", "no field .X"},
		"in a redirect":         {Options{Rewrite: resource.Rewrite{Redirect: []string{"a", "{{ .X }}"}}}, "rewrite.redirect[1]", "no field .X"},
		"a long one":            {Options{Description: strings.Repeat("x", 5000)}, "description", "longer than 4096"},
		"a kind that isn't":     {Options{Kind: "node"}, "kind", "use app, db, kube_cluster or windows_desktop"},
		"a key of another kind": {Options{Protocol: "postgres"}, "protocol", "isn't for a resource of kind app"},
		"a reserved label":      {Options{Labels: map[string]string{"rollcall/owner": "x"}}, "labels.rollcall/owner", "reserved"},
		"no protocol":           {Options{Kind: resource.KindDatabase}, "protocol", "postgres"},
		"no kubeconfig":         {Options{Kind: resource.KindKubeCluster}, "kubeconfig", "is empty"},
		"two kubeconfigs":       {Options{Kind: resource.KindKubeCluster, Kubeconfig: "/a", KubeconfigInline: "b"}, "kubeconfig_inline", "keep one"},
		"a relative kubeconfig": {Options{Kind: resource.KindKubeCluster, Kubeconfig: "a"}, "kubeconfig", "absolute"},
		"a directory chosen":    {Options{Kind: resource.KindKubeCluster, Kubeconfig: "/etc/{{ .Name }}/x"}, "kubeconfig", "only the path's last element"},
		"two CAs":               {Options{Kind: resource.KindDatabase, Protocol: "x", CACert: "a", CACertFile: "/b"}, "ca_cert_file", "keep one"},
		"no host ID":            {Options{Kind: resource.KindWindowsDesktop, NonAD: true}, "host_id", "is empty"},
		"a domain or none":      {Options{Kind: resource.KindWindowsDesktop, HostID: "x"}, "domain", "give one of them"},
		"a short period":        {Options{DynamicLabels: map[string]resource.DynamicLabel{"a": {Command: []string{"x"}}}}, "dynamic_labels.a.period", "a second"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			err := test.options.Validate()
			fields := failure.Fields(err)
			require.Len(t, fields, 1, "%v", err)
			require.Equal(t, test.field, fields[0].Field)
			require.Contains(t, fields[0].Message, test.says)
			_, err = New(test.options)
			require.Error(t, err)
		})
	}
}

// TestRunTime is every mistake that only a workload brings out.
func TestRunTime(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "large"), make([]byte, 300<<10), 0o600))
	kube := func(path string) Options { return Options{Kind: resource.KindKubeCluster, Kubeconfig: path} }
	tests := map[string]struct {
		options Options
		field   string
		says    string
	}{
		"a label that it lacks":  {Options{Name: "a-{{ .Labels.nothing }}"}, "name", `the template fails at character 13: <.Labels.nothing>: map has no entry for key "nothing"`},
		"nothing":                {Options{Name: "{{ .Project }}"}, "name", "gives nothing"},
		"a description too long": {Options{Description: "{{ .Labels.long }}{{ .Labels.long }}"}, "description", "longer than 4096 bytes"},
		"a label too long":       {Options{Labels: map[string]string{"a": "{{ .Labels.long }}"}}, "labels.a", "1024 is the most"},
		"a line's end":           {Options{Labels: map[string]string{"a": "{{ .Labels.lines }}"}}, "labels.a", "control"},
		"no URI":                 {Options{URI: "{{ .IP }}"}, "uri", "scheme"},
		"a public address":       {Options{PublicAddr: "{{ .Labels.lines }}"}, "public_addr", "host name"},
		"a file that isn't":      {kube(dir + "/none"), "kubeconfig", "can't be read"},
		"a pipe":                 {kube(dir + "/pipe"), "kubeconfig", "no plain file"},
		"a large file":           {kube(dir + "/large"), "kubeconfig", "larger than 256 KiB"},
		"out of the directory":   {kube(dir + "/{{ .Labels.up }}"), "kubeconfig", "which isn't in " + dir},
		"replaced too much":      {Options{Name: `{{ replace "x" .Labels.long .Labels.long }}`}, "name", "longer than 4096 bytes"},
		"slice past the end":     {Options{Name: `{{ slice .ID 0 99 }}`}, "name", "the template fails at character 4"},
	}
	facts := rabbit()
	facts.Labels["long"] = strings.Repeat("x", 3000)
	facts.Labels["lines"] = "a\nb"
	facts.Labels["up"] = "../../etc/passwd"
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := render(t, test.options, facts)
			fields := failure.Fields(err)
			require.NotEmpty(t, fields, "%v", err)
			require.Equal(t, test.field, fields[0].Field)
			require.Contains(t, fields[0].Message, test.says)
		})
	}
}

// TestHost keeps those who start containers from choosing where Teleport goes.
func TestHost(t *testing.T) {
	for _, uri := range []string{
		"http://{{ .IP }}:{{ .Port }}", "http://{{ .Host }}:{{ .Port }}", "http://{{ .ID }}/{{ .Name }}", "https://gateway.example.com/{{ .Name }}?x={{ .Labels.team }}",
		"http://{{ .IP | dashes }}.ip.example.com",
	} {
		_, err := render(t, Options{URI: uri}, rabbit())
		require.NoError(t, err, uri)
	}
	for _, uri := range []string{
		"http://{{ .Name }}", "http://{{ .Name }}.example.com", "http://{{ .Labels.team }}:80", "http://{{ .Container }}", "http://{{ .Service }}.local",
		`http://{{ if eq .Name "rabbitmq" }}evil{{ else }}{{ .IP }}{{ end }}`, "http://{{ .IP }}{{ .Name }}", "http://app.{{ .Network }}:80", "http://{{ .Image | dashes }}",
		"http://{{ .IP }}:{{ .Port }}{{ .Labels.at }}",
	} {
		f := rabbit()
		f.Labels["at"] = "@evil.example.com"
		_, err := render(t, Options{URI: uri}, f)
		require.ErrorContains(t, err, "uri", uri)
	}
	_, err := render(t, Options{Kind: resource.KindDatabase, Protocol: "mysql", URI: "{{ .Name }}:3306"}, rabbit())
	require.ErrorContains(t, err, "may not choose it")
	f := rabbit()
	f.FixNetwork()
	_, err = render(t, Options{URI: "http://{{ .Network }}.example.com"}, f)
	require.NoError(t, err, "the configuration chose it")
	f = rabbit()
	f.Name = disguise("x")
	_, err = render(t, Options{URI: "http://{{ .Name }}"}, f)
	require.ErrorContains(t, err, "may not choose it", "nobody can call himself by his own disguise")
}

func TestLiteral(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "k"), []byte("clusters: []"), 0o600))

	r, err := Options{Name: "a", URI: "http://h/x", Description: " {{ }} "}.Literal(dir)
	require.NoError(t, err)
	require.Equal(t, resource.Resource{Kind: resource.KindApp, Name: "a", Description: " {{ }} ", Labels: map[string]string{}, Spec: resource.AppSpec{URI: "http://h/x"}}, r)

	r, err = Options{Kind: resource.KindKubeCluster, Name: "a", Kubeconfig: "k"}.Literal(dir)
	require.NoError(t, err)
	require.Equal(t, resource.Secret("clusters: []"), r.Spec.(resource.KubeClusterSpec).Kubeconfig)

	for name, o := range map[string]Options{
		"name": {Name: "A b", URI: "http://h"}, "uri": {Name: "a"}, "protocol": {Name: "a", URI: "http://h", Protocol: "x"}, "kind": {Kind: "x", Name: "a"},
		"kubeconfig": {Kind: resource.KindKubeCluster, Name: "a", Kubeconfig: "none"},
	} {
		_, err := o.Literal(dir)
		require.Equal(t, name, failure.Fields(err)[0].Field, "%v", err)
	}
}

// FuzzTemplate parses and runs whatever it's given: within bounds, without a
// panic, and with a resource that can be registered or an error.
func FuzzTemplate(f *testing.F) {
	for _, seed := range []string{
		"{{ .Name }}", "{{ .IP | dashes }}", `{{ $a := print .Labels }}{{ $a = print $a $a $a }}{{ $a }}`, "{{ range 9 }}{{ end }}", "{{ index .Labels .Name }}",
		`{{ if eq 1 1 }}{{ replace "a" "bbbbbbbb" .Name }}{{ end }}`, "{{ .Labels.team.x }}", "{{ slice .Labels 1 }}", "{{ trunc -1 . }}", "{{ $.Name.x }}", "{{ len .Port }}",
	} {
		f.Add(seed, "web")
	}
	f.Fuzz(func(t *testing.T, body, name string) {
		facts := rabbit()
		facts.Name = name
		facts.Labels["name"] = name
		for _, o := range []Options{{Name: body}, {URI: body}, {Labels: map[string]string{"a": body}}} {
			made, err := New(o)
			if err != nil {
				require.NotEmpty(t, failure.Fields(err))
				continue
			}
			result, err := made.Render(facts)
			if err != nil {
				require.NotEmpty(t, failure.Fields(err))
				continue
			}
			require.NoError(t, resource.Check(result.Resource))
		}
	})
}
