package systemd

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"text/template"
	"unicode"

	"rollcall/failure"
)

// UnitOptions say what goes into a unit file. Everything is a path, a name or
// empty; DefaultUnit has the values that fit most hosts.
type UnitOptions struct {
	// Name is the unit's, without .service. It's also the runtime directory's.
	Name string
	// User and Group are whom the agent runs as.
	User, Group string
	// Binary is the absolute path of the program, Config of its file.
	Binary, Config string
	// Storage is the absolute path of the bot's own storage; empty: memory.
	Storage string
	// Destinations are the absolute paths of the directories that it writes.
	Destinations []string
	// Sockets are the absolute paths of the unix sockets that it listens on for
	// other users' programs. The sandbox is opened for their directories, but not
	// for those that are Shared.
	Sockets []string
	// Readable are further paths that the agent or a hook reads or runs. The
	// sandbox shows them, if they're in a home or a temporary directory.
	Readable []string
	// Credential is the name of the systemd credential that holds the join
	// token, and TokenFile where systemd reads it; empty: there is none.
	Credential, TokenFile string
	// AllowReload and AllowRestart are units that the agent's user may have
	// systemd reload or restart, though it isn't root. They go into Rule.
	AllowReload, AllowRestart []string
}

// DefaultUnit is the unit of a host with one agent: what is in the repository
// as systemd/rollcall.service.
func DefaultUnit() UnitOptions {
	return UnitOptions{
		Name: "rollcall", User: "rollcall", Group: "rollcall",
		Binary: "/usr/local/bin/rollcall", Config: "/etc/rollcall.yaml",
		Storage:      "/var/lib/rollcall",
		Destinations: []string{"/opt/machine-id"},
		Credential:   "token", TokenFile: "/etc/rollcall.token",
	}
}

// Validate returns a failure.Configuration for what a unit file can't hold.
func (o UnitOptions) Validate() error {
	if !matches(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$`, o.Name) || strings.HasSuffix(o.Name, ".service") {
		return failure.New(failure.Configuration, "the unit can't be named %q: use letters, digits and . _ -, without .service", o.Name)
	}
	for _, account := range []struct{ what, name string }{{"user", o.User}, {"group", o.Group}} {
		if err := ValidateAccount(account.what, account.name); err != nil {
			return err
		}
	}
	if o.Credential != "" && !validName(o.Credential) {
		return failure.New(failure.Configuration, "%q isn't the name of a systemd credential: use letters, digits and . _ -", o.Credential)
	}
	paths := slices.Concat([]string{o.Binary, o.Config}, o.Destinations, o.Sockets)
	for _, optional := range []string{o.Storage, o.TokenFile} {
		if optional != "" {
			paths = append(paths, optional)
		}
	}
	for _, path := range paths {
		if !filepath.IsAbs(path) || strings.ContainsFunc(path, unicode.IsControl) {
			return failure.New(failure.Configuration, "%q can't stand in a unit: write an absolute path, without control characters", path)
		}
	}
	if strings.ContainsAny(o.TokenFile, ": ") {
		return failure.New(failure.Configuration, "the token's file %q can't be loaded by systemd: use a path without spaces and colons", o.TokenFile)
	}
	return o.validateAllowed()
}

// ValidateAccount returns a failure.Configuration for what can't be the name of a
// user or group; what says which of the two it is.
func ValidateAccount(what, name string) error {
	if !matches(`^([a-z_][a-z0-9_-]{0,30}|[0-9]{1,10})$`, name) {
		return failure.New(failure.Configuration, "%q isn't the name of a %s: use small letters, digits and _ -, or a number", name, what)
	}
	return nil
}

func matches(pattern, text string) bool { return regexp.MustCompile(pattern).MatchString(text) }

// Text returns the unit file. Call Validate first.
func (o UnitOptions) Text() string {
	var text strings.Builder
	parsed := template.Must(template.New("unit").Funcs(template.FuncMap{
		"word": word, "argument": argument,
	}).Parse(unitTemplate))
	// A strings.Builder doesn't fail, and the tests run every branch.
	_ = parsed.Execute(&text, o)
	return text.String()
}

// StateDirectory returns the storage's path below /var/lib, where systemd makes
// and owns it; empty: it's elsewhere.
func (o UnitOptions) StateDirectory() string {
	below, ok := strings.CutPrefix(filepath.Clean(o.Storage), "/var/lib/")
	if !ok || strings.ContainsAny(below, " :") {
		return ""
	}
	return below
}

// Writable are the paths that the sandbox must leave open.
func (o UnitOptions) Writable() []string {
	var paths []string
	if o.Storage != "" && o.StateDirectory() == "" {
		paths = append(paths, filepath.Clean(o.Storage))
	}
	for _, path := range o.Destinations {
		paths = append(paths, filepath.Clean(path))
	}
	for _, path := range o.Sockets {
		dir := socketDirectory(path)
		if !Shared(path) && !o.InRuntimeDirectory(path) && !slices.Contains(paths, dir) {
			paths = append(paths, dir)
		}
	}
	return paths
}

// word writes a text as one word of a setting: specifiers are escaped, and
// quotes put around what needs them.
func word(text string) string {
	text = strings.ReplaceAll(text, "%", "%%")
	if !strings.ContainsAny(text, " \"'\\;") {
		return text
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) + `"`
}

// argument is word for a command line, where variables are expanded too.
func argument(text string) string { return word(strings.ReplaceAll(text, "$", "$$")) }
