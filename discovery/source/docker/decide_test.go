package docker

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"rollcall/discovery/resource"
	"rollcall/discovery/template"
	"rollcall/failure"
)

// web is a container that all is well with.
func web(change ...func(*box)) *box {
	b := &box{
		id: "0123456789abcdef", name: "web", image: "nginx:1", state: stateRunning, mode: "default", labels: map[string]string{},
		endpoints: map[string]attachment{"bridge": {endpointID: "e1", ip: "172.17.0.2"}},
		exposed:   []int{80},
		published: map[int][]binding{80: {{"0.0.0.0", 8080}}},
	}
	for _, do := range change {
		do(b)
	}
	return b
}

func labelled(pairs ...string) func(*box) {
	return func(b *box) {
		for i := 0; i < len(pairs); i += 2 {
			b.labels[pairs[i]] = pairs[i+1]
		}
	}
}

func networks(pairs ...string) func(*box) {
	return func(b *box) {
		b.endpoints = map[string]attachment{}
		for i := 0; i < len(pairs); i += 2 {
			b.endpoints[pairs[i]] = attachment{ip: pairs[i+1]}
		}
	}
}

func mode(mode string) func(*box) { return func(b *box) { b.mode = mode } }

func publishes(port int, bindings ...binding) func(*box) {
	return func(b *box) {
		b.published = map[int][]binding{port: slices.SortedFunc(slices.Values(bindings), compareBindings)}
	}
}

