package agent

import (
	"bytes"
	"encoding/json"
	"maps"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/stretchr/testify/require"

	"rollcall/discovery/resource"
	"rollcall/failure"
)

// copyOf is what `docker commit` and `docker run`, or whoever sets the labels
// himself, makes of an agent.
func copyOf(b *box, id, name string) *box {
	files := map[string][]byte{}
	maps.Copy(files, b.files)
	return &box{id: id, name: name, labels: maps.Clone(b.labels), state: container.StateRunning, created: b.created + 1, files: files}
}

// TestStrangerContainer: labels can be set by whoever may start a container. One
// that we haven't made isn't read, stopped or removed, and what it says counts
// for nothing.
func TestStrangerContainer(t *testing.T) {
	b := newBench(t)
	ours := b.serving(t, "grafana")
	b.cluster.tokens["github-ci"] = true
	stranger := copyOf(ours, "stranger", "anything")
	stranger.files["/etc/teleport/rollcall-token"] = []byte("github-ci")
	other := copyOf(stranger, "other", "else")
	other.labels[labelApp] = "zzz"
	b.engine.add(stranger)
	b.engine.add(other)
	b.restarted()

	all, err := b.List(t.Context())
	require.NoError(t, err)
	require.Len(t, all, 1)
	require.True(t, resource.Equal(web("grafana"), all[0]), "%v", all[0])
	require.NoError(t, b.Update(t.Context(), web("grafana")))
	require.NoError(t, b.Delete(t.Context(), web("grafana")))
	require.NoError(t, b.Delete(t.Context(), web("zzz")))

	for _, call := range b.engine.calls {
		require.NotContains(t, call, "stranger")
		require.NotContains(t, call, "other")
	}
	require.Contains(t, b.engine.boxes, "stranger")
	require.NotContains(t, b.engine.boxes, ours.id)
	require.True(t, b.cluster.tokens["github-ci"])
	require.Equal(t, 2, bytes.Count(b.log.Bytes(), []byte("it isn't proven")), "each is told once")
}

// TestStrangerIsAConflict: what a container serves that has our labels and isn't
// proven (the storage was lost, say) is neither taken over nor written over.
func TestStrangerIsAConflict(t *testing.T) {
	b := newBench(t)
	ours := b.serving(t, "grafana")
	b.seals = sealer{bytes.Repeat([]byte{8}, KeySize)}

	now, err := b.Get(t.Context(), "grafana")
	require.NoError(t, err)
	require.Empty(t, now.Owner())
	require.Equal(t, failure.Conflict, failure.KindOf(b.Update(t.Context(), web("grafana"))))
	require.Equal(t, failure.Conflict, failure.KindOf(b.Delete(t.Context(), web("grafana"))))

	require.Empty(t, b.engine.calls)
	require.Equal(t, container.StateRunning, ours.state)
	require.Len(t, b.cluster.servers, 1)
}

// TestLabelsAreSealed: none of what the labels say can be changed.
func TestLabelsAreSealed(t *testing.T) {
	b := newBench(t)
	ours := b.serving(t, "grafana")
	require.True(t, b.seals.made(ours.name, ours.labels))
	require.False(t, b.seals.made(ours.name+"x", ours.labels))
	require.False(t, b.seals.made("", ours.labels))
	for label := range ours.labels {
		changed := maps.Clone(ours.labels)
		changed[label] += "x"
		require.False(t, b.seals.made(ours.name, changed), label)
		delete(changed, label)
		require.False(t, b.seals.made(ours.name, changed), label)
	}
}

