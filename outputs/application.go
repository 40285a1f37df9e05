package outputs

import (
	"context"
	"errors"
	"strings"

	"github.com/gravitational/trace"

	"rollcall/cluster"
	"rollcall/destination"
	"rollcall/failure"
)

// Application keeps the credentials for one application fresh.
type Application struct {
	*renewer
}

// NewApplication returns an output that asks for certificates routed to one
// application and writes them to the destination.
func NewApplication(opts ApplicationOptions, deps Dependencies) (*Application, error) {
	if err := errors.Join(opts.Validate(), deps.complete()); err != nil {
		return nil, trace.Wrap(err)
	}
	ttl := opts.ttl(deps)
	request := cluster.ApplicationRequest{
		CertRequest: cluster.CertRequest{Roles: opts.Roles, TTL: ttl},
		AppName:     opts.AppName,
	}
	produce := func(ctx context.Context) (*cluster.Credentials, destination.Set, error) {
		creds, err := deps.Issuer.Application(ctx, request)
		if err != nil {
			return nil, nil, trace.Wrap(err)
		}
		cas, err := deps.Issuer.Authorities(ctx)
		if err != nil {
			return nil, nil, trace.Wrap(err)
		}
		set, err := renderApplication(creds, cas, opts)
		return creds, set, trace.Wrap(err)
	}
	return &Application{newRenewer(recipe{
		name:     opts.OutputName(),
		kind:     TypeApplication,
		want:     expectation{files: opts.Files(), roles: opts.Roles, appName: opts.AppName, ttl: ttl},
		interval: opts.interval(deps),
		produce:  produce,
	}, deps)}, nil
}

// Validate returns everything that is wrong with the options, joined; each is
// a failure.FieldError.
func (o *ApplicationOptions) Validate() error {
	var app error
	if strings.TrimSpace(o.AppName) == "" {
		app = failure.Field("app_name", "it's missing; give the application's name as `tctl get apps` or `tsh apps ls` shows it")
	}
	return errors.Join(app, o.CommonOptions.Validate())
}

// OutputName returns the configured name, or "application-APP".
func (o *ApplicationOptions) OutputName() string {
	if o.Name != "" {
		return o.Name
	}
	return TypeApplication + "-" + o.AppName
}

// Files returns the names of the files that the output consists of.
func (o *ApplicationOptions) Files() []string {
	if o.SpecificTLSNaming {
		return append(baseFiles(), fileTLSNamedCert, fileTLSNamedKey, fileTLSNamedCAs)
	}
	return baseFiles()
}

// renderApplication returns the output's set of files.
func renderApplication(creds *cluster.Credentials, cas *cluster.Authorities, opts ApplicationOptions) (destination.Set, error) {
	set, err := renderBase(creds, cas)
	if err != nil {
		return nil, err
	}
	if opts.SpecificTLSNaming {
		addTLSNames(set, creds, cas)
	}
	return set, nil
}
