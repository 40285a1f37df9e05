package config

import (
	"crypto/fips140"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"rollcall/cluster"
	"rollcall/destination"
	"rollcall/failure"
	"rollcall/outputs"
)

const credentialPrefix = "credential:"

// validator is what a room's options bring: Validate returns one
// failure.FieldError, several joined ones, or nil. It may fill in the room's
// defaults, and touches no disk.
type validator interface{ Validate() error }

var (
	_ validator = (*outputs.ApplicationOptions)(nil)
	_ validator = (*outputs.IdentityOptions)(nil)
)

// Check fills in the defaults and reports, as Errors, everything that makes no
// sense, with what Parse found. After nil the configuration is complete.
func (c *Config) Check() error {
	if c.foreign {
		return c.problems.asError()
	}
	c.setDefaults()
	c.checkServer()
	c.checkOnboarding()
	c.checkTrust()
	c.checkTimes()
	c.checkPlaces()
	c.nameItems()
	c.checkOutputs()
	c.checkServices()
	c.checkListeners()
	c.checkHooks()
	c.checkDiagnostics()
	c.checkLogFormat()
	c.checkFIPS()
	c.Cluster.CAPins, c.Cluster.CAPath = c.Onboarding.CAPins, c.Onboarding.CAPath
	return c.problems.asError()
}

func (c *Config) setDefaults() {
	setDefault(&c.CredentialTTL, DefaultCredentialTTL, c.given("credential_ttl") || c.given("certificate_ttl"))
	setDefault(&c.RenewalInterval, DefaultRenewalInterval, c.given("renewal_interval"))
	setDefault(&c.Cluster.SessionTTL, max(DefaultSessionTTL, c.longestTTL()), c.given("session_ttl"))
	if c.LogFormat == "" {
		c.LogFormat = DefaultLogFormat
	}
	if c.Storage.Type == "" && !c.given("storage") {
		c.Storage = directoryPlace(DefaultStoragePath)
	}
	switch {
	case !c.given("settle_time") && c.Cluster.SettleTime == 0:
		c.Cluster.SettleTime = DefaultSettleTime
	case c.Cluster.SettleTime == 0:
		c.Cluster.SettleTime = -1 // the room's way to say none
	}
	if c.Onboarding.JoinMethod == "" && c.Onboarding.Token != "" {
		c.Onboarding.JoinMethod = cluster.JoinMethodToken
	}
}

// setDefault replaces a duration that nobody gave. One that was given as 0s
// stays, to be refused.
func setDefault(value *time.Duration, to time.Duration, given bool) {
	if *value == 0 && !given {
		*value = to
	}
}

func (c *Config) longestTTL() time.Duration {
	longest := c.CredentialTTL
	for _, out := range c.Outputs {
		if out.Common != nil {
			longest = max(longest, out.Common.CredentialTTL)
		}
	}
	for _, s := range c.Services {
		longest = max(longest, s.Options.Common().CredentialTTL)
	}
	return min(longest, MaxCredentialTTL)
}

func (c *Config) checkServer() {
	switch {
	case c.Cluster.ProxyServer != "" && c.Cluster.AuthServer != "":
		c.fail(c.later("proxy_server", "auth_server"), "proxy_server and auth_server are both given",
			"keep proxy_server, unless the Auth Service is reached directly")
	case c.Cluster.ProxyServer == "" && c.Cluster.AuthServer == "":
		suggestion := "add the proxy's address, for example \"proxy_server: teleport.example.com:443\""
		if c.File == "" {
			suggestion = "give the proxy's address, for example --proxy-server teleport.example.com:443"
		}
		c.fail("proxy_server", "neither proxy_server nor auth_server is given", suggestion)
	}
	c.checkAddress("proxy_server", c.Cluster.ProxyServer)
	c.checkAddress("auth_server", c.Cluster.AuthServer)
}

