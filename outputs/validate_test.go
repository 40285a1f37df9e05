package outputs

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"rollcall/failure"
)

func TestValidate(t *testing.T) {
	require.NoError(t, (&ApplicationOptions{AppName: "grafana"}).Validate())
	require.NoError(t, (&IdentityOptions{}).Validate())

	tests := map[string]struct {
		options interface{ Validate() error }
		message string
	}{
		"no application":   {&ApplicationOptions{}, "app_name: it's missing"},
		"blank":            {&ApplicationOptions{AppName: " "}, "app_name: it's missing"},
		"role twice":       {&ApplicationOptions{AppName: "a", CommonOptions: CommonOptions{Roles: []string{"x", "y", "x"}}}, `roles[2]: "x" is there twice`},
		"empty role":       {&IdentityOptions{CommonOptions: CommonOptions{Roles: []string{"x", ""}}}, "roles[1]: the name is empty"},
		"a second mistake": {&ApplicationOptions{CommonOptions: CommonOptions{Roles: []string{""}}}, "roles[0]: the name is empty"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			err := test.options.Validate()
			require.ErrorContains(t, err, test.message)
			var field *failure.FieldError
			require.True(t, errors.As(err, &field))
		})
	}
}

func TestOutputName(t *testing.T) {
	require.Equal(t, "application-grafana", (&ApplicationOptions{AppName: "grafana"}).OutputName())
	require.Equal(t, "mine", (&ApplicationOptions{AppName: "grafana", CommonOptions: CommonOptions{Name: "mine"}}).OutputName())
	require.Equal(t, "identity", (&IdentityOptions{}).OutputName())
	require.Equal(t, "identity-leaf", (&IdentityOptions{Cluster: "leaf"}).OutputName())
}
