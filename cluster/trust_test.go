package cluster

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rollcall/failure"
)

func TestParsePins(t *testing.T) {
	good := "sha256:" + strings.Repeat("0a", 32)
	tests := map[string]struct {
		pins []string
		ok   bool
	}{
		"one":          {[]string{good}, true},
		"two, spaced":  {[]string{good, " " + good + "\n"}, true},
		"upper case":   {[]string{"sha256:" + strings.Repeat("0A", 32)}, true},
		"no prefix":    {[]string{good[7:]}, false},
		"other hash":   {[]string{"sha1:" + strings.Repeat("0a", 20)}, false},
		"short":        {[]string{good[:len(good)-2]}, false},
		"not hex":      {[]string{"sha256:" + strings.Repeat("zz", 32)}, false},
		"one is wrong": {[]string{good, "x"}, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			hashes, err := parsePins(test.pins)
			if test.ok {
				require.NoError(t, err)
				require.Len(t, hashes, len(test.pins))
				return
			}
			require.ErrorContains(t, err, "isn't a pin")
			require.Equal(t, failure.Configuration, failure.KindOf(err))
		})
	}
}

func TestCheckPins(t *testing.T) {
	one, two := newTestAuthority(t, "one"), newTestAuthority(t, "two")
	pins := func(authorities ...*testAuthority) []string {
		var pins []string
		for _, a := range authorities {
			pins = append(pins, pinOf(a.cert))
		}
		return pins
	}
	both := []*x509.Certificate{one.cert, two.cert}
	tests := map[string]struct {
		pins  []string
		certs []*x509.Certificate
		now   time.Time
		want  string
	}{
		"match":                     {pins(one), both[:1], time.Now(), ""},
		"rotation, both pinned":     {pins(two, one), both, time.Now(), ""},
		"rotation, one pinned":      {pins(one), both, time.Now(), pinOf(two.cert)},
		"no match":                  {pins(two), both[:1], time.Now(), "ca_pins doesn't list"},
		"expired":                   {pins(one), both[:1], time.Now().Add(2 * time.Hour), "valid from"},
		"not yet valid":             {pins(one), both[:1], time.Now().Add(-2 * time.Hour), "valid from"},
		"an expired one of another": {pins(two), both[:1], time.Now().Add(2 * time.Hour), "ca_pins doesn't list"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			hashes, err := parsePins(test.pins)
			require.NoError(t, err)
			err = checkPins(hashes, test.certs, test.now)
			if test.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, test.want)
			require.Equal(t, failure.Trust, failure.KindOf(err))
		})
	}
}

func TestJoiningAnAuthServiceNeedsTrust(t *testing.T) {
	other := newTestAuthority(t, "other")
	notPEM := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(notPEM, []byte("hello"), 0o600))
	tests := map[string]struct {
		change func(*fakeTeleport, *Options)
		kind   failure.Kind
		want   string // "" means that the join works
	}{
		"pin":                              {func(*fakeTeleport, *Options) {}, failure.Other, ""},
		"ca_path":                          {func(f *fakeTeleport, o *Options) { o.CAPins, o.CAPath = nil, f.authority.file() }, failure.Other, ""},
		"insecure":                         {func(_ *fakeTeleport, o *Options) { o.CAPins, o.Insecure = nil, true }, failure.Other, ""},
		"pins count for more than ca_path": {func(_ *fakeTeleport, o *Options) { o.CAPath = other.file() }, failure.Other, ""},
		"nothing":                          {func(_ *fakeTeleport, o *Options) { o.CAPins = nil }, failure.Trust, "set ca_pins"},
		"wrong pin":                        {func(_ *fakeTeleport, o *Options) { o.CAPins = []string{pinOf(other.cert)} }, failure.Trust, "ca_pins doesn't list"},
		"no pin":                           {func(_ *fakeTeleport, o *Options) { o.CAPins = []string{"x"} }, failure.Configuration, "isn't a pin"},
		"wrong ca_path":                    {func(_ *fakeTeleport, o *Options) { o.CAPins, o.CAPath = nil, other.file() }, failure.Trust, "wasn't issued by the authority in ca_path"},
		"missing ca_path":                  {func(_ *fakeTeleport, o *Options) { o.CAPins, o.CAPath = nil, "/nonexistent" }, failure.Configuration, "can't read the file"},
		"ca_path no PEM":                   {func(_ *fakeTeleport, o *Options) { o.CAPins, o.CAPath = nil, notPEM }, failure.Configuration, "must hold CA certificates"},
	}
	for name, test := range tests {
		for _, server := range []*fakeTeleport{fakeV16Auth(), fakeV17Auth()} {
			t.Run(name+" "+server.version, func(t *testing.T) {
				server.start(t)
				opts := server.options()
				test.change(server, &opts)
				_, err := newTestCluster(opts).Join(t.Context(), tokenJoin(t))
				if test.want == "" {
					require.NoError(t, err)
					require.Len(t, server.ways(), 1)
					return
				}
				require.ErrorContains(t, err, test.want)
				require.Equal(t, test.kind, failure.KindOf(err))
				require.Empty(t, server.ways(), "the token was sent")
			})
		}
	}
}

