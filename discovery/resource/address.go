package resource

import (
	"net"
	"net/url"
	"strings"
)

// Address returns the host:port that users of the resource reach, in lower case;
// empty: there is none, or it can't be read.
func (r Resource) Address() string {
	var address string
	switch spec := r.Spec.(type) {
	case AppSpec:
		address = spec.URI
	case DatabaseSpec:
		address = spec.URI
	case WindowsDesktopSpec:
		address = spec.Addr
	}
	if strings.Contains(address, "://") {
		u, err := url.Parse(address)
		if err != nil || u.Host == "" {
			return ""
		}
		address = u.Host
		if port := usualPort(u.Scheme); u.Port() == "" && port != "" {
			address = net.JoinHostPort(u.Hostname(), port)
		}
	}
	return strings.ToLower(address)
}

func usualPort(scheme string) string {
	switch strings.ToLower(scheme) {
	case "http":
		return "80"
	case "https":
		return "443"
	}
	return ""
}
