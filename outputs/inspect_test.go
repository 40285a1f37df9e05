package outputs

import (
	"io/fs"
	"maps"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rollcall/cluster"
	"rollcall/destination"
	"rollcall/failure"
)

func TestInspect(t *testing.T) {
	ca := newTestCA(t, testCluster)
	cas := testAuthorities(t)
	spec := certSpec{roles: []string{"access", "reader"}, app: "grafana", route: testCluster, ttl: time.Hour}
	opts := ApplicationOptions{AppName: "grafana", SpecificTLSNaming: true}
	rendered := func(creds *cluster.Credentials) destination.Set {
		set, err := renderApplication(creds, cas, opts)
		require.NoError(t, err)
		return set
	}
	creds := ca.issue(spec)
	good, other := rendered(creds), rendered(ca.issue(spec))
	want := expectation{files: opts.Files(), appName: "grafana", ttl: time.Hour}
	now := time.Now()

	type input struct {
		set  destination.Set
		want expectation
		now  time.Time
	}
	tests := map[string]struct {
		change func(in *input)
		reason string
		bare   bool // no usable credentials there
	}{
		"good":               {func(*input) {}, "", false},
		"roles in any order": {func(in *input) { in.want.roles = []string{"reader", "access"} }, "", false},
		"no database authority, as a cluster may have none": {
			func(in *input) { in.set[fileDatabaseCA] = nil }, "", false},
		"a longer TTL waits for the next renewal": {func(in *input) { in.want.ttl = 4 * time.Hour }, "", false},

		"nothing there":     {func(in *input) { clear(in.set) }, "nothing is there yet", true},
		"a missing file":    {func(in *input) { delete(in.set, fileTLSNamedCAs) }, "file tls.cas is missing", false},
		"an empty file":     {func(in *input) { in.set[fileHostCA] = nil }, "file teleport-host-ca.crt is missing", false},
		"no key":            {func(in *input) { delete(in.set, fileKey) }, "the certificate and the key there don't make a pair", true},
		"another key":       {func(in *input) { in.set[fileKey] = other[fileKey] }, "the certificate and the key there don't make a pair", true},
		"rubbish":           {func(in *input) { in.set[fileTLSCert] = []byte("rubbish") }, "the certificate and the key there don't make a pair", true},
		"ended":             {func(in *input) { in.now = now.Add(time.Hour + time.Second) }, "the certificate has ended", false},
		"torn SSH":          {func(in *input) { in.set[fileSSHCert] = other[fileSSHCert] }, "the SSH certificate there doesn't belong to the key", false},
		"torn bundle":       {func(in *input) { in.set[fileIdentity] = other[fileIdentity] }, "file identity there has another content than file key", false},
		"torn tls.key":      {func(in *input) { in.set[fileTLSNamedKey] = other[fileTLSNamedKey] }, "file tls.key there has another content than file key", false},
		"other application": {func(in *input) { in.want.appName = "prometheus" }, `the certificate there is for application "grafana"`, false},
		"no application":    {func(in *input) { in.want.appName = "" }, `the certificate there is for application "grafana"`, false},
		"fewer roles":       {func(in *input) { in.want.roles = []string{"access"} }, "the certificate there is for other roles", false},
		"a leaf":            {func(in *input) { in.want.cluster = "leaf.test" }, `the certificate there is for cluster "example.com"`, false},
		"a shorter TTL":     {func(in *input) { in.want.ttl = 30 * time.Minute }, "the certificate there lives longer than is configured now", false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			in := input{set: maps.Clone(good), want: want, now: now}
			test.change(&in)
			life, reason := inspect(in.now, in.want, func(name string) ([]byte, error) {
				if data, ok := in.set[name]; ok {
					return data, nil
				}
				return nil, fs.ErrNotExist
			})
			require.Equal(t, test.reason, reason)
			if test.bare {
				require.Zero(t, life)
				return
			}
			require.Equal(t, creds.NotAfter(), life.notAfter)
		})
	}
}

func TestInspectAnIdentityForALeaf(t *testing.T) {
	creds := newTestCA(t, testCluster).issue(certSpec{route: "leaf.test", ttl: time.Hour})
	require.True(t, routedTo(creds.X509, "leaf.test"))
	require.False(t, routedTo(creds.X509, ""))
	require.False(t, routedTo(creds.X509, "another.test"))
	require.Empty(t, subjectApp(creds.X509))
}

func TestCheckIssued(t *testing.T) {
	now := time.Now()
	require.NoError(t, checkIssued(now, now.Add(time.Second)))
	err := checkIssued(now, now)
	require.ErrorContains(t, err, "set the clock of this host")
	require.Equal(t, failure.Configuration, failure.KindOf(err))
}