// TestRecordOfAnother: a record counts in the container that it was made for,
// and for what its labels say. The container keeps its label's name.
func TestRecordOfAnother(t *testing.T) {
	const at = "/etc/teleport/rollcall.json"
	tests := map[string]func(b *bench, ours, other *box) []byte{
		"another container's": func(_ *bench, _, other *box) []byte { return other.files[at] },
		"not sealed": func(*bench, *box, *box) []byte {
			content, _ := encodeRecord(web("zzz"))
			return content
		},
		"sealed, of another name": func(b *bench, ours, _ *box) []byte {
			r := web("grafana")
			r.Name = "zzz" // and all the rest as the labels say
			content, _ := encodeRecord(r)
			content, _ = b.seals.close(ours.id, content)
			return content
		},
		"sealed, of another workload": func(b *bench, ours, _ *box) []byte {
			r := web("grafana")
			r.Labels[resource.LabelWorkload] = "w/zzz"
			content, _ := encodeRecord(r)
			content, _ = b.seals.close(ours.id, content)
			return content
		},
		"changed": func(_ *bench, ours, _ *box) []byte {
			return bytes.Replace(ours.files[at], []byte("172.17.0.2"), []byte("172.17.0.9"), 1)
		},
	}
	for name, forged := range tests {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			ours, other := b.serving(t, "grafana"), b.serving(t, "zzz")
			ours.files[at] = forged(b, ours, other)
			b.restarted()

			all, err := b.List(t.Context())

			require.NoError(t, err)
			require.Len(t, all, 2)
			require.Equal(t, "grafana", all[0].Name)
			require.Equal(t, "w/grafana", all[0].Workload())
			require.Equal(t, troubleFiles, all[0].Labels[LabelState])
			require.True(t, resource.Equal(web("zzz"), all[1]))
		})
	}
}

// TestOnlyOurTokensAreDeleted: the role may delete any token of the cluster, and
// a container's file is no reason to.
func TestOnlyOurTokensAreDeleted(t *testing.T) {
	for _, name := range []string{"github-ci", "0123456789abcdef", "../x", "ABCDEF0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF0123456789"} {
		b := newBench(t)
		ours := b.serving(t, "grafana")
		b.cluster.tokens[name] = true
		ours.files["/etc/teleport/rollcall-token"] = []byte(name + "\n")
		b.restarted()

		require.NoError(t, b.Delete(t.Context(), web("grafana")))

		require.True(t, b.cluster.tokens[name], name)
		require.Empty(t, b.engine.boxes)
		require.Error(t, b.deleteToken(t.Context(), name))
	}
	require.True(t, isToken(randomHex(tokenBytes)))
}

// TestTokenIsDeleted: ours is, after the join and by whoever comes next.
func TestTokenIsDeleted(t *testing.T) {
	b := newBench(t)
	ours := b.serving(t, "grafana")
	require.Empty(t, b.cluster.tokens)
	left := randomHex(tokenBytes)
	b.cluster.tokens[left] = true
	ours.files["/etc/teleport/rollcall-token"] = []byte(left)
	b.restarted()

	require.NoError(t, b.Update(t.Context(), web("grafana")))

	require.Empty(t, b.cluster.tokens)
	require.Empty(t, ours.files["/etc/teleport/rollcall-token"])
}

// TestNoList: `null` isn't "there are no agents".
func TestNoList(t *testing.T) {
	b := newBench(t)
	b.serving(t, "grafana")
	b.engine.null = true

	_, err := b.List(t.Context())

	require.Equal(t, failure.Transient, failure.KindOf(err), "%v", err)
	require.Error(t, b.Update(t.Context(), web("grafana")))
	require.Len(t, b.engine.boxes, 1)
	require.Len(t, b.cluster.servers, 1)
}

func TestKeySize(t *testing.T) {
	_, err := New(nil, nil, Options{Image: "teleport:14", ProxyAddr: "a:1"}, testOwner, []byte("short"), nil)
	require.ErrorContains(t, err, "32 bytes")
}

// Texts that JSON would make equal, or that another division makes, have another
// seal.
func TestSealsDiffer(t *testing.T) {
	s := sealer{bytes.Repeat([]byte{1}, KeySize)}
	require.NotEqual(t, s.mac("a", "bc"), s.mac("ab", "c"))
	require.NotEqual(t, s.mac("\xff"), s.mac("\xfe"))
	record, err := json.Marshal(map[string]string{"uri": "http://a/?<&>"})
	require.NoError(t, err)
	content, err := s.close("id", record)
	require.NoError(t, err)
	got, err := s.open("id", content)
	require.NoError(t, err)
	require.Equal(t, record, got)
	_, err = s.open("other", content)
	require.Error(t, err)
	_, err = sealer{bytes.Repeat([]byte{2}, KeySize)}.open("id", content)
	require.Error(t, err)
}
