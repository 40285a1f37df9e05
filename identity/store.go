package identity

import (
	"errors"
	"time"

	"rollcall/cluster"
)

// ErrEmpty says that a store holds no identity. It's the only error after which
// a bot may join: a store that can't be read isn't an empty one.
var ErrEmpty = errors.New("the storage holds no identity")

// Stored is what a store keeps of a bot.
type Stored struct {
	// Credentials are the bot's current identity.
	Credentials *cluster.Credentials
	// JoinMethod is how the identity came to be.
	JoinMethod string
	// TokenHash is the hex SHA-256 of the join token; a different token in the
	// configuration means: join afresh.
	TokenHash string
}

// Intent records that an identity was about to be exchanged for its next
// generation, or that a token was about to be spent. An intent that is found at
// the start says that a run ended within that window.
type Intent struct {
	// Generation that was about to be presented. A join has 0, or, if it's made
	// while an earlier renewal is in doubt, that renewal's.
	Generation uint64 `json:"generation"`
	// TokenHash of a join; empty for a renewal.
	TokenHash string `json:"token_hash,omitempty"`
	// Stale says that the cluster has refused that generation.
	Stale bool `json:"stale,omitempty"`
	// Since is when.
	Since time.Time `json:"since"`

	unreadable bool
}

// settledBy says whether the stored identity is what the intent led to, or one
// that the intent isn't about.
func (i *Intent) settledBy(s *Stored) bool {
	switch {
	case i.unreadable:
		return false
	case i.TokenHash != "" && i.TokenHash == s.TokenHash:
		return true
	default:
		return i.Generation != s.Credentials.Generation()
	}
}

// Store keeps one identity. A store belongs to one process at a time.
type Store interface {
	// Load returns what is kept, or ErrEmpty. The intent is nil unless a run
	// ended between Begin and Save.
	Load() (*Stored, *Intent, error)
	// Begin proves that Save will work (writable, with space) and records the
	// intent durably. It's called before the cluster is asked for anything
	// that can't be asked twice.
	Begin(Intent) error
	// Save replaces the identity and ends the intent. When it returns, the new
	// identity survives a power cut.
	Save(Stored) error
	// Abandon ends the intent: the cluster surely did nothing.
	Abandon() error
	// String describes the place for logs.
	String() string
}

// Memory is a Store that forgets everything with the process.
type Memory struct{ stored *Stored }

// NewMemory returns an empty Memory.
func NewMemory() *Memory { return &Memory{} }

// Load returns the kept identity, or ErrEmpty.
func (m *Memory) Load() (*Stored, *Intent, error) {
	if m.stored == nil {
		return nil, nil, ErrEmpty
	}
	return m.stored, nil, nil
}

// Begin does nothing: an intent in memory would be lost with the identity.
func (m *Memory) Begin(Intent) error { return nil }

// Save keeps the identity.
func (m *Memory) Save(s Stored) error {
	m.stored = &s
	return nil
}

// Abandon does nothing.
func (m *Memory) Abandon() error { return nil }

// String describes the store.
func (m *Memory) String() string { return "memory" }