// TestDecide is the table of what becomes of containers: a URI, or why not.
func TestDecide(t *testing.T) {
	published := Options{Address: AddressPublished}
	all := Options{AllowLabels: allowable()}
	joined := func(target *box) func(*box) {
		return func(b *box) { b.mode, b.joined, b.endpoints = "container:abc", target, nil }
	}
	tests := []struct {
		name    string
		options Options
		box     *box
		uri     string
		says    string // of an error
		skip    string
	}{
		// Which state.
		{name: "it runs", box: web(), uri: "http://172.17.0.2:80"},
		{name: "it's paused", box: web(func(b *box) { b.state = statePaused }), uri: "http://172.17.0.2:80"},
		{name: "it's restarting: what is registered stays", box: web(func(b *box) { b.state = stateRestarting }), says: "it's restarting"},
		{name: "it has stopped", box: web(func(b *box) { b.state = "exited" }), skip: "it's exited"},
		{name: "it's in no known state", box: web(func(b *box) { b.state = "" }), skip: "it's in no state that is known"},
		{name: "unhealthy stays", box: web(func(b *box) { b.health = healthUnhealthy }), uri: "http://172.17.0.2:80"},
		{name: "unhealthy is withheld", options: Options{Unhealthy: PolicyWithhold}, box: web(func(b *box) { b.health = healthUnhealthy }), skip: "it's unhealthy, and `unhealthy` is withhold"},
		{name: "starting stays", box: web(func(b *box) { b.health = healthStarting }), uri: "http://172.17.0.2:80"},
		{name: "starting is held back", options: Options{Starting: PolicyWithhold}, box: web(func(b *box) { b.health = healthStarting }), says: "hasn't passed yet"},
		{name: "healthy with both", options: Options{Starting: PolicyWithhold, Unhealthy: PolicyWithhold}, box: web(func(b *box) { b.health = "healthy" }), uri: "http://172.17.0.2:80"},

		// Whether it wants to.
		{name: "it says no", box: web(labelled("rollcall.enable", "false")), skip: "it says rollcall.enable=false"},
		{name: "it says nothing where it must", options: Options{Select: SelectLabelled}, box: web(), skip: "it doesn't say rollcall.enable=true, and `select` is labelled"},
		{name: "it says yes", options: Options{Select: SelectLabelled}, box: web(labelled("rollcall.enable", "TRUE")), uri: "http://172.17.0.2:80"},
		{name: "it says maybe", box: web(labelled("rollcall.enable", "maybe")), says: `must be true or false`},

		// Which network.
		{name: "the first by name", box: web(networks("b", "10.0.0.2", "a", "10.0.0.1")), uri: "http://10.0.0.1:80"},
		{name: "the configured one", options: Options{Network: "b"}, box: web(networks("b", "10.0.0.2", "a", "10.0.0.1")), uri: "http://10.0.0.2:80"},
		{name: "the label's before the configured one", options: Options{Network: "b", AllowLabels: allowable()}, box: web(networks("b", "10.0.0.2", "a", "10.0.0.1"), labelled("rollcall.network", "a")), uri: "http://10.0.0.1:80"},
		{name: "the label's isn't allowed", options: Options{Network: "b"}, box: web(networks("b", "10.0.0.2", "a", "10.0.0.1"), labelled("rollcall.network", "a")), uri: "http://10.0.0.2:80"},
		{name: "it isn't in the configured one", options: Options{Network: "c"}, box: web(networks("b", "10.0.0.2", "a", "10.0.0.1")), says: "no IPv4 address in the network c, which is chosen by the configuration; it has one in: a, b"},
		{name: "no network", box: web(networks("none", ""), mode("none")), says: `it has no address: its network mode is "none"`},
		{name: "a network without IPv4", box: web(func(b *box) { b.endpoints = map[string]attachment{"six": {ip6: "2001:db8::1"}} }), says: "an IPv6 address only, in the network six"},
		{name: "one with and one without an address", box: web(networks("a", "", "b", "10.0.0.2")), uri: "http://10.0.0.2:80"},
		{name: "the host's", box: web(networks("host", ""), mode("host")), uri: "http://127.0.0.1:80"},
		{name: "another container's", box: web(joined(web(networks("x", "10.9.0.1")))), uri: "http://10.9.0.1:80"},
		{name: "another container's, which has the host's", box: web(joined(web(mode("host")))), uri: "http://127.0.0.1:80"},
		{name: "one that has stopped", box: web(joined(nil)), says: "it shares the network of the container abc, which doesn't run"},
		{name: "a ring", box: func() *box { b := web(mode("container:x")); b.joined = b; return b }(), says: "and so on"},

		// Which port.
		{name: "the label's", box: web(labelled("rollcall.port", "81")), uri: "http://172.17.0.2:81"},
		{name: "the label's before the configured one", options: Options{Port: 82}, box: web(labelled("rollcall.port", "81")), uri: "http://172.17.0.2:81"},
		{name: "the configured one", options: Options{Port: 82}, box: web(), uri: "http://172.17.0.2:82"},
		{name: "none is exposed", box: web(func(b *box) { b.exposed = nil }), says: "it exposes no TCP port"},
		{name: "two are exposed", box: web(func(b *box) { b.exposed = []int{80, 443} }), says: "it exposes the TCP ports 80 443; choose one"},
		{name: "no number", box: web(labelled("rollcall.port", "80/tcp")), says: `must be a number from 1 to 65535, not "80/tcp"`},
		{name: "too large", box: web(labelled("rollcall.port", "65536")), says: "must be a number from 1 to 65535"},
		{name: "an injection", box: web(labelled("rollcall.port", "80@evil.example.com")), says: "must be a number"},

		// Which address.
		{name: "published on all addresses", options: published, box: web(), uri: "http://127.0.0.1:8080"},
		{name: "advertised", options: Options{Address: AddressPublished, AdvertiseAddress: "docker1.example.com"}, box: web(), uri: "http://docker1.example.com:8080"},
		{name: "published on one address", options: published, box: web(publishes(80, binding{"192.0.2.1", 90})), uri: "http://192.0.2.1:90"},
		{name: "all before one, one before the loopback, and IPv6 last", options: published, box: web(publishes(80, binding{"::", 1}, binding{"127.0.0.1", 2}, binding{"192.0.2.1", 3})), uri: "http://192.0.2.1:3"},
		{name: "published on the loopback", options: published, box: web(publishes(80, binding{"127.0.0.1", 2})), uri: "http://127.0.0.1:2"},
		{name: "published on IPv6 only", options: published, box: web(publishes(80, binding{"::", 1})), says: "on the IPv6 address :: only"},
		{name: "another port is published", options: published, box: web(labelled("rollcall.port", "81")), says: "its port 81 isn't published"},
		{name: "nothing is published", options: published, box: web(func(b *box) { b.published = nil }), says: "it publishes no TCP port"},
		{name: "published by the container whose network it shares", options: published, box: web(joined(web())), uri: "http://127.0.0.1:8080"},
		{name: "the host's network needs no publishing", options: published, box: web(mode("host"), func(b *box) { b.published = nil }), uri: "http://127.0.0.1:80"},

		// What else labels may say.
		{name: "path and scheme", options: all, box: web(labelled("rollcall.path", "/a/../b//c/", "rollcall.scheme", "https")), uri: "https://172.17.0.2:80/b/c/"},
		{name: "path and scheme, not allowed", box: web(labelled("rollcall.path", "/a", "rollcall.scheme", "https")), uri: "http://172.17.0.2:80"},
		{name: "a path that is none", options: all, box: web(labelled("rollcall.path", "@evil.example.com/")), says: "must be a path"},
		{name: "a path with a query", options: all, box: web(labelled("rollcall.path", "/?a=b")), says: "must be a path"},
		{name: "a scheme that isn't proxied", options: all, box: web(labelled("rollcall.scheme", "file")), says: "must be one of http, https, tcp"},
		{name: "a name with a slash", box: web(labelled("rollcall.name", "a/b")), says: "rollcall.name is"},
		{name: "a name with a line's end", box: web(labelled("rollcall.name", "a\nb")), says: "rollcall.name is"},
		{name: "a public address with a port", options: all, box: web(labelled("rollcall.public-addr", "a.example.com:443")), says: "must be a host name, without scheme and port"},
		{name: "an identity that is none", options: Options{IdentityLabel: "team"}, box: web(labelled("team", "a b")), says: "to be an identity"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			all := decide(t, test.options, test.box)

			require.Len(t, all, 1)
			c := all[0]
			require.Equal(t, test.skip, c.Skip)
			last := c.Rules[len(c.Rules)-1]
			switch {
			case test.says != "":
				require.ErrorContains(t, c.Err, test.says)
				require.ErrorContains(t, c.Err, "the container web (0123456789ab)", "who is told")
				require.NotEqual(t, failure.Other, failure.KindOf(c.Err))
				require.False(t, last.Passed)
			case test.skip != "":
				require.NoError(t, c.Err)
				require.False(t, last.Passed)
				require.Equal(t, test.skip, last.Detail)
			default:
				require.NoError(t, c.Err)
				require.Equal(t, test.uri, c.Resource.Spec.(resource.AppSpec).URI)
				require.Equal(t, []string{"running", "enabled", "healthy", "identity", "labels", "network", "port", "address", "template", "name"}, ruleNames(c.Rules))
			}
			require.Equal(t, "web", c.Workload)
		})
	}
}

