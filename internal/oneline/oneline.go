// Package oneline makes one line of a text that a stranger may have written, such
// as a server or a program: nothing in it ends the line or steers a terminal. It
// doesn't know where the line goes.
package oneline

import (
	"strings"
	"unicode"
)

// Clean drops what can't be seen, and makes a blank of each space, tab and end of
// a line. Blanks at both ends go.
func Clean(text string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case unicode.IsPrint(r):
			return r
		default:
			return -1
		}
	}, text))
}

// Join is Clean, with one blank between two words.
func Join(text string) string { return strings.Join(strings.Fields(Clean(text)), " ") }
