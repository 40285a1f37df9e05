package docker

import (
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rollcall/discovery/resource"
	"rollcall/discovery/template"
)

// FuzzLabels lets whoever starts a container write what they want. Whatever it
// is, the host of the address is the container's own, the name is a DNS label,
// and no label that is reserved gets through.
func FuzzLabels(f *testing.F) {
	for _, seed := range [][4]string{
		{"rollcall.port", "80", "rollcall.path", "/a"},
		{"rollcall.0.name", "a", "rollcall.labels.team", "x"},
		{"rollcall.path", "/..//@evil.example.com/?x#y", "rollcall.scheme", "javascript"},
		{"rollcall.labels.rollcall/owner", "me", "rollcall.labels.teleport.dev/origin", "x"},
		{"rollcall.name", "{{ .IP }}", "rollcall.public-addr", "a.b"},
		{"com.docker.compose.project", "../..", "com.docker.compose.service", "@"},
		{"rollcall.99.port", "1", "rollcall.network", "bridge"},
	} {
		f.Add(seed[0], seed[1], seed[2], seed[3])
	}
	f.Fuzz(func(t *testing.T, key1, value1, key2, value2 string) {
		o := Options{Select: SelectAll, AllowLabels: allowable(), IdentityLabel: "id"}
		require.NoError(t, o.Validate())
		d := &decider{options: &o, hostAddress: "127.0.0.1", host: "h", template: templateOf(t, template.Options{
			Description: "{{ .Image }}", Labels: map[string]string{"env": "prod"},
		})}
		b := web(labelled(key1, value1, key2, value2))

		for _, c := range d.decide(b) {
			require.NotEmpty(t, c.Workload)
			require.NotEmpty(t, c.Rules)
			if c.Err != nil || c.Skip != "" {
				require.Nil(t, c.Resource.Spec)
				continue
			}
			require.NoError(t, resource.Check(c.Resource))
			u, err := url.Parse(c.Resource.Spec.(resource.AppSpec).URI)
			require.NoError(t, err)
			require.Equal(t, "172.17.0.2", u.Hostname())
			require.Nil(t, u.User)
			require.Equal(t, "prod", c.Resource.Labels["env"])
			for label := range c.Resource.Labels {
				require.False(t, resource.ReservedLabel(label))
				require.False(t, strings.HasPrefix(label, resource.LabelPrefix))
			}
		}
	})
}
