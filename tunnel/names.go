package tunnel

import "strings"

// Names are what messages call the options where they don't come from a file:
// by its key, what the user has typed (allow_remote: --allow-remote). Nil: they
// come from a file.
type Names map[string]string

// Of is what a message calls an option. The key of a list's element has its
// index: peer_users[0].
func (n Names) Of(option string) string {
	key, rest, _ := strings.Cut(option, "[")
	typed, ok := n[key]
	if !ok {
		return option
	}
	_, rest, _ = strings.Cut(rest, "]")
	return typed + rest
}

// on is what a message calls a switch that's to be set.
func (n Names) on(option string) string {
	if typed, ok := n[option]; ok {
		return typed
	}
	return option + ": true"
}
