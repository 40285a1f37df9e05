package tunnel

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"rollcall/failure"
)

const (
	credentialPrefix = "credential:"
	anyHost          = "*"
	defaultMode      = 0o600
	// maxSocketPath is what fits into the kernel's sockaddr_un, less what the
	// socket's name is longer by while it's being made.
	maxSocketPath    = 90
	mostApplications = 10000
)

var (
	errMissing   = errors.New("it's missing; give an address to listen on, such as tcp://127.0.0.1:1234 or unix:///run/rollcall/app.sock")
	errNoScheme  = errors.New("begin it with tcp:// or unix://, such as tcp://127.0.0.1:1234 or unix:///run/rollcall/app.sock")
	errTCP       = errors.New("write tcp://HOST:PORT, such as tcp://127.0.0.1:1234")
	errUnix      = errors.New("write unix:// and an absolute path, with three slashes in all: unix:///run/rollcall/app.sock")
	errDirectory = errors.New("it names a directory; add the socket's name, as in unix:///run/rollcall/app.sock")
	errLong      = fmt.Errorf("the path is longer than %d characters, which the kernel doesn't take for a socket", maxSocketPath)
)

// Validate returns everything that is wrong with the options, joined; each is a
// failure.FieldError. It fills in defaults.
func (o *Options) Validate() error {
	all := []error{o.CommonOptions.Validate(), o.ListenOptions.validate()}
	if strings.TrimSpace(o.AppName) == "" {
		all = append(all, failure.Field("app_name", "it's missing; give the application's name as `tctl get apps` or `tsh apps ls` shows it"))
	}
	for i, host := range o.AllowedHosts {
		if host != anyHost && !plainHost(host) {
			all = append(all, failure.Field(fmt.Sprintf("allowed_hosts[%d]", i), "is %q: give a host name or an address, without a port, or * for all", host))
		}
	}
	return errors.Join(all...)
}

// Validate is as Options'.
func (o *ProxyOptions) Validate() error {
	all := []error{o.CommonOptions.Validate(), o.ListenOptions.validate()}
	for i, domain := range o.Domains {
		if !plainHost(domain) || net.ParseIP(domain) != nil {
			all = append(all, failure.Field(fmt.Sprintf("domains[%d]", i), "is %q: give a domain such as apps.internal, without a dot before it", domain))
		}
	}
	if o.MaxApplications == 0 {
		o.MaxApplications = DefaultMaxApplications
	}
	if o.MaxApplications < 1 || o.MaxApplications > mostApplications {
		all = append(all, failure.Field("max_applications", "is %d, and must be from 1 to %d", o.MaxApplications, mostApplications))
	}
	return errors.Join(all...)
}

func (o *ListenOptions) validate() error {
	network, address, err := parseListen(o.Listen)
	var all []error
	if err != nil {
		all = append(all, failure.Field("listen", "%s", err))
	}
	if network == networkTCP {
		all = append(all, o.validateTCP(address)...)
	}
	if network == networkUnix && o.AllowRemote {
		all = append(all, failure.Field("allow_remote", "goes with a TCP address only: a unix socket is never remote"))
	}
	all = append(all, o.Socket.validate()...)
	all = append(all, o.validatePeers()...)
	if o.BearerToken != "" && !filepath.IsAbs(o.BearerToken) && strings.TrimPrefix(o.BearerToken, credentialPrefix) == o.BearerToken {
		all = append(all, failure.Field("bearer_token", "give the absolute path of a file that holds the token, or %sNAME for a systemd credential; the token itself doesn't belong here", credentialPrefix))
	}
	if o.MaxConnections == 0 {
		o.MaxConnections = DefaultMaxConnections
	}
	if o.MaxConnections < 1 || o.MaxConnections > MostConnections {
		all = append(all, failure.Field("max_connections", "is %d, and must be from 1 to %d", o.MaxConnections, MostConnections))
	}
	return errors.Join(all...)
}

func (o *ListenOptions) validateTCP(address string) []error {
	var all []error
	host, _, _ := net.SplitHostPort(address)
	shown := host
	if host == "" {
		shown = "it names every address, and that"
	}
	if !loopback(host) && !o.AllowRemote {
		all = append(all, failure.Field("listen", "%s isn't for this host alone: whoever can reach it would use the application with the bot's rights; listen on 127.0.0.1, or set %s together with %s", shown, o.Names.on("allow_remote"), o.Names.Of("bearer_token")))
	}
	if !o.Socket.empty() {
		all = append(all, failure.Field("socket", "goes with a unix:// address only: a TCP port has no owner; use %s or %s", o.Names.Of("peer_users"), o.Names.Of("bearer_token")))
	}
	if len(o.PeerUsers) > 0 && !loopback(host) {
		all = append(all, failure.Field("peer_users", "the user of a program on another host can't be known: listen on a loopback address, or use %s", o.Names.Of("bearer_token")))
	}
	return all
}

func (o *ListenOptions) validatePeers() []error {
	var all []error
	for i, user := range o.PeerUsers {
		field := fmt.Sprintf("peer_users[%d]", i)
		switch {
		case strings.TrimSpace(user) == "":
			all = append(all, failure.Field(field, "the name is empty; give a user's name or number"))
		case slices.Contains(o.PeerUsers[:i], user):
			all = append(all, failure.Field(field, "%q is there twice; name each user once", user))
		}
	}
	return all
}

func (o *SocketOptions) empty() bool {
	return o.Mode == "" && o.User == "" && o.Group == "" && len(o.Readers) == 0
}

func (o *SocketOptions) validate() []error {
	var all []error
	mode, err := o.mode()
	switch {
	case err != nil || mode > 0o777:
		all = append(all, failure.Field("socket.mode", "is %q: give three octal digits in quotes, such as \"0660\"; to connect one needs write permission", o.Mode))
	case mode&0o222 == 0 && len(o.Readers) == 0:
		// Readers may write by the ACL, whatever the mode says of the others.
		all = append(all, failure.Field("socket.mode", "is %q, by which nobody but root may connect, since to connect one needs write permission: give \"0600\" for the owner, \"0660\" for the group too, or \"0666\" for all", o.Mode))
	}
	for i, reader := range o.Readers {
		if (reader.User == "") == (reader.Group == "") {
			all = append(all, failure.Field(fmt.Sprintf("socket.readers[%d]", i), "give either user or group"))
		}
	}
	return all
}

// mode returns the socket's mode, with the default in place.
func (o *SocketOptions) mode() (uint32, error) {
	if o.Mode == "" {
		return defaultMode, nil
	}
	mode, err := strconv.ParseUint(o.Mode, 8, 32)
	return uint32(mode), err
}

// plainHost says whether text is a host name or an address, and nothing more.
func plainHost(text string) bool {
	if net.ParseIP(text) != nil {
		return true
	}
	return text != "" && len(text) < 254 && !strings.HasPrefix(text, ".") &&
		strings.Trim(strings.ToLower(text), "abcdefghijklmnopqrstuvwxyz0123456789.-_") == ""
}
