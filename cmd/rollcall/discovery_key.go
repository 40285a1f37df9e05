package main

import (
	"github.com/gravitational/trace"

	"rollcall/discovery"
	"rollcall/failure"
)

// serviceKey is what proves which containers a service has started. It's kept
// beside the bot's identity.
func (a *agent) serviceKey(service string) ([]byte, error) {
	place := a.cfg.Storage.Directory
	if place == nil {
		return nil, failure.New(failure.Configuration, "with register: agent the storage must be of type directory: in memory it would be forgotten which containers are the service's own")
	}
	state, err := discovery.OpenStateDirectory(place.Path, place.Symlinks, service)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	defer func() { _ = state.Close() }() // nothing was written that isn't durable
	key, err := state.Key()
	return key, trace.Wrap(err)
}
