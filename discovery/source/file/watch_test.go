package file_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rollcall/discovery/source/file"
)

// watching runs Watch until the test ends, and returns its hints. The first one,
// of the subscription, has been taken.
func watching(t *testing.T, s *file.Source) chan struct{} {
	t.Helper()
	hints := make(chan struct{}, 1000)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Watch(ctx, func() { hints <- struct{}{} }) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	awaitHint(t, hints)
	return hints
}

func awaitHint(t *testing.T, hints chan struct{}) {
	t.Helper()
	select {
	case <-hints:
	case <-time.After(30 * time.Second):
		require.Fail(t, "no hint came")
	}
}

// settled waits until no hint has come for a while.
func settled(hints chan struct{}) {
	for {
		select {
		case <-hints:
		case <-time.After(100 * time.Millisecond):
			return
		}
	}
}

// TestWatch is each way in which files change.
func TestWatch(t *testing.T) {
	inDir := func(name string) func(string) string {
		return func(dir string) string { return filepath.Join(dir, name) }
	}
	tests := map[string]struct {
		path   func(dir string) string
		change func(t *testing.T, dir string)
	}{
		"written in place": {inDir("a.yaml"), func(t *testing.T, dir string) { write(t, filepath.Join(dir, "a.yaml"), "resources: []") }},
		"replaced by a rename": {inDir("a.yaml"), func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "a.tmp"), "resources: []")
			require.NoError(t, os.Rename(filepath.Join(dir, "a.tmp"), filepath.Join(dir, "a.yaml")))
		}},
		"removed and made anew": {inDir("a.yaml"), func(t *testing.T, dir string) {
			require.NoError(t, os.Remove(filepath.Join(dir, "a.yaml")))
			write(t, filepath.Join(dir, "a.yaml"), "resources: []")
		}},
		"one more in a directory": {inDir(""), func(t *testing.T, dir string) { write(t, filepath.Join(dir, "b.json"), `{"resources":[]}`) }},
		"where a link leads":      {inDir("link.yaml"), func(t *testing.T, dir string) { write(t, filepath.Join(dir, "real/target"), "resources: []") }},
		"where a link leads, twice": {inDir("link.yaml"), func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "other/target"), grafana)
			require.NoError(t, os.Symlink("other/target", filepath.Join(dir, "new")))
			require.NoError(t, os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "link.yaml")))
		}},
		"a volume of Kubernetes": {inDir("volume"), func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "volume/..2/k.yaml"), "resources: []")
			require.NoError(t, os.Symlink("..2", filepath.Join(dir, "volume/..data_tmp")))
			require.NoError(t, os.Rename(filepath.Join(dir, "volume/..data_tmp"), filepath.Join(dir, "volume/..data")))
		}},
		"the directory itself": {inDir("volume"), func(t *testing.T, dir string) {
			require.NoError(t, os.Rename(filepath.Join(dir, "volume"), filepath.Join(dir, "old")))
			write(t, filepath.Join(dir, "volume/new.yaml"), grafana)
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			dir := put(t, map[string]string{"a.yaml": grafana, "real/target": grafana, "volume/..1/k.yaml": grafana})
			require.NoError(t, os.Symlink("real/target", filepath.Join(dir, "link.yaml")))
			require.NoError(t, os.Symlink("..1", filepath.Join(dir, "volume/..data")))
			require.NoError(t, os.Symlink("..data/k.yaml", filepath.Join(dir, "volume/k.yaml")))
			s := sourceOf(t, test.path(dir))
			before, err := s.Read(t.Context())
			require.NoError(t, err)
			hints := watching(t, s)

			test.change(t, dir)

			awaitHint(t, hints)
			settled(hints)
			after, err := s.Read(t.Context())
			require.NoError(t, err)
			if name != "one more in a directory" && name != "the directory itself" && name != "where a link leads, twice" {
				require.NotEqual(t, before, after)
			}

			// The watch still stands, wherever the path leads now.
			entries, err := filepath.Glob(test.path(dir))
			require.NoError(t, err)
			real, err := filepath.EvalSymlinks(entries[0])
			require.NoError(t, err)
			if info, err := os.Stat(real); err == nil && info.IsDir() {
				real = filepath.Join(real, "last.yaml")
			}
			write(t, real, grafana)
			awaitHint(t, hints)
		})
	}
}

// TestWatchLater watches what isn't there yet.
func TestWatchLater(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "sub", "a.yaml")
	s := sourceOf(t, path)
	hints := make(chan struct{}, 1000)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Watch(ctx, func() { hints <- struct{}{} }) }()

	write(t, path, grafana)

	awaitHint(t, hints)
	require.NoError(t, os.RemoveAll(filepath.Dir(path)))
	settled(hints)
	write(t, path, grafana)
	awaitHint(t, hints)
	cancel()
	require.NoError(t, <-done)
}

// TestWatchNeighbours leaves alone what other programs do in the directory.
func TestWatchNeighbours(t *testing.T) {
	dir := put(t, map[string]string{"a.yaml": grafana})
	hints := watching(t, sourceOf(t, filepath.Join(dir, "a.yaml")))

	write(t, filepath.Join(dir, "log.txt"), "x")
	write(t, filepath.Join(dir, ".a.yaml.swp"), "x")

	select {
	case <-hints:
		require.Fail(t, "a hint for a file that isn't read")
	case <-time.After(200 * time.Millisecond):
	}
}
