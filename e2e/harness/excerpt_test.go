package harness

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTail(t *testing.T) {
	wide := strings.Repeat("a", shownWidth-1) + "é!"
	for text, want := range map[string]string{
		"":                "",
		"one\n":           "one",
		"one\ntwo\n":      "one\ntwo",
		"one\ntwo\nthree": "… (1 lines)\ntwo\nthree",
		wide:              strings.Repeat("a", shownWidth-1) + "… (3 more)",
	} {
		require.Equal(t, want, tail(text, 2))
	}
}

// failing is a test that has failed, and keeps what it's told.
type failing struct {
	T
	name, logged string
}

func (f *failing) Helper()                         {}
func (f *failing) Name() string                    { return f.name }
func (f *failing) Logf(format string, args ...any) { f.logged += fmt.Sprintf(format, args...) }

func TestShowLogIsShortAndKeepsAll(t *testing.T) {
	dir := t.TempDir()
	s := &Suite{Bin: Binaries{Cluster: filepath.Join(dir, "cluster")}}
	var all strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&all, "line %d %s\n", i, strings.Repeat("x", 5000))
	}
	f := &failing{name: "TestSystemd/a passed socket"}
	s.showLog(f, "rollcall", all.String())

	path := filepath.Join(dir, "logs", "TestSystemd_a_passed_socket-rollcall-1.log")
	require.Contains(t, f.logged, "all of it in "+path)
	require.Contains(t, f.logged, "line 999 xxx")
	require.LessOrEqual(t, strings.Count(f.logged, "\n"), shownLines+1)
	require.Less(t, len(f.logged), (shownLines+2)*(shownWidth+50))
	kept, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, all.String(), string(kept))

	f.logged = ""
	s.showLog(f, "nothing", "\n")
	require.Empty(t, f.logged)
}
