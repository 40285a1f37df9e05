// Package agent is not here yet.
package agent

import (
	"log/slog"

	"github.com/docker/docker/client"

	"rollcall/cluster"
	"rollcall/discovery"
)

// Options is a placeholder.
type Options struct{}

// Validate is a placeholder.
func (o *Options) Validate() error { return nil }

// Registry is a placeholder.
type Registry struct{ discovery.Registry }

// New is a placeholder.
func New(*client.Client, *cluster.Access, Options, string, *slog.Logger) (*Registry, error) {
	return nil, nil
}
