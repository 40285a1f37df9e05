package cluster

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTrusts(t *testing.T) {
	own, coming, leaf := newTestAuthority(t, "example.com"), newTestAuthority(t, "example.com"), newTestAuthority(t, "leaf.example.com")
	creds := own.credentials(userCert{name: "bot-x", generation: 1})
	of := func(authorities ...*testAuthority) *Authorities {
		all := &Authorities{}
		for _, a := range authorities {
			all.Host = append(all.Host, Authority{ClusterName: a.cert.Subject.CommonName, TLSCerts: [][]byte{a.pem}})
		}
		return all
	}

	require.Equal(t, "example.com", creds.ClusterName)
	require.True(t, creds.Trusts(of(own)))
	require.True(t, creds.Trusts(of(own, leaf)), "a leaf's servers aren't the bot's to reach")
	require.False(t, creds.Trusts(of(own, coming)), "a rotation has begun")
	require.False(t, creds.Trusts(of(coming)), "a rotation has ended")

	both := *creds
	both.TLSCACerts = [][]byte{append(append([]byte{}, own.pem...), coming.pem...)}
	require.True(t, both.Trusts(of(own, coming)), "two certificates in one item")
	require.True(t, both.Trusts(of(coming)), "more than needed")

	broken := of(own)
	broken.Host[0].TLSCerts = [][]byte{[]byte("rubbish")}
	require.False(t, creds.Trusts(broken))
}
