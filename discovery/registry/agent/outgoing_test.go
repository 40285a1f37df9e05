package agent

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rollcall/discovery/resource"
)

// replacing has an agent serve, and another started that is to replace it.
func (b *bench) replacing(t *testing.T) (old, fresh *box, changed resource.Resource) {
	t.Helper()
	old = b.serving(t, "grafana")
	b.engine.mu.Lock()
	old.created -= 60
	b.engine.mu.Unlock()
	changed = web("grafana")
	changed.Spec = resource.AppSpec{URI: "http://172.17.0.3:80"}
	require.NoError(t, b.Update(t.Context(), changed))
	b.engine.mu.Lock()
	defer b.engine.mu.Unlock()
	for _, one := range b.engine.boxes {
		if one != old {
			return old, one, changed
		}
	}
	require.FailNow(t, "no other was started")
	return nil, nil, changed
}

// What an agent serves is served until the one that replaces it has registered: if
// that can't, for as long as it takes, also after a restart of ours.
func TestOutgoingUntilTheNextHasRegistered(t *testing.T) {
	b := newBench(t)
	listed := func() []resource.Resource {
		t.Helper()
		all, err := b.List(t.Context())
		require.NoError(t, err)
		require.Len(t, all, 1)
		require.Equal(t, "http://172.17.0.3:80", all[0].Spec.(resource.AppSpec).URI, "what is to be is listed")
		return b.Outgoing()
	}
	before := []resource.Resource{web("grafana")}
	b.mu.Lock()
	b.opts.JoinTimeout = 20 * time.Millisecond
	b.mu.Unlock()
	_, _, changed := b.replacing(t)
	require.Equal(t, before, b.Outgoing())
	require.Equal(t, before, listed())
	require.Error(t, b.Settle(t.Context()))
	require.Equal(t, before, b.Outgoing())
	require.Equal(t, before, listed())
	b.restarted()
	require.Equal(t, before, listed())

	// Another is started, and registers.
	b.mu.Lock()
	b.opts.JoinTimeout = time.Minute
	b.failures["grafana"].until = time.Now()
	b.mu.Unlock()
	b.engine.mu.Lock()
	b.engine.started = func(made *box) { b.cluster.registered(t, made.name, changed) }
	b.engine.mu.Unlock()
	require.NoError(t, b.Update(t.Context(), changed))
	require.NoError(t, b.Settle(t.Context()))
	require.Empty(t, b.Outgoing())
	require.Empty(t, listed())
}

// What is deleted is served by nobody, whichever of its agents did.
func TestNothingIsOutgoingAfterADelete(t *testing.T) {
	b := newBench(t)
	_, _, changed := b.replacing(t)
	require.NotEmpty(t, b.Outgoing())
	require.NoError(t, b.Delete(t.Context(), changed))
	require.Empty(t, b.Outgoing())
}
