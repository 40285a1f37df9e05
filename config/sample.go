package config

import (
	"fmt"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"rollcall/cluster"
	"rollcall/destination"
	"rollcall/failure"
	"rollcall/outputs"
)

// Sample is what a new configuration file is to say. What isn't set is left to
// the defaults, and shown as a comment.
type Sample struct {
	// Overrides are the agent's own settings. DestinationDir isn't used.
	Overrides
	// OutputType is application or identity; empty: whichever the rest fits.
	OutputType string
	// AppName is the application of an application output.
	AppName string
	// SpecificTLSNaming adds tls.crt, tls.key and tls.cas to it.
	SpecificTLSNaming bool
	// Roles are what the output requests.
	Roles []string
	// Destination is a directory, or memory://.
	Destination string
}

// YAML returns a commented file that Load accepts, or what is wrong with the
// settings, by flag.
func (s Sample) YAML() ([]byte, error) {
	c := New()
	c.Apply(s.Overrides)
	out, err := s.output(c)
	if err != nil {
		return nil, err
	}
	if out != nil {
		c.Outputs = []Output{*out}
	}
	if err := c.Check(); err != nil {
		return nil, err
	}
	w := &sampleWriter{}
	s.writeAgent(w, c)
	s.writeOutputs(w, out)
	w.line("")
	w.line("# Local proxies (tunnels) and discovery go into a list `services:`, as")
	w.line("# docs/local-proxy.md and docs/discovery.md show.")
	return []byte(w.String()), nil
}

// output returns the output that the settings describe, or nil for none.
func (s Sample) output(c *Config) (*Output, error) {
	kind := s.OutputType
	switch {
	case kind == "" && s.AppName != "":
		kind = outputs.TypeApplication
	case kind == "" && s.Destination != "":
		kind = outputs.TypeIdentity
	case kind == "" && (len(s.Roles) > 0 || s.SpecificTLSNaming):
		return nil, failure.New(failure.Configuration, "an output needs --destination, and --app-name for an application's credentials")
	case kind == "":
		return nil, nil
	}
	if s.Destination == "" {
		return nil, failure.New(failure.Configuration, "the output has nowhere to go: give --destination, for example --destination /opt/machine-id")
	}
	place, err := placeFromURI(s.Destination)
	if err != nil {
		return nil, failure.Wrap(failure.Configuration, err, "--destination %q isn't a directory or memory://", short(s.Destination))
	}
	c.places["outputs[0].app_name"] = Position{File: "--app-name"}
	c.places["outputs[0].roles"] = Position{File: "--roles"}
	c.places["outputs[0].destination"] = Position{File: "--destination"}
	out := &Output{Type: kind, Path: "outputs[0]", Destination: place}
	switch kind {
	case outputs.TypeApplication:
		options := &outputs.ApplicationOptions{AppName: s.AppName, SpecificTLSNaming: s.SpecificTLSNaming}
		out.Options, out.Common = options, &options.CommonOptions
	case outputs.TypeIdentity:
		options := &outputs.IdentityOptions{}
		out.Options, out.Common = options, &options.CommonOptions
	default:
		return nil, unknownOutput(kind)
	}
	out.Common.Roles = s.Roles
	if kind == outputs.TypeIdentity && (s.AppName != "" || s.SpecificTLSNaming) {
		return nil, failure.New(failure.Configuration, "--app-name and --specific-tls-naming are for --output-type application, not identity")
	}
	return out, nil
}

func unknownOutput(kind string) error {
	names := kindNames(slices.DeleteFunc(outputKinds(), isService), true)
	if _, known := kindNamed(outputKinds(), kind); known {
		return failure.New(failure.Configuration, "--output-type: output type %q isn't built yet; use %s", kind, orList(names))
	}
	return failure.New(failure.Configuration, "--output-type: unknown output type %q; use %s", short(kind), orList(names))
}

func isService(k kind) bool { return k.service }

// sampleWriter collects lines.
type sampleWriter struct{ strings.Builder }

func (w *sampleWriter) line(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }

// either writes "key: value", or the default as a comment.
func (w *sampleWriter) either(set bool, key, value, fallback string) {
	if set {
		w.line("%s: %s", key, value)
		return
	}
	w.line("# %s: %s", key, fallback)
}

