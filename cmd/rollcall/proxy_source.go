package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"

	"rollcall/cluster"
	"rollcall/destination"
	"rollcall/failure"
	"rollcall/outputs"
	"rollcall/tunnel"
)

const (
	// pollInterval is how often the directory is read although nothing told of
	// a change: network file systems tell of none.
	pollInterval = 10 * time.Second
	// watchPause lets the changes of one write become one reading.
	watchPause = 50 * time.Millisecond
	// lookupTimeout bounds the question what an application is.
	lookupTimeout = 30 * time.Second
)

// Values of --protocol.
const (
	protocolAuto = "auto"
	protocolHTTP = "http"
	protocolTCP  = "tcp"
)

func nowIs() time.Time { return time.Now() }

func cutScheme(address, scheme string) (string, bool) { return strings.CutPrefix(address, scheme) }

// diskSource gives the credentials that somebody else keeps fresh in a
// directory. It satisfies tunnel.Source; its Fetch is called by one goroutine
// at a time.
type diskSource struct {
	flags  *appFlags
	dir    string
	place  destination.Destination
	bot    *cluster.Bot
	dialer *cluster.AppDialer
	log    *slog.Logger

	// creds and routed are of the last Fetch.
	creds  *cluster.Credentials
	routed tunnel.Routed
}

func newDiskSource(f *appFlags, bot *cluster.Bot, dialer *cluster.AppDialer, log *slog.Logger) (*diskSource, error) {
	dir, err := filepath.Abs(f.dir)
	if err != nil {
		return nil, failure.Wrap(failure.Configuration, err, "--destination-dir %s: %s", f.dir, err)
	}
	// Links may lead to the directory; none is followed in it but the ones that
	// a set consists of.
	place, err := destination.NewDirectory(destination.DirectoryOptions{Path: dir, Symlinks: destination.SymlinksInsecure}, log)
	if err != nil {
		return nil, err
	}
	return &diskSource{flags: f, dir: dir, place: place, bot: bot, dialer: dialer, log: log}, nil
}

// first is Fetch for the start, where nobody waits and what is wrong ends the
// command.
func (s *diskSource) first(ctx context.Context) (tunnel.Routed, error) {
	if err := s.checkDirectory(); err != nil {
		return tunnel.Routed{}, err
	}
	if _, err := s.read(ctx); err != nil {
		return tunnel.Routed{}, err
	}
	if err := s.dialer.Find(ctx); err != nil {
		return tunnel.Routed{}, err
	}
	return s.Fetch(ctx)
}

// checkDirectory tells a directory that isn't there from one without
// credentials.
func (s *diskSource) checkDirectory() error {
	info, err := os.Stat(s.dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return failure.Wrap(failure.Configuration, err, "the directory %s doesn't exist: give --destination-dir the path that stands in the output's destination", s.dir)
	case errors.Is(err, fs.ErrPermission):
		return failure.Wrap(failure.Configuration, err, "the directory %s can't be reached: the permission is missing", s.dir)
	case err != nil:
		return failure.Wrap(failure.Configuration, err, "the directory %s can't be used: %s", s.dir, err)
	case !info.IsDir():
		return failure.New(failure.Configuration, "%s isn't a directory: give --destination-dir the directory and not a file in it", s.dir)
	}
	return nil
}

// Fetch reads the directory. What was read before comes back as it was.
func (s *diskSource) Fetch(ctx context.Context) (tunnel.Routed, error) {
	creds, err := s.read(ctx)
	if err != nil {
		return tunnel.Routed{}, err
	}
	if s.creds != nil && creds.X509.Equal(s.creds.X509) && slices.EqualFunc(creds.TLSCACerts, s.creds.TLSCACerts, bytes.Equal) {
		return s.routed, nil
	}
	app, err := s.describe(ctx, creds)
	if err != nil {
		return tunnel.Routed{}, err
	}
	s.creds, s.routed = creds, tunnel.NewRouted(creds, app, s.dialer)
	return s.routed, nil
}

