package destination

import (
	"context"
	"io/fs"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	_ Destination = (*Directory)(nil)
	_ Destination = (*Memory)(nil)
	_ Destination = (*Nop)(nil)
)

func TestMemory(t *testing.T) {
	m := NewMemory()
	require.NoError(t, m.Prepare(t.Context()))
	set := setOf("1", "key", "tlscert")
	result, err := m.Write(t.Context(), set)
	require.NoError(t, err)
	require.Equal(t, Result{Changed: true, Files: []string{"key", "tlscert"}}, result)

	set["key"][0] = '!' // the caller's slice isn't ours
	data, err := m.Read(t.Context(), "key")
	require.NoError(t, err)
	require.Equal(t, "key of 1\n", string(data))

	result, err = m.Write(t.Context(), setOf("1", "key", "tlscert"))
	require.NoError(t, err)
	require.False(t, result.Changed)

	result, err = m.Write(t.Context(), setOf("1", "key"))
	require.NoError(t, err)
	require.Equal(t, Result{Changed: true, Files: []string{"tlscert"}}, result)
	_, err = m.Read(t.Context(), "tlscert")
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestNop(t *testing.T) {
	n := NewNop()
	require.NoError(t, n.Prepare(t.Context()))
	result, err := n.Write(t.Context(), setOf("1", "key"))
	require.NoError(t, err)
	require.Equal(t, Result{Changed: true, Files: []string{"key"}}, result)
	_, err = n.Read(t.Context(), "key")
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestEveryDestinationRefusesBadNamesAndEndedContexts(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, d := range []Destination{NewMemory(), NewNop(), directory(t, t.TempDir())} {
		_, err := d.Write(t.Context(), setOf("x", "../key"))
		require.ErrorContains(t, err, `"../key"`, d)
		require.ErrorIs(t, d.Prepare(ended), context.Canceled, d)
	}
	require.Equal(t, "memory", NewMemory().String())
	require.Equal(t, "nop", NewNop().String())
	require.Equal(t, "directory /opt/machine-id", directory(t, "/opt/machine-id/").String())
}
