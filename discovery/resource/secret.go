package resource

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// Secret is text that is compared and never shown: whatever prints it shows the
// beginning of its hash.
type Secret string

// String returns "sha256:…", enough to see that it changed.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(s))
	return "sha256:" + hex.EncodeToString(sum[:6])
}

// GoString is String.
func (s Secret) GoString() string { return s.String() }

// Format is String for every verb and flag.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.String())) }

// MarshalText is String, for JSON, YAML and logs.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Reveal returns the text itself, for the one who writes it to Teleport.
func (s Secret) Reveal() string { return string(s) }
