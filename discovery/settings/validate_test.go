package settings

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rollcall/discovery/source/docker"
	"rollcall/discovery/source/file"
	"rollcall/discovery/template"
	"rollcall/failure"
)

func fromDocker() *Options {
	o := New()
	o.Name, o.Source = "web", Source{Type: docker.Type, Docker: new(docker.Options)}
	o.Resource = template.Options{Name: "{{ .Name }}"}
	return o
}

func fromFile() *Options {
	o := New()
	o.Name, o.Source = "web", Source{Type: file.Type, File: &file.Options{Path: "/etc/inventory.yaml"}}
	return o
}

// A zero that somebody wrote is what they want, or is refused; it's never the
// default.
func TestZerosOfTheGuardAreNoDefaults(t *testing.T) {
	o := fromDocker()
	require.NoError(t, o.Validate())
	guard := o.Guard.Plan()
	require.Equal(t, 2, guard.AbsentReads)
	require.Equal(t, 10*time.Second, guard.AbsentFor)
	require.Equal(t, DefaultSettle, guard.Settle)

	o.Guard.AbsentFor, o.Guard.Settle = 0, 0
	require.NoError(t, o.Validate())
	guard = o.Guard.Plan().WithDefaults()
	require.LessOrEqual(t, guard.AbsentFor, time.Duration(0), "the reads are enough")
	require.Zero(t, guard.Settle)

	for field, change := range map[string]func(g *Guard){
		"guard.absent_reads": func(g *Guard) { g.AbsentReads = 0 },
		"guard.budget_from":  func(g *Guard) { g.BudgetFrom = 0 },
		"guard.absent_for":   func(g *Guard) { g.AbsentFor = -time.Second },
		"guard.settle":       func(g *Guard) { g.Settle = 25 * time.Hour },
	} {
		o := fromDocker()
		change(&o.Guard)
		fields := failure.Fields(o.Validate())
		require.Len(t, fields, 1)
		require.Equal(t, field, fields[0].Field)
	}
}

// A file is whole as soon as it's there, and a host's containers aren't.
func TestSettleGoesByTheSource(t *testing.T) {
	o := fromFile()
	require.NoError(t, o.Validate())
	require.Zero(t, o.Guard.Settle)
	o.Guard.Settle = time.Minute
	require.NoError(t, o.Validate())
	require.Equal(t, time.Minute, o.Guard.Settle)
}