// read returns the directory's credentials if they can be used for the
// application.
func (s *diskSource) read(ctx context.Context) (*cluster.Credentials, error) {
	creds, err := outputs.ReadCredentials(ctx, s.place)
	if failure.KindOf(err) == failure.NotFound {
		return nil, failure.Wrap(failure.Configuration, err, "there are no credentials in %s: give --destination-dir the directory of an output of type application; if it's the right one, the agent hasn't written it yet (see its log, or `rollcall status`)", s.dir)
	}
	if err != nil {
		return nil, err
	}
	if err := s.check(creds); err != nil {
		return nil, err
	}
	return creds, nil
}

func (s *diskSource) check(creds *cluster.Credentials) error {
	app, name := creds.App(), s.flags.AppName
	switch {
	case app.Name == "":
		return failure.New(failure.Configuration,
			"the certificate in %s isn't for an application, and can't be made one: add an output `{type: application, app_name: %s, destination: {type: directory, path: …}}` to the agent's configuration, and give --destination-dir its directory", s.dir, name)
	case app.Name != name:
		return failure.New(failure.Configuration,
			"the certificate in %s is for application %q, not %q: give that name, or the directory of the output for %q", s.dir, app.Name, name, name)
	case s.flags.cluster != "" && creds.AppCluster() != s.flags.cluster:
		return failure.New(failure.Configuration,
			"the certificate in %s is for cluster %q, not %q, which --cluster says", s.dir, creds.AppCluster(), s.flags.cluster)
	}
	if ended := creds.NotAfter(); !time.Now().Before(ended) {
		return failure.New(failure.Configuration,
			"the certificate in %s expired at %s, %s ago, and nothing has replaced it: see whether the agent that writes there runs (`rollcall status`, `systemctl status rollcall`), what its log says, and this host's clock",
			s.dir, ended.UTC().Format(time.RFC3339), time.Since(ended).Round(time.Second))
	}
	return nil
}

// describe finds out whether the application is HTTP or TCP, which isn't in the
// certificate.
func (s *diskSource) describe(ctx context.Context, creds *cluster.Credentials) (cluster.App, error) {
	app := creds.App()
	switch s.flags.protocol {
	case protocolHTTP:
		return app, nil
	case protocolTCP:
		app.URI = "tcp://"
		return app, nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	found, err := s.bot.App(ctx, creds, app.Name)
	s.bot.Forget(creds) // one question is all
	if err == nil {
		return found, nil
	}
	if s.routed.Session != nil {
		// It was known before, and it's no time to ask: the proxy may be away.
		app.URI = s.routed.App.URI
		return app, nil
	}
	if kind := failure.KindOf(err); kind == failure.NotFound || kind == failure.Refused {
		return cluster.App{}, failure.Wrap(kind, err, "%s; --protocol=http or --protocol=tcp does without the question", err)
	}
	return cluster.App{}, fmt.Errorf("finding out what application %q is: %w", app.Name, err)
}

// watch calls changed soon after something in the directory has changed, until
// ctx ends. The poll sees what it can't.
func (s *diskSource) watch(ctx context.Context, changed func()) {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		s.log.WarnContext(ctx, "Changes of the directory are noticed by polling only.", "err", err, "every", pollInterval)
		return
	}
	defer watcher.Close()
	again := time.NewTicker(pollInterval)
	defer again.Stop()
	quiet := time.NewTimer(0)
	defer quiet.Stop()
	<-quiet.C
	for {
		// Again and again, since the directory may be replaced.
		if err := watcher.Add(s.dir); err != nil {
			s.log.DebugContext(ctx, "The directory can't be watched just now.", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-again.C:
		case <-quiet.C:
			changed()
		case <-watcher.Events:
			quiet.Reset(watchPause)
		case err := <-watcher.Errors:
			s.log.DebugContext(ctx, "Watching the directory failed.", "err", err)
		}
	}
}
