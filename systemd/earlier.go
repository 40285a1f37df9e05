package systemd

import (
	"slices"
	"strings"
)

// unitOrigin begins each unit that Text writes.
const unitOrigin = `# Written by "rollcall install systemd".`

// Earlier is what a unit that Text wrote holds and no configuration says.
type Earlier struct {
	User, Group string
	// Binary is the absolute path of the program.
	Binary string
	// TokenFiles are where systemd reads credentials, by their names. The unit's
	// own is among them; others may have been added by hand.
	TokenFiles map[string]string
	// Quoted are the settings whose value stands in quotes, and so isn't above.
	Quoted []string
}

// ReadEarlier finds it in a unit's text; nothing in a unit that somebody else
// wrote.
func ReadEarlier(text string) Earlier {
	var e Earlier
	if !strings.HasPrefix(text, unitOrigin) {
		return e
	}
	for line := range strings.Lines(text) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			e.read(key, value)
		}
	}
	return e
}

func (e *Earlier) read(key, value string) {
	if key == "ExecStart" {
		// The rest is the configuration's path.
		value, _, _ = strings.Cut(value, " start -c ")
	}
	if !slices.Contains([]string{"User", "Group", "ExecStart", "LoadCredential"}, key) {
		return
	}
	if strings.Contains(value, `"`) {
		e.Quoted = append(e.Quoted, key)
		return
	}
	value = strings.ReplaceAll(value, "%%", "%")
	switch key {
	case "User":
		e.User = value
	case "Group":
		e.Group = value
	case "ExecStart":
		// Anything before it, such as a dash, was added by hand.
		if strings.HasPrefix(value, "/") {
			e.Binary = strings.ReplaceAll(value, "$$", "$")
		}
	case "LoadCredential":
		name, file, _ := strings.Cut(value, ":")
		if e.TokenFiles == nil {
			e.TokenFiles = make(map[string]string)
		}
		e.TokenFiles[name] = file
	}
}
