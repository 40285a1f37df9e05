// Package config knows the YAML file: which keys it has, where in it something
// is wrong, and what contradicts what. It decodes each room's own options by
// type and asks the room whether they make sense; what an option does, it
// doesn't know. Reading the one file is all it does to the disk.
//
// The file is the official agent's version 2, with additions. Decoding is
// strict and collects every error with its line and column, so that one run of
// `rollcall validate` is enough. Nothing is expanded: a `$` is a `$`.
package config

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"rollcall/cluster"
	"rollcall/destination"
	"rollcall/identity"
	"rollcall/outputs"
	"rollcall/service"
)

// Defaults and limits of the values that belong to no single room.
const (
	DefaultPath            = "/etc/rollcall.yaml"
	DefaultStoragePath     = "/var/lib/teleport/bot"
	DefaultCredentialTTL   = time.Hour
	DefaultRenewalInterval = 20 * time.Minute
	DefaultSessionTTL      = 12 * time.Hour
	DefaultSettleTime      = time.Second
	DefaultLogFormat       = LogFormatText

	MinCredentialTTL = time.Minute
	MaxCredentialTTL = 24 * time.Hour
	MaxSettleTime    = time.Minute
)

// LogFormat says how log lines look.
type LogFormat string

const (
	LogFormatText LogFormat = "text"
	LogFormatJSON LogFormat = "json"
)

// Config is a configuration. After Check it's complete: every default is in
// place, so that whoever wires it need not know any.
type Config struct {
	// File is the name that the configuration was read from; empty: flags only.
	File string
	// Cluster says how the cluster is reached. CAPins and CAPath are
	// Onboarding's.
	Cluster cluster.Options
	// Onboarding says how the bot joins.
	Onboarding identity.OnboardingOptions
	// Storage is where the bot keeps its own identity: directory or memory.
	Storage Destination
	// Outputs are those items of the file's outputs and then of its services
	// that write files, in its order.
	Outputs []Output
	// Services are the other items, in the same order.
	Services []Service
	// HooksDir is the hooks' directory of outputs that have none of their own;
	// empty: none.
	HooksDir string

	// CredentialTTL is the life of the bot's own and, where an output doesn't
	// say otherwise, of issued certificates.
	CredentialTTL time.Duration
	// RenewalInterval is the time between two renewals.
	RenewalInterval time.Duration
	// Oneshot does everything once and exits.
	Oneshot bool
	// Debug makes the log verbose.
	Debug bool
	// LogFormat is text or json.
	LogFormat LogFormat
	// DiagAddr is host:port for diagnostics; empty: none.
	DiagAddr string
	// FIPS asks for FIPS 140 mode; Check has made sure that it's on.
	FIPS bool

	// places and problems come from decoding; places is by YAML path.
	places   map[string]Position
	problems Errors
	broken   map[string]bool
	// foreign is set if the file isn't one of ours, so that checking it makes
	// no sense.
	foreign bool
	// ttlKey is the key that CredentialTTL came from, if it's the older one.
	ttlKey string
}

// Output is one thing to issue and where it goes.
type Output struct {
	// Name is unique in the agent: [a-z0-9-], or what the user gave.
	Name string
	// Type is the type as the file has it.
	Type string
	// Options are the room's: *outputs.ApplicationOptions,
	// *outputs.IdentityOptions.
	Options any
	// Common are the Options' common part, with Name, CredentialTTL,
	// RenewalInterval and HooksDir filled in by Check.
	Common *outputs.CommonOptions
	// Destination is where the files go.
	Destination Destination
	// Path is the output's place in the file: outputs[0].
	Path string
}

// Service is a thing to host that writes no files.
type Service struct {
	// Name is unique in the agent: [a-z0-9-], or what the user gave.
	Name string
	// Type is the type as the file has it.
	Type string
	// Options are the room's, with the common part filled in by Check.
	Options ServiceOptions
	// Path is the service's place in the file: services[0].
	Path string
}

// ServiceOptions is what a room's options for a service bring.
type ServiceOptions interface {
	// Common is the part that every service has.
	Common() *service.CommonOptions
	// Subject is what the service is for, for the name of one that has none.
	Subject() string
	// Validate is as with outputs: one failure.FieldError, several joined ones,
	// or nil. It may fill in the room's defaults, and touches no disk.
	Validate() error
}

// Destination is a place for files, by its type.
type Destination struct {
	// Type is directory, memory or nop.
	Type string
	// Directory is set if Type is directory.
	Directory *destination.DirectoryOptions
}

// String describes the place: "directory /opt/machine-id".
func (d Destination) String() string {
	if d.Directory != nil {
		return d.Type + " " + d.Directory.Path
	}
	return d.Type
}

// New returns a configuration in which nothing is set, for an agent that gets
// everything from flags. Apply and Check it.
func New() *Config {
	return &Config{places: map[string]Position{}, broken: map[string]bool{}}
}

// String describes the configuration in one line, without its token.
func (c *Config) String() string {
	return fmt.Sprintf("configuration %s: server %s, join method %s, token %s, storage %s, %d outputs, %d services",
		orNone(c.File), orNone(c.Cluster.ProxyServer+c.Cluster.AuthServer), orNone(c.Onboarding.JoinMethod),
		showToken(c.Onboarding.Token), c.Storage, len(c.Outputs), len(c.Services))
}

// GoString is String, so that no verb of fmt prints the token.
func (c *Config) GoString() string { return c.String() }

// Format is String for every verb and flag.
func (c *Config) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(c.String())) }

// LogValue describes the configuration for logs, without its token.
func (c *Config) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("file", c.File),
		slog.String("proxy_server", c.Cluster.ProxyServer),
		slog.String("auth_server", c.Cluster.AuthServer),
		slog.String("join_method", c.Onboarding.JoinMethod),
		slog.String("token", showToken(c.Onboarding.Token)),
		slog.String("storage", c.Storage.String()),
		slog.Int("outputs", len(c.Outputs)),
		slog.Int("services", len(c.Services)),
	)
}

// showToken shows where a token comes from, but never a literal one.
func showToken(token string) string {
	switch {
	case token == "":
		return "(none)"
	case filepath.IsAbs(token), strings.HasPrefix(token, credentialPrefix):
		return token
	default:
		return "(hidden)"
	}
}

func orNone(text string) string {
	if text == "" {
		return "(none)"
	}
	return text
}
