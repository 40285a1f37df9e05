// Package docker knows which containers run in a Docker Engine and what each
// asks to be registered as. It only looks: it calls nothing but GET of _ping,
// containers, networks and events. It doesn't know what is registered, and
// nothing of Teleport.
//
// Whoever starts a container isn't whoever runs the agent. A container's labels
// (rollcall.name and so on) count only as far as the options allow, and never
// choose the host that a resource points to.
package docker

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"rollcall/discovery/resource"
	"rollcall/failure"
)

// Type is the source's name in the configuration, and what it writes on its
// resources.
const Type = "docker"

// Select says which containers are registered.
type Select string

// The values of Select.
const (
	// SelectLabelled takes those that say rollcall.enable=true.
	SelectLabelled Select = "labelled"
	// SelectAll takes all that the filters match, but for those that say
	// rollcall.enable=false.
	SelectAll Select = "all"
)

// Address says which address of a container is registered.
type Address string

// The values of Address.
const (
	// AddressContainer is the container's own, in one of its networks.
	AddressContainer Address = "container"
	// AddressPublished is the host's, at the port that is published.
	AddressPublished Address = "published"
)

// Identity says what a container is known by.
type Identity string

// The values of Identity.
const (
	// IdentityCompose is Compose's project and service, for containers that
	// have the name that Compose gives; the name of others.
	IdentityCompose Identity = "compose"
	// IdentityName is the container's name.
	IdentityName Identity = "name"
)

// Policy says what to do with a container in some state.
type Policy string

// The values of Policy.
const (
	PolicyRegister Policy = "register"
	PolicyWithhold Policy = "withhold"
)

// Defaults.
const (
	DefaultHost    = "unix:///var/run/docker.sock"
	DefaultScheme  = "http"
	DefaultTimeout = 20 * time.Second
)

// Options are the source. All of it comes from the agent's configuration.
type Options struct {
	// Host is the Engine: unix:///path or tcp://host:port. Default: DOCKER_HOST,
	// else unix:///var/run/docker.sock.
	Host string `yaml:"host,omitempty"`
	// TLS are the files for a tcp Engine. Default: those in DOCKER_CERT_PATH.
	TLS TLSOptions `yaml:"tls,omitempty"`
	// Filters limit which containers are looked at.
	Filters Filters `yaml:"filters,omitempty"`
	// Select is all (what the filters match; the default if there are any) or
	// labelled (those that say rollcall.enable=true; the default without
	// filters).
	Select Select `yaml:"select,omitempty"`
	// Network is the network whose address is taken, for containers in more
	// than one.
	Network string `yaml:"network,omitempty"`
	// Port is the port inside the container. Default: the only one that the
	// container exposes.
	Port int `yaml:"port,omitempty"`
	// Scheme is http (default), https or tcp.
	Scheme string `yaml:"scheme,omitempty"`
	// Address is container (default) or published.
	Address Address `yaml:"address,omitempty"`
	// AdvertiseAddress is the host's name or address for ports that are
	// published on all addresses, and for containers in the host's network.
	// Default: 127.0.0.1, if the Engine is this host's.
	AdvertiseAddress string `yaml:"advertise_address,omitempty"`
	// Unhealthy is what is done with a container whose health check fails:
	// register (default) or withhold, which deregisters it.
	Unhealthy Policy `yaml:"unhealthy,omitempty"`
	// Starting is what is done with a container whose health check hasn't
	// passed yet: register (default) or withhold, which waits and leaves what
	// is registered alone.
	Starting Policy `yaml:"starting,omitempty"`
	// Identity is compose (default: Compose's project and service, for
	// containers that have the name that Compose gives, and the name of others)
	// or name (the container's name, always).
	Identity Identity `yaml:"identity,omitempty"`
	// IdentityLabel is the key of a container label whose value is the
	// workload's identity, before all else. Whoever starts a container chooses
	// that value, and with it whose registration the container takes over.
	IdentityLabel string `yaml:"identity_label,omitempty"`
	// AllowLabels are the rollcall.* labels that a container may set for
	// itself: name, port, path, scheme, public-addr, network, keep, labels (all
	// of rollcall.labels.*) or labels.KEY. Default: name and port; [] for none.
	AllowLabels []string `yaml:"allow_labels,omitempty"`
	// Timeout is how long one call of the Engine may take.
	Timeout time.Duration `yaml:"timeout,omitempty"`
}

