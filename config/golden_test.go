package config

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rollcall/failure"
)

var update = flag.Bool("update", false, "write the golden files and docs/configuration.md anew")

// secret is the token of every file in testdata that has a literal one worth
// the name.
const secret = "insecure-do-not-use-this"

func TestGoodFiles(t *testing.T) {
	for _, file := range files(t, "*.good.yml") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			c, err := Load(file)
			require.NoError(t, err)
			require.Equal(t, file, c.File)
		})
	}
}

// TestBadFiles compares every error of every bad file, word by word: what users
// read is worth a review.
func TestBadFiles(t *testing.T) {
	for _, file := range files(t, "*.bad.yml") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			_, err := Load(file)
			require.Error(t, err)
			require.Equal(t, failure.Configuration, failure.KindOf(err))
			require.NotContains(t, err.Error(), secret)
			var all Errors
			require.ErrorAs(t, err, &all)
			for _, one := range all {
				require.Positive(t, one.Line, one.Message)
				require.Positive(t, one.Column, one.Message)
			}
			golden(t, strings.TrimSuffix(file, ".yml")+".golden", err.Error()+"\n")
		})
	}
}

func files(t *testing.T, pattern string) []string {
	t.Helper()
	found := globbed(filepath.Join("testdata", pattern))
	require.NotEmpty(t, found)
	return found
}

// globbed returns nothing for a bad pattern, which its callers refuse.
func globbed(pattern string) []string {
	found, _ := filepath.Glob(pattern)
	return found
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(got), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err, "run go test ./config -update")
	require.Equal(t, string(want), got)
}
