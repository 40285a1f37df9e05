package hooks

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// folder is a directory of hooks that each add their name to a file.
func folder(t *testing.T, names ...string) (dir, notes string) {
	t.Helper()
	dir, notes = t.TempDir(), filepath.Join(t.TempDir(), "notes")
	require.NoError(t, os.Chmod(dir, 0o755))
	for _, name := range names {
		script(t, dir, name, "echo "+name+" $ROLLCALL_OUTPUT >> "+notes)
	}
	return dir, notes
}

func TestDirectoryRunsInOrderOfNames(t *testing.T) {
	dir, notes := folder(t, "20-second", "10-first", "30-third", ".hidden", "10-first~")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "README"), []byte("words"), 0o644))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "40-folder"), 0o755))
	before := execute(script(t, t.TempDir(), "listed", "echo listed >> "+notes))
	g := newRig(t, RunnerOptions{Hooks: []Options{before}, Directory: dir})
	g.Changed(sampleChange())
	require.NoError(t, g.Once(t.Context()))
	require.Equal(t, "listed\n10-first grafana\n20-second grafana\n30-third grafana\n", content(notes))
}

func TestDirectoryRefusesAWritableProgram(t *testing.T) {
	dir, notes := folder(t, "10-open", "20-fine")
	require.NoError(t, os.Chmod(filepath.Join(dir, "10-open"), 0o775))
	g := newRig(t, RunnerOptions{Directory: dir})
	g.Changed(sampleChange())
	require.ErrorContains(t, g.Once(t.Context()), "10-open can be written by others")
	require.Equal(t, "20-fine grafana\n", content(notes), "the others run")
}

func TestDirectoryRefused(t *testing.T) {
	dir, notes := folder(t, "10-first")
	require.NoError(t, os.Chmod(dir, 0o777))
	g := newRig(t, RunnerOptions{Directory: dir})
	g.Changed(sampleChange())
	require.ErrorContains(t, g.Once(t.Context()), "hooks_dir: "+dir+" can be written by others")
	require.Empty(t, content(notes))

	require.NoError(t, os.Chmod(dir, 0o755))
	g = newRig(t, RunnerOptions{Directory: filepath.Join(dir, "none")})
	g.Changed(sampleChange())
	require.ErrorContains(t, g.Once(t.Context()), "none doesn't exist")
}

// TestDirectoryRefusesAWayThatOthersCanChange has the hooks in a directory that
// somebody else could put another one in place of.
func TestDirectoryRefusesAWayThatOthersCanChange(t *testing.T) {
	open := t.TempDir()
	dir := filepath.Join(open, "hooks.d")
	require.NoError(t, os.Mkdir(dir, 0o755))
	require.NoError(t, os.Chmod(open, 0o777))
	_, err := programsIn(dir)
	require.ErrorContains(t, err, open+" can be written by others")
	require.NoError(t, os.Chmod(open, 0o777|os.ModeSticky))
	_, err = programsIn(dir)
	require.NoError(t, err)
}

// TestDirectoryFollowsALinkToItsEnd looks at what a link leads to.
func TestDirectoryFollowsALinkToItsEnd(t *testing.T) {
	dir, notes := folder(t)
	elsewhere := t.TempDir()
	target := script(t, elsewhere, "target", "echo ran >> "+notes)
	require.NoError(t, os.Symlink(target, filepath.Join(dir, "10-link")))
	g := newRig(t, RunnerOptions{Directory: dir})
	g.Changed(sampleChange())
	require.NoError(t, g.Once(t.Context()))
	require.Equal(t, "ran\n", content(notes))

	require.NoError(t, os.Chmod(elsewhere, 0o777))
	g.Changed(sampleChange())
	require.ErrorContains(t, g.Once(t.Context()), elsewhere+" can be written by others")
	require.Equal(t, 1, strings.Count(content(notes), "ran"))
}

// TestDirectoryRefusesLinksOnTheWay has the same directory behind a link, at
// its own name and above it: what a link leads to may be fine, and change.
func TestDirectoryRefusesLinksOnTheWay(t *testing.T) {
	dir, _ := folder(t, "10-first")
	elsewhere := t.TempDir()
	link := filepath.Join(elsewhere, "link")
	require.NoError(t, os.Symlink(dir, link))
	_, err := programsIn(link)
	require.ErrorContains(t, err, link+" is a symbolic link")
	_, err = programsIn(link + "/")
	require.ErrorContains(t, err, link+" is a symbolic link")

	above := filepath.Join(elsewhere, "above")
	require.NoError(t, os.Symlink(filepath.Dir(dir), above))
	_, err = programsIn(filepath.Join(above, filepath.Base(dir)))
	require.ErrorContains(t, err, above+" is a symbolic link")

	program := filepath.Join(dir, "20-link")
	require.NoError(t, os.Symlink(filepath.Join(link, "10-first"), program))
	_, err = trusted(program)
	require.ErrorContains(t, err, link+" is a symbolic link")

	round := filepath.Join(dir, "30-round")
	require.NoError(t, os.Symlink("30-round", round))
	_, err = trusted(round)
	require.ErrorContains(t, err, "behind too many links")
	relative := filepath.Join(dir, "40-relative")
	require.NoError(t, os.Symlink("10-first", relative))
	path, err := trusted(relative)
	require.NoError(t, err)
	require.Equal(t, filepath.Join(dir, "10-first"), path)
}

func TestDirectoryBehindAnothersLink(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root may give a link away")
	}
	dir, _ := folder(t, "10-first")
	link := filepath.Join(dir, "20-link")
	require.NoError(t, os.Symlink(filepath.Join(dir, "10-first"), link))
	require.NoError(t, os.Lchown(link, 12345, 12345))
	_, err := trusted(link)
	require.ErrorContains(t, err, link+" belongs to user 12345")
}

func TestDirectoryOfAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root may give a file away")
	}
	dir, notes := folder(t, "10-foreign", "20-own")
	require.NoError(t, os.Chown(filepath.Join(dir, "10-foreign"), 12345, 12345))
	g := newRig(t, RunnerOptions{Directory: dir})
	g.Changed(sampleChange())
	require.ErrorContains(t, g.Once(t.Context()), "10-foreign belongs to user 12345")
	require.Equal(t, "20-own grafana\n", content(notes))
}
