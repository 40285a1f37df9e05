package service

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"rollcall/failure"
)

// CommonOptions are what every service of the configuration has that works with
// the cluster and writes no files: tunnels, reconcilers.
type CommonOptions struct {
	// Name stands in logs, /readyz and metrics; default: the type and what it
	// is for, made unique.
	Name string `yaml:"name,omitempty"`
	// Roles to request; default: all that the bot may impersonate.
	Roles []string `yaml:"roles,omitempty"`
	// CredentialTTL overrides the agent's for this service; set it together
	// with RenewalInterval.
	CredentialTTL time.Duration `yaml:"credential_ttl,omitempty"`
	// RenewalInterval overrides the agent's for this service.
	RenewalInterval time.Duration `yaml:"renewal_interval,omitempty"`
}

// Common returns the options themselves: whoever embeds them has it.
func (o *CommonOptions) Common() *CommonOptions { return o }

// Validate returns everything that is wrong with the options, joined; each is
// a failure.FieldError. Names and durations are checked by package config,
// which knows the other services' names and the agent's defaults.
func (o *CommonOptions) Validate() error { return errors.Join(ValidateRoles(o.Roles)...) }

// ValidateRoles returns what is wrong with the option roles, which outputs and
// services have in common; each is a failure.FieldError.
func ValidateRoles(roles []string) []error {
	var all []error
	for i, role := range roles {
		field := fmt.Sprintf("roles[%d]", i)
		switch {
		case strings.TrimSpace(role) == "":
			all = append(all, failure.Field(field, "the name is empty; give a role's name, or leave out roles to request all that the bot may impersonate"))
		case slices.Contains(roles[:i], role):
			all = append(all, failure.Field(field, "%q is there twice; name each role once", role))
		}
	}
	return all
}
