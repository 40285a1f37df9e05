package main

import (
	"github.com/gravitational/trace"

	"rollcall/config"
	"rollcall/diagnostics"
	"rollcall/discovery/settings"
	"rollcall/failure"
)

// addOnceServices adds the services that can do their work once; of the others
// it's said that they're left out.
func (a *agent) addOnceServices(env environment) error {
	for _, s := range a.cfg.Services {
		if _, ok := s.Options.(*settings.Options); !ok {
			a.log.Warn("A service that only runs for long is left out.", diagnostics.KeyService, s.Name)
			continue
		}
		if err := a.addService(s, env); err != nil {
			return trace.Wrap(err, "service %s", s.Name)
		}
	}
	return nil
}

// addService is the table of service types that write no files.
func (a *agent) addService(s config.Service, env environment) error {
	switch s.Options.(type) {
	case *settings.Options:
		return a.addDiscovery(s, env)
	default:
		return failure.New(failure.Configuration, "this build has no service for %T", s.Options)
	}
}
