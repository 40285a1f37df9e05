package docker

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"rollcall/discovery"
	"rollcall/discovery/resource"
	"rollcall/discovery/template"
	"rollcall/failure"
)

// Names of the rules, in their order, as the documentation has them.
const (
	ruleFound    = "found"
	ruleAgent    = "agent"
	ruleFilters  = "filters"
	ruleRunning  = "running"
	ruleLabels   = "labels"
	ruleEnabled  = "enabled"
	ruleHealthy  = "healthy"
	ruleIdentity = "identity"
	ruleNetwork  = "network"
	rulePort     = "port"
	ruleAddress  = "address"
	ruleTemplate = "template"
	ruleName     = "name"
)

// decider turns containers into candidates. It's pure: what it says depends on
// nothing but what it was given.
type decider struct {
	options     *Options
	template    *template.Template
	host        string // .Host
	hostAddress string // of the Engine's host; "" if it isn't known
}

// decide returns a candidate for each resource that a container asks for. One
// that isn't to be registered has Skip; rules are those that were passed
// before.
func (d *decider) decide(b *box, rules ...discovery.Rule) []discovery.Candidate {
	var all []discovery.Candidate
	for _, wish := range requests(b.labels, d.options.AllowLabels) {
		c := &decision{decider: d, box: b, wish: wish}
		c.out.Rules = append(c.out.Rules, rules...)
		c.run()
		all = append(all, c.out)
	}
	return all
}

// decision is the way of one request through the rules.
type decision struct {
	*decider
	box  *box
	wish request
	out  discovery.Candidate
}

func (c *decision) pass(rule, format string, args ...any) {
	c.out.Rules = append(c.out.Rules, discovery.Rule{Name: rule, Passed: true, Detail: fmt.Sprintf(format, args...)})
}

// skip ends the decision: nothing is registered.
func (c *decision) skip(rule, format string, args ...any) bool {
	c.out.Skip = fmt.Sprintf(format, args...)
	c.out.Rules = append(c.out.Rules, discovery.Rule{Name: rule, Detail: c.out.Skip})
	return false
}

// fail ends the decision: what is registered stays as it is.
func (c *decision) fail(rule string, err error) bool {
	c.out.Err = failure.Wrap(failure.KindOf(err), err, "the container %s: %v", c.box, err)
	c.out.Rules = append(c.out.Rules, discovery.Rule{Name: rule, Detail: err.Error()})
	return false
}

func (c *decision) run() {
	// The identity comes first, since an error about a workload that nobody can
	// name would let go of what it has registered.
	workload, why, identityErr := c.box.identity(c.options.IdentityLabel, c.options.Identity)
	if identityErr != nil {
		workload = c.box.name
	}
	if c.wish.index >= 0 {
		workload = fmt.Sprintf("%s#%d", workload, c.wish.index)
	}
	c.out.Workload, c.out.Keep = workload, c.wish.keep
	_ = c.application() && c.running() && c.enabled() && c.healthy() && c.identified(why, identityErr) && c.labels() && c.resource()
}

// application leaves out the agents that a service of type discovery starts,
// whosever they are: each would be given an agent of its own, which would be
// given one, and so on.
func (c *decision) application() bool {
	if c.box.isAgent() {
		return c.skip(ruleAgent, "it bears the label %s: it's an agent that serves an application, and is never one itself", resource.LabelAgent)
	}
	return true
}

func (c *decision) running() bool {
	switch c.box.state {
	case stateRunning, statePaused:
		c.pass(ruleRunning, "it's %s", c.box.state)
		return true
	case stateRestarting:
		return c.fail(ruleRunning, failure.New(failure.Transient, "it's restarting"))
	default:
		return c.skip(ruleRunning, "it's %s", cmp.Or(c.box.state, "in no state that is known"))
	}
}

func (c *decision) enabled() bool {
	says := labelPrefix + labelEnable
	switch {
	case c.wish.enable == "true":
		c.pass(ruleEnabled, "it says %s=true", says)
	case c.wish.enable == "false":
		return c.skip(ruleEnabled, "it says %s=false", says)
	case c.options.Select == SelectLabelled:
		return c.skip(ruleEnabled, "it doesn't say %s=true, and `select` is labelled", says)
	default:
		c.pass(ruleEnabled, "`select` is all")
	}
	return true
}

func (c *decision) healthy() bool {
	switch health := c.box.health; {
	case health == healthUnhealthy && c.options.Unhealthy == PolicyWithhold:
		return c.skip(ruleHealthy, "it's unhealthy, and `unhealthy` is withhold")
	case health == healthStarting && c.options.Starting == PolicyWithhold:
		return c.fail(ruleHealthy, failure.New(failure.Transient, "its health check hasn't passed yet, and `starting` is withhold"))
	case health == "":
		c.pass(ruleHealthy, "it has no health check")
	default:
		c.pass(ruleHealthy, "it's %s", health)
	}
	return true
}

