package harness

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/gravitational/teleport/api/client"
)

const (
	readyTimeout = 3 * time.Minute
	stopTimeout  = 60 * time.Second
	// callTimeout bounds one call to the cluster.
	callTimeout = time.Minute
)

// ClusterOptions are what a cluster of one's own can differ in.
type ClusterOptions struct {
	// Name is the cluster's name; empty: rollcall-e2e.
	Name string
	// Poll is how often the backend looks for changes, that is, how far caches
	// lag; 0: 50 ms. Production backends have about a second.
	Poll time.Duration
	// Sync is sqlite's synchronous pragma; empty: OFF.
	Sync string
	// Severity is the cluster's log level; empty: INFO.
	Severity string
	// WithoutApps leaves out the Application Service: nobody serves what is
	// registered, and one can register more than it could bear.
	WithoutApps bool
}

// Info describes a running cluster, as cmd/cluster says it.
type Info struct {
	// ProxyAddr is the proxy's web port as localhost:PORT.
	ProxyAddr string `json:"proxy_addr"`
	// AuthAddr is the Auth Service's own port as 127.0.0.1:PORT.
	AuthAddr string `json:"auth_addr"`
	// ClusterName is the cluster's name.
	ClusterName string `json:"cluster_name"`
	// CAPin is the host CA's pin, for direct joins to AuthAddr.
	CAPin string `json:"ca_pin"`
	// AdminIdentity is an identity file that may do everything.
	AdminIdentity string `json:"admin_identity"`
	// ProxyCA is the CA of the proxy's certificate (PEM file).
	ProxyCA string `json:"proxy_ca"`
	// Control is the unix socket for what has no public API.
	Control string `json:"control"`
}

// Cluster is one Teleport cluster: a process that can be stopped and started
// again at the same addresses.
type Cluster struct {
	// Suite is where the cluster belongs.
	Suite *Suite
	// ReadyAfter is how long the last start took; not for use beside Start.
	ReadyAfter time.Duration

	dir     string
	options ClusterOptions

	// mu protects the following.
	mu      sync.Mutex
	info    Info
	process *Process
	admin   *client.Client
	logs    []*Output
}

// Cluster returns the cluster that all tests of the suite share, starting it
// for the first. Tests that stop it, rotate its CAs or the like take their own
// from NewCluster.
func (s *Suite) Cluster(t T) *Cluster {
	t.Helper()
	s.sharedMu.Lock()
	defer s.sharedMu.Unlock()
	if s.shared != nil {
		return s.shared
	}
	c, err := s.newCluster(t.Context(), ClusterOptions{})
	if err != nil {
		t.Fatalf("shared cluster: %v", err)
	}
	s.shared = c
	return c
}

// NewCluster starts a cluster for one test; it's gone when the test ends.
func (s *Suite) NewCluster(t T, options ClusterOptions) *Cluster {
	t.Helper()
	c, err := s.newCluster(t.Context(), options)
	if err != nil {
		t.Fatalf("cluster: %v", err)
	}
	t.Cleanup(func() {
		c.closeClient()
		c.Kill()
		_ = os.RemoveAll(c.dir)
		if t.Failed() {
			s.showLog(t, "the cluster's log", c.Log())
		}
	})
	return c
}

func (s *Suite) newCluster(ctx context.Context, options ClusterOptions) (*Cluster, error) {
	dir, err := os.MkdirTemp(s.root, "c-")
	if err != nil {
		return nil, err
	}
	c := &Cluster{Suite: s, dir: dir, options: options}
	s.mu.Lock()
	s.clusters = append(s.clusters, c)
	s.mu.Unlock()
	return c, c.start(ctx)
}

// Info returns the cluster's addresses and paths.
func (c *Cluster) Info() Info {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.info
}

// Dir is the cluster's state directory.
func (c *Cluster) Dir() string { return c.dir }

// Log returns what the cluster has logged in all its lives.
func (c *Cluster) Log() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all strings.Builder
	for _, log := range c.logs {
		all.WriteString(log.String())
	}
	return all.String()
}

