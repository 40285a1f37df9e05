package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/gravitational/teleport/lib/auth"
	"github.com/gravitational/teleport/lib/cloud"
	"github.com/gravitational/teleport/lib/config"
	"github.com/gravitational/teleport/lib/service"
	"github.com/gravitational/teleport/lib/service/servicecfg"
)

const (
	readyTimeout = 2 * time.Minute
	stopTimeout  = 3 * time.Second
)

// cluster is the running Teleport process and what the control socket needs.
type cluster struct {
	layout layout
	ports  ports
	// current is the Teleport process of now: it reloads itself (a new object
	// in the same operating system process) when the host CA rotates.
	current atomic.Pointer[service.TeleportProcess]
}

// auth returns the Auth Service of the running process.
func (c *cluster) auth() *auth.Server { return c.current.Load().GetAuthServer() }

// serve runs the cluster until ctx ends.
func serve(ctx context.Context, opts options, stdout io.Writer) error {
	l, p, err := prepare(opts)
	if err != nil {
		return err
	}
	// The cluster's own services speak to the proxy too, and trust its CA.
	if err := os.Setenv("SSL_CERT_FILE", l.proxyCA()); err != nil {
		return err
	}
	cfg, err := teleportConfig(l)
	if err != nil {
		return err
	}
	c := &cluster{layout: l, ports: p}
	started := make(chan *service.TeleportProcess, 1)
	runCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		ended <- service.Run(runCtx, *cfg, func(cfg *servicecfg.Config) (service.Process, error) {
			process, err := service.NewTeleport(cfg)
			if err != nil {
				return nil, err
			}
			c.current.Store(process)
			select {
			case started <- process:
			default:
			}
			return process, nil
		})
	}()
	if err := c.becomeReady(runCtx, started, ended); err != nil {
		return err
	}
	control, err := c.listenControl()
	if err != nil {
		return err
	}
	defer control.Close()
	if err := c.announce(ctx, opts, stdout); err != nil {
		return err
	}
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	// What is left of the process after that may go down with it: the backend
	// is in a transaction or it isn't.
	select {
	case <-ended:
	case <-time.After(stopTimeout):
	}
	return nil
}

// teleportConfig reads the configuration file and sets what has no key in it.
func teleportConfig(l layout) (*servicecfg.Config, error) {
	cfg := servicecfg.MakeDefaultConfig()
	if err := config.Configure(&config.CommandLineFlags{ConfigFile: l.config()}, cfg, false); err != nil {
		return nil, err
	}
	// The web UI's files aren't in the Go module.
	cfg.Proxy.DisableWebInterface = true
	// Nobody should ask a cloud's metadata service from a test.
	cfg.InstanceMetadataClient = cloud.NewDisabledIMDSClient()
	// A rotation of the host CA is noticed at once, and the reload that
	// follows doesn't wait for connections of the old process.
	cfg.PollingPeriod = time.Second
	cfg.Testing.ShutdownTimeout = stopTimeout
	return cfg, nil
}

// becomeReady waits until every part of the cluster says that it's ready.
func (c *cluster) becomeReady(ctx context.Context, started <-chan *service.TeleportProcess, ended <-chan error) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	select {
	case err := <-ended:
		return fmt.Errorf("start: %w", err)
	case <-ctx.Done():
		return ctx.Err()
	case process := <-started:
		_, err := process.WaitForEvent(ctx, service.TeleportReadyEvent)
		return err
	}
}

// announce makes the administrator's identity and writes the ready line.
func (c *cluster) announce(ctx context.Context, opts options, stdout io.Writer) error {
	if err := c.writeAdminIdentity(ctx); err != nil {
		return fmt.Errorf("administrator's identity: %w", err)
	}
	r, err := c.ready(ctx)
	if err != nil {
		return err
	}
	return announce(r, opts.readyFile, stdout)
}

// ready describes the cluster as it is now: a rotation changes the pin.
func (c *cluster) ready(ctx context.Context) (ready, error) {
	pin, name, err := c.pin(ctx)
	if err != nil {
		return ready{}, err
	}
	return ready{
		ProxyAddr:     c.ports.proxyAddr(),
		AuthAddr:      c.ports.authAddr(),
		ClusterName:   name,
		CAPin:         pin,
		AdminIdentity: c.layout.adminIdentity(),
		ProxyCA:       c.layout.proxyCA(),
		Control:       c.layout.control(),
		PID:           os.Getpid(),
	}, nil
}
