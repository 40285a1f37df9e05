package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"gopkg.in/yaml.v3"

	"rollcall/cluster"
	"rollcall/identity"
)

// document is the file's top level, key by key.
type document struct {
	// Version is the version of the file's format: v2.
	Version string          `yaml:"version"`
	Cluster cluster.Options `yaml:",inline" omit:"ca_pins,ca_path"`
	// Onboarding says how the bot joins.
	Onboarding onboarding `yaml:"onboarding"`
	// Storage is where the bot keeps its own identity: a destination of type
	// directory or memory. Nothing else may use that directory.
	Storage storage `yaml:"storage"`
	// CredentialTTL is the life of certificates, from 1m to 24h.
	CredentialTTL time.Duration `yaml:"credential_ttl"`
	// CertificateTTL is the older name of credential_ttl.
	CertificateTTL time.Duration `yaml:"certificate_ttl"`
	// RenewalInterval is the time between two renewals; it must be shorter
	// than credential_ttl.
	RenewalInterval time.Duration `yaml:"renewal_interval"`
	// Outputs are the credentials to write.
	Outputs []Output `yaml:"outputs"`
	// Services are treated as one list with outputs, as the official agent
	// does.
	Services []Output `yaml:"services"`
	// HooksDir is a directory of programs that run after the files of any
	// output have changed, unless it has a hooks_dir of its own.
	HooksDir string `yaml:"hooks_dir"`
	// Oneshot does everything once and exits: 0 if all of it worked.
	Oneshot bool `yaml:"oneshot"`
	// DiagAddr is the host:port on which /livez, /readyz and /metrics are
	// served. They are off unless it's set.
	DiagAddr string `yaml:"diag_addr"`
	// Debug makes the log verbose.
	Debug bool `yaml:"debug"`
	// LogFormat is text or json.
	LogFormat LogFormat `yaml:"log_format"`
	// FIPS asks for FIPS 140 mode. It's refused unless the Go runtime is in
	// that mode (GODEBUG=fips140=on in the environment).
	FIPS bool `yaml:"fips"`
}

// onboarding is the room's options and the sections of join methods that
// aren't built.
type onboarding struct {
	identity.OnboardingOptions `yaml:",inline"`
	// Azure configures the azure join method, which isn't built yet.
	Azure azureOptions `yaml:"azure"`
}

type storage struct{ Destination }

// Parse decodes a configuration without checking whether it makes sense; name
// is the file's name for messages. Apply what flags say, then Check. A
// configuration that can't be decoded is an error of kind
// failure.Configuration that holds Errors.
func Parse(name string, data []byte) (*Config, error) {
	c := parse(name, data)
	if err := c.problems.asError(); err != nil {
		return nil, err
	}
	return c, nil
}

// parse is Parse with the errors left in problems, so that those of Check can
// join them.
func parse(name string, data []byte) *Config {
	c := New()
	c.File = name
	root, err := rootNode(name, data, ownWords())
	if err != nil {
		c.problems, c.foreign = Errors{err}, true
		return c
	}
	d := newDecoder(name)
	if !d.version(root) {
		c.problems, c.foreign = d.errs, true
		return c
	}
	var doc document
	d.place(root, "")
	d.structure(root, "", reflect.ValueOf(&doc).Elem())
	c.problems, c.places, c.broken = d.errs, d.places, d.broken
	c.adopt(&doc)
	return c
}

// adopt takes over what the file says.
func (c *Config) adopt(doc *document) {
	c.Cluster = doc.Cluster
	c.Onboarding = doc.Onboarding.OnboardingOptions
	c.Storage = doc.Storage.Destination
	c.sort(append(doc.Outputs, doc.Services...))
	c.CredentialTTL = doc.CredentialTTL
	if c.CredentialTTL == 0 && c.given("certificate_ttl") {
		c.CredentialTTL = doc.CertificateTTL
		c.ttlKey = "certificate_ttl"
	}
	if c.given("credential_ttl") && c.given("certificate_ttl") {
		c.fail("certificate_ttl", "certificate_ttl is the older name of credential_ttl, and both are given", "keep credential_ttl")
	}
	c.RenewalInterval = doc.RenewalInterval
	c.Oneshot, c.Debug, c.FIPS = doc.Oneshot, doc.Debug, doc.FIPS
	c.DiagAddr, c.LogFormat = doc.DiagAddr, doc.LogFormat
	c.HooksDir = doc.HooksDir
}

// sort tells the items that write files from those that don't.
func (c *Config) sort(items []Output) {
	for _, item := range items {
		options, ok := item.Options.(ServiceOptions)
		if !ok {
			c.Outputs = append(c.Outputs, item)
			continue
		}
		c.Services = append(c.Services, Service{Type: item.Type, Options: options, Path: item.Path})
	}
}

