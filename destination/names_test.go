package destination

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rollcall/failure"
)

func TestCheckName(t *testing.T) {
	for name, good := range map[string]bool{
		"tlscert":                      true,
		"cockroach/node.key":           true,
		".hidden":                      true,
		"a..b":                         true,
		"key-cert.pub":                 true,
		"":                             false,
		".":                            false,
		"..":                           false,
		"..data":                       false,
		"../key":                       false,
		"a/../key":                     false,
		"a/..":                         false,
		"a/./b":                        false,
		"/etc/passwd":                  false,
		"a/":                           false,
		"a//b":                         false,
		"a/b/c":                        false,
		"a\nb":                         false,
		"a\x00b":                       false,
		"a/..2026":                     false,
		strings.Repeat("a", maxName):   true,
		strings.Repeat("a", maxName+1): false,
	} {
		err := checkName(name)
		if good {
			require.NoError(t, err, name)
			continue
		}
		require.Error(t, err, name)
		require.Equal(t, failure.Configuration, failure.KindOf(err), name)
	}
}

func TestCheckSetRefusesAFileThatIsADirectory(t *testing.T) {
	require.ErrorContains(t, checkSet(setOf("x", "a", "a/b")), `"a/b" isn't possible beside a file "a"`)
	require.NoError(t, checkSet(setOf("x", "a", "ab/b")))
}

func TestInOrderPutsKeysFirst(t *testing.T) {
	got := inOrder(setOf("x", "tlscert", "key.pub", "key", "tls.crt", "tls.key", "cockroach/node.key", "a"))
	require.Equal(t, []string{"cockroach/node.key", "key", "tls.key", "a", "key.pub", "tls.crt", "tlscert"}, got)
}

func TestDiff(t *testing.T) {
	before := Set{"same": []byte("1"), "changed": []byte("1"), "gone": nil}
	after := Set{"same": []byte("1"), "changed": []byte("2"), "new": nil}
	require.Equal(t, []string{"changed", "gone", "new"}, diff(before, after))
	require.Empty(t, diff(nil, Set{}))
}

// FuzzName writes under every name that is accepted, and looks whether anything
// appeared outside.
func FuzzName(f *testing.F) {
	for _, name := range []string{"key", "a/b", "../key", "/key", "..data", "a/../../key", "", "a/b/c", "..", "a\x00", "é/ü"} {
		f.Add(name, false)
		f.Add(name, true)
	}
	f.Fuzz(func(t *testing.T, name string, plain bool) {
		if checkName(name) != nil {
			return
		}
		require.True(t, filepath.IsLocal(name))
		require.LessOrEqual(t, strings.Count(name, "/"), 1)
		outer := t.TempDir()
		mode := UpdateSet
		if plain {
			mode = UpdateFile
		}
		d := directory(t, filepath.Join(outer, "inner"), update(mode))
		write(t, d, Set{name: []byte("content")})
		require.Equal(t, Set{name: []byte("content")}, readAll(t, d, name))
		names, err := filepath.Glob(filepath.Join(outer, "*"))
		require.NoError(t, err)
		require.Equal(t, []string{filepath.Join(outer, "inner")}, names)
	})
}
