package footprint

import (
	"context"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

const smaps = `00400000-01454000 r-xp 00000000 fe:00 1 /usr/bin/roll call
Size:              16720 kB
Rss:               13160 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
01454000-02700000 r--p 01054000 fe:00 1 /usr/bin/roll call
Anonymous:             4 kB
02700000-02800000 rw-p 02300000 fe:00 1 /usr/bin/roll call
Anonymous:             0 kB
02800000-02900000 r--p 02300000 fe:00 1 /usr/bin/roll call
Anonymous:             0 kB
c000000000-c000400000 rw-p 00000000 00:00 0
Anonymous:             0 kB
7f0000000000-7f0000001000 r--p 00000000 fe:00 2 /usr/lib/other
Anonymous:             0 kB
`

func TestUntouchedAreReadOnlyPagesOfTheProgram(t *testing.T) {
	require.Equal(t, []mapping{{0x400000, 0x1454000}, {0x2800000, 0x2900000}},
		untouched(strings.NewReader(smaps), "/usr/bin/roll call"))
	require.Empty(t, untouched(strings.NewReader(smaps), "/usr/bin/roll"))
	require.Empty(t, untouched(strings.NewReader("what-is this r--p is 1 /x\nAnonymous: 0 kB\n"), "/x"))
	require.Empty(t, untouched(strings.NewReader(""), "/usr/bin/rollcall"))
}

// residentFile is how much of files the process has in memory, in KiB.
func residentFile(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	require.NoError(t, err)
	for line := range strings.Lines(string(status)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "RssFile:" {
			n, err := strconv.Atoi(fields[1])
			require.NoError(t, err)
			return n
		}
	}
	t.Fatal("no RssFile")
	return 0
}

func TestReleaseGivesPagesBackAndTheProgramGoesOn(t *testing.T) {
	before := residentFile(t)
	Release()
	after := residentFile(t)
	require.Less(t, after, before-256, "KiB of files in memory")
	t.Logf("%d KiB of files in memory before, %d after", before, after)
}

func TestTuneRespectsTheUser(t *testing.T) {
	old := debug.SetGCPercent(100)
	defer debug.SetGCPercent(old)
	Tune(func(string) string { return "200" })
	require.Equal(t, 100, debug.SetGCPercent(100))
	Tune(func(string) string { return "" })
	require.Equal(t, gcPercent, debug.SetGCPercent(100))
}

func TestRunEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*betweenReleases)
		defer cancel()
		Run(ctx) // releases a few times on the way
		require.Error(t, ctx.Err())
	})
}
