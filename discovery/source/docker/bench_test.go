package docker

import (
	"fmt"
	"testing"

	"rollcall/discovery/template"
)

// BenchmarkDecide turns 1,000 containers into candidates: what a comparison
// costs beside the Engine's answer.
func BenchmarkDecide(b *testing.B) {
	o := everything()
	if err := o.Validate(); err != nil {
		b.Fatal(err)
	}
	made, err := template.New(template.Options{Name: "{{ .Name }}-{{ .Host }}", Labels: map[string]string{"image": "{{ .Image }}"}})
	if err != nil {
		b.Fatal(err)
	}
	d := &decider{options: &o, template: made, host: "host1"}
	boxes := make([]*box, 1000)
	for i := range boxes {
		boxes[i] = web(labelled("rollcall.name", fmt.Sprintf("web%d", i)))
	}
	b.ReportAllocs()
	for b.Loop() {
		for _, one := range boxes {
			d.decide(one)
		}
	}
}
