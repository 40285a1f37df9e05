// Package cluster knows everything that speaks to Teleport: finding the
// endpoint, TLS routing, the join RPCs, issuing certificates, and the
// differences between server versions (one file per difference, named for it).
// It knows no files and no YAML beyond the tags of its options.
package cluster

import "time"

// Join methods that rollcall speaks.
const (
	JoinMethodToken      = "token"
	JoinMethodKubernetes = "kubernetes"
)

// Options say how the cluster is reached and whom to trust.
type Options struct {
	// ProxyServer is the proxy's web address, host:port.
	ProxyServer string `yaml:"proxy_server,omitempty"`
	// AuthServer is an Auth Service's address, or a proxy's (probed).
	AuthServer string `yaml:"auth_server,omitempty"`
	// ProxyCA is a PEM file with the CAs that the proxy's certificate is
	// checked against in place of the system's.
	ProxyCA string `yaml:"proxy_ca,omitempty"`
	// CAPins are "sha256:…" hashes of the cluster CA's public key.
	CAPins []string `yaml:"ca_pins,omitempty"`
	// CAPath is a PEM file with the cluster's CA.
	CAPath string `yaml:"ca_path,omitempty"`
	// Insecure turns off every check of the peer on first connect.
	Insecure bool `yaml:"insecure,omitempty"`
	// SettleTime is how long a new application session is left to reach the
	// proxy's cache before its certificate is published. Negative: none.
	SettleTime time.Duration `yaml:"settle_time,omitempty"`
	// SessionTTL is the life of application sessions and of the impersonated
	// identities that make them.
	SessionTTL time.Duration `yaml:"session_ttl,omitempty"`
}
