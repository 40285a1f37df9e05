package hooks

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rollcall/failure"
)

// TestRootRunsNothingThatOthersCanChange: whoever can change a program that root
// runs is root.
func TestRootRunsNothingThatOthersCanChange(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, whose programs it's about")
	}
	const stranger = 12345
	for _, test := range []struct {
		name string
		// spoil changes a program in DIR/bin, and returns the one to run.
		spoil func(t *testing.T, dir, program string) string
		want  string
	}{
		{"fine", func(_ *testing.T, _, p string) string { return p }, ""},
		{"another's", func(t *testing.T, _, p string) string {
			require.NoError(t, os.Chown(p, stranger, 0))
			return p
		}, "DIR/bin/program belongs to user 12345, who could have the agent run anything with rights of others"},
		{"a group's", func(t *testing.T, _, p string) string {
			require.NoError(t, os.Chmod(p, 0o775))
			return p
		}, "DIR/bin/program can be written by others than its owner"},
		{"in another's directory", func(t *testing.T, dir, p string) string {
			require.NoError(t, os.Chown(dir, stranger, 0))
			return p
		}, "DIR belongs to user 12345"},
		{"in everybody's directory", func(t *testing.T, dir, p string) string {
			require.NoError(t, os.Chmod(dir, 0o777))
			return p
		}, "DIR can be written by others than its owner"},
		{"in everybody's directory with the sticky bit", func(t *testing.T, dir, p string) string {
			require.NoError(t, os.Chmod(dir, 0o777|os.ModeSticky))
			return p
		}, ""},
		{"behind root's links", func(t *testing.T, dir, _ string) string {
			require.NoError(t, os.Symlink("bin", filepath.Join(dir, "sbin")))
			require.NoError(t, os.Symlink("../bin/./program", filepath.Join(dir, "bin", "link")))
			require.NoError(t, os.Symlink(filepath.Join(dir, "sbin", "link"), filepath.Join(dir, "absolute")))
			return filepath.Join(dir, "absolute")
		}, ""},
		{"behind another's link", func(t *testing.T, dir, p string) string {
			link := filepath.Join(dir, "link")
			require.NoError(t, os.Symlink(p, link))
			require.NoError(t, os.Lchown(link, stranger, 0))
			return link
		}, "DIR/link belongs to user 12345"},
		{"behind a link into another's directory", func(t *testing.T, dir, p string) string {
			require.NoError(t, os.Chown(filepath.Dir(p), stranger, 0))
			link := filepath.Join(dir, "link")
			require.NoError(t, os.Symlink(p, link))
			return link
		}, "DIR/bin belongs to user 12345"},
		{"behind a circle", func(t *testing.T, dir, _ string) string {
			link := filepath.Join(dir, "circle")
			require.NoError(t, os.Symlink("circle", link))
			return link
		}, "DIR/circle is behind too many links"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			notes := filepath.Join(t.TempDir(), "notes")
			require.NoError(t, os.Chmod(dir, 0o755))
			require.NoError(t, os.Mkdir(filepath.Join(dir, "bin"), 0o755))
			program := script(t, filepath.Join(dir, "bin"), "program", "echo ran $0 >> "+notes)
			// At a start all is well; it's spoilt later.
			g := newRig(t, RunnerOptions{Hooks: []Options{execute(program)}})
			run := test.spoil(t, dir, program)
			g.tasks[0].options.Exec[0] = run
			want := ""
			if test.want != "" {
				want = dir + test.want[len("DIR"):]
			}

			g.Changed(sampleChange())
			err := g.Once(t.Context())

			if want == "" {
				require.NoError(t, err)
				require.Contains(t, content(notes), "ran ")
			} else {
				require.ErrorContains(t, err, want)
				require.Empty(t, content(notes))
			}
			// At the next start it's told at once, and nothing else is kept from
			// working.
			var log bytes.Buffer
			g.options.Log = slog.New(slog.NewTextHandler(&log, nil))
			_, err = NewRunner(g.options)
			require.NoError(t, err)
			require.Equal(t, want != "", strings.Contains(log.String(), "A hook won't be run as long as others could change it."), log.String())
			require.Contains(t, log.String(), want)
		})
	}
}

// TestWhomAProgramRunsAsMayChangeIt: it gains nothing by that.
func TestWhomAProgramRunsAsMayChangeIt(t *testing.T) {
	if os.Geteuid() != 0 || !mayChangeUser() {
		t.Skip("needs root, to run a program as another user")
	}
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o755))
	program := script(t, dir, "program", "id -u")
	require.NoError(t, os.Chown(program, 12345, 12345))
	o := execute(program)
	_, err := privileged(program, friendsOf(o))
	require.ErrorContains(t, err, "or have the hook run as that user (`user: 12345`)")
	o.User = "12345"
	path, err := privileged(program, friendsOf(o))
	require.NoError(t, err)
	require.Equal(t, program, path)
	o.User = "23456"
	_, err = checkPrivileged(o)
	require.ErrorContains(t, err, program+" belongs to user 12345")
	require.Equal(t, failure.Configuration, failure.KindOf(err))
}

// TestAProgramThatIsNotThereYet is no reason not to start. It isn't tried all the
// same: between the look and the run a stranger may have put his in its place.
func TestAProgramThatIsNotThereYet(t *testing.T) {
	program := filepath.Join(t.TempDir(), "none")
	g := newRig(t, RunnerOptions{Hooks: []Options{execute(program)}})
	g.Changed(sampleChange())
	require.ErrorContains(t, g.Once(t.Context()), program+" can't be started: no such file or directory")
	if os.Geteuid() == 0 {
		_, err := checkPrivileged(execute(program))
		require.ErrorIs(t, err, os.ErrNotExist)
	}
}
