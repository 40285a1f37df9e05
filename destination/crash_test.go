package destination

import (
	"bufio"
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// crash is what a hook panics with: nothing that comes after happens, not even
// the clean-up of a failed write.
type crash struct{}

// stopAt makes d stop before its step number n. It returns the step's name once
// that happened.
func stopAt(d *Directory, n int) *string {
	name, count := "", 0
	d.hook = func(step string) {
		if count >= n {
			if name == "" {
				name = step
			}
			panic(crash{})
		}
		count++
	}
	return &name
}

// writeUntilCrash reports whether the write came to its end.
func writeUntilCrash(t *testing.T, d *Directory, set Set) (whole bool) {
	t.Helper()
	defer func() {
		if r := recover(); r != nil {
			require.Equal(t, crash{}, r)
		}
	}()
	write(t, d, set)
	return true
}

// TestCrashAtEachStep stops a write before each step that changes the disk, from
// every layout, and looks at what a program and a restarted agent find.
func TestCrashAtEachStep(t *testing.T) {
	before := setOf("1", "key", "tlscert", "stale", "cockroach/node.key")
	after := setOf("2", "key", "tlscert", "new", "cockroach/node.key")
	all := union(sorted(before), sorted(after))
	starts := map[string]func(t *testing.T, path string) Set{
		"empty":    func(*testing.T, string) Set { return Set{} },
		"official": func(t *testing.T, path string) Set { put(t, path, before); return before },
	}
	for _, mode := range updateModes {
		starts[string(mode)] = func(t *testing.T, path string) Set {
			write(t, directory(t, path, update(mode)), setOf("0", "key", "older"))
			write(t, directory(t, path, update(mode)), before)
			return before
		}
	}
	for _, mode := range updateModes {
		for start, lay := range starts {
			t.Run(fmt.Sprintf("%s from %s", mode, start), func(t *testing.T) {
				steps := 0
				for n := 0; ; n++ {
					path := quick(t)
					old := maps.Clone(lay(t, path))
					d := directory(t, path, update(mode))
					step := stopAt(d, n)
					if writeUntilCrash(t, d, after) {
						break
					}
					steps++
					what := fmt.Sprintf("stopped at step %d: %s", n, *step)

					again := directory(t, path, update(mode))
					if mode == UpdateSet {
						requireWhole(t, readAll(t, again, all...), old, after, start, what)
						requireFilesWhole(t, path, old, after, what)
						requireOneSet(t, path, old, after, what)
					} else if mode == UpdateFile {
						requireFilesWhole(t, path, old, after, what)
					}
					write(t, again, after)
					left := visible(t, path)
					if start == "official" {
						delete(left, "stale") // nobody knows that it was an agent's
					}
					require.Equal(t, after, left, what)
					requireTidy(t, path, mode)
					require.Equal(t, after, readAll(t, again, sorted(after)...), what)
				}
				require.Greater(t, steps, 10)
				t.Logf("%d steps", steps)
			})
		}
	}
}

// requireWhole checks that Read gives the old set or the new one.
func requireWhole(t *testing.T, got, old, after Set, start, what string) {
	t.Helper()
	if len(diff(got, after)) == 0 {
		return
	}
	if start == "official" {
		got, old = maps.Clone(got), maps.Clone(old)
		delete(got, "stale") // a plain file that isn't in the set isn't ours
		delete(old, "stale")
		if len(diff(got, after)) == 0 {
			return
		}
	}
	require.Equal(t, old, got, what)
}

// requireFilesWhole checks that each file that a program sees is one of the two,
// and that none that stays is missing.
func requireFilesWhole(t *testing.T, path string, old, after Set, what string) {
	t.Helper()
	for name := range after {
		data, err := os.ReadFile(filepath.Join(path, name))
		if os.IsNotExist(err) && old[name] == nil {
			continue
		}
		require.NoError(t, err, what)
		if !bytes.Equal(data, old[name]) {
			require.Equal(t, string(after[name]), string(data), what)
		}
	}
}

// requireOneSet checks that the files that are in both sets, opened by their
// names, are of the same one.
func requireOneSet(t *testing.T, path string, old, after Set, what string) {
	t.Helper()
	seen := make(Set)
	for name := range old {
		if _, stays := after[name]; stays {
			seen[name] = mustRead(t, filepath.Join(path, name))
		}
	}
	require.LessOrEqual(t, len(marks(seen)), 1, "%s: %s", what, seen)
}

// TestKill kills a process that writes without end, at random moments.
func TestKill(t *testing.T) {
	const kills = 15
	for _, mode := range []UpdateMode{UpdateSet, UpdateFile} {
		t.Run(string(mode), func(t *testing.T) {
			path := t.TempDir()
			for range kills {
				killWriter(t, path, mode)
				set := readAll(t, directory(t, path, update(mode)), "key", "tlscert", "cockroach/node.key")
				if mode == UpdateSet {
					require.Len(t, set, 3)
					require.Len(t, marks(set), 1, "files of several sets: %s", set)
				}
				require.Equal(t, set, visible(t, path))
			}
			write(t, directory(t, path, update(mode)), setOf("last", "key"))
			require.Equal(t, setOf("last", "key"), visible(t, path))
			requireTidy(t, path, mode)
		})
	}
}

func killWriter(t *testing.T, path string, mode UpdateMode) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "ROLLCALL_TEST_WRITE_FOR_EVER="+path, "ROLLCALL_TEST_UPDATE="+string(mode))
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "writing\n", line)
	time.Sleep(time.Duration(rand.Int64N(int64(30 * time.Millisecond)))) // the moment is the point
	require.NoError(t, cmd.Process.Kill())
	require.ErrorContains(t, cmd.Wait(), "killed")
}

// marks returns what distinguishes the sets that files are from.
func marks(set Set) map[string]bool {
	found := make(map[string]bool)
	for name, data := range set {
		found[strings.TrimPrefix(string(data), name+" of ")] = true
	}
	return found
}

// TestACrashLeavesNoFileThatNobodyKnows writes a set without the names of the
// one that was cut off.
func TestACrashLeavesNoFileThatNobodyKnows(t *testing.T) {
	for _, mode := range updateModes {
		t.Run(string(mode), func(t *testing.T) {
			for n := 0; ; n++ {
				d := directory(t, quick(t), update(mode))
				write(t, d, setOf("1", "key", "old"))
				step := stopAt(d, n)
				if writeUntilCrash(t, d, setOf("2", "key", "new", "dir/new")) {
					require.Greater(t, n, 10)
					break
				}
				again := directory(t, d.opts.Path, update(mode))
				write(t, again, setOf("3", "key"))
				require.Equal(t, setOf("3", "key"), visible(t, d.opts.Path), "stopped at step %d: %s", n, *step)
				require.NoDirExists(t, d.opts.Path+"/dir")
			}
		})
	}
}
