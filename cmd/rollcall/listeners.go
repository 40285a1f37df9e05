package main

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gravitational/trace"

	"rollcall/config"
	"rollcall/diagnostics"
	"rollcall/internal/version"
	"rollcall/service"
)

const (
	// diagSocket is the FileDescriptorName= of a .socket unit that stands in
	// for diag_addr.
	diagSocket = "diag"
	// statusSocket is the file that `rollcall status` looks for.
	statusSocket = "status.sock"
	// maxSocketPath is what fits into the kernel's sockaddr_un.
	maxSocketPath = 107
)

// addListeners binds what answers questions: diag_addr, or the socket that
// systemd passes in its place, and the socket for `rollcall status`.
func (a *agent) addListeners(env environment) error {
	diag := a.takeSocket(diagSocket)
	a.closeUnknownSockets()
	build := version.Read()
	registry := diagnostics.NewRegistry(a.board, diagnostics.Build{Version: build.Version, Commit: build.Commit, GoVersion: build.Go})
	registry.MustRegister(a.hookMetrics)
	registry.MustRegister(a.collectors...)
	options := diagnostics.ServerOptions{
		Addr:     a.cfg.DiagAddr,
		Listener: diag,
		Board:    a.board,
		Registry: registry,
		Log:      a.log,
		Agent:    a.describe,
		Pprof:    a.cfg.Debug,
	}
	if options.Addr != "" || options.Listener != nil {
		if err := a.serve(options); err != nil {
			return trace.Wrap(err)
		}
	}
	if options.Listener = a.listenStatus(env); options.Listener == nil {
		return nil
	}
	options.Name, options.Addr = "status", ""
	options.More = map[string]http.Handler{"POST " + discoveryPath: a.serveDiscovery(env)}
	options.MoreWithin = discoveryTimeout + 5*time.Minute // a comparison under way may have to end first
	return trace.Wrap(a.serve(options))
}

// takeSocket returns the socket of that FileDescriptorName= that systemd passed,
// or nil. It's the caller's from then on.
func (a *agent) takeSocket(name string) net.Listener {
	listener := a.passed[name]
	delete(a.passed, name)
	return listener
}

// closeUnknownSockets closes what nobody has taken.
func (a *agent) closeUnknownSockets() {
	for name, listener := range a.passed {
		a.log.Warn("systemd passes a socket that nothing here listens on; it's closed. FileDescriptorName= must be diag, or the name of a service that listens.", "name", name)
		_ = listener.Close()
	}
	a.passed = nil
}

// serve hosts a diagnostics server that is bound already. An address that is
// busy is no reason to stop: the host tries again.
func (a *agent) serve(options diagnostics.ServerOptions) error {
	server := diagnostics.NewServer(options)
	if err := server.Bind(context.Background()); err != nil {
		a.log.Warn("Diagnostics can't be served yet.", "err", err)
	}
	a.closers = append(a.closers, func() { _ = server.Close() })
	return trace.Wrap(a.host.Add(server, service.Unreported))
}

// listenStatus binds the status socket. Without it everything works but
// `rollcall status`.
func (a *agent) listenStatus(env environment) net.Listener {
	path := statusPath(env, a.cfg.Storage)
	if path == "" {
		return nil
	}
	if len(path) > maxSocketPath {
		a.log.Warn("`rollcall status` won't find this agent: the socket's path would be too long. Set diag_addr, and use its --diag-addr.", "path", path)
		return nil
	}
	listener, err := diagnostics.ListenLocal(path)
	if err != nil {
		a.log.Warn("`rollcall status` won't find this agent.", "err", err)
		return nil
	}
	return listener
}

// statusPath is where the status socket is: in the runtime directory that
// systemd made, else in the storage, which belongs to one agent alone; empty:
// nowhere.
func statusPath(env environment, storage config.Destination) string {
	if dir, _, _ := strings.Cut(env.Getenv("RUNTIME_DIRECTORY"), ":"); dir != "" {
		return filepath.Join(dir, statusSocket)
	}
	if storage.Directory == nil {
		return ""
	}
	return filepath.Join(storage.Directory.Path, statusSocket)
}

// describe says who this agent is.
func (a *agent) describe() diagnostics.Agent {
	agent := diagnostics.Agent{
		Version: version.Version(), PID: os.Getpid(), Started: a.began.UTC(),
		Config: a.cfg.File, Storage: a.cfg.Storage.String(), JoinMethod: a.cfg.Onboarding.JoinMethod,
	}
	if creds := a.keeper.Current(); creds != nil {
		agent.Bot = &diagnostics.Bot{
			Name: creds.Username(), Cluster: creds.ClusterName,
			Generation: creds.Generation(), NotAfter: creds.NotAfter().UTC(),
		}
	}
	return agent
}
