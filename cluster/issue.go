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
	// SessionAfter is since when the proxy seems not to take the application
	// session that is kept: only one that came later is used. That the server still
	// has an older one says little: several may be about to be deleted one by one,
	// and caches hear of that at different times.
	SessionAfter time.Time
}

// IdentityRequest asks for a certificate for API and SSH use.
type IdentityRequest struct {
	CertRequest
	// Cluster is a leaf cluster to route to; empty: the root.
	Cluster string
}
