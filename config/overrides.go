package config

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"rollcall/destination"
	"rollcall/outputs"
)

// Overrides are what flags and the environment say. Zero values say nothing.
type Overrides struct {
	// ProxyServer and AuthServer replace whichever of the two the file has.
	ProxyServer, AuthServer string
	// ProxyCA is a PEM file.
	ProxyCA string
	// JoinMethod and Token replace the file's.
	JoinMethod, Token string
	// CAPins and CAPath replace the file's pins and path together.
	CAPins []string
	CAPath string
	// Storage is a directory, file:///directory or memory://.
	Storage string
	// DestinationDir replaces the file's outputs by one identity output into
	// this directory, as the official agent's --destination-dir does.
	DestinationDir string

	CredentialTTL, RenewalInterval time.Duration
	DiagAddr                       string
	LogFormat                      string

	// The switches only turn on.
	Oneshot, Debug, Insecure, FIPS bool

	// Origin says for a YAML path ("onboarding.token") what the value came
	// from, where that isn't the flag of the path's usual name.
	Origin map[string]string
}

// flagNames are the flags that usually set a path.
func flagNames() map[string]string {
	return map[string]string{
		"proxy_server":                "--proxy-server",
		"auth_server":                 "--auth-server",
		"proxy_ca":                    "--proxy-ca",
		"onboarding.join_method":      "--join-method",
		"onboarding.token":            "--token",
		"onboarding.ca_pins":          "--ca-pin",
		"onboarding.ca_path":          "--ca-path",
		"storage":                     "--storage",
		"outputs[0].destination.path": "--destination-dir",
		"credential_ttl":              "--credential-ttl",
		"renewal_interval":            "--renewal-interval",
		"diag_addr":                   "--diag-addr",
		"log_format":                  "--log-format",
		"insecure":                    "--insecure",
		"fips":                        "--fips",
	}
}

// Apply lays overrides over what the file says. Call it before Check, which
// reports what is wrong with them.
func (c *Config) Apply(o Overrides) {
	c.applyServer(o)
	set := func(path string, to *string, value string) {
		if value != "" {
			*to = value
			c.override(o, path)
		}
	}
	set("proxy_ca", &c.Cluster.ProxyCA, o.ProxyCA)
	set("onboarding.join_method", &c.Onboarding.JoinMethod, o.JoinMethod)
	set("onboarding.token", &c.Onboarding.Token, o.Token)
	set("diag_addr", &c.DiagAddr, o.DiagAddr)
	set("log_format", (*string)(&c.LogFormat), o.LogFormat)
	if len(o.CAPins) > 0 || o.CAPath != "" {
		c.Onboarding.CAPins, c.Onboarding.CAPath = o.CAPins, o.CAPath
		c.override(o, "onboarding.ca_pins")
		c.override(o, "onboarding.ca_path")
	}
	if o.CredentialTTL != 0 {
		c.CredentialTTL, c.ttlKey = o.CredentialTTL, ""
		c.override(o, "credential_ttl")
	}
	if o.RenewalInterval != 0 {
		c.RenewalInterval = o.RenewalInterval
		c.override(o, "renewal_interval")
	}
	c.turnOn(o, "oneshot", &c.Oneshot, o.Oneshot)
	c.turnOn(o, "debug", &c.Debug, o.Debug)
	c.turnOn(o, "insecure", &c.Cluster.Insecure, o.Insecure)
	c.turnOn(o, "fips", &c.FIPS, o.FIPS)
	c.applyStorage(o)
	c.applyDestination(o)
}

func (c *Config) turnOn(o Overrides, path string, to *bool, on bool) {
	if on && !*to {
		*to = true
		c.override(o, path)
	}
}

// applyServer lets a server from a flag replace the file's server of either
// kind; both kinds in flags stay a contradiction.
func (c *Config) applyServer(o Overrides) {
	if o.ProxyServer == "" && o.AuthServer == "" {
		return
	}
	c.Cluster.ProxyServer, c.Cluster.AuthServer = o.ProxyServer, o.AuthServer
	c.forget("proxy_server")
	c.forget("auth_server")
	if o.ProxyServer != "" {
		c.override(o, "proxy_server")
	}
	if o.AuthServer != "" {
		c.override(o, "auth_server")
	}
}

func (c *Config) applyStorage(o Overrides) {
	if o.Storage == "" {
		return
	}
	c.forget("storage")
	c.override(o, "storage")
	place, err := placeFromURI(o.Storage)
	if err != nil {
		c.fail("storage", fmt.Sprintf("the storage %q isn't a directory, file:///directory or memory://", short(o.Storage)), "")
		return
	}
	c.Storage = place
}

func (c *Config) applyDestination(o Overrides) {
	if o.DestinationDir == "" {
		return
	}
	const path = "outputs[0].destination.path"
	c.forget("outputs")
	c.forget("services")
	c.override(o, path)
	options := new(outputs.IdentityOptions)
	c.Services = nil
	c.Outputs = []Output{{
		Type: outputs.TypeIdentity, Options: options, Common: &options.CommonOptions,
		Destination: directoryPlace(o.DestinationDir), Path: "outputs[0]",
	}}
}

// override notes where a value now comes from, for messages.
func (c *Config) override(o Overrides, path string) {
	origin := o.Origin[path]
	if origin == "" {
		origin = flagNames()[path]
	}
	c.places[path] = Position{File: origin}
	delete(c.broken, path)
}

// forget drops the places of a value that a flag replaces, with all below it.
func (c *Config) forget(path string) {
	for p := range c.places {
		if p == path || strings.HasPrefix(p, path+".") || strings.HasPrefix(p, path+"[") {
			delete(c.places, p)
		}
	}
}

func directoryPlace(path string) Destination {
	return Destination{
		Type:      destination.TypeDirectory,
		Directory: &destination.DirectoryOptions{Path: path},
	}
}

// placeFromURI reads a place as the official agent's --data-dir has it.
func placeFromURI(text string) (Destination, error) {
	uri, err := url.Parse(text)
	if err != nil {
		return Destination{}, err
	}
	switch {
	case uri.Scheme == "":
		return directoryPlace(text), nil
	case uri.Scheme == "file" && uri.Host == "" && uri.Path != "":
		return directoryPlace(uri.Path), nil
	case uri.Scheme == "memory" && uri.Host == "" && uri.Path == "":
		return Destination{Type: destination.TypeMemory}, nil
	default:
		return Destination{}, fmt.Errorf("unknown scheme %q", uri.Scheme)
	}
}
