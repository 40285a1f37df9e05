package destination

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

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
	require.NoError(t, plan.Apply(t.Context()))
	require.Equal(t, before, state(t, outside))
	require.Equal(t, readerDir, listOf(t, path+"-moved", acl.Access))
}

// TestAHandOverWhoseFileIsSwapped: what wasn't there at the plan isn't given
// away, and the directory isn't either before all is done.
func TestAHandOverWhoseFileIsSwapped(t *testing.T) {
	needRoot(t, "to give directories away")
	for _, victim := range []string{"key", "sub/node", "sub"} {
		t.Run(victim, func(t *testing.T) {
			top := reachable(t)
			path, other := filepath.Join(top, "out"), filepath.Join(top, "other")
			put(t, path, Set{"key": nil, "sub/node": nil})
			put(t, other, Set{"key": []byte("root's secret"), "sub/node": []byte("root's secret")})
			plan, err := PlanInit(initOptions(path, func(o *InitOptions) { o.Known = []string{"key", "sub/node"} }))
			require.NoError(t, err)
			defer plan.Close()
			at := filepath.Join(path, victim)
			require.NoError(t, os.Rename(at, filepath.Join(top, "away")))
			require.NoError(t, os.Rename(filepath.Join(other, victim), at))

			require.ErrorContains(t, plan.Apply(t.Context()), at+" isn't what it was a moment ago")
			require.Zero(t, ownerOf(t, at))
			require.Zero(t, ownerOf(t, path), "the directory is given away last")
		})
	}
}

// TestHandOverPassesMountsBy: what is mounted in a directory isn't handed over.
func TestHandOverPassesMountsBy(t *testing.T) {
	needRoot(t, "to mount")
	base := reachable(t)
	path := filepath.Join(base, "out")
	put(t, base, Set{"volume/precious": nil, "file": nil})
	put(t, path, Set{"key": nil, "sub/node": nil, "sub/file": nil, "whole/node": nil, "tlscert": nil})
	mount := func(from, to string) {
		if err := unix.Mount(filepath.Join(base, from), filepath.Join(path, to), "", unix.MS_BIND, ""); err != nil {
			t.Skip("this root can't mount: ", err)
		}
		t.Cleanup(func() { require.NoError(t, unix.Unmount(filepath.Join(path, to), unix.MNT_DETACH)) })
	}
	mount("volume", "whole")
	mount("file", "sub/file")
	plan, err := PlanInit(initOptions(path, func(o *InitOptions) { o.Known = []string{"key", "sub/node", "sub/file", "whole/node", "tlscert"} }))
	require.NoError(t, err)
	defer plan.Close()
	require.NoError(t, plan.Apply(t.Context()))
	require.Equal(t, uint32(botID), ownerOf(t, filepath.Join(path, "key")))
	require.Equal(t, uint32(botID), ownerOf(t, filepath.Join(path, "sub/node")))
	for _, left := range []string{"volume", "volume/precious", "file"} {
		require.Zero(t, ownerOf(t, filepath.Join(base, left)), left)
	}
	require.Contains(t, strings.Join(plan.Notes, "\n"), filepath.Join(path, "whole")+" is a mount point")
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

// TestRightsThatTheEarlierOwnerSetMeanwhile don't outlive the hand-over.
func TestRightsThatTheEarlierOwnerSetMeanwhile(t *testing.T) {
	needRoot(t, "to give directories away")
	path := filepath.Join(reachable(t), "out")
	require.NoError(t, os.Mkdir(path, 0o700))
	require.NoError(t, os.Chown(path, thirdID, thirdID))
	plan, err := PlanInit(initOptions(path))
	require.NoError(t, err)
	defer plan.Close()
	last := len(plan.steps) - 1
	for _, step := range plan.steps[:last] {
		require.NoError(t, step())
	}
	as(t, thirdID, func() {
		setList(t, path, acl.Access, everything(thirdID))
		setList(t, path, acl.Default, everything(thirdID))
	})
	require.NoError(t, plan.steps[last]())
	require.Equal(t, readerDir, listOf(t, path, acl.Access))
	require.Equal(t, readerDir, listOf(t, path, acl.Default))
	require.Equal(t, uint32(botID), ownerOf(t, path))
}
