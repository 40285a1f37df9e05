package systemd

import "strings"

// unitOrigin begins each unit that Text writes.
const unitOrigin = `# Written by "rollcall install systemd".`

// Earlier is what a unit that Text wrote holds and no configuration says.
type Earlier struct {
	User, Group string
	// Credential is the name of the credential that holds the join token, and
	// TokenFile where systemd reads it.
	Credential, TokenFile string
}

// ReadEarlier finds it in a unit's text; nothing in a unit that somebody else
// wrote, and nothing that stands in quotes.
func ReadEarlier(text string) Earlier {
	var e Earlier
	if !strings.HasPrefix(text, unitOrigin) {
		return e
	}
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if strings.Contains(value, `"`) {
			continue
		}
		value = strings.ReplaceAll(value, "%%", "%")
		switch key {
		case "User":
			e.User = value
		case "Group":
			e.Group = value
		case "LoadCredential":
			e.Credential, e.TokenFile, _ = strings.Cut(value, ":")
		}
	}
	return e
}
