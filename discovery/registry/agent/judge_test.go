package agent

import (
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/stretchr/testify/require"

	"rollcall/discovery/resource"
)

const testOwner = "bot/host/service"

// record is a record of an application of that owner.
func recordOf(app, node, owner string) served {
	return served{hostID: "id-" + node, node: node, resource: resource.Resource{
		Kind: resource.KindApp, Name: app, Labels: map[string]string{resource.LabelOwner: owner},
		Spec: resource.AppSpec{URI: "http://a"},
	}}
}

func TestTrouble(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	opts := &Options{JoinTimeout: time.Minute}
	// healthy is an agent that has registered; change makes it something else.
	agent := func(change func(*seen)) *seen {
		a := &seen{
			id: "1", node: "node-1", app: "web", settings: "s", state: container.StateRunning, created: now.Add(-time.Hour),
			readable: true, spent: true, record: recordOf("web", "", testOwner).resource,
		}
		change(a)
		return a
	}
	same := func(*seen) {}
	registered := []served{recordOf("web", "node-1", testOwner)}
	tests := map[string]struct {
		agents  []*seen
		records []served
		want    string
	}{
		"registered":                       {[]*seen{agent(same)}, registered, ""},
		"fault 4: started, not yet joined": {[]*seen{agent(func(a *seen) { a.created, a.spent = now.Add(-30*time.Second), false })}, nil, ""},
		"fault 4: this process waits":      {[]*seen{agent(func(a *seen) { a.joining, a.spent = true, false })}, nil, ""},
		"didn't join in time":              {[]*seen{agent(func(a *seen) { a.created, a.spent = now.Add(-61*time.Second), false })}, nil, troubleJoin},
		"given up":                         {[]*seen{agent(func(a *seen) { a.failed, a.state = true, container.StateExited })}, nil, troubleJoin},
		"its token is still valid":         {[]*seen{agent(func(a *seen) { a.spent = false })}, registered, troubleToken},
		"being made": {[]*seen{agent(func(a *seen) {
			a.state, a.created, a.readable = container.StateCreated, now.Add(-10*time.Second), false
		})}, nil, ""},
		"made and never started": {[]*seen{agent(func(a *seen) { a.state, a.created = container.StateCreated, now.Add(-31*time.Second) })}, nil, troubleUnused},
		"ended":                  {[]*seen{agent(func(a *seen) { a.state = container.StateExited })}, registered, troubleStopped},
		"dead":                   {[]*seen{agent(func(a *seen) { a.state = container.StateDead })}, nil, troubleStopped},
		"paused by somebody":     {[]*seen{agent(func(a *seen) { a.state = container.StatePaused })}, registered, ""},
		"without our files":      {[]*seen{agent(func(a *seen) { a.readable = false })}, registered, troubleFiles},
		"of older settings":      {[]*seen{agent(func(a *seen) { a.settings = "t" })}, registered, troubleSettings},
		"away a moment":          {[]*seen{agent(func(a *seen) { a.awaySince = now.Add(-time.Minute) })}, nil, ""},
		"away for long":          {[]*seen{agent(func(a *seen) { a.awaySince = now.Add(-16 * time.Minute) })}, nil, troubleAway},
		"two containers": {[]*seen{agent(same), agent(func(a *seen) { a.id, a.node, a.created = "2", "node-2", now.Add(-2*time.Hour) })},
			registered, troubleExtra},
		"two, while the older is replaced": {[]*seen{agent(func(a *seen) { a.joining = true }), agent(func(a *seen) { a.id, a.created = "2", now.Add(-2*time.Hour) })},
			registered, ""},
		"fault 9: a record without a container": {nil, []served{recordOf("web", "gone", testOwner)}, troubleStale},
		"a record too many":                     {[]*seen{agent(same)}, append(registered[:1:1], recordOf("web", "gone", testOwner)), troubleStale},
		"fault 2: another's":                    {nil, []served{recordOf("web", "theirs", "other")}, ""},
		"fault 2: nobody's":                     {nil, []served{recordOf("web", "theirs", "")}, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			groups := assemble(testOwner, test.agents, nil, test.records)
			require.Len(t, groups, 1)

			shown, trouble := groups[0].shown(opts, "s", now)

			require.Equal(t, test.want, trouble)
			require.Equal(t, test.want, shown.Labels[LabelState])
			require.Equal(t, "web", shown.Name)
		})
	}
}

// What is shown with a state is a copy: the state must never be registered.
func TestStateIsOnlyShown(t *testing.T) {
	a := &seen{app: "web", node: "n", state: container.StateExited, readable: true, record: recordOf("web", "", testOwner).resource}
	groups := assemble(testOwner, []*seen{a}, nil, nil)

	_, trouble := groups[0].shown(&Options{}, "", time.Now())

	require.Equal(t, troubleStopped, trouble)
	require.NotContains(t, a.record.Labels, LabelState)
}

func TestUsable(t *testing.T) {
	wanted := recordOf("web", "", testOwner).resource
	g := &group{name: "web", agents: []*seen{{readable: true, record: wanted}}}
	for _, trouble := range []string{"", troubleToken, troubleExtra, troubleStale} {
		require.True(t, g.usable(trouble, wanted), trouble)
	}
	for _, trouble := range []string{troubleFiles, troubleUnused, troubleJoin, troubleStopped, troubleAway, troubleSettings} {
		require.False(t, g.usable(trouble, wanted), trouble)
	}
	other := wanted.Clone()
	other.Description = "changed"
	require.False(t, g.usable("", other))
}

// One application of many, and containers in any order.
func TestAssemble(t *testing.T) {
	now := time.Now()
	groups := assemble(testOwner, []*seen{
		{id: "old", node: "n-old", app: "b", created: now.Add(-time.Hour)},
		{id: "new", node: "n-new", app: "b", created: now},
	}, nil, []served{
		recordOf("c", "theirs", "x"), recordOf("b", "n-new", testOwner), recordOf("a", "gone", testOwner), recordOf("b", "n-old", "x"),
		recordOf("d", "n-new", testOwner),
	})

	require.Len(t, groups, 4)
	require.Equal(t, []string{"a", "b", "c"}, []string{groups[0].name, groups[1].name, groups[2].name})
	b := groups[1]
	require.Equal(t, "new", b.agents[0].id)
	require.True(t, b.present["n-new"])
	require.False(t, b.present["n-old"], "another's record under our container's name isn't ours")
	require.Len(t, b.foreign, 1)
	require.True(t, groups[0].ours())
	require.False(t, groups[2].ours())
	_, trouble := groups[3].shown(&Options{}, "", now)
	require.Equal(t, troubleStale, trouble, "our container doesn't serve that, whoever says so")
}
