// Package template knows how a workload's facts become a resource: the
// service's `resource:` block, whose texts are templates. It knows the fields
// and functions that a template may use, and keeps a workload from choosing the
// host that a resource points to. It knows neither Docker nor Teleport's
// client, and reads no files but the kubeconfig and the CA certificate that the
// block names.
//
// # Templates
//
// Texts are Go's text/template, without loops and nested templates, so that
// their time and size are bounded. A field that doesn't exist is an error when
// the configuration is read; a label that a workload lacks is one when it's
// used as .Labels.KEY, and is empty as `index .Labels "KEY"`.
//
// Fields: those of Facts. Functions: those of functions, and Go's and, or, not,
// eq, ne, lt, le, gt, ge, len, index, slice.
//
// # Hosts
//
// The host in `uri` and `addr` may come from .IP, .Host, .ID, .Port and what
// the block itself says. It may not depend on anything that whoever starts a
// container chooses: its name, its labels, its image, and its network unless
// the source's options name that.
package template

import (
	"errors"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"rollcall/discovery/resource"
	"rollcall/failure"
)

// Defaults of the texts.
const (
	DefaultName        = "{{ .Name }}"
	DefaultAppURI      = "{{ .Scheme }}://{{ .IP }}:{{ .Port }}{{ .Path }}"
	DefaultDatabaseURI = "{{ .IP }}:{{ .Port }}"
	DefaultAddr        = "{{ .IP }}:{{ .Port }}"
	DefaultPublicAddr  = "{{ .PublicAddr }}"
)

// Options are the resource that each workload becomes. Texts marked "template"
// may hold {{ .Name }} and the like.
type Options struct {
	// Kind is app (default), db, kube_cluster or windows_desktop.
	Kind resource.Kind `yaml:"kind,omitempty"`
	// Name is the resource's name; template. What it gives is turned into a
	// DNS label. Default: '{{ .Name }}'.
	Name string `yaml:"name,omitempty"`
	// Description is for people; template.
	Description string `yaml:"description,omitempty"`
	// Labels are static labels; the values are templates.
	Labels map[string]string `yaml:"labels,omitempty"`
	// DynamicLabels are labels whose value a command on Teleport's agents finds
	// out; no templates. Not for windows_desktop.
	DynamicLabels map[string]resource.DynamicLabel `yaml:"dynamic_labels,omitempty"`
	// URI is where Teleport reaches an app (default:
	// '{{ .Scheme }}://{{ .IP }}:{{ .Port }}{{ .Path }}') or a db (default:
	// '{{ .IP }}:{{ .Port }}'); template.
	URI string `yaml:"uri,omitempty"`
	// PublicAddr is an app's host name for users; template. Default: what the
	// workload's label says, where it may; else NAME.PROXY.
	PublicAddr string `yaml:"public_addr,omitempty"`
	// InsecureSkipVerify turns off the check of an app's certificate.
	InsecureSkipVerify bool `yaml:"insecure_skip_verify,omitempty"`
	// Rewrite says how Teleport changes requests and answers of an app. Headers
	// are taken as they are, since Teleport has templates of its own there;
	// hosts in redirect are templates.
	Rewrite resource.Rewrite `yaml:"rewrite,omitempty"`
	// Protocol is a db's: postgres, mysql, mongodb and so on.
	Protocol string `yaml:"protocol,omitempty"`
	// CACert is the PEM of the authority of a db's certificate.
	CACert string `yaml:"ca_cert,omitempty"`
	// CACertFile is the absolute path of a file with it.
	CACertFile string `yaml:"ca_cert_file,omitempty"`
	// TLSMode is verify-full (default), verify-ca or insecure, for a db.
	TLSMode string `yaml:"tls_mode,omitempty"`
	// ServerName is expected in a db's certificate in place of the URI's host;
	// template.
	ServerName string `yaml:"server_name,omitempty"`
	// Kubeconfig is the absolute path of a kube_cluster's kubeconfig; template,
	// in the last element only: /etc/kube/{{ .Name }}.yaml.
	Kubeconfig string `yaml:"kubeconfig,omitempty"`
	// KubeconfigInline is a kubeconfig itself; no template.
	KubeconfigInline string `yaml:"kubeconfig_inline,omitempty"`
	// Addr is host:port of a windows_desktop's RDP service; template. Default:
	// '{{ .IP }}:{{ .Port }}'.
	Addr string `yaml:"addr,omitempty"`
	// HostID is the windows_desktop_service that serves a desktop.
	HostID string `yaml:"host_id,omitempty"`
	// Domain is a desktop's Active Directory domain.
	Domain string `yaml:"domain,omitempty"`
	// NonAD says that a desktop belongs to no domain.
	NonAD bool `yaml:"non_ad,omitempty"`
}

// setDefaults fills in what isn't given.
func (o *Options) setDefaults() {
	fill := func(field *string, text string) {
		if *field == "" {
			*field = text
		}
	}
	if o.Kind == "" {
		o.Kind = resource.KindApp
	}
	fill(&o.Name, DefaultName)
	switch o.Kind {
	case resource.KindApp:
		fill(&o.URI, DefaultAppURI)
		fill(&o.PublicAddr, DefaultPublicAddr)
	case resource.KindDatabase:
		fill(&o.URI, DefaultDatabaseURI)
	case resource.KindWindowsDesktop:
		fill(&o.Addr, DefaultAddr)
	case resource.KindKubeCluster:
	}
}

