package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os/signal"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"rollcall/e2e/harness"
)

// readerDirs is the environment variable that makes the test binary the reader
// of these directories, so that it can run as another user.
const readerDirs = "ROLLCALL_E2E_READER_DIRS"

// readerCounts is what the reader prints when it's terminated.
type readerCounts struct {
	// Documented and Plain are the pairs read through ..data opened once, and
	// by two names one after the other.
	Documented, Plain pairCounts
}

type pairCounts struct {
	// Different is how many of the pairs weren't those read before, and Again how
	// often a read was begun again.
	Reads, Torn, Failed, Different, Again int64
	// Failure is the first one's reason.
	Failure string
}

// readProgram reads the pair in every directory in turn, in both ways, as fast
// as it can until it's terminated. It returns the exit code.
func readProgram(list string, out io.Writer) int {
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	dirs := filepath.SplitList(list)
	type way struct {
		read func(ctx context.Context, dir string, again *atomic.Int64) (cert, key []byte, err error)
		last []reading
		into count
		out  pairCounts
	}
	plain := func(_ context.Context, dir string, _ *atomic.Int64) (cert, key []byte, err error) {
		return openByName(dir)
	}
	ways := []*way{{read: openOnce}, {read: plain}}
	for _, w := range ways {
		w.last = make([]reading, len(dirs))
	}
	for ctx.Err() == nil {
		for i, dir := range dirs {
			for _, w := range ways {
				cert, key, err := w.read(ctx, dir, &w.into.again)
				if err == nil && !bytes.Equal(cert, w.last[i].cert) {
					w.out.Different++
				}
				w.last[i].see(&w.into, cert, key, err)
			}
		}
	}
	for _, w := range ways {
		w.out.Reads, w.out.Torn, w.out.Failed = w.into.reads.Load(), w.into.torn.Load(), w.into.failed.Load()
		w.out.Again = w.into.again.Load()
		if w.into.failure != nil {
			w.out.Failure = w.into.failure.Error()
		}
	}
	if err := json.NewEncoder(out).Encode(readerCounts{ways[0].out, ways[1].out}); err != nil {
		return 1
	}
	return 0
}

// readAs runs the reader as a process of that user.
func readAs(t *testing.T, who user, list string) *harness.Process {
	t.Helper()
	return suite.Start(t, harness.Command{
		// Where the test binary lies nobody else may get to; the link needs no path.
		Path: "/proc/self/exe",
		Env:  []string{readerDirs + "=" + list},
		Dir:  "/",
		As:   who.credential(),
	})
}

// counts ends the reader and returns what it read.
func counts(t *testing.T, reader *harness.Process) readerCounts {
	t.Helper()
	require.Zero(t, reader.Terminate(t).ExitCode)
	var c readerCounts
	require.NoError(t, json.Unmarshal([]byte(reader.Stdout.String()), &c))
	return c
}
