package registry

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"rollcall/discovery/resource"
	"rollcall/failure"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestRole(t *testing.T) {
	tests := map[string]struct {
		options  RoleOptions
		warnings []string
	}{
		"app":   {RoleOptions{Name: "app", Owner: "o", Dynamic: []resource.Kind{resource.KindApp}}, nil},
		"all":   {RoleOptions{Name: "all", Owner: "o", Dynamic: resource.Kinds(), Lease: true}, []string{kubeWarning, desktopWarning, leaseWarning}},
		"agent": {RoleOptions{Name: "agent", Owner: "o", Agent: true}, []string{agentWarning}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			role, warnings, err := Role(test.options)
			require.NoError(t, err)
			require.Equal(t, test.warnings, warnings)
			got, err := json.MarshalIndent(role, "", "  ")
			require.NoError(t, err)
			golden := filepath.Join("testdata", "role-"+name+".json")
			if *update {
				require.NoError(t, os.WriteFile(golden, append(got, '\n'), 0o644))
			}
			want, err := os.ReadFile(golden)
			require.NoError(t, err)
			require.Equal(t, string(want), string(got)+"\n")
		})
	}
	_, warnings, err := Role(RoleOptions{Name: "both", Owner: "o", Agent: true, Dynamic: []resource.Kind{resource.KindApp}})
	require.NoError(t, err)
	require.Equal(t, []string{agentWarning, mixedWarning}, warnings)
	require.Contains(t, agentWarning, "may open every one")
	for _, bad := range []RoleOptions{
		{Name: "r", Dynamic: resource.Kinds()}, {Name: "r", Owner: "o"}, {Owner: "o", Agent: true},
		{Name: "r", Owner: "o", Dynamic: []resource.Kind{"node"}},
	} {
		_, _, err := Role(bad)
		require.Equal(t, failure.Configuration, failure.KindOf(err), "%+v", bad)
	}
}
