// Package file knows desired resources that stand in files: one YAML or JSON
// file, or a directory of them. It knows where they stand and when they change;
// who decodes them is given to it, and it knows nothing of Teleport.
//
// # Documents
//
// A file is a mapping with one key:
//
//	resources:
//	  - kind: app                 # app (default), db, kube_cluster, windows_desktop
//	    name: grafana             # a DNS label; nothing is made valid silently
//	    uri: http://127.0.0.1:3000
//	    labels: {env: prod}
//	    keep: true                # outlives its entry here
//	  - kind: kube_cluster
//	    name: prod
//	    kubeconfig: prod.yaml     # in this file's directory, or kubeconfig_inline
//
// The keys of an entry are those of a discovery service's `resource:`
// (template.Options), without templates, and `workload` and `keep`. A directory
// holds *.yaml, *.yml and *.json; names that begin with a dot are left out, and
// directories below aren't looked into.
//
// # What can't delete anything
//
// A file that can't be read or decoded, one that is being written, an empty
// file and a directory without any file make the whole reading fail: an editor
// that has cut a file short, or a volume that isn't mounted, mustn't look like
// "nothing is desired". For nothing, write `resources: []`. An entry that is
// wrong, and whose name can be told, is an error of its own; what it registered
// before stays.
package file

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"rollcall/discovery"
	"rollcall/discovery/resource"
	"rollcall/discovery/template"
	"rollcall/failure"
)

// Type is the source's name in the configuration.
const Type = "file"

// Options are the source.
type Options struct {
	// Path is the absolute path of a file, or of a directory of them.
	Path string `yaml:"path"`
	// AllowDynamicLabels lets entries have dynamic_labels: commands that run on
	// Teleport's agents. Whoever writes the files chooses them then.
	AllowDynamicLabels bool `yaml:"allow_dynamic_labels,omitempty"`
}

// Validate returns a failure.FieldError for each field that can't work, joined.
// It touches no disk.
func (o *Options) Validate() error {
	switch {
	case o.Path == "":
		return failure.Field("path", "is empty; give the absolute path of a file or a directory")
	case !filepath.IsAbs(o.Path):
		return failure.Field("path", "is %q: give an absolute path", resource.Short(o.Path))
	}
	return nil
}

// Document is a file's content.
type Document struct {
	// Resources are the desired ones.
	Resources []Entry `yaml:"resources"`
}

// Entry is one desired resource.
type Entry struct {
	template.Options `yaml:",inline"`
	// Workload is the entry's identity, which may outlive its name. Default:
	// KIND/NAME.
	Workload string `yaml:"workload,omitempty"`
	// Keep asks that the resource outlives its entry.
	Keep bool `yaml:"keep,omitempty"`
}

// Decode decodes a file's content strictly. place says where in it a field
// stands ("resources[0].uri" gives "hosts.yaml:3:5"). Its errors have places.
type Decode func(name string, data []byte) (doc Document, place func(field string) string, err error)

// Deps is what a source needs from others.
type Deps struct {
	Decode Decode
	Log    *slog.Logger
}

// settle is how long a file must stay as it is before it counts as written.
const settle = 300 * time.Millisecond

// Source is the resources in files. It's safe for concurrent use.
type Source struct {
	path    string
	dynamic bool // whether entries may have dynamic labels
	decode  Decode
	log     *slog.Logger
	settle  time.Duration

	mu sync.Mutex // protects the following, and serialises readings
	// last are the files as they were read, and what stood in them.
	last    stamps
	entries []entry
}

var _ discovery.Source = (*Source)(nil)

// New returns the source of options that Validate has passed; it validates them
// once more. It reads nothing yet.
func New(options Options, deps Deps) (*Source, error) {
	if err := options.Validate(); err != nil {
		return nil, err
	}
	return &Source{path: filepath.Clean(options.Path), dynamic: options.AllowDynamicLabels, decode: deps.Decode, log: deps.Log, settle: settle}, nil
}

// entry is one entry and where it stands.
type entry struct {
	Entry
	dir string
	// at is "hosts.yaml:3:5"; place tells that of one of its fields.
	at    string
	place func(field string) string
}

// Read returns what the files ask for; see discovery.Source.
func (s *Source) Read(ctx context.Context) ([]discovery.Candidate, error) {
	_, candidates, err := s.read(ctx)
	return candidates, err
}

