package resource

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAddress(t *testing.T) {
	for want, spec := range map[string]Spec{
		"10.0.0.1:80":    AppSpec{URI: "http://10.0.0.1/admin/"},
		"10.0.0.1:443":   AppSpec{URI: "HTTPS://10.0.0.1"},
		"10.0.0.1:8080":  AppSpec{URI: "http://10.0.0.1:8080"},
		"db:5432":        DatabaseSpec{URI: "DB:5432"},
		"10.0.0.9:3389":  WindowsDesktopSpec{Addr: "10.0.0.9:3389"},
		"10.0.0.1:15672": AppSpec{URI: "tcp://10.0.0.1:15672"},
	} {
		require.Equal(t, want, Resource{Spec: spec}.Address())
	}
	require.Empty(t, Resource{Spec: AppSpec{URI: "http://%"}}.Address())
	require.Empty(t, Resource{Spec: KubeClusterSpec{}}.Address())
}
