package destination

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"rollcall/acl"
)

// TestADirectoryThatIsSwappedForALink between the plan and its steps: they go on
// below the descriptor.
func TestADirectoryThatIsSwappedForALink(t *testing.T) {
	needRoot(t, "to give directories away")
	top := reachable(t)
	path, outside := filepath.Join(top, "out"), filepath.Join(top, "outside")
	for _, dir := range []string{path, outside} {
		require.NoError(t, os.Mkdir(dir, 0o700))
	}
	before := state(t, outside)
	plan, err := PlanInit(initOptions(path))
	require.NoError(t, err)
	defer plan.Close()
	require.NoError(t, os.Rename(path, path+"-moved"))
	require.NoError(t, os.Symlink(outside, path))
	require.NoError(t, plan.Apply())
	require.Equal(t, before, state(t, outside))
	require.Equal(t, readerDir, listOf(t, path+"-moved", acl.Access))
}

// TestAWriteWhoseNamesAreSwapped: at each step that changes the disk, one name
// becomes a link to somewhere else.
func TestAWriteWhoseNamesAreSwapped(t *testing.T) {
	for _, mode := range updateModes {
		for _, victim := range []string{"key", "sub", "..data", "."} {
			t.Run(string(mode)+", "+victim, func(t *testing.T) {
				for n := 1; ; n++ {
					top := quick(t)
					path, outside := filepath.Join(top, "out"), filepath.Join(top, "outside")
					put(t, top, Set{"outside/victim": []byte("untouched"), "outside/key": []byte("untouched"), "outside/node": []byte("untouched")})
					d := directory(t, path, update(mode), theReader())
					write(t, d, setOf("1", "key", "sub/node"))
					before := state(t, outside)
					steps := 0
					d.hook = func(string) {
						if steps++; steps != n {
							return
						}
						at := filepath.Join(path, victim)
						_ = os.Rename(at, filepath.Join(top, "away"))
						_ = os.Symlink(outside, at)
					}
					_, err := d.Write(t.Context(), setOf("2", "key", "sub/node"))
					if err != nil {
						require.ErrorContains(t, err, path)
					}
					require.Equal(t, before, state(t, outside), "step %d: %v", n, err)
					if steps < n {
						break
					}
				}
			})
		}
	}
}
