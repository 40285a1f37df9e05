package service

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rollcall/failure"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func sample() []Outcome {
	notAfter := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	return []Outcome{
		{Name: "identity", Took: 123456 * time.Microsecond, NotAfter: notAfter},
		{Name: "grafana-überblick", Took: 12 * time.Second, Err: failure.New(failure.NotFound, "app \"grafana\" not found;\n\x1b[2Jcheck the name & the role")},
		{Name: "later", Skipped: true, Err: failure.New(failure.Unreachable, "not tried, because identity failed")},
		{Name: "forever", Took: time.Millisecond},
	}
}

func golden(t *testing.T, name string, got []byte) {
	path := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(path, got, 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), string(got))
}

func TestTables(t *testing.T) {
	for name, write := range map[string]func(io.Writer) error{
		"outcomes.txt":       func(w io.Writer) error { return WriteTable(w, sample(), false) },
		"outcomes-color.txt": func(w io.Writer) error { return WriteTable(w, sample(), true) },
		"outcomes.json":      func(w io.Writer) error { return WriteJSON(w, sample()) },
		"none.json":          func(w io.Writer) error { return WriteJSON(w, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			require.NoError(t, write(&out))
			golden(t, name, out.Bytes())
		})
	}
}

func TestColorsOnlyOnATerminal(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	require.NoError(t, err)
	defer file.Close()
	require.False(t, UseColor(file, ""), "a file")
	require.False(t, UseColor(&bytes.Buffer{}, ""), "memory")

	terminal := openTerminal(t)
	require.True(t, UseColor(terminal, ""))
	require.False(t, UseColor(terminal, "1"), "NO_COLOR is set")
}

// openTerminal returns the slave side of a new pseudo-terminal.
func openTerminal(t *testing.T) *os.File {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { master.Close() })
	require.NoError(t, unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	file, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { file.Close() })
	return file
}
