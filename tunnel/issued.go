package tunnel

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/gravitational/trace"

	"rollcall/cluster"
	"rollcall/failure"
)

// Issuer issues certificates; it returns once they are usable. It's safe for
// concurrent use.
type Issuer interface {
	// RoutedApplication issues a certificate for one application, and says what
	// the cluster knows of it.
	RoutedApplication(ctx context.Context, req cluster.ApplicationRequest) (*cluster.Credentials, cluster.App, error)
	// FindApp looks an application up by its public address.
	FindApp(ctx context.Context, req cluster.CertRequest, publicAddr string) (cluster.App, error)
}

// Issued are the applications that certificates can be issued for.
type Issued struct {
	issuer  Issuer
	dialer  *cluster.AppDialer
	request cluster.CertRequest
}

// NewIssued returns the applications that the request's roles may use.
func NewIssued(issuer Issuer, dialer *cluster.AppDialer, request cluster.CertRequest) *Issued {
	return &Issued{issuer: issuer, dialer: dialer, request: request}
}

// Source has certificates issued for one application.
func (i *Issued) Source(name string) Source {
	return &issued{issuer: i.issuer, dialer: i.dialer, request: cluster.ApplicationRequest{CertRequest: i.request, AppName: name}}
}

// Find asks the cluster.
func (i *Issued) Find(ctx context.Context, publicAddr string) (string, error) {
	app, err := i.issuer.FindApp(ctx, i.request, publicAddr)
	return app.Name, trace.Wrap(err)
}

// issued is a Source that has certificates issued.
type issued struct {
	issuer  Issuer
	dialer  *cluster.AppDialer
	request cluster.ApplicationRequest
	// doubted is when the session was last doubted; nil: it never was.
	doubted atomic.Pointer[time.Time]
}

// Doubt has certificates issued on a session that's newer than this moment.
func (s *issued) Doubt() {
	now := time.Now()
	s.doubted.Store(&now)
}

// Fetch has a certificate issued.
func (s *issued) Fetch(ctx context.Context) (Routed, error) {
	if err := s.dialer.Find(ctx); failure.KindOf(err) == failure.Configuration {
		return Routed{}, trace.Wrap(err) // such as an Auth Service in place of a proxy
	}
	request := s.request
	if at := s.doubted.Load(); at != nil {
		request.SessionAfter = *at
	}
	creds, app, err := s.issuer.RoutedApplication(ctx, request)
	if err != nil {
		return Routed{}, trace.Wrap(err)
	}
	return NewRouted(creds, app, s.dialer), nil
}

// NewRouted makes what a tunnel needs of credentials for an application.
func NewRouted(creds *cluster.Credentials, app cluster.App, dialer *cluster.AppDialer) Routed {
	proxyHost, _, err := net.SplitHostPort(dialer.ProxyAddr())
	if err != nil {
		proxyHost = dialer.ProxyAddr()
	}
	return Routed{
		Session:   dialer.Session(creds),
		App:       app,
		Serial:    fmt.Sprintf("%X", creds.X509.SerialNumber),
		NotAfter:  creds.NotAfter(),
		ProxyHost: proxyHost,
	}
}
