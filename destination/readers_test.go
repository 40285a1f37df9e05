package destination

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestReadersThatOpenTheDirectoryOnce read two files through a descriptor of
// ..data, as the package comment says, while sets are written.
func TestReadersThatOpenTheDirectoryOnce(t *testing.T) {
	const writes = 200
	d := directory(t, t.TempDir())
	write(t, d, setOf("start", "key", "tlscert"))

	var stop atomic.Bool
	type tally struct{ pairs, torn, retried int }
	done := make(chan tally)
	go func() {
		var n tally
		for !stop.Load() {
			set, err := readPair(d.opts.Path)
			switch {
			case errors.Is(err, fs.ErrNotExist):
				n.retried++ // held over two swaps
				continue
			case err != nil:
				t.Error(err)
			case len(marks(set)) != 1:
				n.torn++
			}
			n.pairs++
		}
		done <- n
	}()
	for i := range writes {
		write(t, d, setOf(fmt.Sprint(i), "key", "tlscert"))
		data, err := d.Read(t.Context(), "key")
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("key of %d\n", i), string(data))
	}
	stop.Store(true)
	n := <-done
	t.Logf("%d pairs read during %d writes, %d torn, %d begun again", n.pairs, writes, n.torn, n.retried)
	require.Zero(t, n.torn)
	require.Greater(t, n.pairs, writes/2)
}

func readPair(path string) (Set, error) {
	root, err := os.OpenRoot(filepath.Join(path, dataName))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	set := make(Set)
	for _, name := range []string{"key", "tlscert"} {
		if set[name], err = root.ReadFile(name); err != nil {
			return nil, err
		}
	}
	return set, nil
}
