// Package outputs knows which files an output consists of, and their content.
// It doesn't know where they go.
package outputs

import (
	"time"

	"rollcall/hooks"
)

// Type names as the configuration has them.
const (
	TypeApplication = "application"
	TypeIdentity    = "identity"
	TypeDatabase    = "database"
	TypeKubernetes  = "kubernetes"
	TypeSSHHost     = "ssh_host"
)

// CommonOptions are what every output has, beside its destination.
type CommonOptions struct {
	// Name stands in logs, /readyz and metrics; default: the type and what it
	// is for, made unique.
	Name string `yaml:"name,omitempty"`
	// Roles to request; default: all that the bot may impersonate.
	Roles []string `yaml:"roles,omitempty"`
	// CredentialTTL overrides the agent's for this output; set it together
	// with RenewalInterval.
	CredentialTTL time.Duration `yaml:"credential_ttl,omitempty"`
	// RenewalInterval overrides the agent's for this output. Whatever it says,
	// a third of a certificate's life is left for retries.
	RenewalInterval time.Duration `yaml:"renewal_interval,omitempty"`
	// OnRenewal is what runs after the files have changed, in this order.
	OnRenewal []hooks.Options `yaml:"on_renewal,omitempty"`
	// HooksDir is a directory of programs that run after those of OnRenewal, in
	// the order of their names.
	HooksDir string `yaml:"hooks_dir,omitempty"`
}

// ApplicationOptions configure credentials for one application.
type ApplicationOptions struct {
	CommonOptions `yaml:",inline"`
	// AppName is the application's name in Teleport.
	AppName string `yaml:"app_name"`
	// SpecificTLSNaming adds tls.crt, tls.key and tls.cas.
	SpecificTLSNaming bool `yaml:"specific_tls_naming,omitempty"`
}

// IdentityOptions configure credentials for SSH and the Teleport API.
type IdentityOptions struct {
	CommonOptions `yaml:",inline"`
	// Cluster is a leaf cluster to route to; default: the root cluster.
	Cluster string `yaml:"cluster,omitempty"`
}
