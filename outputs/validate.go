package outputs

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"rollcall/failure"
	"rollcall/service"
)

// Validate returns everything that is wrong with the options, joined; each is
// a failure.FieldError. Names and durations are checked by package config,
// which knows the other outputs' names and the agent's defaults.
func (o *CommonOptions) Validate() error {
	all := service.ValidateRoles(o.Roles)
	all = append(all, o.validateHooks()...)
	return errors.Join(all...)
}

func (o *CommonOptions) validateHooks() []error {
	var all []error
	for i := range o.OnRenewal {
		err := o.OnRenewal[i].Validate()
		for _, field := range failure.Fields(err) {
			all = append(all, failure.Field(fmt.Sprintf("on_renewal[%d].%s", i, field.Field), "%s", field.Message))
		}
	}
	if o.HooksDir != "" && !filepath.IsAbs(o.HooksDir) {
		all = append(all, failure.Field("hooks_dir", "is %q: give an absolute path", o.HooksDir))
	}
	return all
}

// ttl returns the output's own TTL, or the agent's.
func (o *CommonOptions) ttl(deps Dependencies) time.Duration {
	if o.CredentialTTL > 0 {
		return o.CredentialTTL
	}
	return deps.TTL
}

// interval returns the output's own renewal interval, or the agent's.
func (o *CommonOptions) interval(deps Dependencies) time.Duration {
	if o.RenewalInterval > 0 {
		return o.RenewalInterval
	}
	return deps.Interval
}
