package docker

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rollcall/discovery/resource"
)

// workloads are the identities of what is to be registered.
func workloads(t *testing.T, s *Source) []string {
	t.Helper()
	candidates, err := s.Read(t.Context())
	require.NoError(t, err)
	var names []string
	for _, c := range candidates {
		names = append(names, c.Workload)
	}
	return names
}

// TestReadAfterPull moves the name of the image whose containers run, takes it
// away, and then loses the whole image store: the containers are there all the
// time, and never is fewer of them read.
func TestReadAfterPull(t *testing.T) {
	for name, change := range map[string]func(f *FakeEngine){
		"pulled or built anew":     func(f *FakeEngine) { f.images["rollcall-src-rabbit:3"] = "sha256:" + strings.Repeat("f", 64) },
		"untagged":                 func(f *FakeEngine) { delete(f.images, "rollcall-src-rabbit:3") },
		"no image can be resolved": func(f *FakeEngine) { clear(f.images) },
	} {
		for _, ancestor := range []string{"rollcall-src-rabbit:3", "docker.io/library/rollcall-src-rabbit:3", "4aafc9d9944c"} {
			t.Run(name+", "+ancestor, func(t *testing.T) {
				f := newFakeEngine(t)
				options := everything()
				options.Filters.Ancestor = []string{ancestor}
				s := f.source(t, options)
				before := workloads(t, s)
				require.Equal(t, []string{"rollcall-src-loop", "rollcall-src-none", "rollcall-src-paused", "rollcall-src-plain"}, before)
				f.took()
				f.change(func() { change(f) })

				require.Equal(t, before, workloads(t, s))
				calls := f.took()
				require.Equal(t, before, workloads(t, s))

				require.Equal(t, "GET /containers/json", calls[0])
				require.Equal(t, before, workloads(t, f.source(t, fresh(f, options))), "an agent that starts now")
			})
		}
	}
}

// fresh lets everything be inspected once more.
func fresh(f *FakeEngine, options Options) Options {
	f.change(func() { clear(f.inspected) })
	return options
}

// TestReadAncestorAsksLittle asks for the details only of those that may be of
// the image.
func TestReadAncestorAsksLittle(t *testing.T) {
	f := newFakeEngine(t)
	options := everything()
	options.Filters.Ancestor = []string{"rollcall-src-health:1"}

	require.Equal(t, []string{"rollcall-src-health"}, workloads(t, f.source(t, options)))

	require.Equal(t, []string{"HEAD /_ping", "GET /containers/json", "GET /containers/" + f.id("health") + "/json", "GET /networks"}, f.took())
}

// TestOfImage is the table of which image a container is of.
func TestOfImage(t *testing.T) {
	id := "sha256:4aafc9d9944c74062d9159b" + strings.Repeat("0", 41)
	digest := "@sha256:" + strings.Repeat("a", 64)
	tests := []struct {
		ancestor, words string
		want            bool
	}{
		{"rabbitmq:3", "rabbitmq:3", true},
		{"rabbitmq:3", "rabbitmq:4", false},
		{"rabbitmq:3", "rabbitmq", false},
		{"rabbitmq", "rabbitmq", true},
		{"rabbitmq", "rabbitmq:latest", true},
		{"rabbitmq", "rabbitmq:3", false},
		{"rabbitmq:3", "docker.io/library/rabbitmq:3", true},
		{"docker.io/rabbitmq:3", "library/rabbitmq:3", true},
		{"rabbitmq:3", "registry.example.com/rabbitmq:3", false},
		{"registry.example.com:5000/a/b:1", "registry.example.com:5000/a/b:1", true},
		{"rabbitmq:3", "rabbitmq:3" + digest, true},
		{"rabbitmq:3", "rabbitmq" + digest, false},
		{"rabbitmq", "rabbitmq" + digest, false},
		{"rabbitmq" + digest, "rabbitmq:3" + digest, true},
		{"rabbitmq" + digest, "rabbitmq:3", false},
		{"rabbitmq:3", id, false},
		{"rabbitmq:3", "", false},
		{id, "rabbitmq:3", true},
		{id[:19], "rabbitmq:3", true},
		{"4aafc9d9944c", "rabbitmq:3", true},
		{"4aafc9d9944d", "rabbitmq:3", false},
		{"4aafc9d9944d", "4aafc9d9944d:latest", true},
	}
	for _, test := range tests {
		require.NoError(t, checkImage(test.ancestor))
		require.Equal(t, test.want, Filters{Ancestor: []string{"other", test.ancestor}}.ofImage(test.words, id), "%s and %q", test.ancestor, test.words)
	}
	require.True(t, Filters{}.ofImage("anything", id))
}

// TestAgentsAreNoApplications has the agents that a discovery service starts
// match its own filters, by their name and by their network.
func TestAgentsAreNoApplications(t *testing.T) {
	for name, options := range map[string]Options{
		"by name":    {Port: 80, Filters: Filters{Name: []string{"src"}}},
		"by network": {Port: 80, Filters: Filters{Network: []string{"bridge"}}},
		"by label":   {Port: 80, Select: SelectLabelled},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeEngine(t)
			f.only("plain", "health")
			// Arrange: one is somebody's agent. Its own labels can't change that.
			f.change(func() {
				labels := object{resource.LabelAgent: "other", "rollcall.enable": "true"}
				f.summary("health")["Labels"] = labels
				f.details[f.id("health")]["Config"].(object)["Labels"] = labels
				f.details[f.id("plain")]["Config"].(object)["Labels"] = object{"rollcall.enable": "true"}
			})
			s := f.source(t, options)

			require.Equal(t, []string{"rollcall-src-plain"}, workloads(t, s))

			f.change(func() { clear(f.inspected) })
			told, err := s.Explain(t.Context(), "rollcall-src-health")
			require.NoError(t, err)
			require.Equal(t, []string{ruleFound, ruleAgent}, ruleNames(told[0].Rules))
			require.Contains(t, told[0].Skip, "it bears the label rollcall/agent")
			require.NotEmpty(t, s.decider.decide(&box{id: "a", name: "a", state: stateRunning, labels: map[string]string{resource.LabelAgent: ""}})[0].Skip,
				"an Engine whose list tells no labels")
		})
	}
}