func decide(t *testing.T, options Options, b *box) []candidate {
	t.Helper()
	if options.Select == "" {
		options.Select = SelectAll
	}
	require.NoError(t, options.Validate())
	host := options.AdvertiseAddress
	if host == "" {
		host = "127.0.0.1"
	}
	d := &decider{options: &options, template: templateOf(t, template.Options{Labels: map[string]string{"env": "prod"}}), host: "host1", hostAddress: host}
	return d.decide(b)
}

// TestRemoteHost has an Engine elsewhere, whose address nobody knows.
func TestRemoteHost(t *testing.T) {
	options := everything()
	options.Host, options.Address = "tcp://docker2.example.com:2376", AddressPublished
	s := sourceOf(t, options)

	for _, b := range []*box{web(), web(mode("host"))} {
		c := s.decider.decide(b)[0]
		require.ErrorContains(t, c.Err, "set `advertise_address`")
	}
	require.False(t, options.Local(func(string) string { return "" }))
	require.True(t, (&Options{Host: "tcp://127.0.0.1:2375"}).Local(func(string) string { return "" }))
	require.True(t, (&Options{}).Local(func(string) string { return "" }))
	require.False(t, (&Options{}).Local(func(string) string { return "tcp://192.0.2.7:2376" }))
}

// TestIdentity is the table of who a container is.
func TestIdentity(t *testing.T) {
	compose := func(number string, more ...string) func(*box) {
		return func(b *box) {
			b.name = "shop-web-" + number
			labelled(append([]string{composeProject, "shop", composeService, "web", composeNumber, number}, more...)...)(b)
		}
	}
	called := func(name string) func(*box) { return func(b *box) { b.name = name } }
	tests := []struct {
		name     string
		label    string
		box      *box
		workload string
		called   string
	}{
		{"its name", "", web(), "web", "web"},
		{"Compose", "", web(compose("1")), "shop/web", "shop-web"},
		{"Compose, scaled", "", web(compose("3")), "shop/web/3", "shop-web-3"},
		{"Compose's first version", "", web(compose("2"), called("shop_web_2")), "shop/web/2", "shop-web-2"},
		{"Compose, with a name of its own", "", web(compose("1"), called("front")), "front", "front"},
		{"Compose, run once", "", web(compose("1", composeOneOff, "True")), "shop-web-1", "shop-web-1"},
		{"Compose's labels without a number", "", web(labelled(composeProject, "shop", composeService, "web")), "web", "web"},
		{"another's Compose labels", "", web(compose("1"), called("evil")), "evil", "evil"},
		{"another's number", "", web(compose("1"), called("shop-web-2")), "shop-web-2", "shop-web-2"},
		{"another's project", "", web(compose("1"), called("shop-web-1x")), "shop-web-1x", "shop-web-1x"},
		{"forged Compose labels", "", web(labelled(composeProject, "a/b", composeService, "web", composeNumber, "1")), "web", "web"},
		{"a label", "team", web(compose("1", "team", "a/b_c.d-e")), "a/b_c.d-e", "shop-web"},
		{"a label that isn't there", "team", web(compose("1")), "shop/web", "shop-web"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			workload, _, err := test.box.identity(test.label, IdentityCompose)
			require.NoError(t, err)
			require.Equal(t, test.workload, workload)
			require.Equal(t, test.called, test.box.callName())
		})
	}
	workload, _, err := web(compose("1")).identity("", IdentityName)
	require.NoError(t, err)
	require.Equal(t, "shop-web-1", workload)
}