func TestJoiningThroughAProxyNeedsTrust(t *testing.T) {
	other := newTestAuthority(t, "other")
	tests := map[string]struct {
		change func(*fakeTeleport, *Options)
		want   string // "" means that the join works
	}{
		"proxy_ca":       {func(*fakeTeleport, *Options) {}, ""},
		"insecure":       {func(_ *fakeTeleport, o *Options) { o.ProxyCA, o.Insecure = "", true }, ""},
		"system's roots": {func(_ *fakeTeleport, o *Options) { o.ProxyCA = "" }, "set proxy_ca"},
		"wrong CA":       {func(_ *fakeTeleport, o *Options) { o.ProxyCA = other.file() }, "unknown authority"},
		"auth_server is a proxy, pins aren't used": {func(f *fakeTeleport, o *Options) {
			o.AuthServer, o.ProxyServer, o.CAPins = o.ProxyServer, "", []string{pinOf(other.cert)}
		}, ""},
		"auth_server is a proxy of unknown authority": {func(f *fakeTeleport, o *Options) {
			*o = Options{AuthServer: o.ProxyServer}
		}, "If it's a proxy, set proxy_ca"},
		"auth_server is a proxy of unknown authority, with pins": {func(f *fakeTeleport, o *Options) {
			*o = Options{AuthServer: o.ProxyServer, CAPins: []string{pinOf(f.authority.cert)}}
		}, "If it's a proxy with a private CA, set proxy_ca"},
	}
	for name, test := range tests {
		for _, server := range []*fakeTeleport{fakeV14Proxy(), fakeV17Proxy()} {
			t.Run(name+" "+server.version, func(t *testing.T) {
				server.start(t)
				opts := server.options()
				test.change(server, &opts)
				_, err := newTestCluster(opts).Join(t.Context(), tokenJoin(t))
				if test.want == "" {
					require.NoError(t, err)
					require.Len(t, server.ways(), 1)
					return
				}
				require.ErrorContains(t, err, test.want)
				require.Equal(t, failure.Trust, failure.KindOf(err))
				require.Empty(t, server.ways(), "the token was sent")
			})
		}
	}
}

// insecure is for the first connection only.
func TestInsecureDoesNotReachTheIdentity(t *testing.T) {
	server := fakeV17Auth().start(t)
	stranger := newTestAuthority(t, testClusterName)
	creds := server.authority.credentials(userCert{name: "bot-test"})
	creds.TLSCACerts = [][]byte{stranger.pem}
	opts := server.options()
	opts.Insecure = true
	_, err := newTestCluster(opts).connect(t.Context(), creds)
	require.Equal(t, failure.Trust, failure.KindOf(err), "%v", err)
}
