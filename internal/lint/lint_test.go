package lint

import (
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

// tree makes a file system of Go files. Every package gets a comment unless
// the test brings its own doc.go.
func tree(files map[string]string) fstest.MapFS {
	root := fstest.MapFS{"go.mod": {Data: []byte("module rollcall\n")}}
	for name, text := range files {
		root[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return root
}

const documented = "// Package p is here for the test.\n"

// imports is a documented file with one import.
func imports(path string) string {
	return documented + "package p\n\nimport _ \"" + path + "\"\n"
}

// body is a documented file with an import and one function.
func body(pkg, path, name, statement string) string {
	return documented + "package " + pkg + "\n\nimport \"" + path + "\"\n\nfunc " + name + "() {\n\t" + statement + "\n}\n"
}

func lines(n int) string {
	return documented + "package p\n" + strings.Repeat("// one more line\n", n-2)
}

func TestCheck(t *testing.T) {
	const client = "github.com/gravitational/teleport/api/client"
	tests := []struct {
		name  string
		files map[string]string
		// want are the findings as "file:line: severity: … (rule)", each
		// given by its start and its rule.
		want []string
	}{
		{name: "an empty house", files: nil},

		{name: "down", files: map[string]string{"outputs/a.go": imports("rollcall/cluster")}},
		{name: "down by many floors", files: map[string]string{"cmd/rollcall/a.go": imports("rollcall/destination")}},
		{name: "up", files: map[string]string{"cluster/a.go": imports("rollcall/outputs")},
			want: []string{"cluster/a.go:4: error: floor"}},
		{name: "the same floor", files: map[string]string{"identity/a.go": imports("rollcall/service")},
			want: []string{"identity/a.go:4: error: floor"}},
		{name: "the same floor at ground", files: map[string]string{"systemd/a.go": imports("rollcall/diagnostics")},
			want: []string{"systemd/a.go:4: error: floor"}},
		{name: "the same room", files: map[string]string{"discovery/a.go": imports("rollcall/discovery/plan")}},
		{name: "another room by its subpackage", files: map[string]string{"discovery/plan/a.go": imports("rollcall/tunnel/dial")},
			want: []string{"discovery/plan/a.go:4: error: floor"}},
		{name: "everybody may import failure", files: map[string]string{"destination/a.go": imports("rollcall/failure")}},
		{name: "failure imports nobody", files: map[string]string{"failure/a.go": imports("rollcall/internal/version")},
			want: []string{"failure/a.go:4: error: floor"}},
		{name: "everybody may import internal", files: map[string]string{"diagnostics/a.go": imports("rollcall/internal/version")}},
		{name: "nobody imports cmd", files: map[string]string{"config/a.go": imports("rollcall/cmd/rollcall")},
			want: []string{"config/a.go:4: error: floor"}},
		{name: "a room that nobody knows", files: map[string]string{"attic/a.go": imports("fmt")},
			want: []string{"attic/a.go:1: error: room"}},
		{name: "an import of a room that nobody knows", files: map[string]string{"cmd/rollcall/a.go": imports("rollcall/attic")},
			want: []string{"cmd/rollcall/a.go:4: error: room"}},
		{name: "a name that only starts alike", files: map[string]string{"cluster/a.go": imports("rollcallish/outputs")}},
		{name: "tests may reach further", files: map[string]string{
			"cluster/a.go":      documented + "package p\n",
			"cluster/a_test.go": imports("rollcall/outputs")}},

		{name: "cluster speaks to Teleport", files: map[string]string{"cluster/a.go": imports(client)}},
		{name: "so do its subpackages", files: map[string]string{"cluster/sub/a.go": imports(client + "/proto")}},
		{name: "outputs doesn't", files: map[string]string{"outputs/a.go": imports(client)},
			want: []string{"outputs/a.go:4: error: reserved-import"}},
		{name: "nor by a package below", files: map[string]string{"identity/a.go": imports(client + "/proto")},
			want: []string{"identity/a.go:4: error: reserved-import"}},
		{name: "nor does cmd", files: map[string]string{"cmd/rollcall/a.go": imports(client + "/webclient")},
			want: []string{"cmd/rollcall/a.go:4: error: reserved-import"}},
		{name: "types are free", files: map[string]string{"outputs/a.go": imports("github.com/gravitational/teleport/api/types")}},
		{name: "hooks starts programs", files: map[string]string{"hooks/a.go": imports("os/exec")}},
		{name: "identity doesn't", files: map[string]string{"identity/a.go": imports("os/exec")},
			want: []string{"identity/a.go:4: error: reserved-import"}},
		{name: "config reads YAML", files: map[string]string{"config/a.go": imports("gopkg.in/yaml.v3")}},
		{name: "service doesn't", files: map[string]string{"service/a.go": imports("gopkg.in/yaml.v3")},
			want: []string{"service/a.go:4: error: reserved-import"}},

		{name: "init", files: map[string]string{"config/a.go": documented + "package p\n\nfunc init() {}\n"},
			want: []string{"config/a.go:4: error: no-init"}},
		{name: "init in cmd", files: map[string]string{"cmd/rollcall/a.go": documented + "package main\n\nfunc init() {}\n"},
			want: []string{"cmd/rollcall/a.go:4: error: no-init"}},
		{name: "init in a test", files: map[string]string{"config/a.go": documented + "package p\n",
			"config/a_test.go": "package p\n\nfunc init() {}\n"},
			want: []string{"config/a_test.go:3: error: no-init"}},
		{name: "a method called init", files: map[string]string{
			"config/a.go": documented + "package p\n\ntype t struct{}\n\nfunc (t) init() {}\n"}},

		{name: "os.Exit", files: map[string]string{"service/a.go": body("p", "os", "f", "os.Exit(1)")},
			want: []string{"service/a.go:7: error: no-exit"}},
		{name: "os.Exit by another name", files: map[string]string{
			"service/a.go": documented + "package p\n\nimport sys \"os\"\n\nvar f = func() { sys.Exit(1) }\n"},
			want: []string{"service/a.go:6: error: no-exit"}},
		{name: "os.Exit in main", files: map[string]string{"cmd/rollcall/a.go": body("main", "os", "main", "os.Exit(1)")}},
		{name: "os.Exit beside main", files: map[string]string{"cmd/rollcall/a.go": body("main", "os", "run", "os.Exit(1)")},
			want: []string{"cmd/rollcall/a.go:7: error: no-exit"}},
		{name: "log.Fatalf", files: map[string]string{"service/a.go": body("p", "log", "f", "log.Fatalf(\"%d\", 1)")},
			want: []string{"service/a.go:7: error: no-exit"}},
		{name: "log.Print", files: map[string]string{"service/a.go": body("p", "log", "f", "log.Print(1)")}},
		{name: "a log that isn't log", files: map[string]string{"service/a.go": body("p", "example.com/log", "f", "log.Fatal(1)")}},
		{name: "panic", files: map[string]string{"service/a.go": documented + "package p\n\nfunc f() { panic(1) }\n"},
			want: []string{"service/a.go:4: error: no-exit"}},
		{name: "panic in a comment", files: map[string]string{"service/a.go": documented + "package p\n\n// panic(1)\nfunc f() {}\n"}},
		{name: "panic in a test", files: map[string]string{"service/a.go": documented + "package p\n",
			"service/a_test.go": "package p\n\nfunc f() { panic(1) }\n"}},

		{name: "450 lines", files: map[string]string{"service/a.go": lines(450)}},
		{name: "451 lines", files: map[string]string{"service/a.go": lines(451)},
			want: []string{"service/a.go:451: warning: length"}},
		{name: "600 lines", files: map[string]string{"service/a.go": lines(600)},
			want: []string{"service/a.go:600: warning: length"}},
		{name: "601 lines", files: map[string]string{"service/a.go": lines(601)},
			want: []string{"service/a.go:601: error: length"}},
		{name: "generated", files: map[string]string{
			"service/a.go": "// Code generated by a test. DO NOT EDIT.\n\n" + lines(700)}},

		{name: "no package comment", files: map[string]string{"service/a.go": "package p\n"},
			want: []string{"service/a.go:1: error: package-comment"}},
		{name: "a package comment in another file", files: map[string]string{
			"service/a.go": "package p\n", "service/b.go": documented + "package p\n"}},
		{name: "broken", files: map[string]string{"service/a.go": documented + "package\n"},
			want: []string{"service/a.go:1: error: parse"}},
		{name: "not ours", files: map[string]string{
			"service/testdata/a.go": "package\n", "e2e/go.mod": "module e2e\n", "e2e/a.go": "package\n",
			".cache/a.go": "package\n", "_old/a.go": "package\n", "vendor/x/a.go": "package\n"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			findings, err := Check(tree(tt.files))
			require.NoError(t, err)
			require.Equal(t, tt.want, brief(findings))
		})
	}
}

// brief cuts the findings to place, severity and rule.
func brief(findings []Finding) []string {
	var out []string
	for _, f := range findings {
		place, _, _ := strings.Cut(f.String(), f.Text)
		out = append(out, place+f.Rule)
	}
	return out
}

func TestFindingsAreSortedAndCounted(t *testing.T) {
	findings, err := Check(tree(map[string]string{
		"service/b.go": imports("os/exec"),
		"service/a.go": imports("rollcall/cmd") + "\nfunc init() {}\n",
		"hooks/a.go":   lines(500),
	}))
	require.NoError(t, err)
	require.Equal(t, []string{
		"hooks/a.go:500: warning: length",
		"service/a.go:4: error: floor",
		"service/a.go:6: error: no-init",
		"service/b.go:4: error: reserved-import",
	}, brief(findings))
	require.Len(t, Errors(findings), 3)
	require.Len(t, findings, 4, "Errors leaves the findings alone")
}

// TestTheHouse holds the rules against the real tree.
func TestTheHouse(t *testing.T) {
	findings, err := Check(os.DirFS("../.."))
	require.NoError(t, err)
	for _, f := range findings {
		if f.Severity == Error {
			t.Error(f)
			continue
		}
		t.Log(f)
	}
}
