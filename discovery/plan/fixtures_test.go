package plan

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"rollcall/discovery/resource"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	us     = "bot/host/rabbit"
	source = "docker/rabbit"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

// wish is a workload that asks for an application.
func wish(workload, name string) Desired {
	return Desired{Workload: workload, Resource: app(name, "http://10.0.0.1:80", nil)}
}

func app(name, uri string, labels map[string]string) resource.Resource {
	return resource.Resource{Kind: resource.KindApp, Name: name, Labels: labels, Spec: resource.AppSpec{URI: uri}}
}

// own is the application that a workload has registered.
func own(workload, name string) resource.Resource {
	return marked(us, source, workload, name)
}

func marked(owner, source, workload, name string) resource.Resource {
	return app(name, "http://10.0.0.1:80", map[string]string{
		resource.LabelOwner: owner, resource.LabelSource: source, resource.LabelWorkload: workload,
	})
}

func with(r resource.Resource, key, value string) resource.Resource {
	r = r.Clone()
	r.Labels[key] = value
	return r
}

func at(r resource.Resource, uri string) resource.Resource {
	r.Spec = resource.AppSpec{URI: uri}
	return r
}

// gone is a memory in which these names have been absent for long enough.
func gone(names ...string) map[resource.Key]Absence {
	all := map[resource.Key]Absence{}
	for _, name := range names {
		all[resource.Key{Kind: resource.KindApp, Name: name}] = Absence{Since: noon.Add(-time.Hour), Reads: 10}
	}
	return all
}

// input is one that every gate lets pass.
func input(desired []Desired, actual ...resource.Resource) Input {
	in := Input{Owner: us, Source: source, Desired: desired, Actual: actual, GoodReads: 5, Guard: DefaultGuard(), Now: noon}
	var names []string
	for _, r := range actual {
		names = append(names, r.Name)
	}
	in.Absences = gone(names...)
	return in
}

// short writes a plan as "op name(workload)" words.
func short(p Plan) string {
	var words []string
	for _, a := range p.Actions {
		word := fmt.Sprintf("%s %s(%s)", a.Op, a.Key.Name, a.Workload)
		if a.BlockedBy != "" {
			word += " by " + string(a.BlockedBy)
		}
		words = append(words, word)
	}
	return strings.Join(words, ", ")
}
