package cluster

import "time"

// CertRequest is what every kind of issued certificate has in common.
type CertRequest struct {
	// Roles to impersonate; empty: all that the bot may.
	Roles []string
	// TTL of the certificate that is wanted.
	TTL time.Duration
}

// ApplicationRequest asks for a certificate that the proxy routes to one
// application.
type ApplicationRequest struct {
	CertRequest
	AppName string
	// NewSession asks for another application session than the one that is kept:
	// the proxy seems not to take such any more. That the server still has it says
	// little: several may be about to be deleted one by one, and caches hear of
	// that at different times.
	NewSession bool
}

// IdentityRequest asks for a certificate for API and SSH use.
type IdentityRequest struct {
	CertRequest
	// Cluster is a leaf cluster to route to; empty: the root.
	Cluster string
}