// checkAddress wants host:port and nothing around it.
func (c *Config) checkAddress(path, address string) {
	if address == "" {
		return
	}
	if scheme, rest, found := strings.Cut(address, "://"); found {
		c.fail(path, fmt.Sprintf("%s is host:port, without %s://", path, short(scheme)),
			"write "+short(strings.TrimRight(rest, "/")))
		return
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil && !strings.ContainsAny(address, "/: ") {
		c.fail(path, fmt.Sprintf("%s has no port", path), fmt.Sprintf("write %s:%s", short(address), usualPort(path)))
		return
	}
	number, portErr := strconv.ParseUint(port, 10, 16)
	if err != nil || portErr != nil || number == 0 || host == "" || strings.ContainsAny(host, "/ ") {
		c.fail(path, fmt.Sprintf("%s must be host:port, not %q", path, short(address)), "")
	}
}

func usualPort(path string) string {
	if path == "auth_server" {
		return "3025"
	}
	return "443"
}

func (c *Config) checkDiagnostics() {
	if c.DiagAddr == "" {
		return
	}
	_, port, err := net.SplitHostPort(c.DiagAddr)
	if _, portErr := strconv.ParseUint(port, 10, 16); err != nil || portErr != nil {
		c.fail("diag_addr", fmt.Sprintf("diag_addr must be host:port, not %q", short(c.DiagAddr)),
			"for example 127.0.0.1:3001")
	}
}

// checkLogFormat sees what a flag says too, which the decoder doesn't.
func (c *Config) checkLogFormat() {
	formats := []string{string(LogFormatText), string(LogFormatJSON)}
	if c.LogFormat != LogFormatText && c.LogFormat != LogFormatJSON {
		c.fail("log_format", fmt.Sprintf("log_format must be text or json, not %q", short(string(c.LogFormat))),
			didYouMean(string(c.LogFormat), formats))
	}
}

func (c *Config) checkFIPS() {
	if c.FIPS && !fips140.Enabled() {
		c.fail("fips", "fips is asked for, but this process isn't in FIPS 140 mode",
			"start it with GODEBUG=fips140=on in its environment, or remove fips")
	}
}

// checkOutputs asks the rooms about the outputs' options and destinations.
func (c *Config) checkOutputs() {
	for _, out := range c.Outputs {
		if out.Type == "" {
			continue // unknown or unbuilt, and reported
		}
		path := joinPath(out.Path, "destination")
		switch {
		case out.Destination.Type == "" && !c.given(path):
			c.fail(path, out.Path+" has no destination",
				"add one, for example \"destination: {type: directory, path: /opt/machine-id}\"")
		case out.Destination.Directory != nil:
			c.room(path, out.Destination.Directory)
		}
		if options, ok := out.Options.(validator); ok {
			c.room(out.Path, options)
		}
	}
	if c.Storage.Type == destination.TypeDirectory {
		c.room("storage", c.Storage.Directory)
		if len(c.Storage.Directory.Readers) > 0 {
			c.fail("storage.readers", "storage.readers: the storage holds the bot's own key, which nobody else may read", "remove readers")
		}
	}
}

// checkServices asks the rooms about the services' options.
func (c *Config) checkServices() {
	for _, s := range c.Services {
		c.checkZeroes(s)
		c.room(s.Path, s.Options)
		name := joinPath(s.Path, "name")
		if named, ok := s.Options.(interface{ NameMatters() string }); ok && !c.given(name) {
			c.fail(name, fmt.Sprintf("%s has no name: %s", s.Path, named.NameMatters()), "add one, for example \"name: web\"")
		}
		if owned, ok := s.Options.(interface{ HostOwned() bool }); ok && owned.HostOwned() && c.Storage.Type == destination.TypeMemory {
			c.fail(joinPath(s.Path, "owner"), s.Path+" registers what belongs to this host's agent, and a storage of type memory forgets which host this is",
				"use a storage of type directory, or give an owner")
		}
	}
}

// room reports what a room says of its own options, which stand at path.
func (c *Config) room(path string, options validator) {
	for _, err := range flatten(options.Validate()) {
		var wrong *failure.FieldError
		if !errors.As(err, &wrong) {
			c.fail(path, err.Error(), "")
			continue
		}
		field := joinPath(path, wrong.Field)
		c.fail(field, field+": "+wrong.Message, "")
	}
}

// flatten returns the errors that were joined into err.
func flatten(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var all []error
	for _, one := range joined.Unwrap() {
		all = append(all, flatten(one)...)
	}
	return all
}

// given reports whether the file or a flag sets the value at path.
func (c *Config) given(path string) bool {
	_, ok := c.places[path]
	return ok
}

// later returns whichever of two given paths stands further down, where the
// contradiction shows.
func (c *Config) later(a, b string) string {
	pa, pb := c.places[a], c.places[b]
	if pa.Line > pb.Line || (pa.Line == pb.Line && pa.Column > pb.Column) {
		return a
	}
	return b
}

// fail reports an error at a path, or at the nearest thing around it that the
// file has. What only follows from an error of the decoder isn't reported.
func (c *Config) fail(path, message, suggestion string) {
	if c.broken[path] || (!c.given(path) && c.broken[parentPath(path)]) {
		return
	}
	at, ok := c.places[path]
	for p := path; !ok && p != ""; {
		p = parentPath(p)
		at, ok = c.places[p]
	}
	if !ok {
		at = Position{File: "flags"}
	}
	c.problems = append(c.problems, &Error{at.File, at.Line, at.Column, message, suggestion})
}
