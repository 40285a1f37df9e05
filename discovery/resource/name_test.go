package resource

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDNSName(t *testing.T) {
	long := strings.Repeat("a", 70)
	tests := []struct {
		kind       Kind
		text, want string
	}{
		{KindApp, "grafana", "grafana"},
		{KindApp, "My_Web.App", "my-web-app"},
		{KindApp, "a  /  b", "a-b"},
		{KindApp, "--a--", "a"},
		{KindApp, "rabbitmq-172-17-0-2", "rabbitmq-172-17-0-2"},
		{KindApp, "a--b", "a--b"},
		{KindApp, "3scale", "3scale"},
		{KindDatabase, "3scale", "db-3scale"},
		{KindDatabase, "postgres", "postgres"},
		{KindApp, "Ünïcode", "n-code"},
		{KindApp, "日本", "x-" + shortHash("日本")},
		{KindApp, "", "x-e3b0c442"},
		{KindDatabase, "...", "x-" + shortHash("...")},
		{KindApp, strings.Repeat("a", 63), strings.Repeat("a", 63)},
		{KindApp, long, strings.Repeat("a", 54) + "-" + shortHash(long)},
		{KindApp, strings.Repeat("a", 53) + "-bcdefghijklm", strings.Repeat("a", 53) + "-" + shortHash(strings.Repeat("a", 53)+"-bcdefghijklm")},
	}
	for _, test := range tests {
		got := DNSName(test.kind, test.text)
		require.Equal(t, test.want, got)
		require.True(t, ValidName(test.kind, got))
	}
	require.NotEqual(t, DNSName(KindApp, long+"b"), DNSName(KindApp, long+"c"), "what is cut stays apart")
}

func TestValidName(t *testing.T) {
	for _, name := range []string{"", "-a", "a-", "A", "a.b", "a_b", strings.Repeat("a", 64), "ä"} {
		require.False(t, ValidName(KindApp, name), name)
	}
	require.False(t, ValidName(KindDatabase, "3a"))
}

// FuzzDNSName gives a valid name for whatever there is, and leaves valid ones
// alone.
func FuzzDNSName(f *testing.F) {
	for _, seed := range []string{"", "a", "A b", "3", "-", strings.Repeat("x-", 40), "\xff\xfe", "İ"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, kind := range Kinds() {
			name := DNSName(kind, text)
			require.True(t, ValidName(kind, name), "%q of %q", name, text)
			require.Equal(t, name, DNSName(kind, name), "made valid twice is made valid once")
		}
	})
}