func (c *decision) identified(why string, err error) bool {
	if err != nil {
		return c.fail(ruleIdentity, failure.Wrap(failure.Configuration, err, "%v", err))
	}
	c.pass(ruleIdentity, "%s, %s", c.out.Workload, why)
	return true
}

func (c *decision) labels() bool {
	if len(c.wish.errs) > 0 {
		return c.fail(ruleLabels, failure.Wrap(failure.Configuration, errors.Join(c.wish.errs...), "%s", sentences(c.wish.errs)))
	}
	detail := "all that it sets are allowed"
	if len(c.wish.ignored) > 0 {
		detail = "ignored: " + strings.Join(c.wish.ignored, "; ")
	}
	c.pass(ruleLabels, "%s", detail)
	return true
}

// resource chooses the address and renders the template.
func (c *decision) resource() bool {
	owner, err := c.box.owner()
	if err != nil {
		return c.fail(ruleNetwork, err)
	}
	network := modeHost
	if owner.mode == modeHost {
		c.pass(ruleNetwork, "the host's own")
	} else if c.options.Address == AddressPublished {
		network = ""
		c.pass(ruleNetwork, "none is chosen: `address` is published")
	} else {
		name, why, warning, err := chooseNetwork(owner, c.wish.network, c.options.Network)
		if err != nil {
			return c.fail(ruleNetwork, err)
		}
		network = name
		if warning {
			why = "warning: " + why
		}
		c.pass(ruleNetwork, "%s, %s", name, why)
	}
	ports, noun := c.options.portsOf(c.box, owner)
	port, why, err := choosePort(c.wish.port, c.options.Port, ports, noun)
	if err != nil {
		return c.fail(rulePort, err)
	}
	c.pass(rulePort, "%d, %s", port, why)
	at, err := c.options.placeOf(owner, network, port, c.hostAddress)
	if err != nil {
		return c.fail(ruleAddress, err)
	}
	c.pass(ruleAddress, "%s:%d, reached %s", at.ip, at.port, at.from)
	return c.render(at)
}

func (c *decision) render(at place) bool {
	result, err := c.template.Render(c.facts(at))
	if err != nil {
		return c.fail(ruleTemplate, failure.Wrap(failure.Configuration, err, "the resource's %s", sentences([]error{err})))
	}
	c.addLabels(&result.Resource)
	c.pass(ruleTemplate, "%s", result.Resource.Key())
	if result.Rendered != result.Resource.Name {
		c.pass(ruleName, "%s, made of %q to be a DNS label", result.Resource.Name, resource.Short(result.Rendered))
	} else {
		c.pass(ruleName, "%s is a DNS label", result.Resource.Name)
	}
	c.out.Resource = result.Resource
	return true
}

func (c *decision) facts(at place) template.Facts {
	f := template.Facts{
		Name:          cmp.Or(c.wish.name, c.box.callName()),
		Host:          c.host,
		IP:            at.ip,
		Port:          at.port,
		ContainerPort: at.inside,
		Scheme:        cmp.Or(c.wish.scheme, c.options.Scheme),
		Path:          c.wish.path,
		PublicAddr:    c.wish.publicAddr,
		ID:            c.box.shortID(),
		Image:         c.box.image,
		Container:     c.box.name,
		Workload:      c.out.Workload,
		Network:       at.network,
		Labels:        c.box.labels,
	}
	if c.wish.index >= 0 && c.wish.name == "" {
		f.Name = fmt.Sprintf("%s-%d", f.Name, c.wish.index)
	}
	if c.options.Network != "" && at.network == c.options.Network {
		f.FixNetwork()
	}
	if project, service, number, ok := c.box.composed(); ok {
		f.Project, f.Service, f.Number = project, service, number
	}
	return f
}

// addLabels adds the labels that the container asks for. The service's own
// come first.
func (c *decision) addLabels(r *resource.Resource) {
	var left []string
	for _, key := range slices.Sorted(maps.Keys(c.wish.labels)) {
		_, taken := r.Labels[key]
		if taken || len(r.Labels) >= resource.MaxLabels {
			left = append(left, key)
			continue
		}
		r.Labels[key] = c.wish.labels[key]
	}
	if len(left) > 0 {
		c.pass(ruleLabels, "left out, since the service sets them itself or there are %d already: %s", resource.MaxLabels, resource.Short(strings.Join(left, ", ")))
	}
}

// sentences joins errors into one line.
func sentences(errs []error) string {
	var all []string
	for _, err := range errs {
		all = append(all, strings.Split(err.Error(), "\n")...)
	}
	return strings.Join(all, "; ")
}
