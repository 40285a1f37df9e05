package config

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rollcall/destination"
	"rollcall/discovery/registry/agent"
	"rollcall/discovery/settings"
	"rollcall/discovery/source/docker"
	"rollcall/discovery/template"
	"rollcall/hooks"
	"rollcall/tunnel"
)

const referenceFile = "../docs/configuration.md"

// TestReference renders docs/configuration.md from the option structs and
// their comments, and fails if the file says something else. -update writes it.
func TestReference(t *testing.T) {
	if *update {
		require.NoError(t, os.MkdirAll(filepath.Dir(referenceFile), 0o755))
	}
	golden(t, referenceFile, reference(t))
}

// TestReferenceExamples loads every example of the reference that is a whole
// file.
func TestReferenceExamples(t *testing.T) {
	text, err := os.ReadFile(referenceFile)
	require.NoError(t, err)
	examples := regexp.MustCompile("(?s)```yaml\n(version: v2\n.*?)```").FindAllStringSubmatch(string(text), -1)
	require.NotEmpty(t, examples)
	for _, example := range examples {
		_, err := load(t, example[1])
		require.NoError(t, err, example[1])
	}
}

// book renders the reference.
type book struct {
	t        *testing.T
	out      strings.Builder
	defaults map[string]string
	comments map[string]map[string]string
}

func reference(t *testing.T) string {
	b := &book{t: t, defaults: defaultTexts(t), comments: map[string]map[string]string{}}
	b.say(`<!-- Generated from the option structs by "go test ./config -update"; don't edit. -->
# Configuration reference

rollcall reads one YAML file, by default %s: version 2 of the official agent's format, with additions. %s checks a file without touching network or disk, and %s writes one.

%s
Rules that hold everywhere:

- The file is read strictly: an unknown or repeated key, an empty value, a wrong type and a contradiction are errors, each with file:line:column. Nothing starts until all are mended.
- Durations have a unit: %s, %s, %s.
- Nothing is expanded: a %s stays a %s. Keep the join token out of the file by naming another file (an absolute path) or a systemd credential (%s).
- YAML's anchors, aliases and merges (%s) work; a file holds one document.
- Flags and environment variables go over what the file says. A proxy or auth server from a flag replaces whichever of the two the file has.
`, tick(DefaultPath), tick("rollcall validate -c FILE"), tick("rollcall configure"), "```yaml\n"+exampleFile+"```\n",
		tick("90s"), tick("20m"), tick("1h30m"), tick("$"), tick("$"), tick("credential:NAME"), tick("<<"))

	b.section("Top level", "", reflect.TypeFor[document]())
	b.section("onboarding", "onboarding", reflect.TypeFor[onboarding]())
	b.section("onboarding.kubernetes", "onboarding.kubernetes", fieldsOf(reflect.TypeFor[onboarding]())["kubernetes"].Type)
	b.say("\n## storage\n\nA destination of type %s or %s (below). In memory, the bot joins anew at every start. No output may write into the storage directory, above it or below it.\n",
		tick(destination.TypeDirectory), tick(destination.TypeMemory))
	b.say("\n## outputs and services\n\nBoth lists hold items of these types, and count as one list. Each has a %s; those that write files have a %s too. Names are made of the type and what the output is for, unless given, and are the same at every start.\n",
		tick("type"), tick("destination"))
	for _, k := range outputKinds() {
		if !k.unbuilt && !k.service {
			b.section("Output type "+k.name, "outputs", reflect.TypeOf(k.options()).Elem())
		}
	}
	for _, k := range outputKinds() {
		if !k.unbuilt && k.service {
			b.section("Service type "+k.name, "services", reflect.TypeOf(k.options()).Elem())
		}
	}
	b.section("Items of socket", "socket", reflect.TypeFor[tunnel.SocketOptions]())
	b.discovery()
	b.section("Items of on_renewal", "outputs.on_renewal", reflect.TypeFor[hooks.Options]())
	b.say("\nAn item has exactly one of %s, %s, %s and %s. See [hooks](hooks.md).\n",
		tick("exec"), tick("signal"), tick("reload_unit"), tick("restart_unit"))
	b.say("\n## Destinations\n\nTwo outputs never share a directory, and none lies inside another's.\n")
	for _, k := range destinationKinds() {
		switch {
		case k.unbuilt:
		case k.options == nil:
			b.say("\n### Destination type %s\n\n%s\n", k.name, optionless()[k.name])
		default:
			b.section("Destination type "+k.name, "destination", reflect.TypeOf(k.options()).Elem())
		}
	}
	b.section("Items of readers", "destination.readers", reflect.TypeFor[destination.Reader]())
	b.unbuilt()
	return b.out.String()
}

