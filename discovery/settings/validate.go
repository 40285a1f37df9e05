package settings

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"rollcall/discovery/plan"
	"rollcall/discovery/resource"
	"rollcall/failure"
)

// Limits of what is configured.
const (
	minInterval    = time.Second
	minHATTL       = 5 * time.Second
	maxHATTL       = 10 * time.Minute
	minExpires     = time.Minute
	maxConcurrency = 64
	maxRate        = 5000
	maxOwner       = 200
	maxWait        = 24 * time.Hour
)

// Validate fills in the defaults and returns everything that is wrong with the
// options, joined; each is a failure.FieldError. It touches no disk.
func (o *Options) Validate() error {
	o.setDefaults()
	return errors.Join(
		o.CommonOptions.Validate(),
		o.checkSource(),
		o.checkKinds(),
		o.checkRegister(),
		o.Policy.Validate(),
		o.Guard.validate(),
		o.checkOwner(),
		o.checkTimes(),
		o.checkLimits(),
	)
}

func (o *Options) setDefaults() {
	if o.Register == "" {
		o.Register = RegisterDynamic
	}
	if o.Policy == "" {
		o.Policy = plan.PolicySync
	}
	if o.Interval == 0 {
		o.Interval = DefaultInterval
	}
	if o.HATTL == 0 {
		o.HATTL = DefaultHATTL
	}
	if o.Guard.Settle == settleByType {
		o.Guard.Settle = 0
		if o.Source.Docker != nil {
			o.Guard.Settle = DefaultSettle
		}
	}
}

// checkSource checks the source, and the template where the source has one.
func (o *Options) checkSource() error {
	switch {
	case o.Source.Docker != nil:
		return errors.Join(within("source", o.Source.Docker.Validate()), within("resource", o.Resource.Validate()))
	case o.Source.File != nil:
		err := within("source", o.Source.File.Validate())
		if o.hasTemplate() {
			err = errors.Join(err, failure.Field("resource", "the entries of a file source say all of this themselves; move it there, or use the source type docker"))
		}
		return err
	default:
		return failure.Field("source", "there is no source; add one, for example \"source: {type: docker}\"")
	}
}

// checkKinds fills in the kinds that follow from the rest.
func (o *Options) checkKinds() error {
	if o.Source.Docker != nil {
		if len(o.Kinds) > 0 && !slices.Equal(o.Kinds, []resource.Kind{o.Resource.Kind}) {
			return failure.Field("kinds", "containers are registered as what resource.kind says (%s); remove kinds", o.Resource.Kind)
		}
		o.Kinds = []resource.Kind{o.Resource.Kind}
		return nil
	}
	if len(o.Kinds) == 0 {
		o.Kinds = []resource.Kind{resource.KindApp}
	}
	var all []error
	for i, kind := range o.Kinds {
		field := fmt.Sprintf("kinds[%d]", i)
		switch {
		case !slices.Contains(resource.Kinds(), kind):
			all = append(all, failure.Field(field, "%q is no kind; use app, db, kube_cluster or windows_desktop", kind))
		case slices.Contains(o.Kinds[:i], kind):
			all = append(all, failure.Field(field, "%q is there twice", kind))
		}
	}
	return errors.Join(all...)
}

// hasTemplate says whether anything of the template is given.
func (o *Options) hasTemplate() bool {
	r := o.Resource
	return r.Kind != "" || r.Name != "" || r.Description != "" || len(r.Labels) > 0 || r.URI != "" ||
		r.PublicAddr != "" || r.Protocol != "" || r.Kubeconfig != "" || r.KubeconfigInline != "" || r.Addr != "" ||
		len(r.DynamicLabels) > 0
}

func (o *Options) checkRegister() error {
	switch o.Register {
	case RegisterDynamic:
		return nil
	case RegisterAgent:
		if o.Source.File != nil {
			return failure.Field("register", "an Application Service container is started beside the container that it serves: use a docker source, or register: dynamic")
		}
		if o.Resource.Kind != resource.KindApp {
			return failure.Field("resource.kind", "an Application Service serves applications only, and register is agent; use app, or register: dynamic")
		}
		if o.Expires != 0 {
			return errors.Join(within("agent", o.Agent.Validate()),
				failure.Field("expires", "an Application Service's own record expires by itself; remove expires, or use register: dynamic"))
		}
		return within("agent", o.Agent.Validate())
	default:
		return failure.Field("register", "it's %q, and must be dynamic or agent", o.Register)
	}
}

