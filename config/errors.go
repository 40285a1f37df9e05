package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"rollcall/failure"
)

// Position is a place in the file, or the flag or variable that set a value.
type Position struct {
	// File is the file's name as it was given, or a flag ("--token") or an
	// environment variable.
	File string
	// Line and Column count from 1; both are 0 for flags and variables.
	Line, Column int
}

// String returns file:line:column, or the flag's name.
func (p Position) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// Error is one thing that is wrong, and where. It never holds a secret.
type Error struct {
	File       string `json:"file"`
	Line       int    `json:"line,omitempty"`
	Column     int    `json:"column,omitempty"`
	Message    string `json:"message"`
	Suggestion string `json:"suggestion,omitempty"`
}

// Error returns "file:line:column: message; suggestion".
func (e *Error) Error() string {
	text := Position{e.File, e.Line, e.Column}.String() + ": " + e.Message
	if e.Suggestion != "" {
		text += "; " + e.Suggestion
	}
	return text
}

// Errors are all the things that are wrong with a configuration, in the file's
// order.
type Errors []*Error

// Error returns one line an error.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// asError returns the list, sorted and without repetitions, as a failure of
// kind Configuration, or nil for an empty list.
func (e Errors) asError() error {
	if len(e) == 0 {
		return nil
	}
	sorted := slices.Clone(e)
	slices.SortStableFunc(sorted, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Column, b.Column), cmp.Compare(a.Message, b.Message))
	})
	sorted = slices.CompactFunc(sorted, func(a, b *Error) bool { return *a == *b })
	return failure.Wrap(failure.Configuration, sorted, "%s", sorted.Error())
}
