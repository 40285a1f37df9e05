package resource

import "time"

// Spec is what a resource points to. The types below are it, as values; their
// JSON form is what is compared and shown.
type Spec interface {
	// Kind is the kind of resource that the spec belongs to.
	Kind() Kind
}

// DynamicLabel is a label whose value a command finds out. The command runs on
// Teleport's agents, so only the agent's own configuration may set one.
type DynamicLabel struct {
	// Period is the time between two runs, at least a second.
	Period time.Duration `json:"period" yaml:"period"`
	// Command is the program and its arguments.
	Command []string `json:"command" yaml:"command"`
}

// Header is a header that is set on requests to an application.
type Header struct {
	Name  string `json:"name" yaml:"name"`
	Value string `json:"value" yaml:"value"`
}

// Rewrite says how Teleport changes requests and answers of an application.
type Rewrite struct {
	// Headers are set on requests.
	Headers []Header `json:"headers,omitempty" yaml:"headers,omitempty"`
	// Redirect are hosts whose redirects are turned into the public address.
	Redirect []string `json:"redirect,omitempty" yaml:"redirect,omitempty"`
}

// AppSpec is an application: HTTP (http, https) or TCP (tcp), by its URI.
type AppSpec struct {
	// URI is where the Application Service reaches it.
	URI string `json:"uri" yaml:"uri"`
	// PublicAddr is its host name for users; empty: NAME.PROXY.
	PublicAddr string `json:"public_addr,omitempty" yaml:"public_addr,omitempty"`
	// InsecureSkipVerify turns off the check of the application's certificate.
	InsecureSkipVerify bool `json:"insecure_skip_verify,omitempty" yaml:"insecure_skip_verify,omitempty"`
	// Rewrite changes requests and answers; nil: nothing.
	Rewrite *Rewrite `json:"rewrite,omitempty" yaml:"rewrite,omitempty"`
	// DynamicLabels are by label name.
	DynamicLabels map[string]DynamicLabel `json:"dynamic_labels,omitempty" yaml:"dynamic_labels,omitempty"`
}

// DatabaseSpec is a self-hosted database.
type DatabaseSpec struct {
	// Protocol is postgres, mysql, mongodb and so on.
	Protocol string `json:"protocol" yaml:"protocol"`
	// URI is host:port, or what the protocol has.
	URI string `json:"uri" yaml:"uri"`
	// CACert is the PEM of the authority of the database's certificate.
	CACert string `json:"ca_cert,omitempty" yaml:"ca_cert,omitempty"`
	// TLSMode is verify-full (default), verify-ca or insecure.
	TLSMode string `json:"tls_mode,omitempty" yaml:"tls_mode,omitempty"`
	// ServerName is expected in the certificate in place of the URI's host.
	ServerName string `json:"server_name,omitempty" yaml:"server_name,omitempty"`
	// DynamicLabels are by label name.
	DynamicLabels map[string]DynamicLabel `json:"dynamic_labels,omitempty" yaml:"dynamic_labels,omitempty"`
}

// KubeClusterSpec is a Kubernetes cluster.
type KubeClusterSpec struct {
	// Kubeconfig is the file's content. It holds credentials: it's compared,
	// and never shown.
	Kubeconfig Secret `json:"kubeconfig" yaml:"kubeconfig"`
	// DynamicLabels are by label name.
	DynamicLabels map[string]DynamicLabel `json:"dynamic_labels,omitempty" yaml:"dynamic_labels,omitempty"`
}

// WindowsDesktopSpec is a Windows desktop.
type WindowsDesktopSpec struct {
	// Addr is host:port of its RDP service.
	Addr string `json:"addr" yaml:"addr"`
	// HostID is the windows_desktop_service that serves it.
	HostID string `json:"host_id" yaml:"host_id"`
	// Domain is its Active Directory domain; empty with NonAD.
	Domain string `json:"domain,omitempty" yaml:"domain,omitempty"`
	// NonAD says that it belongs to no domain.
	NonAD bool `json:"non_ad,omitempty" yaml:"non_ad,omitempty"`
}

// Kind returns KindApp.
func (AppSpec) Kind() Kind { return KindApp }

// Kind returns KindDatabase.
func (DatabaseSpec) Kind() Kind { return KindDatabase }

// Kind returns KindKubeCluster.
func (KubeClusterSpec) Kind() Kind { return KindKubeCluster }

// Kind returns KindWindowsDesktop.
func (WindowsDesktopSpec) Kind() Kind { return KindWindowsDesktop }