// read returns the entries, and what becomes of each.
func (s *Source) read(ctx context.Context) ([]entry, []discovery.Candidate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.refresh(ctx); err != nil {
		return nil, nil, err
	}
	candidates := make([]discovery.Candidate, len(s.entries))
	for i := range s.entries {
		candidates[i] = s.entries[i].candidate(s.dynamic)
	}
	tellRivals(s.entries, candidates)
	return s.entries, candidates, nil
}

// Explain tells what becomes of the entries that name is about: a resource's
// name, KIND/NAME, or a workload. It's failure.NotFound if there's none.
func (s *Source) Explain(ctx context.Context, name string) ([]discovery.Candidate, error) {
	entries, candidates, err := s.read(ctx)
	if err != nil {
		return nil, err
	}
	var told []discovery.Candidate
	for i, c := range candidates {
		e := &entries[i]
		if e.Name == name || c.Workload == name || string(e.kind())+"/"+e.Name == name {
			told = append(told, c)
		}
	}
	if len(told) == 0 {
		return nil, failure.New(failure.NotFound, "%s has no entry that is called %q", s.path, name)
	}
	return told, nil
}

// Close does nothing: no file is held open.
func (s *Source) Close() {}

// candidate makes the resource of an entry.
func (e *entry) candidate(dynamic bool) discovery.Candidate {
	c := discovery.Candidate{Workload: e.workload(), Keep: e.Keep}
	c.Rules = []discovery.Rule{{Name: "found", Passed: true, Detail: "the entry at " + e.at}}
	r, err := e.Literal(e.dir)
	if !dynamic && len(e.DynamicLabels) > 0 {
		err = failure.Field("dynamic_labels", "are commands that run on Teleport's agents; set `allow_dynamic_labels` on the source if whoever writes the file may choose them")
	}
	if err != nil {
		c.Err = failure.Wrap(failure.Configuration, err, "%s", e.explain(err))
		c.Rules = append(c.Rules, discovery.Rule{Name: "entry", Detail: c.Err.Error()})
		return c
	}
	c.Resource = r
	c.Rules = append(c.Rules, discovery.Rule{Name: "entry", Passed: true, Detail: r.Key().String()})
	return c
}

func (e *entry) kind() resource.Kind {
	if e.Kind == "" {
		return resource.KindApp
	}
	return e.Kind
}

func (e *entry) workload() string {
	if e.Workload != "" {
		return e.Workload
	}
	return string(e.kind()) + "/" + e.Name
}

// explain puts the place before each of an entry's errors.
func (e *entry) explain(err error) string {
	var lines []string
	for _, field := range failure.Fields(err) {
		lines = append(lines, fmt.Sprintf("%s: %s %s", e.place(field.Field), field.Field, field.Message))
	}
	if len(lines) == 0 {
		return e.at + ": " + err.Error()
	}
	return strings.Join(lines, "; ")
}

var plainWorkload = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_./#-]{0,199}$`)

// check wants an entry whose identity can be told. Without one nobody could say
// what it has registered, which would then be taken for gone.
func (e *entry) check() error {
	switch {
	case e.Name == "" && e.Workload == "":
		return failure.New(failure.Configuration, "%s: the entry has no name", e.at)
	case e.Workload != "" && !plainWorkload.MatchString(e.Workload):
		return failure.New(failure.Configuration, "%s: workload is %q, and must be at most 200 letters, digits, and . _ / # -", e.place("workload"), resource.Short(e.Workload))
	case len(e.Name) > 200:
		return failure.New(failure.Configuration, "%s: the entry's name is longer than 200 bytes", e.at)
	}
	return nil
}

// tellRivals turns entries of one name, or of one identity, into errors:
// whichever was taken, the other would be gone without a word.
func tellRivals(entries []entry, candidates []discovery.Candidate) {
	claims := map[string][]int{}
	for i := range entries {
		e := &entries[i]
		key := "the name " + string(e.kind()) + "/" + e.Name
		claims[key] = append(claims[key], i)
		if e.Workload != "" {
			key = "the workload " + e.Workload
			claims[key] = append(claims[key], i)
		}
	}
	for claim, who := range claims {
		if len(who) < 2 {
			continue
		}
		for _, i := range who {
			var others []string
			for _, j := range who {
				if i != j {
					others = append(others, entries[j].at)
				}
			}
			detail := fmt.Sprintf("%s: %s is claimed at %s as well; keep one", entries[i].at, claim, strings.Join(others[:min(3, len(others))], ", "))
			candidates[i].Rules = append(candidates[i].Rules, discovery.Rule{Name: "rivals", Detail: detail})
			if candidates[i].Err == nil {
				candidates[i].Err = failure.New(failure.Conflict, "%s", detail)
			}
		}
	}
}