// Validate fills in the defaults and returns a failure.FieldError for each
// field that can't work, joined: keys of another kind, templates that can't be
// parsed or that use what isn't there. It touches no disk.
func (o *Options) Validate() error {
	o.setDefaults()
	errs := []error{o.CheckKind()}
	for _, t := range o.texts() {
		_, err := parseText(t.field, t.text)
		errs = append(errs, err)
	}
	for _, key := range slices.Sorted(maps.Keys(o.Labels)) {
		errs = append(errs, resource.CheckLabelKey("labels", key))
	}
	errs = append(errs, resource.CheckDynamicLabels(o.DynamicLabels), o.checkFiles(), o.checkKubeconfig())
	if o.Kind == resource.KindDatabase && o.Protocol == "" {
		errs = append(errs, failure.Field("protocol", "is empty; give the database's, such as postgres, mysql or mongodb"))
	}
	if o.Kind == resource.KindWindowsDesktop {
		errs = append(errs, o.checkDesktop())
	}
	return errors.Join(errs...)
}

func (o *Options) checkDesktop() error {
	var errs []error
	if o.HostID == "" {
		errs = append(errs, failure.Field("host_id", "is empty; give the host ID of a windows_desktop_service"))
	}
	if o.NonAD == (o.Domain != "") {
		errs = append(errs, failure.Field("domain", "and non_ad: give one of them, since a desktop belongs to a domain or to none"))
	}
	return errors.Join(errs...)
}

// checkKubeconfig wants a template that can't lead out of its directory.
func (o *Options) checkKubeconfig() error {
	switch {
	case o.Kubeconfig != "" && !filepath.IsAbs(o.Kubeconfig):
		return failure.Field("kubeconfig", "is %q: give an absolute path", o.Kubeconfig)
	case o.CACertFile != "" && !filepath.IsAbs(o.CACertFile):
		return failure.Field("ca_cert_file", "is %q: give an absolute path", o.CACertFile)
	case strings.Contains(filepath.Dir(o.Kubeconfig), "{{"):
		return failure.Field("kubeconfig", "is %q: only the path's last element may be a template", o.Kubeconfig)
	}
	return nil
}

// checkFiles wants one of a file and its content.
func (o *Options) checkFiles() error {
	switch {
	case o.CACert != "" && o.CACertFile != "":
		return failure.Field("ca_cert_file", "ca_cert is given as well; keep one of them")
	case o.Kubeconfig != "" && o.KubeconfigInline != "":
		return failure.Field("kubeconfig_inline", "kubeconfig is given as well; keep one of them")
	case o.Kind == resource.KindKubeCluster && o.Kubeconfig == "" && o.KubeconfigInline == "":
		return failure.Field("kubeconfig", "is empty; give a file's path, or its content as kubeconfig_inline")
	}
	return nil
}

// CheckKind wants a kind that exists, and no key of another kind.
func (o *Options) CheckKind() error {
	if !slices.Contains(resource.Kinds(), o.Kind) {
		return failure.Field("kind", "is %q: use app, db, kube_cluster or windows_desktop", string(o.Kind))
	}
	var errs []error
	for _, k := range o.keys() {
		if k.given && !slices.Contains(k.kinds, o.Kind) {
			errs = append(errs, failure.Field(k.key, "isn't for a resource of kind %s", o.Kind))
		}
	}
	return errors.Join(errs...)
}

// key is one of the options that only some kinds have.
type key struct {
	key   string
	given bool
	kinds []resource.Kind
}

func (o *Options) keys() []key {
	app := []resource.Kind{resource.KindApp}
	db := []resource.Kind{resource.KindDatabase}
	kube := []resource.Kind{resource.KindKubeCluster}
	desktop := []resource.Kind{resource.KindWindowsDesktop}
	return []key{
		{"uri", o.URI != "", slices.Concat(app, db)},
		{"public_addr", o.PublicAddr != "", app},
		{"insecure_skip_verify", o.InsecureSkipVerify, app},
		{"rewrite", len(o.Rewrite.Headers)+len(o.Rewrite.Redirect) > 0, app},
		{"dynamic_labels", len(o.DynamicLabels) > 0, slices.Concat(app, db, kube)},
		{"protocol", o.Protocol != "", db},
		{"ca_cert", o.CACert != "", db},
		{"ca_cert_file", o.CACertFile != "", db},
		{"tls_mode", o.TLSMode != "", db},
		{"server_name", o.ServerName != "", db},
		{"kubeconfig", o.Kubeconfig != "", kube},
		{"kubeconfig_inline", o.KubeconfigInline != "", kube},
		{"addr", o.Addr != "", desktop},
		{"host_id", o.HostID != "", desktop},
		{"domain", o.Domain != "", desktop},
		{"non_ad", o.NonAD, desktop},
	}
}