func (s Sample) writeAgent(w *sampleWriter, c *Config) {
	w.line("# Configuration of rollcall, made by `rollcall configure`.")
	w.line("# Check it after a change:  rollcall validate -c FILE")
	w.line("# Run it once, to try it:   rollcall start -c FILE --oneshot")
	w.line("# Run it:                   rollcall start -c FILE")
	w.line("version: v2")
	w.line("")
	if c.Cluster.ProxyServer != "" {
		w.line("# The web address of Teleport's proxy.")
		w.line("proxy_server: %s", quoted(c.Cluster.ProxyServer))
	} else {
		w.line("# The Auth Service's address, or a proxy's.")
		w.line("auth_server: %s", quoted(c.Cluster.AuthServer))
	}
	if c.Cluster.ProxyCA != "" {
		w.line("# The CAs that the proxy's certificate is checked against.")
		w.line("proxy_ca: %s", quoted(c.Cluster.ProxyCA))
	}
	if c.Cluster.Insecure {
		w.line("# DANGER: whoever answers first is trusted. Use ca_pins in its place.")
		w.line("insecure: true")
	}
	s.writeOnboarding(w, c)
	w.line("")
	w.line("# Where the bot keeps its own identity. Nothing else may use the directory.")
	w.line("storage:")
	writePlace(w, "  ", c.Storage)
	w.line("")
	w.line("# How long certificates live (%s to %s), and how often they're renewed.", show(MinCredentialTTL), show(MaxCredentialTTL))
	w.either(s.CredentialTTL != 0, "credential_ttl", show(c.CredentialTTL), show(c.CredentialTTL))
	w.either(s.RenewalInterval != 0, "renewal_interval", show(c.RenewalInterval), show(c.RenewalInterval))
	w.line("")
	w.line("# Serve /livez, /readyz and /metrics here.")
	w.either(c.DiagAddr != "", "diag_addr", quoted(c.DiagAddr), "127.0.0.1:3001")
	s.writeSwitches(w, c)
}

func (s Sample) writeSwitches(w *sampleWriter, c *Config) {
	if c.Oneshot {
		w.line("\n# Do everything once, and exit.\noneshot: true")
	}
	if c.Debug {
		w.line("debug: true")
	}
	if c.FIPS {
		w.line("fips: true")
	}
	if s.LogFormat != "" {
		w.line("log_format: %s", quoted(s.LogFormat))
	}
}

func (s Sample) writeOnboarding(w *sampleWriter, c *Config) {
	o := c.Onboarding
	w.line("")
	w.line("# How the bot joins the cluster.")
	if o.JoinMethod == "" {
		w.line("# onboarding:\n#   join_method: %s\n#   token: /etc/rollcall/token", cluster.JoinMethodToken)
		return
	}
	w.line("onboarding:")
	w.line("  join_method: %s", quoted(o.JoinMethod))
	switch {
	case o.Token == "":
		w.line("  # token: /etc/rollcall/token")
	case o.JoinMethod == cluster.JoinMethodKubernetes:
		w.line("  # The name of the join token; it's no secret with this method.")
		w.line("  token: %s", quoted(o.Token))
	default:
		w.line("  # The token, a file that holds it (an absolute path), or a systemd")
		w.line("  # credential (credential:NAME). It's used once.")
		w.line("  token: %s", quoted(o.Token))
	}
	if len(o.CAPins) > 0 {
		w.line("  # The cluster CA's pins, where the Auth Service is joined directly.")
		w.line("  ca_pins:")
		for _, pin := range o.CAPins {
			w.line("    - %s", quoted(pin))
		}
	}
	if o.CAPath != "" {
		w.line("  ca_path: %s", quoted(o.CAPath))
	}
}

func (s Sample) writeOutputs(w *sampleWriter, out *Output) {
	w.line("")
	if out == nil {
		w.line("# What to write, and where. For example:")
		w.line("# outputs:\n#   - type: application\n#     app_name: grafana-example\n#     destination:\n#       type: directory\n#       path: /opt/machine-id")
		w.line("outputs: []")
		return
	}
	w.line("# What to write, and where.")
	w.line("outputs:")
	w.line("  - type: %s", out.Type)
	if s.AppName != "" {
		w.line("    # The application's name in Teleport.")
		w.line("    app_name: %s", quoted(s.AppName))
	}
	if s.SpecificTLSNaming {
		w.line("    # Adds tls.crt, tls.key and tls.cas.")
		w.line("    specific_tls_naming: true")
	}
	if len(s.Roles) > 0 {
		w.line("    roles:")
		for _, role := range s.Roles {
			w.line("      - %s", quoted(role))
		}
	} else {
		w.line("    # roles: [...]   default: all that the bot may impersonate")
	}
	w.line("    destination:")
	writePlace(w, "      ", out.Destination)
}

func writePlace(w *sampleWriter, indent string, place Destination) {
	w.line("%stype: %s", indent, place.Type)
	if place.Type == destination.TypeDirectory {
		w.line("%spath: %s", indent, quoted(place.Directory.Path))
	}
}

// quoted writes a text as one YAML scalar on one line.
func quoted(text string) string {
	node := yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text}
	if strings.ContainsAny(text, "\n\r\t") {
		node.Style = yaml.DoubleQuotedStyle
	}
	out, err := yaml.Marshal(&node)
	if err != nil {
		// Text that isn't UTF-8; Check lets none through that matters.
		return fmt.Sprintf("%q", text)
	}
	return strings.TrimSuffix(string(out), "\n")
}
