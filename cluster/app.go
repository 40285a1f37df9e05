package cluster

import (
	"context"
	"encoding/asn1"
	"fmt"
	"slices"
	"strings"

	"github.com/gravitational/teleport/api/client/proto"
	"github.com/gravitational/teleport/api/defaults"
	"github.com/gravitational/teleport/api/types"
	"github.com/gravitational/trace"

	"rollcall/failure"
)

// What a certificate's subject says of the application that the proxy routes it
// to (lib/tlsca of Teleport 14).
var (
	oidAppCluster    = asn1.ObjectIdentifier{1, 3, 9999, 1, 5}
	oidAppPublicAddr = asn1.ObjectIdentifier{1, 3, 9999, 1, 6}
	oidAppName       = asn1.ObjectIdentifier{1, 3, 9999, 1, 10}
)

// tcpScheme begins the URI of applications that aren't HTTP.
const tcpScheme = "tcp://"

// App is an application as the cluster has it.
type App struct {
	Name string
	// PublicAddr is the host name under which browsers know it.
	PublicAddr string
	// URI is where the Application Service reaches it; empty: unknown.
	URI string
}

// TCP says that the application speaks another protocol than HTTP.
func (a App) TCP() bool { return strings.HasPrefix(a.URI, tcpScheme) }

// App returns the application that the certificate is routed to, without its
// URI, which isn't in it. Its name is empty if the certificate is for another
// use.
func (c *Credentials) App() App {
	return App{
		Name:       subjectAttribute(c.X509.Subject, oidAppName),
		PublicAddr: subjectAttribute(c.X509.Subject, oidAppPublicAddr),
	}
}

// AppCluster is the cluster that the application's route leads to.
func (c *Credentials) AppCluster() string { return subjectAttribute(c.X509.Subject, oidAppCluster) }

func appOf(app types.Application) App {
	return App{Name: app.GetName(), PublicAddr: app.GetPublicAddr(), URI: app.GetURI()}
}

// App looks an application up by name with the rights of creds, which needn't
// be the bot's: an output's certificate will do.
func (b *Bot) App(ctx context.Context, creds *Credentials, name string) (App, error) {
	clt, release, err := b.client(ctx, creds)
	if err != nil {
		return App{}, trace.Wrap(err)
	}
	defer release()
	found, err := clt.findApp(ctx, name)
	if err != nil {
		b.forgetBroken(creds, clt, err)
		return App{}, err
	}
	if found == nil {
		return App{}, failure.New(failure.NotFound, "application %q was not found: check that it's registered and served (tctl get apps)", name)
	}
	return appOf(found), nil
}

// Forget closes the connection of credentials that aren't used any more.
func (b *Bot) Forget(creds *Credentials) { b.pool.end(creds) }

// RoutedApplication is Application, and says what the cluster knows of the
// application.
func (i *Issuer) RoutedApplication(ctx context.Context, req ApplicationRequest) (*Credentials, App, error) {
	bot, err := i.identity.Wait(ctx)
	if err != nil {
		return nil, App{}, trace.Wrap(err)
	}
	roles, err := i.rolesFor(ctx, bot, req.Roles)
	if err != nil {
		return nil, App{}, trace.Wrap(err)
	}
	creds, app, usableAt, err := i.application(ctx, bot, roles, req)
	if err != nil {
		return nil, App{}, trace.Wrap(err)
	}
	// The slot is free again: others use the cluster while this certificate's
	// session settles.
	return creds, app, trace.Wrap(sleepUntil(ctx, usableAt))
}

// FindApp looks an application up by its public address, as the roles see it.
// None is a failure.NotFound.
func (i *Issuer) FindApp(ctx context.Context, req CertRequest, publicAddr string) (App, error) {
	bot, err := i.identity.Wait(ctx)
	if err != nil {
		return App{}, trace.Wrap(err)
	}
	roles, err := i.rolesFor(ctx, bot, req.Roles)
	if err != nil {
		return App{}, trace.Wrap(err)
	}
	imp, err := i.impersonator(ctx, bot, roles, req.TTL)
	if err != nil {
		return App{}, trace.Wrap(err)
	}
	defer i.release(imp)
	clt, release, err := imp.client(ctx)
	if err != nil {
		return App{}, trace.Wrap(err)
	}
	defer release()
	found, err := clt.searchApp(ctx, publicAddr)
	if err != nil {
		i.bot.forgetBroken(imp.creds, clt, err)
		return App{}, err
	}
	if found == nil {
		return App{}, failure.New(failure.NotFound, "no application with the public address %q was found", publicAddr)
	}
	return appOf(found), nil
}

// findApp looks an application up by name; nil if there's none that the caller
// may see.
func (c *connection) findApp(ctx context.Context, name string) (types.Application, error) {
	found, err := c.listApps(ctx, "looking up application "+name, proto.ListResourcesRequest{
		PredicateExpression: fmt.Sprintf("name == %q", name),
		Limit:               1,
	})
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return found[0], nil
}

// searchApp looks an application up by its public address. The server's search
// goes over several fields, so that it narrows the list and no more.
func (c *connection) searchApp(ctx context.Context, publicAddr string) (types.Application, error) {
	found, err := c.listApps(ctx, "looking for the application at "+publicAddr, proto.ListResourcesRequest{
		SearchKeywords: []string{publicAddr},
		Limit:          100,
	})
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(found, func(app types.Application) bool { return app.GetPublicAddr() == publicAddr })
	if at < 0 {
		return nil, nil
	}
	return found[at], nil
}

func (c *connection) listApps(ctx context.Context, op string, req proto.ListResourcesRequest) ([]types.Application, error) {
	callCtx, cancel := context.WithTimeout(ctx, rpcTimeout)
	defer cancel()
	req.ResourceType, req.Namespace = types.KindAppServer, defaults.Namespace
	resp, err := c.ListResources(callCtx, req)
	if err != nil {
		return nil, translate(op, err)
	}
	var found []types.Application
	for _, resource := range resp.Resources {
		if server, ok := resource.(types.AppServer); ok {
			found = append(found, server.GetApp())
		}
	}
	return found, nil
}
