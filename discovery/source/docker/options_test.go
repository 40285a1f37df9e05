package docker

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rollcall/discovery"
	"rollcall/failure"
)

type candidate = discovery.Candidate

func ruleNames(rules []discovery.Rule) []string {
	var names []string
	for _, rule := range rules {
		names = append(names, rule.Name)
	}
	return names
}

func TestDefaults(t *testing.T) {
	var o Options
	require.NoError(t, o.Validate())
	require.Equal(t, Options{
		Select: SelectLabelled, Scheme: "http", Address: AddressContainer, Unhealthy: PolicyRegister, Starting: PolicyRegister, Identity: IdentityCompose,
		AllowLabels: []string{"name", "port"}, Timeout: DefaultTimeout,
	}, o)

	o = Options{Filters: Filters{Ancestor: []string{"rabbitmq:3-management"}}, AllowLabels: []string{}}
	require.NoError(t, o.Validate())
	require.Equal(t, SelectAll, o.Select)
	require.Empty(t, o.AllowLabels)
}

func TestValidate(t *testing.T) {
	tests := map[string]struct {
		options Options
		field   string
		says    string
	}{
		"no scheme":          {Options{Host: "/var/run/docker.sock"}, "host", "write unix:///var/run/docker.sock or tcp://host:port"},
		"a relative socket":  {Options{Host: "unix://docker.sock"}, "host", "absolute path"},
		"ssh":                {Options{Host: "ssh://me@there"}, "host", "ssh -L"},
		"http":               {Options{Host: "http://there:2375"}, "host", "tcp://"},
		"no port":            {Options{Host: "tcp://there"}, "host", "tcp://host:port"},
		"a port too large":   {Options{Host: "tcp://there:99999"}, "host", "1 to 65535"},
		"a path":             {Options{Host: "tcp://there:2375/x"}, "host", "1 to 65535"},
		"a key alone":        {Options{TLS: TLSOptions{Key: "/k"}}, "tls", "go together"},
		"a relative file":    {Options{TLS: TLSOptions{CA: "ca.pem"}}, "tls.ca", "absolute"},
		"TLS on a socket":    {Options{Host: "unix:///s", TLS: TLSOptions{CA: "/ca"}}, "tls", "socket"},
		"select":             {Options{Select: "some"}, "select", "use all or labelled"},
		"address":            {Options{Address: "host"}, "address", "use container or published"},
		"unhealthy":          {Options{Unhealthy: "drop"}, "unhealthy", "use register or withhold"},
		"starting":           {Options{Starting: "drop"}, "starting", "use register or withhold"},
		"identity kind":      {Options{Identity: "label"}, "identity", "use compose or name"},
		"scheme":             {Options{Scheme: "ftp"}, "scheme", "http or https or tcp"},
		"port":               {Options{Port: 70000}, "port", "1 to 65535"},
		"advertised port":    {Options{AdvertiseAddress: "a:1"}, "advertise_address", "without a port"},
		"advertised IPv6":    {Options{AdvertiseAddress: "2001:db8::1"}, "advertise_address", "IPv4"},
		"network":            {Options{Network: "a b"}, "network", "no name of a network"},
		"timeout":            {Options{Timeout: time.Millisecond}, "timeout", "from 1s to 10m"},
		"identity":           {Options{IdentityLabel: "rollcall.name"}, "identity_label", "a label of your own"},
		"empty filter":       {Options{Filters: Filters{Ancestor: []string{"a", ""}}}, "filters.ancestor[1]", "match nothing"},
		"no image":           {Options{Filters: Filters{Ancestor: []string{"RabbitMQ:3"}}}, "filters.ancestor[0]", "rabbitmq:3-management, or its ID"},
		"no expression":      {Options{Filters: Filters{Name: []string{"("}}}, "filters.name[0]", "missing closing"},
		"no key":             {Options{Filters: Filters{Label: []string{"=x"}}}, "filters.label[0]", "KEY or KEY=VALUE"},
		"a control":          {Options{Filters: Filters{Network: []string{"a\n"}}}, "filters.network[0]", "control"},
		"no label there":     {Options{AllowLabels: []string{"uri"}}, "allow_labels[0]", "a container may set name, port"},
		"an owner's label":   {Options{AllowLabels: []string{"labels.rollcall/owner"}}, "allow_labels[0].rollcall/owner", "reserved"},
		"enable isn't among": {Options{AllowLabels: []string{"name", "enable"}}, "allow_labels[1]", "may set"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			err := test.options.Validate()
			fields := failure.Fields(err)
			require.Len(t, fields, 1, "%v", err)
			require.Equal(t, test.field, fields[0].Field)
			require.Contains(t, fields[0].Message, test.says)
			_, err = New(test.options, Deps{Getenv: func(string) string { return "" }})
			require.Error(t, err)
		})
	}
}

func TestEnvironmentRefused(t *testing.T) {
	_, err := New(Options{}, Deps{Getenv: func(string) string { return "ssh://me@there" }})
	require.Equal(t, failure.Configuration, failure.KindOf(err))
	require.ErrorContains(t, err, "DOCKER_HOST")
}
