// Package agent knows how an application is registered by an agent of its own: a
// container with Teleport's Application Service for each. It knows what it has
// started by the containers' labels alone, so nothing is forgotten by a crash.
// It knows neither sources nor plans; Teleport it reaches through package
// cluster, Docker through the Engine's API.
//
// An agent joins with a token. The right to make tokens is the right to
// everything in a cluster, and can't be limited: package registry has the words
// for the operator.
package agent

import (
	"errors"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"rollcall/failure"
)

// Defaults and limits.
const (
	// DefaultConfigPath is where Teleport's official images look.
	DefaultConfigPath = "/etc/teleport/teleport.yaml"
	// DefaultJoinTimeout is how long an agent may take to register.
	DefaultJoinTimeout = time.Minute

	minJoinTimeout = 5 * time.Second
	// maxJoinTimeout is within the life of a token.
	maxJoinTimeout = 4 * time.Minute
	tokenTTL       = 5 * time.Minute
)

// Options are how the agents' containers are made.
type Options struct {
	// Image is Teleport's image, pinned by a tag (not latest) or a digest. Its
	// entrypoint starts Teleport with the file at ConfigPath.
	Image string `yaml:"image,omitempty"`
	// ProxyAddr is where the agents reach the proxy, host:port. Default: the
	// agent's own proxy_server.
	ProxyAddr string `yaml:"proxy_addr,omitempty"`
	// Network is the containers' network, one in which they reach the
	// applications and the proxy: a name, or host. Default: Docker's bridge.
	Network string `yaml:"network,omitempty"`
	// ExtraHosts are lines for the containers' /etc/hosts: "NAME:ADDRESS";
	// ADDRESS may be host-gateway.
	ExtraHosts []string `yaml:"extra_hosts,omitempty"`
	// CAFile is a PEM file of this host with the CAs of the proxy's
	// certificate; default: those that the image has.
	CAFile string `yaml:"ca_file,omitempty"`
	// ConfigPath is where the image's entrypoint looks for its configuration.
	ConfigPath string `yaml:"config_path,omitempty"`
	// JoinTimeout is how long an agent may take to register its application.
	JoinTimeout time.Duration `yaml:"join_timeout,omitempty"`
}

// Validate fills in defaults and returns everything that is wrong, joined; each
// is a failure.FieldError.
func (o *Options) Validate() error {
	if o.ConfigPath == "" {
		o.ConfigPath = DefaultConfigPath
	}
	if o.JoinTimeout == 0 {
		o.JoinTimeout = DefaultJoinTimeout
	}
	var all []error
	switch {
	case o.Image == "":
		all = append(all, failure.Field("image", "it's missing; name Teleport's image with its version, as public.ecr.aws/gravitational/teleport-distroless:14.2.3"))
	case !pinned(o.Image):
		all = append(all, failure.Field("image", "%q has no version; agents that are started on different days must not differ, so give a tag other than latest, or a digest", o.Image))
	}
	if o.ProxyAddr != "" {
		if host, port, err := net.SplitHostPort(o.ProxyAddr); err != nil || host == "" || port == "" {
			all = append(all, failure.Field("proxy_addr", "%q isn't HOST:PORT", o.ProxyAddr))
		}
	}
	for _, line := range o.ExtraHosts {
		name, address, _ := strings.Cut(line, ":")
		if _, err := netip.ParseAddr(strings.Trim(address, "[]")); name == "" || err != nil && address != "host-gateway" {
			all = append(all, failure.Field("extra_hosts", "%q isn't NAME:ADDRESS; ADDRESS is an IP address or host-gateway", line))
		}
	}
	if o.CAFile != "" && !filepath.IsAbs(o.CAFile) {
		all = append(all, failure.Field("ca_file", "%q must be an absolute path", o.CAFile))
	}
	if !filepath.IsAbs(o.ConfigPath) {
		all = append(all, failure.Field("config_path", "%q must be an absolute path", o.ConfigPath))
	}
	if o.JoinTimeout < minJoinTimeout || o.JoinTimeout > maxJoinTimeout {
		all = append(all, failure.Field("join_timeout", "%s isn't between %s and %s", o.JoinTimeout, minJoinTimeout, maxJoinTimeout))
	}
	return errors.Join(all...)
}

// pinned says whether an image's name says which version it is.
func pinned(image string) bool {
	if _, digest, ok := strings.Cut(image, "@"); ok {
		return strings.HasPrefix(digest, "sha256:")
	}
	last := image[strings.LastIndex(image, "/")+1:]
	_, tag, _ := strings.Cut(last, ":")
	return tag != "" && tag != "latest"
}