// Start starts a stopped cluster at the same addresses and waits until it's
// ready.
func (c *Cluster) Start(t T) {
	t.Helper()
	if err := c.start(t.Context()); err != nil {
		t.Fatalf("start the cluster: %v\n%s", err, tail(c.Log(), 40))
	}
}

// Stop stops the cluster as a service manager would.
func (c *Cluster) Stop(t T) {
	t.Helper()
	c.closeClient()
	p := c.current()
	p.Signal(t, syscall.SIGTERM)
	p.WaitAtMost(t, stopTimeout)
}

// Restart is Stop and Start.
func (c *Cluster) Restart(t T) {
	t.Helper()
	c.Stop(t)
	c.Start(t)
}

// Kill ends the cluster with SIGKILL.
func (c *Cluster) Kill() {
	c.closeClient()
	if p := c.current(); p != nil {
		p.Kill()
	}
}

// Pause freezes the cluster (SIGSTOP) until Resume: connections stay open and
// nobody answers.
func (c *Cluster) Pause(t T) { t.Helper(); c.current().Signal(t, syscall.SIGSTOP) }

// Resume ends a Pause.
func (c *Cluster) Resume(t T) { t.Helper(); c.current().Signal(t, syscall.SIGCONT) }

// Process is the cluster's process of now.
func (c *Cluster) Process() *Process { return c.current() }

func (c *Cluster) current() *Process {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.process
}

// start starts the process and waits for its ready line.
func (c *Cluster) start(ctx context.Context) error {
	begun := time.Now()
	p, err := c.Suite.start(Command{Path: c.Suite.Bin.Cluster, Args: c.options.args(c.dir)}, c.dir)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.process = p
	c.logs = append(c.logs, p.Stderr)
	c.mu.Unlock()
	err = Poll(ctx, readyTimeout, func() error {
		line, _, whole := strings.Cut(p.Stdout.String(), "\n")
		if !whole {
			if !p.Running() {
				return nil
			}
			return errors.New("the cluster isn't ready")
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		return json.Unmarshal([]byte(line), &c.info)
	})
	if err != nil {
		return err
	}
	if !p.Running() {
		return fmt.Errorf("the cluster ended at its start: %s", tail(p.Stderr.String(), 20))
	}
	c.ReadyAfter = time.Since(begun)
	return nil
}

// args is cmd/cluster's command line.
func (o ClusterOptions) args(dir string) []string {
	args := []string{"--dir", filepath.Join(dir, "state")}
	for flag, value := range map[string]string{"--name": o.Name, "--sync": o.Sync, "--log": o.Severity} {
		if value != "" {
			args = append(args, flag, value)
		}
	}
	if o.WithoutApps {
		args = append(args, "--apps=false")
	}
	if o.Poll != 0 {
		args = append(args, "--poll", o.Poll.String())
	}
	return args
}

// Client returns the administrator's client. It ends with Stop, Kill and
// Rotate: ask again after those.
func (c *Cluster) Client(t T) *client.Client {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.admin != nil {
		return c.admin
	}
	ctx, cancel := context.WithTimeout(t.Context(), callTimeout)
	defer cancel()
	admin, err := client.New(ctx, client.Config{
		Addrs:       []string{c.info.AuthAddr},
		Credentials: []client.Credentials{client.LoadIdentityFile(c.info.AdminIdentity)},
	})
	if err != nil {
		t.Fatalf("administrator's client: %v", err)
	}
	c.admin = admin
	return admin
}

func (c *Cluster) closeClient() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.admin != nil {
		_ = c.admin.Close()
		c.admin = nil
	}
}

// control calls the control socket and decodes the answer into out (or not, if
// nil).
func (c *Cluster) control(t T, method, path string, body, out any) {
	t.Helper()
	if err := c.tryControl(t.Context(), method, path, body, out); err != nil {
		t.Fatalf("control socket: %s %s: %v", method, path, err)
	}
}

func (c *Cluster) tryControl(ctx context.Context, method, path string, body, out any) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	encoded, err := json.Marshal(body)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://cluster"+path, bytes.NewReader(encoded))
	if err != nil {
		return err
	}
	socket := c.Info().Control
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", response.Status, strings.TrimSpace(string(answer)))
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(answer, out)
}
