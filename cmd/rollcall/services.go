package main

import (
	"rollcall/config"
	"rollcall/failure"
)

// addService is the table of service types that write no files.
func (a *agent) addService(s config.Service, _ environment) error {
	switch s.Options.(type) {
	default:
		return failure.New(failure.Configuration, "this build has no service for %T", s.Options)
	}
}
