package main

import (
	"rollcall/config"
	"rollcall/discovery/settings"
	"rollcall/failure"
)

// addService is the table of service types that write no files.
func (a *agent) addService(s config.Service, env environment) error {
	switch s.Options.(type) {
	case *settings.Options:
		return a.addDiscovery(s, env)
	default:
		return failure.New(failure.Configuration, "this build has no service for %T", s.Options)
	}
}
