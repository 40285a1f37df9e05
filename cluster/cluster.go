package cluster

import (
	"log/slog"
	"sync"
	"time"
)

// defaultTimeout bounds each dial, each TLS handshake and each question about
// where and who the server is.
const defaultTimeout = 10 * time.Second

// Cluster is one Teleport cluster as the options name it: where it's reached,
// whom to trust, how to join and how to connect. Safe for concurrent use.
type Cluster struct {
	opts    Options
	log     *slog.Logger
	timeout time.Duration

	mu       sync.Mutex // protects the following
	endpoint *Endpoint
	learned  time.Time
}

// New returns a Cluster. Nothing is dialled and no file is read before the
// first use.
func New(opts Options, log *slog.Logger) *Cluster {
	return &Cluster{opts: opts, log: log, timeout: defaultTimeout}
}
