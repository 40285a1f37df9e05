package config

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWithin(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want bool
	}{
		{"/a/b", "/a", true},
		{"/a", "/a", false},
		{"/ab", "/a", false},
		{"/a", "/", true},
		{"/a", "/a/b", false},
		{"a/b", "a", true},
		{"a", ".", true},
		{"../a", ".", false},
		{"a", "/a", false},
		{"/a", ".", false},
	} {
		require.Equal(t, test.want, within(test.a, test.b), "%s in %s", test.a, test.b)
	}
}

func TestNames(t *testing.T) {
	for text, want := range map[string]string{
		"application-Grafana Example!": "application-grafana-example",
		"--a--b--":                     "a-b",
		"a/b.c":                        "a-b-c",
		"Ümlaut":                       "mlaut",
		"":                             "",
	} {
		require.Equal(t, want, slug(text))
	}
	for name, want := range map[string]bool{
		"a": true, "a-1_b": true, "0": true, "": false, "-a": false, "_": false, "A": false, "a b": false, "ä": false, "a/b": false,
	} {
		require.Equal(t, want, validName(name), name)
	}
}
