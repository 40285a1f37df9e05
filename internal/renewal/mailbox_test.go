package renewal

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMailboxKeepsTheStrongerRequest(t *testing.T) {
	m := NewMailbox()
	m.Put(Request{Reason: "weak", OnlyFailed: true})
	m.Put(Request{Reason: "strong"})
	m.Put(Request{Reason: "late", OnlyFailed: true})
	m.Put(Request{Reason: "later"})
	got, ok := m.Take()
	require.True(t, ok)
	require.Equal(t, Request{Reason: "strong"}, got)
	_, ok = m.Take()
	require.False(t, ok)
	require.Empty(t, m.Full())
}