// TestLabels is the table of what labels ask for and what is heard of it.
func TestLabels(t *testing.T) {
	c := decide(t, Options{AllowLabels: []string{"labels.team", "keep", "public-addr"}}, web(labelled(
		"rollcall.labels.team", "a", "rollcall.labels.env", "dev", "rollcall.name", "other", "rollcall.keep", "true",
		"rollcall.public-addr", "Shop.example.com", "rollcall.host", "evil.example.com", "other.label", "x")))[0]
	require.NoError(t, c.Err)
	require.True(t, c.Keep)
	require.Equal(t, map[string]string{"env": "prod", "team": "a"}, c.Resource.Labels)
	require.Equal(t, "web", c.Resource.Name)
	require.Equal(t, "shop.example.com", c.Resource.Spec.(resource.AppSpec).PublicAddr)
	require.Equal(t, "ignored: rollcall.host is no label that there is; rollcall.labels.env isn't in allow_labels; rollcall.name isn't in allow_labels",
		c.Rules[slices.Index(ruleNames(c.Rules), ruleLabels)].Detail)

	t.Run("the service's own labels win", func(t *testing.T) {
		c := decide(t, Options{AllowLabels: []string{"labels"}}, web(labelled("rollcall.labels.env", "dev", "rollcall.labels.x", "y")))[0]
		require.NoError(t, c.Err)
		require.Equal(t, map[string]string{"env": "prod", "x": "y"}, c.Resource.Labels)
		require.Contains(t, tell([]candidate{c}), "left out, since the service sets them itself or there are 64 already: env")
	})
	t.Run("as many as there may be, and always the same", func(t *testing.T) {
		b := web()
		for i := range 100 {
			b.labels[fmt.Sprintf("rollcall.labels.k%02d", i)] = "x"
		}
		c := decide(t, Options{AllowLabels: []string{"labels"}}, b)[0]
		require.NoError(t, c.Err)
		require.Len(t, c.Resource.Labels, resource.MaxLabels)
		require.Contains(t, c.Resource.Labels, "k62")
		require.NotContains(t, c.Resource.Labels, "k63")
	})
	for _, key := range []string{"rollcall/owner", "rollcall/keep", "teleport.dev/origin", "Teleport.dev/x", "teleport.internal/x"} {
		t.Run("reserved: "+key, func(t *testing.T) {
			c := decide(t, Options{AllowLabels: []string{"labels"}}, web(labelled("rollcall.labels."+key, "x")))[0]
			require.NoError(t, c.Err)
			require.Equal(t, []string{"env"}, slices.Collect(maps.Keys(c.Resource.Labels)))
			require.Contains(t, c.Rules[slices.Index(ruleNames(c.Rules), ruleLabels)].Detail, "reserved")
		})
	}
	t.Run("a key that is none", func(t *testing.T) {
		c := decide(t, Options{AllowLabels: []string{"labels"}}, web(labelled("rollcall.labels.a b", "x")))[0]
		require.ErrorContains(t, c.Err, "gives no key")
	})
}

