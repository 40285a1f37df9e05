// Command cluster runs a real single-process Teleport cluster (Auth Service,
// Proxy Service, Application Service) on loopback, for the end-to-end tests
// and the demo. It knows Teleport's server packages, so that nothing else has
// to link them; it knows nothing of the agent under test.
//
// When the cluster is ready, it writes one line of JSON (type ready) to
// standard output, and to the file given with --ready-file. It stops on SIGINT
// and SIGTERM.
//
// `cluster start -c FILE` is an agent in place of that: `teleport start`. Called
// by the name tctl (a link will do), it's the official tctl.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// options are the command line.
type options struct {
	// dir holds all state; a later start with the same dir is the same cluster
	// at the same addresses.
	dir string
	// name is the cluster's name; it can't change once dir exists.
	name string
	// readyFile gets the ready line too; empty: standard output only.
	readyFile string
	// poll is how often the sqlite backend looks for changes: a cache lags
	// that much.
	poll time.Duration
	// sync is sqlite's synchronous pragma: OFF, NORMAL or FULL.
	sync string
	// severity is the lowest level that the cluster logs to standard error.
	severity string
	// apps says whether the cluster has an Application Service.
	apps bool
}

func main() {
	if isTctl(os.Args[0]) {
		tctl()
		return
	}
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run starts the cluster and returns the exit code once it has stopped.
func run(args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 && args[0] == startCommand {
		return startTeleport(args[1:], stderr)
	}
	opts, err := parse(args, stderr)
	if err != nil {
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := serve(ctx, opts, stdout); err != nil {
		fmt.Fprintf(stderr, "cluster: %v\n", err)
		return 1
	}
	return 0
}

func parse(args []string, stderr io.Writer) (options, error) {
	var opts options
	flags := flag.NewFlagSet("cluster", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&opts.dir, "dir", "", "state directory (created; required)")
	flags.StringVar(&opts.name, "name", "rollcall-e2e", "cluster name")
	flags.StringVar(&opts.readyFile, "ready-file", "", "file that gets the ready line too")
	flags.DurationVar(&opts.poll, "poll", 50*time.Millisecond, "how often the backend looks for changes")
	flags.StringVar(&opts.sync, "sync", "OFF", "sqlite's synchronous pragma")
	flags.StringVar(&opts.severity, "log", "INFO", "log severity: DEBUG, INFO, WARN or ERROR")
	flags.BoolVar(&opts.apps, "apps", true, "have an Application Service, which takes up every dynamic application")
	if err := flags.Parse(args); err != nil {
		return opts, err
	}
	if opts.dir == "" {
		fmt.Fprintln(stderr, "cluster: --dir is required")
		return opts, flag.ErrHelp
	}
	dir, err := filepath.Abs(opts.dir)
	if err != nil {
		return opts, err
	}
	opts.dir = dir
	return opts, nil
}

// ready is the line that says that the cluster can be used.
type ready struct {
	// ProxyAddr is the proxy's web port as localhost:PORT; everything goes
	// through it (TLS routing).
	ProxyAddr string `json:"proxy_addr"`
	// AuthAddr is the Auth Service's own port as 127.0.0.1:PORT.
	AuthAddr string `json:"auth_addr"`
	// ClusterName is the cluster's name, and the audience of ServiceAccount
	// tokens for the kubernetes join method.
	ClusterName string `json:"cluster_name"`
	// CAPin is the host CA's pin (sha256:HEX), for direct joins to AuthAddr.
	CAPin string `json:"ca_pin"`
	// AdminIdentity is the path of an identity file that may do everything.
	AdminIdentity string `json:"admin_identity"`
	// ProxyCA is the path of the CA (PEM) of the proxy's certificate.
	ProxyCA string `json:"proxy_ca"`
	// Control is the path of the unix socket for what has no public API.
	Control string `json:"control"`
	// PID is this process.
	PID int `json:"pid"`
}

// announce writes the ready line; the file appears whole or not at all.
func announce(r ready, path string, stdout io.Writer) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	line = append(line, '\n')
	if path != "" {
		if err := writeWhole(path, line); err != nil {
			return err
		}
	}
	_, err = stdout.Write(line)
	return err
}

// writeWhole puts content into path by a rename, mode 0600.
func writeWhole(path string, content []byte) error {
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, content, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
