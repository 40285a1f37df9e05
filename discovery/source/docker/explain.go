package docker

import (
	"context"
	"strings"

	"github.com/docker/docker/api/types/filters"

	"rollcall/discovery"
	"rollcall/failure"
)

// Explain tells what becomes of the containers that name is about: a
// container's name, the beginning of its ID (4 characters or more), or a
// workload's identity. Stopped and skipped ones are told too, with Skip set.
// It's failure.NotFound if there's none.
func (s *Source) Explain(ctx context.Context, name string) ([]discovery.Candidate, error) {
	// An engine of its own: what Read knows of containers stays as it is.
	engine := newEngine(s.endpoint)
	defer engine.close()
	boxes, err := engine.read(ctx, filters.NewArgs(), true, nil)
	if err != nil {
		return nil, err
	}
	drivers, err := engine.networks(ctx)
	if err != nil {
		return nil, err
	}
	var candidates []discovery.Candidate
	for _, b := range boxes {
		if !s.isCalled(b, name) {
			continue
		}
		told, err := s.explain(ctx, engine, b, drivers)
		if err != nil {
			return nil, err
		}
		candidates = append(candidates, told...)
	}
	if len(candidates) == 0 {
		return nil, failure.New(failure.NotFound, "the Docker Engine %s has no container, running or stopped, that is called %q", s.endpoint.host, name)
	}
	s.tellRivals(boxes, candidates)
	return candidates, nil
}

// isCalled says if a container is meant by a name.
func (s *Source) isCalled(b *box, name string) bool {
	name = strings.TrimPrefix(name, "/")
	workload, _, err := b.identity(s.options.IdentityLabel, s.options.Identity)
	base, _, _ := strings.Cut(name, "#")
	return b.name == name || err == nil && workload == base || len(name) >= 4 && strings.HasPrefix(b.id, name)
}

func (s *Source) explain(ctx context.Context, engine *engine, b *box, drivers map[string]string) ([]discovery.Candidate, error) {
	if b.isAgent() {
		return s.decider.decide(b, found(b)), nil
	}
	failed, err := s.failedFilter(ctx, engine, b)
	if err != nil {
		return nil, err
	}
	if failed != "" {
		detail := "it doesn't match " + failed
		workload, _, err := b.identity(s.options.IdentityLabel, s.options.Identity)
		if err != nil {
			workload = b.name
		}
		return []discovery.Candidate{{
			Workload: workload, Skip: detail,
			Rules: []discovery.Rule{found(b), {Name: ruleFilters, Detail: detail}},
		}}, nil
	}
	told := s.decider.decide(b, found(b), s.filtered())
	for i := range told {
		nameDriver(told[i].Rules, drivers)
	}
	return told, nil
}

// failedFilter returns the first filter that a container doesn't match, or "".
// The Engine itself says it where a reading has it filter.
func (s *Source) failedFilter(ctx context.Context, engine *engine, b *box) (string, error) {
	f := s.options.Filters
	if !f.ofImage(b.image, b.imageID) {
		return Filters{Ancestor: f.Ancestor}.String(), nil
	}
	for _, one := range []struct {
		only  Filters
		given bool
	}{
		{Filters{Label: f.Label}, len(f.Label) > 0},
		{Filters{Name: f.Name}, len(f.Name) > 0},
		{Filters{Network: f.Network}, len(f.Network) > 0},
	} {
		if !one.given {
			continue
		}
		matches, err := engine.matches(ctx, one.only.args(), b.id)
		if err != nil {
			return "", err
		}
		if !matches {
			return one.only.String(), nil
		}
	}
	if !f.inProject(b) {
		return Filters{ComposeProject: f.ComposeProject}.String(), nil
	}
	return "", nil
}

// nameDriver adds to the rule about the network what kind of network it is,
// since that decides who can reach an address in it.
func nameDriver(rules []discovery.Rule, drivers map[string]string) {
	for i := range rules {
		network, _, _ := strings.Cut(rules[i].Detail, ",")
		driver, known := drivers[network]
		if rules[i].Name != ruleNetwork || !rules[i].Passed || !known {
			continue
		}
		reach := map[string]string{
			"bridge":  "a bridge: its addresses are reached from this Engine's host only",
			"overlay": "an overlay: its addresses are reached from containers in it only",
			"macvlan": "a macvlan: its addresses are reached from the host's own network, and not from the host",
			"ipvlan":  "an ipvlan: its addresses are reached from the host's own network, and not from the host",
		}[driver]
		if reach == "" {
			reach = "of the driver " + driver
		}
		rules[i].Detail += "; it's " + reach
	}
}

// tellRivals adds the error that a reading would have for identities that more
// than one running container has.
func (s *Source) tellRivals(boxes []*box, candidates []discovery.Candidate) {
	rivals := map[string]int{}
	for _, b := range boxes {
		if b.state != stateRunning {
			continue
		}
		for _, c := range s.decider.decide(b) {
			if c.Skip == "" {
				rivals[c.Workload]++
			}
		}
	}
	for i := range candidates {
		c := &candidates[i]
		if c.Skip == "" && c.Err == nil && rivals[c.Workload] > 1 {
			c.Err = rivalry(c.Workload, rivals[c.Workload])
			c.Rules = append(c.Rules, discovery.Rule{Name: ruleIdentity, Detail: c.Err.Error()})
		}
	}
}

func rivalry(workload string, count int) error {
	return failure.New(failure.Conflict, "%d running containers have the identity %s; stop all but one, or tell them apart with `identity_label`", count, workload)
}
