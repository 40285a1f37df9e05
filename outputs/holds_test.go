package outputs

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"rollcall/cluster"
)

func TestHolds(t *testing.T) {
	r := newRig(t)
	out := r.application()
	require.True(t, out.Holds(t.Context(), r.cas), "nothing there is nothing old")

	require.NoError(t, out.Once(t.Context()))
	require.True(t, out.Holds(t.Context(), r.cas))

	another := newTestCA(t, testCluster).pem()
	for kind, of := range map[string]func(*cluster.Authorities) *cluster.Authority{
		"host":     func(cas *cluster.Authorities) *cluster.Authority { return &cas.Host[0] },
		"user":     func(cas *cluster.Authorities) *cluster.Authority { return &cas.User[0] },
		"database": func(cas *cluster.Authorities) *cluster.Authority { return &cas.Database[0] },
	} {
		t.Run(kind, func(t *testing.T) {
			was := of(r.cas).TLSCerts
			defer func() { of(r.cas).TLSCerts = was }()

			of(r.cas).TLSCerts = [][]byte{was[0], another}
			require.False(t, out.Holds(t.Context(), r.cas), "a second one")
			of(r.cas).TLSCerts = [][]byte{another}
			require.False(t, out.Holds(t.Context(), r.cas), "another one")
			of(r.cas).TLSCerts = [][]byte{bytes.TrimRight(was[0], "\n")}
			require.True(t, out.Holds(t.Context(), r.cas), "the same, with another line end")
		})
	}
}