// TLSOptions are files for an Engine that is reached over TLS. The Engine's
// certificate is always checked.
type TLSOptions struct {
	// CA is the authority of the Engine's certificate. Default: the system's.
	CA string `yaml:"ca,omitempty"`
	// Cert is the client's certificate.
	Cert string `yaml:"cert,omitempty"`
	// Key is the key of Cert.
	Key string `yaml:"key,omitempty"`
}

// Filters limit which containers are looked at. Values of one filter are
// alternatives (but all of Label must match); filters add up.
type Filters struct {
	// Ancestor is an image as containers were started from it,
	// rabbitmq:3-management (without a tag: latest), or an image's ID. What the
	// name means by now doesn't matter, and neither do images built on it.
	Ancestor []string `yaml:"ancestor,omitempty"`
	// Label is KEY or KEY=VALUE; all must match.
	Label []string `yaml:"label,omitempty"`
	// Name is a regular expression that is found in the container's name.
	Name []string `yaml:"name,omitempty"`
	// Network is a network's name or ID.
	Network []string `yaml:"network,omitempty"`
	// ComposeProject is a Compose project's name.
	ComposeProject []string `yaml:"compose_project,omitempty"`
}

// Empty says if nothing is filtered.
func (f Filters) Empty() bool {
	return len(f.Ancestor)+len(f.Label)+len(f.Name)+len(f.Network)+len(f.ComposeProject) == 0
}