const exampleFile = `version: v2
proxy_server: teleport.example.com:443
onboarding:
  join_method: token
  token: /etc/rollcall/token
outputs:
  - type: application
    app_name: grafana-example
    destination: {type: directory, path: /opt/machine-id}
`

const discoveryFile = `version: v2
proxy_server: teleport.example.com:443
services:
  - type: discovery
    name: web
    source: {type: docker}
`

// optionless describes the destinations that have no options.
func optionless() map[string]string {
	return map[string]string{
		destination.TypeMemory: "Keeps the files in the process: nothing is written to disk, and everything is lost when it ends.",
		destination.TypeNop:    "Throws the files away: for trying out whether something can be issued.",
	}
}

// section renders one table of keys.
func (b *book) section(title, path string, t reflect.Type) {
	level := "##"
	if strings.Contains(title, " type ") || strings.HasPrefix(title, "Items") || strings.Contains(title, " of a ") {
		level = "###"
	}
	b.say("\n%s %s\n\n| key | type | default | what it does |\n|---|---|---|---|\n", level, title)
	for _, f := range listFields(t) {
		b.say("| %s | %s | %s | %s |\n", tick(f.Key), typeText(f.Type), b.defaultText(path, f), b.comment(f))
	}
}

// discovery renders what a discovery service is made of.
func (b *book) discovery() {
	b.say("\nSee [discovery](discovery.md). A name is required, because it's part of the label that says whose a resource is.\n")
	for _, k := range sourceKinds() {
		b.section("Source type "+k.name, "services.source", reflect.TypeOf(k.options()).Elem())
	}
	b.section("Filters of a docker source", "services.source.filters", reflect.TypeFor[docker.Filters]())
	b.section("Tls of a docker source", "services.source.tls", reflect.TypeFor[docker.TLSOptions]())
	b.section("Resource of a discovery service", "services.resource", reflect.TypeFor[template.Options]())
	b.section("Guard of a discovery service", "services.guard", reflect.TypeFor[settings.Guard]())
	b.section("Agent of a discovery service", "services.agent", reflect.TypeFor[agent.Options]())
}

func (b *book) unbuilt() {
	b.say("\n## Recognised, and refused by name\n\nThese are valid for the official agent, or planned for this one. They aren't built yet, and a file that has them is refused, never read in part.\n\n")
	var kinds, places []string
	for _, k := range outputKinds() {
		if k.unbuilt {
			kinds = append(kinds, tick(k.name))
		}
	}
	for _, k := range destinationKinds() {
		if k.unbuilt {
			places = append(places, tick(k.name))
		}
	}
	var methods, keys []string
	for _, m := range unbuiltJoinMethods() {
		methods = append(methods, tick(m))
	}
	for key := range laterKeys() {
		keys = append(keys, tick(key))
	}
	b.say("- Types of outputs and services: %s\n- Types of destinations: %s\n- Join methods: %s\n- Keys: %s\n- Files of version 1: convert them with %s\n",
		strings.Join(kinds, ", "), strings.Join(places, ", "), strings.Join(methods, ", "),
		strings.Join(sorted(keys), ", "), tick("tbot migrate"))
}

func (b *book) say(format string, args ...any) { fmt.Fprintf(&b.out, format, args...) }

func tick(text string) string { return "`" + text + "`" }

func typeText(t reflect.Type) string {
	if words, ok := enums()[t]; ok {
		var ticked []string
		for _, word := range words {
			ticked = append(ticked, tick(word))
		}
		return orList(ticked)
	}
	switch {
	case t == reflect.TypeFor[time.Duration]():
		return "duration"
	case t == reflect.TypeFor[Destination](), t == reflect.TypeFor[storage]():
		return "destination"
	case t == reflect.TypeFor[Output]():
		return "output"
	case t.Kind() == reflect.Slice:
		return "list of " + strings.Replace(typeText(t.Elem()), "output", "outputs", 1)
	case t.Kind() == reflect.Struct:
		return "mapping"
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t.Kind() == reflect.Int:
		return "number"
	case t.Kind() == reflect.Map:
		return "mapping"
	default:
		return "text"
	}
}

func (b *book) defaultText(path string, f field) string {
	if text, ok := b.defaults[joinPath(path, f.Key)]; ok {
		return text
	}
	if f.Type.Kind() == reflect.Bool {
		return tick("false")
	}
	return ""
}

