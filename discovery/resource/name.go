package resource

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// MaxName is the length of a DNS label, and so of a name.
const MaxName = 63

// hashLength is how much of a hash tells two names apart that were cut.
const hashLength = 8

// DNSName turns text into a name that Teleport takes for every kind: a DNS
// label. The rule, in this order:
//
//  1. Letters become lower case.
//  2. Each run of anything but a-z and 0-9 becomes one "-".
//  3. Hyphens at both ends go.
//  4. Nothing left: the name is "x-" and a hash of the text.
//  5. A database's name must begin with a letter: else it gets "db-" in front.
//  6. Longer than 63: it's cut, and ends with "-" and a hash of the text, so
//     that two long names don't become one.
//
// A text that is such a name already is returned as it is.
func DNSName(kind Kind, text string) string {
	if ValidName(kind, text) {
		return text
	}
	var b strings.Builder
	pending := false
	for _, r := range strings.ToLower(text) {
		if !alphanumeric(r) {
			pending = b.Len() > 0
			continue
		}
		if pending {
			b.WriteByte('-')
			pending = false
		}
		b.WriteRune(r)
	}
	name := b.String()
	if name == "" {
		return "x-" + shortHash(text)
	}
	if kind == KindDatabase && digit(rune(name[0])) {
		name = "db-" + name
	}
	if len(name) > MaxName {
		head := strings.TrimRight(name[:MaxName-hashLength-1], "-")
		name = head + "-" + shortHash(text)
	}
	return name
}

// ValidName says if a name is a DNS label as DNSName makes them.
func ValidName(kind Kind, name string) bool {
	if name == "" || len(name) > MaxName || name[0] == '-' || name[len(name)-1] == '-' {
		return false
	}
	for _, r := range name {
		if !alphanumeric(r) && r != '-' {
			return false
		}
	}
	return kind != KindDatabase || !digit(rune(name[0]))
}

func alphanumeric(r rune) bool { return r >= 'a' && r <= 'z' || digit(r) }

func digit(r rune) bool { return r >= '0' && r <= '9' }

func shortHash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])[:hashLength]
}
