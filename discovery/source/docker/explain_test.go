package docker

import (
	"testing"

	"github.com/stretchr/testify/require"

	"rollcall/failure"
)

// TestExplain tells of what runs, what doesn't, and what is left out.
func TestExplain(t *testing.T) {
	f := newFakeEngine(t)
	options := Options{
		Filters:     Filters{Name: []string{"rollcall-src"}, Ancestor: []string{"rollcall-src-rabbit:3", "rollcall-src-web:1"}},
		Select:      SelectLabelled,
		AllowLabels: []string{labelName, labelPort},
	}
	s := f.source(t, options)
	got := ""
	for _, name := range []string{"rollcall-src-many", "rollcall-src-two", f.id("exited")[:12], "/rollcall-src-health", "rollcall-src-many#1"} {
		f.change(func() { clear(f.inspected) })
		candidates, err := s.Explain(t.Context(), name)
		require.NoError(t, err)
		got += "== " + name + "\n" + tell(candidates)
	}
	golden(t, "explain.golden", got)

	f.change(func() { clear(f.inspected) })
	_, err := s.Explain(t.Context(), "nothing")
	require.Equal(t, failure.NotFound, failure.KindOf(err))
}

// TestExplainLeavesReadAlone keeps what Read knows.
func TestExplainLeavesReadAlone(t *testing.T) {
	f := newFakeEngine(t)
	s := f.source(t, everything())
	_, err := s.Read(t.Context())
	require.NoError(t, err)
	f.change(func() { clear(f.inspected) })
	_, err = s.Explain(t.Context(), "rollcall-src-plain")
	require.NoError(t, err)
	f.took()

	_, err = s.Read(t.Context())

	require.NoError(t, err)
	require.Equal(t, []string{"GET /containers/json", "GET /networks"}, f.took())
}