// defaultTexts takes the defaults from where they take effect: a checked
// configuration that gives none of them.
func defaultTexts(t *testing.T) map[string]string {
	c, err := load(t, exampleFile)
	require.NoError(t, err)
	directory := c.Outputs[0].Destination.Directory
	discovered, err := load(t, discoveryFile)
	require.NoError(t, err)
	options := discovered.Services[0].Options.(*settings.Options)
	guard := options.Guard.Plan().WithDefaults()
	return map[string]string{
		"services.listen":             "required",
		"services.app_name":           "required",
		"services.max_connections":    tick(fmt.Sprint(tunnel.DefaultMaxConnections)),
		"services.max_applications":   tick(fmt.Sprint(tunnel.DefaultMaxApplications)),
		"socket.mode":                 tick("0600"),
		"services.source":             "required",
		"services.register":           tick(string(options.Register)),
		"services.policy":             tick(string(options.Policy)),
		"services.interval":           tick(show(options.Interval)),
		"services.ha_ttl":             tick(show(options.HATTL)),
		"services.kinds":              "`[app]`",
		"services.guard.max_delete":   tick(fmt.Sprintf("%.0f%%", 100*guard.MaxDelete)),
		"services.guard.budget_from":  tick(fmt.Sprint(guard.BudgetFrom)),
		"services.guard.absent_reads": tick(fmt.Sprint(guard.AbsentReads)),
		"services.guard.absent_for":   tick(show(guard.AbsentFor)),
		"services.guard.settle":       tick(show(guard.Settle)),
		"services.source.path":        "required",
		"version":                     "required",
		"proxy_server":                "this or `auth_server` is required",
		"storage":                     tick(fmt.Sprintf("{type: directory, path: %s}", c.Storage.Directory.Path)),
		"credential_ttl":              tick(show(c.CredentialTTL)),
		"renewal_interval":            tick(show(c.RenewalInterval)),
		"session_ttl":                 tick(show(c.Cluster.SessionTTL)) + ", or the longest `credential_ttl`",
		"settle_time":                 tick(show(c.Cluster.SettleTime)),
		"log_format":                  tick(string(c.LogFormat)),
		"onboarding.join_method":      tick(c.Onboarding.JoinMethod) + " if there's a token",
		"outputs.app_name":            "required",
		"outputs.credential_ttl":      "the agent's",
		"outputs.renewal_interval":    "the agent's",
		"outputs.hooks_dir":           "the agent's",
		"services.credential_ttl":     "the agent's",
		"services.renewal_interval":   "the agent's",
		"outputs.on_renewal.timeout":  tick(show(hooks.DefaultTimeout)),
		"destination.path":            "required",
		"destination.symlinks":        tick(string(directory.Symlinks)),
		"destination.acls":            tick(string(directory.ACLs)),
		"destination.update":          tick(string(directory.Update)),
	}
}

// comment returns a field's comment from the source, with the struct's Go
// names turned into keys.
func (b *book) comment(f field) string {
	text := b.structComments(f.Struct)[f.Name]
	require.NotEmpty(b.t, text, "%s.%s has no comment for the reference", f.Struct, f.Name)
	if rest, found := strings.CutPrefix(text, f.Name+" "); found {
		text = tick(f.Key) + " " + rest
	}
	for _, other := range listFields(f.Struct) {
		// A name like RenewalInterval is surely meant; Name or FIPS may be a word.
		if regexp.MustCompile(`[a-z][A-Z]`).MatchString(other.Name) {
			text = regexp.MustCompile(`\b`+other.Name+`\b`).ReplaceAllString(text, tick(other.Key))
		}
	}
	return strings.ReplaceAll(text, "|", `\|`)
}

// structComments returns the comments of a struct's fields by their Go names.
func (b *book) structComments(t reflect.Type) map[string]string {
	name := t.PkgPath() + "." + t.Name()
	if found, ok := b.comments[name]; ok {
		return found
	}
	b.comments[name] = map[string]string{}
	dir := filepath.Join("..", filepath.FromSlash(path.Join(strings.Split(t.PkgPath(), "/")[1:]...)))
	sources, err := filepath.Glob(filepath.Join(dir, "*.go"))
	require.NoError(b.t, err)
	for _, source := range sources {
		if strings.HasSuffix(source, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), source, nil, parser.ParseComments)
		require.NoError(b.t, err)
		ast.Inspect(parsed, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok || spec.Name.Name != t.Name() {
				return true
			}
			if structure, ok := spec.Type.(*ast.StructType); ok {
				collectComments(structure, b.comments[name])
			}
			return false
		})
	}
	return b.comments[name]
}

func collectComments(structure *ast.StructType, into map[string]string) {
	for _, f := range structure.Fields.List {
		for _, name := range f.Names {
			into[name.Name] = strings.Join(strings.Fields(f.Doc.Text()), " ")
		}
	}
}