func (o *Options) setDefaults() {
	if o.Select == "" {
		o.Select = SelectAll
		if o.Filters.Empty() {
			o.Select = SelectLabelled
		}
	}
	if o.Scheme == "" {
		o.Scheme = DefaultScheme
	}
	if o.Address == "" {
		o.Address = AddressContainer
	}
	if o.Unhealthy == "" {
		o.Unhealthy = PolicyRegister
	}
	if o.Starting == "" {
		o.Starting = PolicyRegister
	}
	if o.Identity == "" {
		o.Identity = IdentityCompose
	}
	if o.AllowLabels == nil {
		o.AllowLabels = []string{labelName, labelPort}
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
}

// Validate fills in the defaults and returns a failure.FieldError for each
// field that can't work, joined. It touches neither disk nor network.
func (o *Options) Validate() error {
	o.setDefaults()
	errs := []error{
		o.checkHost(), o.checkTLS(), o.Filters.check(),
		oneOf("select", o.Select, SelectAll, SelectLabelled),
		oneOf("address", o.Address, AddressContainer, AddressPublished),
		oneOf("unhealthy", o.Unhealthy, PolicyRegister, PolicyWithhold),
		oneOf("starting", o.Starting, PolicyRegister, PolicyWithhold),
		oneOf("identity", o.Identity, IdentityCompose, IdentityName),
		oneOf("scheme", o.Scheme, resource.Schemes()...),
		o.checkAllowLabels(),
	}
	if o.Port < 0 || o.Port > 65535 {
		errs = append(errs, failure.Field("port", "is %d, and must be from 1 to 65535", o.Port))
	}
	if o.AdvertiseAddress != "" && !ipv4OrName(o.AdvertiseAddress) {
		errs = append(errs, failure.Field("advertise_address", "is %q, and must be a host name or an IPv4 address, without a port", o.AdvertiseAddress))
	}
	if o.Network != "" && !validNetwork(o.Network) {
		errs = append(errs, failure.Field("network", "is %q, which is no name of a network", o.Network))
	}
	if o.Timeout < time.Second || o.Timeout > 10*time.Minute {
		errs = append(errs, failure.Field("timeout", "is %s, and must be from 1s to 10m", o.Timeout))
	}
	if o.IdentityLabel != "" && (strings.HasPrefix(o.IdentityLabel, labelPrefix) || resource.CheckText("", o.IdentityLabel, maxIdentity) != nil) {
		errs = append(errs, failure.Field("identity_label", "is %q: name a label of your own; rollcall.* ones are set by whoever starts a container", resource.Short(o.IdentityLabel)))
	}
	return errors.Join(errs...)
}

func oneOf[T ~string](field string, value T, allowed ...T) error {
	if slices.Contains(allowed, value) {
		return nil
	}
	words := make([]string, len(allowed))
	for i, word := range allowed {
		words[i] = string(word)
	}
	return failure.Field(field, "is %q: use %s", resource.Short(string(value)), strings.Join(words, " or "))
}

func (o *Options) checkHost() error {
	if o.Host == "" {
		return nil
	}
	if err := checkEngine(o.Host); err != nil {
		return failure.Field("host", "is %q: %v", resource.Short(o.Host), err)
	}
	return nil
}

// checkEngine wants unix:///path or tcp://host:port.
func checkEngine(host string) error {
	scheme, rest, found := strings.Cut(host, "://")
	switch {
	case !found:
		return errors.New("write unix:///var/run/docker.sock or tcp://host:port")
	case scheme == "ssh":
		return errors.New("an Engine can't be reached over ssh; forward its socket to a local one (ssh -L) and name that")
	case scheme == "unix" && filepath.IsAbs(rest):
		return nil
	case scheme == "unix":
		return errors.New("give the socket's absolute path: unix:///var/run/docker.sock")
	case scheme != "tcp":
		return errors.New("write unix:///path or tcp://host:port")
	}
	name, port, err := net.SplitHostPort(rest)
	if err != nil || !resource.ValidHost(name) {
		return errors.New("write tcp://host:port, with nothing behind the port")
	}
	if _, err := resource.ParsePort(port); err != nil {
		return fmt.Errorf("its port %w", err)
	}
	return nil
}

func (o *Options) checkTLS() error {
	var errs []error
	for _, file := range []struct{ field, path string }{{"tls.ca", o.TLS.CA}, {"tls.cert", o.TLS.Cert}, {"tls.key", o.TLS.Key}} {
		if file.path != "" && !filepath.IsAbs(file.path) {
			errs = append(errs, failure.Field(file.field, "is %q: give an absolute path", file.path))
		}
	}
	if (o.TLS.Cert == "") != (o.TLS.Key == "") {
		errs = append(errs, failure.Field("tls", "cert and key go together"))
	}
	if o.TLS != (TLSOptions{}) && strings.HasPrefix(o.Host, "unix:") {
		errs = append(errs, failure.Field("tls", "is for a tcp Engine, and host is a socket"))
	}
	return errors.Join(errs...)
}

func (f Filters) check() error {
	var errs []error
	check := func(key string, values []string, valid func(string) error) {
		for i, value := range values {
			field := fmt.Sprintf("filters.%s[%d]", key, i)
			if value == "" {
				errs = append(errs, failure.Field(field, "is empty, and would match nothing"))
				continue
			}
			if err := resource.CheckText(field, value, 512); err != nil {
				errs = append(errs, err)
				continue
			}
			if err := valid(value); err != nil {
				errs = append(errs, failure.Field(field, "is %q: %v", value, err))
			}
		}
	}
	anything := func(string) error { return nil }
	check("ancestor", f.Ancestor, checkImage)
	check("label", f.Label, func(text string) error {
		if strings.HasPrefix(text, "=") {
			return errors.New("write KEY or KEY=VALUE")
		}
		return nil
	})
	check("name", f.Name, func(text string) error { _, err := regexp.Compile(text); return err })
	check("network", f.Network, anything)
	check("compose_project", f.ComposeProject, anything)
	return errors.Join(errs...)
}

func (o *Options) checkAllowLabels() error {
	var errs []error
	for i, name := range o.AllowLabels {
		field := fmt.Sprintf("allow_labels[%d]", i)
		if key, one := strings.CutPrefix(name, labelLabels+"."); one {
			errs = append(errs, resource.CheckLabelKey(field, key))
			continue
		}
		if !slices.Contains(allowable(), name) {
			errs = append(errs, failure.Field(field, "is %q: a container may set %s or labels.KEY", resource.Short(name), strings.Join(allowable(), ", ")))
		}
	}
	return errors.Join(errs...)
}

// Local says if the Engine that these options name is the one of this host.
func (o *Options) Local(getenv func(string) string) bool {
	host := o.engine(getenv)
	address, found := strings.CutPrefix(host, "tcp://")
	if !found {
		return true
	}
	name, _, _ := net.SplitHostPort(address)
	ip, err := netip.ParseAddr(name)
	return name == "localhost" || err == nil && ip.IsLoopback()
}

// engine is the Engine's address: the option, else the environment's.
func (o *Options) engine(getenv func(string) string) string {
	for _, host := range []string{o.Host, getenv("DOCKER_HOST")} {
		if host != "" {
			return host
		}
	}
	return DefaultHost
}

func ipv4OrName(text string) bool {
	address, err := netip.ParseAddr(text)
	return resource.ValidHost(text) && (err != nil || address.Is4())
}

var networkName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`)

// validNetwork wants what Docker takes for a network's name.
func validNetwork(name string) bool {
	return len(name) <= 128 && networkName.MatchString(name)
}
