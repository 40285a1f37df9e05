package destination

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("ROLLCALL_TEST_WRITE_FOR_EVER"); dir != "" {
		writeForEver(dir, UpdateMode(os.Getenv("ROLLCALL_TEST_UPDATE")))
	}
	goleak.VerifyTestMain(m)
}

var updateModes = []UpdateMode{UpdateSet, UpdateFile, UpdateInPlace}

// directory returns a Directory on path, which needn't exist.
func directory(t testing.TB, path string, change ...func(*DirectoryOptions)) *Directory {
	t.Helper()
	opts := DirectoryOptions{Path: path}
	for _, c := range change {
		c(&opts)
	}
	d, err := NewDirectory(opts, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	return d
}

func update(mode UpdateMode) func(*DirectoryOptions) {
	return func(o *DirectoryOptions) { o.Update = mode }
}

func symlinks(mode SymlinkMode) func(*DirectoryOptions) {
	return func(o *DirectoryOptions) { o.Symlinks = mode }
}

// setOf returns a set whose contents all carry the same mark.
func setOf(mark string, names ...string) Set {
	set := make(Set)
	for _, name := range names {
		set[name] = []byte(name + " of " + mark + "\n")
	}
	return set
}

func write(t testing.TB, d *Directory, set Set) Result {
	t.Helper()
	result, err := d.Write(t.Context(), set)
	require.NoError(t, err)
	return result
}

// readAll reads the named files through Read.
func readAll(t testing.TB, d *Directory, names ...string) Set {
	t.Helper()
	set := make(Set)
	for _, name := range names {
		data, err := d.Read(context.Background(), name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		require.NoError(t, err)
		set[name] = data
	}
	return set
}

// visible reads a directory as a program does that knows nothing of versions.
func visible(t testing.TB, path string) Set {
	t.Helper()
	set := make(Set)
	entries, err := os.ReadDir(path)
	require.NoError(t, err)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "..") {
			continue
		}
		at := filepath.Join(path, e.Name())
		info, err := os.Stat(at)
		require.NoError(t, err)
		if !info.IsDir() {
			set[e.Name()] = mustRead(t, at)
			continue
		}
		below, err := os.ReadDir(at)
		require.NoError(t, err)
		for _, b := range below {
			if strings.HasPrefix(b.Name(), "..") {
				continue
			}
			set[e.Name()+"/"+b.Name()] = mustRead(t, filepath.Join(at, b.Name()))
		}
	}
	return set
}

func mustRead(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	return data
}

// hidden returns the names that start with "..", without the lock.
func hidden(t testing.TB, path string) []string {
	t.Helper()
	entries, err := os.ReadDir(path)
	require.NoError(t, err)
	var names []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "..") && e.Name() != lockName {
			names = append(names, e.Name())
		}
	}
	return names
}

// requireTidy checks that nothing is left of earlier writes.
func requireTidy(t testing.TB, path string, mode UpdateMode) {
	t.Helper()
	versions := 0
	for _, name := range hidden(t, path) {
		require.False(t, strings.HasPrefix(name, tempPrefix), "left over: %s", name)
		if versionPattern.MatchString(name) {
			versions++
			continue
		}
		want := map[UpdateMode]string{UpdateSet: dataName, UpdateFile: manifestName, UpdateInPlace: manifestName}[mode]
		require.Equal(t, want, name)
	}
	if mode == UpdateSet {
		require.LessOrEqual(t, versions, 2)
		require.Positive(t, versions)
	} else {
		require.Zero(t, versions)
	}
}

// quick returns a directory in memory where there's one: for tests that write
// hundreds of sets and stop the agent, not the machine.
func quick(t testing.TB) string {
	t.Helper()
	path, err := os.MkdirTemp("/dev/shm", "rollcall-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(path)) })
	return path
}

// put writes plain files, as the official agent does.
func put(t testing.TB, path string, set Set) {
	t.Helper()
	for name, data := range set {
		at := filepath.Join(path, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(at), 0o700))
		require.NoError(t, os.WriteFile(at, data, 0o600))
	}
}

// writeForEver is another process's main function: it writes sets until it's
// killed.
func writeForEver(dir string, mode UpdateMode) {
	d, err := NewDirectory(DirectoryOptions{Path: dir, Update: mode}, slog.New(slog.DiscardHandler))
	for i := 0; err == nil; i++ {
		_, err = d.Write(context.Background(), setOf(fmt.Sprint(os.Getpid(), "-", i), "key", "tlscert", "cockroach/node.key"))
		if i == 0 {
			fmt.Println("writing")
		}
	}
	fmt.Println(err)
	os.Exit(1)
}
