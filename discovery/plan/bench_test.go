package plan

import (
	"fmt"
	"testing"

	"rollcall/discovery/resource"
)

// agreement is n applications, each registered as it's wanted.
func agreement(n int) Input {
	in := input(nil)
	for i := range n {
		name := fmt.Sprintf("web-%05d", i)
		d := wish("shop/"+name, name)
		d.Resource.Labels = map[string]string{"env": "prod", "team": "shop", "host": "web-1"}
		in.Desired = append(in.Desired, d)
		registered := *in.labelled(&d, nil)
		registered.Labels["teleport.dev/origin"] = "dynamic"
		in.Actual = append(in.Actual, registered)
	}
	return in
}

// BenchmarkNothingToDo is a full comparison of 10,000 applications that comes to
// nothing.
func BenchmarkNothingToDo(b *testing.B) {
	in := agreement(10_000)
	b.ReportAllocs()
	for b.Loop() {
		if p := Make(in); len(p.Actions) > 0 || p.Unchanged != 10_000 {
			b.Fatal(short(p))
		}
	}
}

// BenchmarkNew is a plan that creates 1,000 beside 9,000 that are there.
func BenchmarkNew(b *testing.B) {
	in := agreement(10_000)
	in.Actual = in.Actual[:9_000]
	b.ReportAllocs()
	for b.Loop() {
		if p := Make(in); p.Count(OpCreate) != 1_000 {
			b.Fatal(short(p))
		}
	}
}

// BenchmarkMove is a plan that changes the addresses of all.
func BenchmarkMove(b *testing.B) {
	in := agreement(10_000)
	for i := range in.Actual {
		in.Actual[i].Spec = resource.AppSpec{URI: "http://10.9.9.9:80"}
	}
	b.ReportAllocs()
	for b.Loop() {
		if p := Make(in); p.Count(OpUpdate) != 10_000 {
			b.Fatal(short(p))
		}
	}
}