// words are what rootNode says of a file that isn't what it should be.
type words struct{ empty, mapping string }

func ownWords() words {
	return words{"`rollcall configure` prints one to start from", "the file must be a mapping that begins with \"version: v2\""}
}

// rootNode parses the text into one mapping.
func rootNode(name string, data []byte, say words) (*yaml.Node, *Error) {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	err := decoder.Decode(&doc)
	if errors.Is(err, io.EOF) || (err == nil && (len(doc.Content) == 0 || isNull(doc.Content[0]))) {
		return nil, &Error{name, 1, 1, "the file is empty", say.empty}
	}
	if err != nil {
		return nil, syntaxError(name, data, err)
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode {
		return nil, &Error{name, max(root.Line, 1), max(root.Column, 1),
			say.mapping, ""}
	}
	var second yaml.Node
	switch err := decoder.Decode(&second); {
	case errors.Is(err, io.EOF):
		return root, nil
	case err != nil:
		return nil, syntaxError(name, data, err)
	default:
		return nil, &Error{name, max(second.Line, 1), max(second.Column, 1),
			"the file holds more than one document", "remove everything from the second \"---\" on"}
	}
}

// syntaxError places what the YAML parser says. The parser's text is cut before
// anything that it quotes from the file, which may be a token.
func syntaxError(name string, data []byte, err error) *Error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	out := &Error{File: name, Line: badByteLine(data), Column: 1}
	if m := regexp.MustCompile(`^line (\d+): `).FindStringSubmatch(text); m != nil {
		out.Line, _ = strconv.Atoi(m[1])
		out.Line = max(out.Line, 1)
		text = text[len(m[0]):]
	}
	if name, found := strings.CutPrefix(text, "unknown anchor '"); found {
		name, _, _ = strings.Cut(name, "'")
		out.Line, out.Column = placeOf(data, "*"+name)
		out.Message = "a value begins with *, which makes it an alias, and nothing has that name"
		out.Suggestion = "put the value in quotes"
		return out
	}
	text, _, _ = strings.Cut(text, "'")
	text, _, _ = strings.Cut(text, "`")
	out.Message = "this isn't YAML: " + strings.TrimSpace(text)
	out.Column = firstColumn(data, out.Line)
	if bytes.ContainsRune(data, '\t') && strings.Contains(text, "start any token") {
		out.Suggestion = "YAML is indented with spaces, not tabs"
	}
	return out
}

// placeOf returns the line and column at which text first stands.
func placeOf(data []byte, text string) (line, column int) {
	before, _, found := bytes.Cut(data, []byte(text))
	if !found {
		return 1, 1
	}
	return bytes.Count(before, []byte("\n")) + 1, len(before) - bytes.LastIndexByte(before, '\n')
}

// badByteLine returns the line of the first byte that no YAML file may hold,
// or 1.
func badByteLine(data []byte) int {
	line := 1
	for len(data) > 0 {
		r, size := utf8.DecodeRune(data)
		if r == '\n' {
			line++
		}
		if (r == utf8.RuneError && size == 1) || (r < ' ' && r != '\n' && r != '\r' && r != '\t') {
			return line
		}
		data = data[size:]
	}
	return 1
}

// firstColumn returns the column of a line's first character that isn't blank.
func firstColumn(data []byte, line int) int {
	lines := bytes.Split(data, []byte("\n"))
	if line > len(lines) {
		return 1
	}
	text := lines[line-1]
	return len(text) - len(bytes.TrimLeft(text, " \t")) + 1
}

// version reports whether the file is one of ours. Nothing else in a file of
// another version is worth an error.
func (d *decoder) version(root *yaml.Node) bool {
	const migrate = "convert it with `tbot migrate -c OLD -o NEW` (part of the official agent)"
	n := find(root, "version")
	if n == nil {
		d.fail(root, "version", "version is missing, which makes this a version 1 file of the official agent",
			"add \"version: v2\" if it's written for version 2; otherwise "+migrate)
		return false
	}
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		n = n.Alias
	}
	switch {
	case n.Kind == yaml.ScalarNode && n.Value == "v2":
		return true
	case n.Kind == yaml.ScalarNode && n.Value == "v1":
		d.fail(n, "version", "this is a version 1 file of the official agent, and only v2 is read", migrate)
	case n.Kind == yaml.ScalarNode:
		d.fail(n, "version", fmt.Sprintf("version must be v2, not %q", short(n.Value)), "")
	default:
		d.wrongType(n, "version", "v2")
	}
	return false
}
