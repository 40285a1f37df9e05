package config

import (
	"fmt"
	"path/filepath"
)

// checkHooks gives the outputs the agent's directory of hooks.
func (c *Config) checkHooks() {
	if c.HooksDir != "" && !filepath.IsAbs(c.HooksDir) {
		c.fail("hooks_dir", fmt.Sprintf("hooks_dir is %q", short(c.HooksDir)), "give an absolute path")
		return
	}
	for _, out := range c.Outputs {
		if out.Common != nil && out.Common.HooksDir == "" {
			out.Common.HooksDir = c.HooksDir
		}
	}
}

// Note is something that a valid file asks for, and that must be there beside
// it.
type Note struct {
	File   string `json:"file"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
	// Message says what is needed.
	Message string `json:"message"`
}

// String returns "file:line:column: message".
func (n Note) String() string {
	return Position{n.File, n.Line, n.Column}.String() + ": " + n.Message
}

// NoteOn is a note on what the file has under a key: "services[0].listen".
func (c *Config) NoteOn(key, message string) Note {
	at, ok := c.places[key]
	if !ok {
		at = Position{File: c.File}
	}
	return Note{at.File, at.Line, at.Column, key + " " + message}
}

// Notes says what the configuration needs that reading it can't show to be
// there, and what it opens. Check it first.
func (c *Config) Notes() []Note {
	notes := append(c.hiddenNotes(), c.listenerNotes()...)
	for _, out := range c.Outputs {
		if out.Common == nil {
			continue
		}
		for i := range out.Common.OnRenewal {
			hook := &out.Common.OnRenewal[i]
			path := fmt.Sprintf("%s.on_renewal[%d]", out.Path, i)
			at := c.places[path]
			for _, text := range hook.Notes() {
				notes = append(notes, Note{at.File, at.Line, at.Column, hook.String() + ": " + text})
			}
		}
	}
	return notes
}
