package config

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// inventory is a long one.
func inventory(entries int) []byte {
	var b strings.Builder
	b.WriteString("resources:\n")
	for i := range entries {
		fmt.Fprintf(&b, "  - name: app-%d\n    uri: http://10.0.0.1:%d\n    labels: {env: prod, team: a}\n", i, i+1)
	}
	return []byte(b.String())
}

func TestDecodeInventory(t *testing.T) {
	doc, place, err := DecodeInventory("hosts.yaml", inventory(10_000))

	require.NoError(t, err)
	require.Len(t, doc.Resources, 10_000)
	require.Equal(t, "app-9999", doc.Resources[9999].Name)
	require.Equal(t, map[string]string{"env": "prod", "team": "a"}, doc.Resources[9999].Labels)
	require.Equal(t, "hosts.yaml:3:10", place("resources[0].uri"))
	require.Equal(t, "hosts.yaml:2:5", place("resources[0].protocol"), "what isn't there stands where its entry does")
	require.Equal(t, "hosts.yaml:1:1", place("nothing"))
}

// FuzzDecodeInventory takes any file without a panic, and gives errors places.
func FuzzDecodeInventory(f *testing.F) {
	f.Add("hosts.yaml", string(inventory(2)))
	f.Add("hosts.json", "{\n\t\"resources\": [{\"name\": \"a\"}]}")
	f.Add("hosts.yaml", "resources:\n  - &a [*a]")
	f.Add("hosts.yaml", "resources: {<<: *x}")
	f.Fuzz(func(t *testing.T, name, text string) {
		_, place, err := DecodeInventory(name, []byte(text))
		if err != nil {
			require.Nil(t, place)
			return
		}
		require.Contains(t, place("resources[0].uri"), ":")
	})
}

func BenchmarkDecodeInventory(b *testing.B) {
	data := inventory(10_000)
	for b.Loop() {
		if _, _, err := DecodeInventory("hosts.yaml", data); err != nil {
			b.Fatal(err)
		}
	}
}
