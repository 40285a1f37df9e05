package resource

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"rollcall/failure"
)

// TLSModes are the values of a database's tls_mode.
func TLSModes() []string { return []string{"verify-full", "verify-ca", "insecure"} }

func checkDatabase(spec DatabaseSpec) error {
	var errs []error
	if spec.Protocol == "" || strings.ContainsFunc(spec.Protocol, func(r rune) bool { return !alphanumeric(r) && r != '-' }) {
		errs = append(errs, failure.Field("protocol", "is %q; give the database's, such as postgres, mysql or mongodb", Short(spec.Protocol)))
	}
	switch {
	case spec.URI == "":
		errs = append(errs, failure.Field("uri", "is empty; give host:port"))
	case CheckText("uri", spec.URI, MaxURI) != nil:
		errs = append(errs, CheckText("uri", spec.URI, MaxURI))
	case !strings.Contains(spec.URI, "://"):
		// A URI with a scheme (mongodb, rediss) is the protocol's business.
		errs = append(errs, checkHostPort("uri", spec.URI))
	}
	if spec.TLSMode != "" && !slices.Contains(TLSModes(), spec.TLSMode) {
		errs = append(errs, failure.Field("tls_mode", "is %q: use one of %s", Short(spec.TLSMode), strings.Join(TLSModes(), ", ")))
	}
	if spec.ServerName != "" && !ValidHost(spec.ServerName) {
		errs = append(errs, failure.Field("server_name", "is %q, which is no host name", Short(spec.ServerName)))
	}
	if strings.Contains(spec.CACert, "PRIVATE KEY-----") {
		errs = append(errs, failure.Field("ca_cert", "holds a private key, which would be published; give certificates alone"))
	}
	if spec.CACert != "" && !strings.Contains(spec.CACert, "-----BEGIN CERTIFICATE-----") {
		errs = append(errs, failure.Field("ca_cert", "holds no certificate in PEM"))
	}
	return errors.Join(append(errs, CheckDynamicLabels(spec.DynamicLabels))...)
}

func checkKubeCluster(spec KubeClusterSpec) error {
	var err error
	switch text := spec.Kubeconfig.Reveal(); {
	case strings.TrimSpace(text) == "":
		err = failure.Field("kubeconfig", "is empty; give a file's path, or its content as kubeconfig_inline")
	case len(text) > MaxKubeconfig:
		err = failure.Field("kubeconfig", "is larger than %d KiB: is it the right file?", MaxKubeconfig>>10)
	case !strings.Contains(text, "clusters"):
		err = failure.Field("kubeconfig", "names no clusters: it isn't a kubeconfig")
	}
	return errors.Join(err, CheckDynamicLabels(spec.DynamicLabels))
}

func checkDesktop(spec WindowsDesktopSpec) error {
	errs := []error{checkHostPort("addr", spec.Addr)}
	if spec.HostID == "" {
		errs = append(errs, failure.Field("host_id", "is empty; give the host ID of a windows_desktop_service"))
	}
	errs = append(errs, CheckText("host_id", spec.HostID, MaxHost))
	switch {
	case spec.NonAD && spec.Domain != "":
		errs = append(errs, failure.Field("domain", "goes without non_ad: a desktop belongs to a domain or to none"))
	case !spec.NonAD && spec.Domain == "":
		errs = append(errs, failure.Field("domain", "is empty; give the Active Directory domain, or set non_ad"))
	case spec.Domain != "" && !ValidHost(spec.Domain):
		errs = append(errs, failure.Field("domain", "is %q, which is no name of a domain", Short(spec.Domain)))
	}
	return errors.Join(errs...)
}

func checkHostPort(field, address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil || !ValidHost(host) {
		return failure.Field(field, "is %q, and must be host:port", Short(address))
	}
	if _, err := ParsePort(port); err != nil {
		return failure.Field(field, "is %q, whose port %v", Short(address), err)
	}
	return nil
}

// ParsePort reads a port: 1 to 65535, digits only. Its error completes "port".
func ParsePort(text string) (int, error) {
	port, err := strconv.Atoi(text)
	if err != nil || port < 1 || port > 65535 || strconv.Itoa(port) != text {
		return 0, errors.New("must be a number from 1 to 65535, not " + strconv.Quote(Short(text)))
	}
	return port, nil
}

// ValidHost says if text is a host name or an IP address: nothing else, so no
// port, no path, no user.
func ValidHost(text string) bool {
	if address, err := netip.ParseAddr(text); err == nil {
		return address.Zone() == ""
	}
	text = strings.TrimSuffix(text, ".")
	if text == "" || len(text) > MaxHost {
		return false
	}
	for label := range strings.SplitSeq(text, ".") {
		if label == "" || len(label) > MaxName || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		// Docker's own names have underscores.
		if strings.ContainsFunc(label, func(r rune) bool { return !alphanumeric(r) && (r < 'A' || r > 'Z') && r != '-' && r != '_' }) {
			return false
		}
	}
	return true
}