// TestSeveral is one container with several resources.
func TestSeveral(t *testing.T) {
	all := decide(t, Options{AllowLabels: []string{"name", "port", "path"}}, web(labelled(
		"rollcall.path", "/x", "rollcall.0.port", "81", "rollcall.0.name", "front", "rollcall.7.port", "82", "rollcall.8.scheme", "https",
		"rollcall.9.port", "83", "rollcall.9.enable", "false", "rollcall.100.port", "84", "rollcall.01.port", "85")))

	var got []string
	for _, c := range all {
		require.NoError(t, c.Err)
		if c.Skip != "" {
			got = append(got, c.Workload+" skipped")
			continue
		}
		got = append(got, fmt.Sprintf("%s %s %s", c.Workload, c.Resource.Name, c.Resource.Spec.(resource.AppSpec).URI))
	}
	require.Equal(t, []string{
		"web#0 front http://172.17.0.2:81/x",
		"web#7 web-7 http://172.17.0.2:82/x",
		"web#9 skipped",
	}, got)

	t.Run("bounded", func(t *testing.T) {
		b := web()
		for i := range 40 {
			b.labels[fmt.Sprintf("rollcall.%d.port", i)] = "80"
		}
		require.Len(t, decide(t, Options{}, b), maxEndpoints)
	})
	t.Run("the container's name is the stem of all", func(t *testing.T) {
		all := decide(t, Options{}, web(labelled("rollcall.name", "shop", "rollcall.1.port", "81", "rollcall.2.port", "82")))
		require.Equal(t, "shop-1", all[0].Resource.Name)
		require.Equal(t, "shop-2", all[1].Resource.Name)
	})
}

// TestHostByNetwork lets an address depend on the network's name only where the
// configuration chose it: whoever starts a container could make a network that
// is called like a host of his.
func TestHostByNetwork(t *testing.T) {
	uri := template.Options{URI: "http://app.{{ .Network }}:80"}
	for name, test := range map[string]struct {
		options Options
		box     *box
		fails   bool
	}{
		"chosen by the container":         {Options{}, web(networks("evil.example.com", "10.0.0.1")), true},
		"chosen by the configuration":     {Options{Network: "inner"}, web(networks("inner", "10.0.0.1", "z", "10.0.0.2")), false},
		"chosen by the container's label": {Options{Network: "inner", AllowLabels: allowable()}, web(networks("inner", "10.0.0.1", "z", "10.0.0.2"), labelled("rollcall.network", "z")), true},
	} {
		t.Run(name, func(t *testing.T) {
			test.options.Select = SelectAll
			require.NoError(t, test.options.Validate())
			d := &decider{options: &test.options, template: templateOf(t, uri)}

			c := d.decide(test.box)[0]

			if test.fails {
				require.ErrorContains(t, c.Err, "may not choose it")
				return
			}
			require.NoError(t, c.Err)
			require.Equal(t, "http://app.inner:80", c.Resource.Spec.(resource.AppSpec).URI)
		})
	}
}