// checkOwner refuses an owner that two hosts could share although each of them
// sees only its own containers: the one would delete what the other registers.
func (o *Options) checkOwner() error {
	if o.Owner == "" {
		return nil
	}
	if len(o.Owner) > maxOwner || strings.Trim(o.Owner, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._/-") != "" {
		return failure.Field("owner", "it may have letters, digits and . _ / - only, %d at most: roles compare it", maxOwner)
	}
	if o.Source.Docker != nil && o.Source.Docker.Local(noEnvironment) {
		return failure.Field("owner", "a shared owner and this host's own Docker Engine contradict each other: two agents with this configuration would see different containers, and each would delete what the other registers; remove owner, or name a remote Engine that all of them use (source.host)")
	}
	if o.Register == RegisterAgent {
		return failure.Field("owner", "with register: agent the containers are this host's; remove owner, or use register: dynamic")
	}
	return nil
}

// noEnvironment keeps a check the same wherever it runs: an Engine that only
// DOCKER_HOST names counts as the host's own.
func noEnvironment(string) string { return "" }

func (o *Options) checkTimes() error {
	var all []error
	if o.Interval < minInterval {
		all = append(all, failure.Field("interval", "%s is too short; the least is %s", o.Interval, minInterval))
	}
	if o.HATTL < minHATTL || o.HATTL > maxHATTL {
		all = append(all, failure.Field("ha_ttl", "%s isn't between %s and %s", o.HATTL, minHATTL, maxHATTL))
	}
	switch {
	case o.Expires == 0:
	case o.Expires < minExpires:
		all = append(all, failure.Field("expires", "%s is too short: an outage of that length would lose everything; the least is %s", o.Expires, minExpires))
	case o.Expires < 3*o.Interval:
		all = append(all, failure.Field("expires", "it must be at least three times interval (%s), because that's when resources are refreshed", o.Interval))
	}
	return errors.Join(all...)
}

func (o *Options) checkLimits() error {
	var all []error
	if o.Concurrency < 0 || o.Concurrency > maxConcurrency {
		all = append(all, failure.Field("concurrency", "%d isn't between 1 and %d", o.Concurrency, maxConcurrency))
	}
	if o.Rate < 0 || o.Rate > maxRate {
		all = append(all, failure.Field("rate", "%d isn't between 1 and %d", o.Rate, maxRate))
	}
	return errors.Join(all...)
}

func (g *Guard) validate() error {
	var all []error
	if _, err := share(g.MaxDelete); err != nil {
		all = append(all, err)
	}
	if g.BudgetFrom < 1 {
		all = append(all, failure.Field("guard.budget_from", "%d is less than 1", g.BudgetFrom))
	}
	if g.AbsentReads < 1 || g.AbsentReads > 100 {
		all = append(all, failure.Field("guard.absent_reads", "%d isn't between 1 and 100", g.AbsentReads))
	}
	if g.AbsentFor < 0 || g.AbsentFor > maxWait {
		all = append(all, failure.Field("guard.absent_for", "%s isn't between 0s and 24h", g.AbsentFor))
	}
	if g.Settle < 0 || g.Settle > maxWait {
		all = append(all, failure.Field("guard.settle", "%s isn't between 0s and 24h", g.Settle))
	}
	return errors.Join(all...)
}

// Plan returns the guard as the plan takes it. It's called after Validate.
func (g *Guard) Plan() plan.Guard {
	maxDelete, _ := share(g.MaxDelete)
	absentFor := g.AbsentFor
	if absentFor == 0 {
		absentFor = -1 // the plan's way to say none
	}
	return plan.Guard{
		AbsentReads: g.AbsentReads, AbsentFor: absentFor, MaxDelete: maxDelete, BudgetFrom: g.BudgetFrom, Settle: g.Settle,
	}
}

// share reads a percentage; empty: 0, the default.
func share(text string) (float64, error) {
	if text == "" {
		return 0, nil
	}
	number, found := strings.CutSuffix(text, "%")
	percent, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	switch {
	case !found || err != nil || percent > 100 || percent < 0:
		return 0, failure.Field("guard.max_delete", "it must be a share, from 1%% to 100%%, such as 50%%")
	case percent == 0:
		return 0, failure.Field("guard.max_delete", "with 0%% nothing is ever deleted; policy: upsert-only says that")
	}
	return percent / 100, nil
}

// within puts a field's name before those of the errors that a room below gave.
func within(field string, err error) error {
	if err == nil {
		return nil
	}
	fields := failure.Fields(err)
	if len(fields) == 0 {
		return failure.Field(field, "%s", err.Error())
	}
	var all []error
	for _, f := range fields {
		name := field
		switch {
		case f.Field == "":
		case strings.HasPrefix(f.Field, "["):
			name += f.Field
		default:
			name += "." + f.Field
		}
		all = append(all, failure.Field(name, "%s", f.Message))
	}
	return errors.Join(all...)
}
