package docker

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	types "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"

	"rollcall/discovery"
	"rollcall/discovery/resource"
	"rollcall/discovery/template"
)

// Deps is what a source needs from others.
type Deps struct {
	// Template makes the resources.
	Template *template.Template
	// Host is this host's short name, for {{ .Host }}.
	Host string
	// Getenv reads the environment: DOCKER_HOST, DOCKER_CERT_PATH,
	// DOCKER_API_VERSION.
	Getenv func(string) string
	Log    *slog.Logger
}

// Source is the containers of a Docker Engine. It's safe for concurrent use.
type Source struct {
	options  Options
	endpoint endpoint
	engine   *engine
	decider  *decider
	log      *slog.Logger
	// afterthoughts are the pauses after an event at whose ends is hinted once
	// more.
	afterthoughts []time.Duration

	mu       sync.Mutex // protects the following
	since    time.Time  // see Since
	start    string     // the start of the Engine that was seen last
	followed bool       // events were followed, now or before
	lost     bool       // and aren't now
}

var (
	_ discovery.Source  = (*Source)(nil)
	_ discovery.Gradual = (*Source)(nil)
)

// New returns the source of options that Validate has passed; it validates them
// once more. It reaches no Engine yet.
func New(options Options, deps Deps) (*Source, error) {
	if err := options.Validate(); err != nil {
		return nil, err
	}
	reached, err := endpointOf(&options, deps.Getenv)
	if err != nil {
		return nil, err
	}
	s := &Source{options: options, endpoint: reached, engine: newEngine(reached), log: deps.Log, afterthoughts: afterthoughts()}
	s.decider = &decider{options: &s.options, template: deps.Template, host: deps.Host, hostAddress: options.AdvertiseAddress}
	if s.decider.hostAddress == "" && options.Local(deps.Getenv) {
		s.decider.hostAddress = "127.0.0.1"
	}
	return s, nil
}

// Read returns what the containers that run ask for. Those that aren't to be
// registered aren't among them; Explain tells of them.
func (s *Source) Read(ctx context.Context) ([]discovery.Candidate, error) {
	boxes, err := s.engine.read(ctx, s.options.Filters.args(), false, s.candidate)
	if err != nil {
		return nil, err
	}
	// It's asked behind the list: one that is younger than a start tells of it.
	s.sees(s.engine.start(ctx))
	var candidates []discovery.Candidate
	for _, b := range boxes {
		if !s.options.Filters.inProject(b) || !s.options.Filters.ofImage(b.image, b.imageID) {
			continue
		}
		for _, c := range s.decider.decide(b, found(b), s.filtered()) {
			if c.Skip == "" {
				candidates = append(candidates, c)
			}
		}
	}
	slices.SortStableFunc(candidates, func(a, b discovery.Candidate) int { return strings.Compare(a.Workload, b.Workload) })
	disputed(candidates)
	return candidates, nil
}

// candidate says if an entry of the list is worth asking for its details.
func (s *Source) candidate(c types.Summary) bool {
	_, isAgent := c.Labels[resource.LabelAgent]
	return !isAgent && s.options.Filters.mayBeOf(c)
}

// disputed turns candidates of one identity into errors: whichever was taken,
// the other would be gone without a word.
func disputed(candidates []discovery.Candidate) {
	claims := map[string][]int{}
	for i, c := range candidates {
		claims[c.Workload] = append(claims[c.Workload], i)
	}
	for workload, who := range claims {
		if len(who) < 2 {
			continue
		}
		for _, i := range who {
			c := &candidates[i]
			err := rivalry(workload, len(who))
			if c.Err == nil {
				c.Err = err
			}
			c.Rules = append(c.Rules, discovery.Rule{Name: ruleIdentity, Detail: err.Error()})
		}
	}
}

func found(b *box) discovery.Rule {
	return discovery.Rule{Name: ruleFound, Passed: true, Detail: "the container " + b.String() + " of the image " + b.image}
}

func (s *Source) filtered() discovery.Rule {
	detail := "it matches " + s.options.Filters.String()
	if s.options.Filters.Empty() {
		detail = "there are none"
	}
	return discovery.Rule{Name: ruleFilters, Passed: true, Detail: detail}
}

// Close ends idle connections. The source can be used again.
func (s *Source) Close() { s.engine.close() }

// args are the filters that the Engine applies. See ofImage for Ancestor.
func (f Filters) args() filters.Args {
	args := filters.NewArgs()
	for key, values := range map[string][]string{"label": f.Label, "name": f.Name, "network": f.Network} {
		for _, value := range values {
			args.Add(key, value)
		}
	}
	return args
}

// inProject applies a filter that the Engine hasn't: it would want a
// container to be in all the projects.
func (f Filters) inProject(b *box) bool {
	return len(f.ComposeProject) == 0 || slices.Contains(f.ComposeProject, b.labels[composeProject])
}

// String is "ancestor=rabbitmq:3, network=web".
func (f Filters) String() string {
	all := map[string][]string{
		"ancestor": f.Ancestor, "label": f.Label, "name": f.Name, "network": f.Network, "compose_project": f.ComposeProject,
	}
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(all)) {
		for _, value := range all[key] {
			parts = append(parts, key+"="+value)
		}
	}
	return strings.Join(parts, ", ")
}
