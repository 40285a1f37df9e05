package registry

import (
	"rollcall/cluster"
	"rollcall/discovery"
	"rollcall/discovery/registry/agent"
	"rollcall/discovery/registry/dynamic"
)

// What the reconciler asks for.
var (
	_ discovery.Registry  = (*dynamic.Registry)(nil)
	_ discovery.Registry  = (*agent.Registry)(nil)
	_ discovery.Semaphore = (*cluster.Semaphore)(nil)
)
